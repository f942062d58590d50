"""NIfTI volumes, read a few at a time and only inside a mask."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from braindistill.errors import UserError

BLOCK = 2**24  # numbers of a run that are in memory at once


def open_nifti(path: Path) -> Any:
    """Open a NIfTI file, reading no data; the file stays open, so that blocks of a ``.gz`` are read in one pass."""
    import nibabel

    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a NIfTI file")
    unreadable = (nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError)
    try:
        return nibabel.load(path, keep_file_open=True)  # type: ignore[call-arg]
    except (*unreadable, OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{path}: not a readable NIfTI file ({error}); copy it again") from error


def check_grid(shape: tuple[int, ...], affine: np.ndarray, path: Path, other: Any, other_path: Path) -> None:
    """Raise UserError, printing both, where a file's first three axes or affine differ from another's."""
    if tuple(shape[:3]) != tuple(other.shape[:3]):
        found = f"{tuple(shape[:3])}, but {other_path} {tuple(other.shape[:3])}"
        raise UserError(f"{path} has the shape {found}; bring both to the same grid")
    if not np.allclose(affine, other.affine, atol=1e-3):
        found = f"{np.round(affine, 3).tolist()}, but {other_path} {np.round(other.affine, 3).tolist()}"
        raise UserError(f"{path} has the affine {found}; bring both to the same grid")


def read_voxels(image: Any, path: Path, inside: np.ndarray) -> np.ndarray:
    """The (volumes, voxels) float32 values of a 4-D image inside a 3-D bool mask, voxels in C order."""
    values = np.empty((image.shape[3], np.count_nonzero(inside)), dtype=np.float32)
    for start, block in _volumes(image, path):
        values[start : start + block.shape[3]] = block[inside].T
    return values


def read_masks(source: Path, reference: Any, reference_path: Path) -> dict[str, np.ndarray]:
    """Read ROIs: every NIfTI file of a folder, or one file.

    Returns
    -------
    name → (X, Y, Z) bool, true where the file is above zero; the name is the file's, without its ending, a leading
    ``sub-XX_`` and a trailing ``_mask``.
    """
    if not source.exists():
        raise UserError(f"fmri.masks={source}: no such file or folder; expected NIfTI masks")
    files = sorted([*source.glob("*.nii"), *source.glob("*.nii.gz")]) if source.is_dir() else [source]
    if not files:
        raise UserError(f"fmri.masks={source}: no .nii or .nii.gz file; expected one for each ROI")
    masks: dict[str, np.ndarray] = {}
    for file in files:
        name = re.sub(r"^sub-[^_]+_|(_mask)?\.nii(\.gz)?$", "", file.name)
        image = open_nifti(file)
        check_grid(image.shape, image.affine, file, reference, reference_path)
        if image.ndim > 3 and set(image.shape[3:]) != {1}:
            raise UserError(f"{file}: shape {image.shape}; expected one volume, a mask for each ROI")
        if name in masks:
            raise UserError(f"{file}: a second mask for the ROI {name}; give each file its own name")
        mask = _read(image, file, ...).reshape(image.shape[:3]) > 0
        if not mask.any():
            raise UserError(f"{file}: no voxel is above zero; an empty mask is no ROI, remove it or write it again")
        masks[name] = mask
    return masks


def find_brain(images: list[Any], paths: list[Path]) -> np.ndarray:
    """Guess which voxels are brain: mean magnitude over all volumes above a quarter of its own 98th percentile.

    Returns an (X, Y, Z) bool mask. The magnitude is for beta maps, whose sign means nothing here; raw BOLD is positive.
    """
    total, count = np.zeros(images[0].shape[:3]), 0
    for image, path in zip(images, paths, strict=True):
        for _, block in _volumes(image, path):
            total += np.abs(block).sum(axis=3, dtype=np.float64)
            count += block.shape[3]
    mean = total / count
    return np.greater(mean, np.nanpercentile(mean, 98) / 4)  # NaN, as outside the brain in many beta maps, is not


def repetition_time(image: Any, path: Path) -> float:
    """Seconds between volumes, from the header of a 4-D image."""
    time = float(image.header.get_zooms()[3])
    unit = image.header.get_xyzt_units()[1]
    seconds = time * {"msec": 1e-3, "usec": 1e-6}.get(unit, 1.0)
    if not seconds > 0:
        raise UserError(f"{path}: the header gives no repetition time (pixdim[4] = {time}); write it into the header")
    return seconds


def _volumes(image: Any, path: Path) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks of volumes of a 4-D image, with the number of their first volume."""
    step = max(1, BLOCK // int(np.prod(image.shape[:3])))
    for start in range(0, image.shape[3], step):
        yield start, _read(image, path, (..., slice(start, start + step)))


def _read(image: Any, path: Path, where: Any) -> np.ndarray:
    try:
        return np.asanyarray(image.dataobj[where])
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{path}: the data cannot be read ({error}); the file is cut short, copy it again") from error

"""NIfTI volumes, read a few at a time and only inside a mask."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from braindistill.errors import UserError
from braindistill.fmri.atlas import find_label_names, read_label_names, split_labels

BLOCK = 2**22  # numbers of a run in memory at once: one block is used while the next is read


def open_nifti(path: Path) -> Any:
    """Open a NIfTI file, reading no data; the file stays open, so that blocks of a ``.gz`` are read in one pass."""
    import nibabel

    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a NIfTI file")
    unreadable = (nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError)
    try:
        return nibabel.load(path, keep_file_open=True)  # type: ignore[call-arg]
    except (*unreadable, OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{path}: not a readable NIfTI file ({one_line(error)}); copy it again") from error


def one_line(error: Exception) -> str:
    """nibabel's messages run over several lines, ours never do."""
    return " ".join(str(error).split())


def check_grid(shape: tuple[int, ...], affine: np.ndarray, path: Path, other: Any, other_path: Path) -> None:
    """Raise UserError, printing both, where a file's first three axes or affine differ from another's."""
    if tuple(shape[:3]) != tuple(other.shape[:3]):
        found = f"{tuple(shape[:3])}, but {other_path} {tuple(other.shape[:3])}"
        raise UserError(f"{path} has the shape {found}; bring both to the same grid")
    if not np.allclose(affine, other.affine, atol=1e-3):
        found = f"{np.round(affine, 3).tolist()}, but {other_path} {np.round(other.affine, 3).tolist()}"
        raise UserError(f"{path} has the affine {found}; bring both to the same grid")


def read_voxels(image: Any, path: Path, inside: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """The (volumes, voxels) float32 values of a 3-D or 4-D image inside a 3-D bool mask, voxels in C order.

    ``out`` is filled where it is given (a part of a memory map, say), which saves an array of that size.
    """
    values = np.empty((count_volumes(image), np.count_nonzero(inside)), dtype=np.float32) if out is None else out
    # volumes lie one after the other in Fortran order; picking from one at a time is twice as fast as block[inside].T
    places = np.ravel_multi_index(np.nonzero(inside), inside.shape, order="F")
    for start, block in _ahead(_volumes(image, path)):
        flat = block.reshape(-1, block.shape[3], order="F")
        for volume in range(block.shape[3]):
            values[start + volume] = flat[:, volume][places]
    return values


def count_volumes(image: Any) -> int:
    """1 for a 3-D image, else the length of its fourth axis."""
    return int(image.shape[3]) if image.ndim > 3 else 1


def read_masks(source: Path, reference: Any, reference_path: Path) -> dict[str, np.ndarray]:
    """Read ROIs: every NIfTI file of a folder, or one file.

    A file with a table of names beside it (``NAME.tsv``, ``.csv``, ``.txt``, ``.ctab`` or ``.json``: index → name) is
    a label atlas: an ROI for each label. Any other is one ROI: true where the file is above zero, with the file's name
    without its ending, a leading ``sub-XX_`` and a trailing ``_mask``.

    Returns
    -------
    name → (X, Y, Z) bool
    """
    if not source.exists():
        raise UserError(f"fmri.masks={source}: no such file or folder; expected NIfTI masks")
    files = sorted([*source.glob("*.nii"), *source.glob("*.nii.gz")]) if source.is_dir() else [source]
    if not files:
        raise UserError(f"fmri.masks={source}: no .nii or .nii.gz file; expected one for each ROI")
    masks: dict[str, np.ndarray] = {}
    for file in files:
        for name, mask in _read_mask(file, reference, reference_path).items():
            if name in masks:
                raise UserError(f"{file}: a second mask for the ROI {name}; give each ROI its own name")
            masks[name] = mask
    return masks


def find_brain(paths: list[Path]) -> np.ndarray:
    """Guess which voxels are brain: mean magnitude over all volumes above a quarter of its own 98th percentile.

    Returns an (X, Y, Z) bool mask. The magnitude is for beta maps, whose sign means nothing here; raw BOLD is positive.
    """
    total: Any = 0.0
    count = 0
    for path in paths:
        image = open_nifti(path)
        for _, block in _volumes(image, path):
            total = total + np.abs(block).sum(axis=3, dtype=np.float64)
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


def _read_mask(file: Path, reference: Any, reference_path: Path) -> dict[str, np.ndarray]:
    stem = file.with_name(re.sub(r"\.nii(\.gz)?$", "", file.name))
    image = open_nifti(file)
    check_grid(image.shape, image.affine, file, reference, reference_path)
    if image.ndim > 3 and set(image.shape[3:]) != {1}:
        raise UserError(f"{file}: shape {image.shape}; expected one volume, a mask for each ROI")
    values = _read(image, file, ...).reshape(image.shape[:3])
    if table := find_label_names(stem):
        return split_labels(np.nan_to_num(values), read_label_names(table), file)
    mask = values > 0
    if not mask.any():
        raise UserError(f"{file}: no voxel is above zero; an empty mask is no ROI, remove it or write it again")
    return {re.sub(r"^sub-[^_]+_|_mask$", "", stem.name): mask}


def _volumes(image: Any, path: Path) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks of volumes of a 3-D or 4-D image, with the number of their first volume."""
    if image.ndim == 3:
        yield 0, _read(image, path, ...)[..., None]
        return
    step = max(1, BLOCK // int(np.prod(image.shape[:3])))
    for start in range(0, image.shape[3], step):
        yield start, _read(image, path, (..., slice(start, start + step)))


def _ahead(blocks: Iterator[Any]) -> Iterator[Any]:
    """Fetch the next block in a thread while the present one is used: decompressing lets go of the interpreter's lock."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, blocks, None)
        while (block := coming.result()) is not None:
            coming = thread.submit(next, blocks, None)
            yield block


def _read(image: Any, path: Path, where: Any) -> np.ndarray:
    try:
        return np.asanyarray(image.dataobj[where])
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(
            f"{path}: the data cannot be read ({one_line(error)}); the file is cut short, copy it again"
        ) from error

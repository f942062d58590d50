"""Surface files through nibabel: the frames of MGH, GIFTI and CIFTI, and the ROIs of label files."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

import numpy as np

from braindistill.errors import UserError
from braindistill.fmri.atlas import find_label_names, read_label_names, split_labels
from braindistill.fmri.nifti import one_line

#: ``lh`` and ``rh`` → the numbers of the vertices that the data have
Hemispheres = dict[str, np.ndarray]

LABELS = (".label.gii", ".annot", ".label", ".mgh", ".mgz")
_SIDES = [r"hemi-([LR])(?=[_.])", r"(?:^|[._-])(lh|rh)(?=[._-])", r"(?:^|[._-])([LR])(?=[._-])"]
_CORTEX = {"CIFTI_STRUCTURE_CORTEX_LEFT": "lh", "CIFTI_STRUCTURE_CORTEX_RIGHT": "rh"}
_BACKGROUND = {"", "???", "unknown", "medial_wall"}


def hemisphere(path: Path) -> tuple[str, str]:
    """``lh`` or ``rh``, by the file's name, and the name with that part taken out (a pair has it in common)."""
    for pattern in _SIDES:
        if found := re.search(pattern, path.name):
            side = "lh" if found[1] in ("L", "lh") else "rh"
            return side, path.name[: found.start(1)] + "*" + path.name[found.end(1) :]
    raise UserError(f"{path}: the name tells no hemisphere; expected lh, rh, hemi-L, hemi-R, .L. or .R. in it")


def count_frames(path: Path, side: str) -> tuple[int, Hemispheres]:
    """How many frames a data file has, and which vertices."""
    image = _open(path)
    if path.name.endswith(".nii"):
        cortex = _cortex(image, path)
        return int(image.shape[0]), {name: index for name, (_, index, _) in cortex.items()}
    if path.name.endswith(".gii"):
        arrays = _gifti_arrays(image, path)
        return len(arrays), {side: np.arange(len(arrays[0]))}
    frames = int(image.shape[3]) if len(image.shape) > 3 else 1
    return frames, {side: np.arange(int(np.prod(image.shape[:3])))}


def read_frames(path: Path) -> np.ndarray:
    """The (frames, vertices) float32 values of a file; of CIFTI the left cortex, then the right."""
    image = _open(path)
    if path.name.endswith(".gii"):
        return np.stack(_gifti_arrays(image, path)).astype(np.float32, copy=False)
    values = np.asarray(_values(image, path))
    if path.name.endswith(".nii"):
        columns = [values[:, place] for place, _, _ in _cortex(image, path).values()]
        return np.concatenate(columns, axis=1).astype(np.float32, copy=False)
    return values.reshape(int(np.prod(image.shape[:3])), -1, order="F").T.astype(np.float32, copy=False)


def read_parcels(source: Path, vertices: Hemispheres) -> dict[str, np.ndarray]:
    """Read the ROIs of every label file of a folder, or of one file: name → bool over the vertices of all hemispheres.

    Raises
    ------
    UserError
        There is no label file, one fits no hemisphere of the data, has too few vertices, or holds no ROI.
    """
    if not source.exists():
        raise UserError(f"fmri.masks={source}: no such file or folder; expected label files ({', '.join(LABELS)})")
    files = [source]
    if source.is_dir():
        files = sorted(file for file in source.iterdir() if file.name.endswith(LABELS))
    if not files:
        raise UserError(f"fmri.masks={source}: no {', '.join(LABELS)} file; expected one for each hemisphere")
    starts = dict(zip(vertices, np.cumsum([0, *map(len, vertices.values())]), strict=False))
    total = sum(map(len, vertices.values()))
    rois: dict[str, np.ndarray] = {}
    for file in files:
        side, _ = hemisphere(file)
        if side not in vertices:
            raise UserError(f"{file}: labels of {side}, but the data have {' and '.join(vertices)} only; remove it")
        index = vertices[side]
        for name, mask in _read_labels(file, int(index.max()) + 1).items():
            if name in vertices:
                raise UserError(f"{file}: a label is called {name}, which already means a hemisphere; rename it")
            roi = rois.setdefault(name, np.zeros(total, dtype=bool))
            roi[starts[side] : starts[side] + len(index)] |= mask[index]
    empty = [name for name, mask in rois.items() if not mask.any()]
    if len(empty) == len(rois):
        raise UserError(f"fmri.masks={source}: no label has a vertex among the data's {total}; an empty mask is no ROI")
    return {name: mask for name, mask in rois.items() if mask.any()}


def _read_labels(path: Path, n_vertices: int) -> dict[str, np.ndarray]:
    """Name → (vertices) bool of one hemisphere's label file."""
    import nibabel

    stem = path.with_name(re.sub(r"(\.label)?\.gii$|\.annot$|\.label$|\.mg[hz]$", "", path.name))
    if path.name.endswith(".label"):
        masks = {_roi_name(stem): _vertex_list(path, n_vertices)}
    elif path.name.endswith(".annot"):
        try:
            labels, _, names = nibabel.freesurfer.read_annot(path)
        except (OSError, ValueError, IndexError, struct.error) as error:
            raise UserError(f"{path}: not a readable annotation ({one_line(error)}); copy it again") from error
        masks = {name.decode("utf-8", "replace"): labels == index for index, name in enumerate(names)}
    elif path.name.endswith(".gii"):
        image = _open(path)
        labels = np.asarray(_gifti_arrays(image, path)[0])
        table = image.labeltable.get_labels_as_dict()
        masks = {name: labels == index for index, name in table.items() if index}
    else:
        labels = np.asarray(_values(_open(path), path)).reshape(-1, order="F")
        table_file = find_label_names(stem)
        masks = (
            split_labels(labels, read_label_names(table_file), path) if table_file else {_roi_name(stem): labels > 0}
        )
    masks = {name: mask for name, mask in masks.items() if name.lower() not in _BACKGROUND}
    if not masks or not any(mask.any() for mask in masks.values()):
        raise UserError(f"{path}: no label has a vertex; an empty mask is no ROI, remove it or write it again")
    size = len(next(iter(masks.values())))
    if size < n_vertices:
        raise UserError(f"{path}: {size} vertices, but the data have {n_vertices}; bring both to the same surface")
    return masks


def _vertex_list(path: Path, n_vertices: int) -> np.ndarray:
    import nibabel

    try:
        index = np.atleast_1d(nibabel.freesurfer.read_label(path))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable FreeSurfer label ({one_line(error)}); copy it again") from error
    if index.size and index.max() >= n_vertices:
        raise UserError(f"{path}: vertex {index.max()}, but the data have {n_vertices}; bring both to the same surface")
    mask = np.zeros(n_vertices, dtype=bool)
    mask[index] = True
    return mask


def _roi_name(stem: Path) -> str:
    """``lh.V1``, ``sub-1_hemi-L_V1_mask`` → ``V1``."""
    name = re.sub(r"^sub-[^_]+_|_mask$", "", stem.name)
    name = re.sub(r"(^|[._-])(hemi-[LR]|lh|rh|[LR])(?=[._-]|$)", r"\1", name).strip("._-")
    return re.sub(r"([._-])[._-]+", r"\1", name)


def _open(path: Path) -> Any:
    import nibabel

    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a surface file")
    unreadable = (nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError)
    try:
        return nibabel.load(path)
    except (*unreadable, OSError, EOFError, ValueError, KeyError, TypeError, ExpatError, zlib.error) as error:
        raise UserError(f"{path}: not a readable surface file ({one_line(error)}); copy it again") from error


def _values(image: Any, path: Path) -> np.ndarray:
    try:
        return np.asanyarray(image.dataobj)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(
            f"{path}: the data cannot be read ({one_line(error)}); the file is cut short, copy it again"
        ) from error


def _gifti_arrays(image: Any, path: Path) -> list[np.ndarray]:
    """A vector for each frame; some programs write all frames as one (vertices, frames) array."""
    arrays = [array.data for array in image.darrays]
    if len(arrays) == 1 and arrays[0].ndim == 2:
        arrays = list(arrays[0].T)
    if not arrays or any(array.ndim != 1 or len(array) != len(arrays[0]) for array in arrays):
        shapes = ", ".join(str(array.shape) for array in arrays[:5])
        raise UserError(f"{path}: arrays of the shapes {shapes or 'none'}; expected one vector of vertices a frame")
    return arrays


def _cortex(image: Any, path: Path) -> dict[str, tuple[slice, np.ndarray, int]]:
    """``lh``, ``rh`` → columns of the CIFTI matrix, their vertices, and the size of the whole hemisphere."""
    axis = image.header.get_axis(1)
    if not hasattr(axis, "iter_structures"):
        raise UserError(
            f"{path}: its columns are no vertices ({type(axis).__name__}); expected dense scalars or series"
        )
    found = {}
    for name, place, model in axis.iter_structures():
        if name in _CORTEX:
            stop = len(axis) if place.stop is None else place.stop
            found[_CORTEX[name]] = (slice(place.start, stop), np.asarray(model.vertex), int(axis.nvertices[name]))
    if not found:
        raise UserError(f"{path}: no cortex among its structures; expected the surface of a hemisphere")
    return dict(sorted(found.items()))

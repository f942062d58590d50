"""Which voxels to read: ROIs as public data sets store them (labels and their names), and voxels without data."""

from __future__ import annotations

import io
import pickle  # for RestrictedUnpickler only: it calls nothing, and admits a dict of ints and strings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from braindistill.errors import UserError, nearest
from braindistill.fmri.storage import row_blocks
from braindistill.runtime import say

LARGEST = 2**20  # bytes; a table of ROI names has a few hundred


def select_voxels(
    masks: Mapping[str, np.ndarray],
    roi: str | list[str] | None,
    everything: np.ndarray,
    where: str,
    unlisted: Mapping[str, np.ndarray] | None = None,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Choose the voxels to read, and cut every ROI down to them.

    Parameters
    ----------
    masks : name → bool mask, all of the shape of ``everything``
    roi : one ROI, several (their union), or None for ``everything``
    where : the data, for messages
    unlisted : further ROIs that may be asked for by name, and are returned only then

    Returns
    -------
    inside : bool, the voxels to read
    rois : name → (voxels inside,) bool; those without a voxel there are left out

    Raises
    ------
    UserError
        An ROI that is asked for is unknown, or has no voxel.
    """
    unlisted = unlisted or {}
    wanted = [] if roi is None else [roi] if isinstance(roi, str) else list(roi)
    chosen: dict[str, np.ndarray] = {}
    for name in wanted:
        if name not in masks and name not in unlisted:
            raise UserError(f"fmri.roi={name}: {where} has no such ROI; {nearest(name, [*masks, *unlisted])}")
        chosen[name] = masks[name] if name in masks else unlisted[name]
        if not chosen[name].any():
            raise UserError(f"fmri.roi={name}: this ROI has no voxel in {where}; not every subject has every ROI")
    inside = everything if roi is None else np.logical_or.reduce([*chosen.values()] or [np.zeros_like(everything)])
    if not inside.any():
        raise UserError(f"fmri.roi={roi}: no voxel of {where} is left; name at least one ROI, or null for all")
    return inside, {name: kept for name, mask in {**masks, **chosen}.items() if (kept := mask[inside]).any()}


def find_incomplete(values: np.ndarray) -> np.ndarray:
    """(voxels,) bool: no data in a session's (trials, voxels), which data sets write as 0 or NaN in every trial."""
    return ~np.any(values, axis=0) | np.isnan(values).all(axis=0)


def blank_incomplete(responses: np.ndarray, incomplete: np.ndarray, where: str) -> None:
    """Make voxels that lack a session NaN in every trial, as `braindistill.fmri.load` leaves out, and say how many."""
    if incomplete.any():
        say(f"{where}: {np.count_nonzero(incomplete)} of {len(incomplete)} voxels have no data in some session")
        for rows in row_blocks(*responses.shape):
            responses[rows, incomplete] = np.nan


def label_masks(labels: np.ndarray, names: Mapping[int, str]) -> dict[str, np.ndarray]:
    """Name → bool mask of each positive label, also of those that do not occur; 0 and below stand for no ROI."""
    return {name: labels == label for label, name in names.items() if label > 0}


def read_pickled_names(path: Path) -> dict[int, str]:
    """Read a ``mapping_*.npy`` of the Algonauts challenge: a dict label → name that numpy has pickled.

    Raises
    ------
    UserError
        The file is missing, or holds anything but a dict of ints and strings; nothing in it is ever called.
    """
    refused = f"{path}: refused; expected numpy's file of one dict of ints and strings (label → ROI name)"
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected the names of the labels, as the data set comes with them")
    if path.stat().st_size > LARGEST:
        raise UserError(f"{refused}, found {path.stat().st_size:,} bytes")
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            read_header = (
                np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            )
            shape, _, kind = read_header(file)
            if shape != () or kind != np.dtype(object):
                raise pickle.UnpicklingError(f"an array of {kind} {shape}")
            stored = RestrictedUnpickler(io.BytesIO(file.read())).load()
        except RecursionError as error:
            raise UserError(f"{refused}, found objects in objects") from error
        except Exception as error:  # a damaged or hostile pickle fails in any way it likes
            raise UserError(f"{refused}, found {str(error) or type(error).__name__}".splitlines()[0]) from error
    content = stored.content() if isinstance(stored, _Stored) else stored
    if not isinstance(content, dict) or not all(type(k) is int and type(v) is str for k, v in content.items()):
        raise UserError(f"{refused}, found {type(content).__name__}")
    return content


class RestrictedUnpickler(pickle._Unpickler):  # the one in Python: a few hostile bytes make the one in C take gigabytes
    """Unpickles numpy's wrapping of one Python object, with inert stand-ins for the three names that it mentions."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse every global but those of an object array; none of them is numpy's own."""
        if (module.replace("numpy._core", "numpy.core"), name) not in _ARRAY:
            raise pickle.UnpicklingError(f"a reference to {module}.{name}")
        return _Stored

    def persistent_load(self, pid: Any) -> Any:
        """Refuse references to objects outside the file."""
        raise pickle.UnpicklingError("a reference to an object outside the file")


class _Stored:
    """Stands in for an array, its type and its dtype: it keeps the state that it is given, and does nothing."""

    def __init__(self, *arguments: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def content(self) -> Any:
        """The one object in an object array of no dimension: its state ends with the list of its elements."""
        elements = self.state[-1] if isinstance(self.state, tuple) and self.state else None
        return elements[0] if isinstance(elements, list) and len(elements) == 1 else None


_ARRAY = {("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}

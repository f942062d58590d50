"""The open door: any data set that fits in one ``.npz`` file of plain arrays."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.runtime import warn

TRIALS = ["stimulus_id", "run", "session", "label", "split"]
KEYS = ["responses", *TRIALS, "voxel_coordinates", "affine", "images", "image_id"]


def load_arrays(workspace: Path | None = None, *, path: Path) -> Responses:
    """Read responses from an ``.npz`` file.

    Parameters
    ----------
    path : file with ``responses`` (trials × voxels) and ``stimulus_id`` (trials); optional ``run``, ``session``,
        ``label``, ``split`` (trials), ``voxel_coordinates`` (voxels × 3), ``affine`` (4 × 4), ``roi_<NAME>`` (voxels,
        bool), and ``images`` (stimuli × H × W [× 3], uint8) with ``image_id`` (stimuli). Names may be integers.

    Raises
    ------
    UserError
        The file is missing, is not an ``.npz``, lacks a key, or holds an array of the wrong shape or kind.
    """
    if not path.is_file():
        raise UserError(f"fmri.path={path}: no such file; expected an .npz with responses and stimulus_id")
    if not zipfile.is_zipfile(path):
        raise UserError(f"fmri.path={path}: not an .npz file; write it with numpy.savez")
    with np.load(path, allow_pickle=False) as members:
        responses = _read(members, path)
    responses.check(str(path))
    return responses


def _read(members: np.lib.npyio.NpzFile, path: Path) -> Responses:
    found = members.files
    missing = [key for key in ("responses", "stimulus_id") if key not in found]
    if missing:
        raise UserError(f"{path}: no key {' and '.join(missing)}; keys found: {', '.join(found) or 'none'}")
    if ("images" in found) != ("image_id" in found):
        absent = "image_id" if "images" in found else "images"
        raise UserError(f"{path}: images and image_id come together, but {absent} is missing; add it")
    ignored = [key for key in found if key not in KEYS and not key.startswith("roi_")]
    if ignored:
        warn(f"{path}: ignored unknown keys {', '.join(ignored)}; known: {', '.join(KEYS)}, roi_<NAME>")

    values = _numbers(members, "responses", path)
    if values.ndim != 2:
        raise UserError(f"{path}: responses has shape {values.shape}; expected trials × voxels")
    trials: dict[str, Any] = {key: _strings(members, key, path) for key in TRIALS if key in found}
    geometry: dict[str, Any] = {
        key: _numbers(members, key, path) for key in ("voxel_coordinates", "affine") if key in found
    }
    rois = {key.removeprefix("roi_"): _mask(members, key, path) for key in found if key.startswith("roi_")}
    images = _images(members, path) if "images" in found else None
    image_id = _strings(members, "image_id", path) if "images" in found else None
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which check() reports
        values = np.ascontiguousarray(values, dtype=np.float32)
    return Responses(
        values,
        rois=rois,
        images=images,
        image_id=image_id,
        **trials,
        **geometry,
    )


def _member(members: np.lib.npyio.NpzFile, key: str, path: Path) -> np.ndarray:
    try:
        return members[key]
    except ValueError as error:
        if "pickle" in str(error):
            raise UserError(f"{path}: {key} is an array of Python objects; store plain numbers or strings") from error
        raise UserError(f"{path}: {key} cannot be read ({error}); write the file again") from error
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise UserError(f"{path}: {key} cannot be read ({error}); the file is damaged, write it again") from error


def _numbers(members: np.lib.npyio.NpzFile, key: str, path: Path) -> np.ndarray:
    values = _member(members, key, path)
    if values.dtype.kind not in "fiu":
        raise UserError(f"{path}: {key} has type {values.dtype}; expected real numbers")
    return values


def _strings(members: np.lib.npyio.NpzFile, key: str, path: Path) -> np.ndarray:
    values = _member(members, key, path)
    if values.ndim != 1:
        raise UserError(f"{path}: {key} has shape {values.shape}; expected one dimension")
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8")
    if values.dtype.kind not in "Uiu":
        raise UserError(f"{path}: {key} has type {values.dtype}; expected strings or integers")
    return values.astype(str)


def _mask(members: np.lib.npyio.NpzFile, key: str, path: Path) -> np.ndarray:
    values = _member(members, key, path)
    if values.dtype.kind not in "biu" or not np.isin(values, (0, 1)).all():
        raise UserError(f"{path}: {key} has type {values.dtype}; expected True or False for each voxel")
    return values.astype(bool)


def _images(members: np.lib.npyio.NpzFile, path: Path) -> np.ndarray:
    """(stimuli, H, W[, 3]) as stored → (stimuli, C, H, W)."""
    images = _member(members, "images", path)
    if images.dtype != np.uint8:
        raise UserError(f"{path}: images has type {images.dtype}; expected uint8, 0 to 255")
    if images.ndim == 3:
        return images[:, None]
    if images.ndim != 4 or images.shape[3] != 3:
        raise UserError(f"{path}: images has shape {images.shape}; expected stimuli × H × W or stimuli × H × W × 3")
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))

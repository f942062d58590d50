"""The open door for a student's images: one ``.npz`` file."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from braindistill.errors import UserError
from braindistill.images.image_set import ImageSet

_REQUIRED = ("train_images", "train_labels", "test_images", "test_labels")
_OPTIONAL = ("classes", "train_ids", "test_ids")


def load_arrays(*, path: Path) -> ImageSet:
    """Read images and labels from an ``.npz`` file.

    Parameters
    ----------
    path
        File with ``train_images`` and ``test_images`` (uint8, N × H × W or N × H × W × 3), ``train_labels`` and
        ``test_labels`` (integers, or strings; −1 or '' = unlabelled, in train only), and optionally ``classes``
        (names; integer labels index them), ``train_ids`` and ``test_ids`` (default ``train-00000``, ``test-00000``).

    Raises
    ------
    UserError
        If the file is missing, is no ``.npz``, lacks a key, holds pickled objects, or its arrays disagree.
    """
    path = Path(path)
    name = f"images.path={path}"
    found = _read(path, name)
    labels, classes = _encode_labels(found, name)
    parts: dict[str, np.ndarray] = {}
    for part in ("train", "test"):
        parts[f"{part}_images"] = _channels_first(found[f"{part}_images"], f"{part}_images", name)
        parts[f"{part}_labels"] = labels[part]
        default = np.array([f"{part}-{row:05d}" for row in range(len(labels[part]))], dtype=str)
        parts[f"{part}_ids"] = found.get(f"{part}_ids", default).astype(str)
    return ImageSet(**parts, classes=classes).check(name)


def _read(path: Path, name: str) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UserError(f"{name}: no such file; give an .npz with the keys {', '.join(_REQUIRED)}")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{name}: not an .npz file (a zip of .npy arrays); write it with numpy.savez")
    with np.load(path, allow_pickle=False) as file:
        missing = [key for key in _REQUIRED if key not in file.files]
        if missing:
            raise UserError(f"{name}: key {', '.join(missing)} is missing; found {', '.join(file.files) or 'none'}")
        arrays = {}
        for key in file.files:
            if key in _REQUIRED + _OPTIONAL:
                try:
                    arrays[key] = np.asarray(file[key])
                except (ValueError, zipfile.BadZipFile, EOFError, OSError) as error:
                    reason = "holds pickled objects, which are refused" if "pickle" in str(error) else "is damaged"
                    raise UserError(f"{name}: key {key} {reason}; save plain arrays of numbers or strings") from error
        return arrays


def _channels_first(images: np.ndarray, key: str, name: str) -> np.ndarray:
    if images.dtype != np.uint8:
        raise UserError(f"{name}: {key} must be uint8 (0 to 255), found {images.dtype}; convert it before saving")
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    shape = " × ".join(map(str, images.shape))
    raise UserError(f"{name}: {key} must be N × H × W or N × H × W × 3, found {shape}")


def _encode_labels(found: dict[str, np.ndarray], name: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """Class indices of both parts, and the class names: given, or the sorted values that occur."""
    raw = {part: found[f"{part}_labels"] for part in ("train", "test")}
    for part, values in raw.items():
        if values.ndim != 1 or values.dtype.kind not in "iuU":
            raise UserError(
                f"{name}: {part}_labels must be a vector of integers or strings, "
                f"found {values.dtype} with {values.ndim} dimension(s)"
            )
        if len(values) != len(found[f"{part}_images"]):
            raise UserError(
                f"{name}: {part}_images has {len(found[f'{part}_images'])} rows and {part}_labels {len(values)}; "
                "the two must agree"
            )
    as_text = raw["train"].dtype.kind == "U"
    if as_text != (raw["test"].dtype.kind == "U"):
        raise UserError(f"{name}: train_labels are {raw['train'].dtype} and test_labels {raw['test'].dtype}; use one")
    if "classes" in found and not as_text:
        # Integers index the given names; ImageSet.check refuses those out of range.
        indices = {part: values.astype(np.int64) for part, values in raw.items()}
        return indices, [str(value) for value in found["classes"].ravel()]
    unlabelled = "" if as_text else -1
    values = np.concatenate([raw["train"], raw["test"]])
    known = found["classes"].astype(str).ravel() if "classes" in found else np.unique(values[values != unlabelled])
    index = {value: position for position, value in enumerate(known.tolist())}
    index[unlabelled] = -1
    unknown = sorted({str(value) for value in values.tolist() if value not in index})
    if unknown:
        raise UserError(f"{name}: labels that are not in classes: {', '.join(unknown[:5])} ({len(unknown)} in all)")
    return {
        part: np.array([index[value] for value in labels.tolist()], dtype=np.int64) for part, labels in raw.items()
    }, [str(value) for value in known]

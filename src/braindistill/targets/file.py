"""Soft labels brought by the user."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from braindistill.errors import UserError
from braindistill.images import ImageSet, Split
from braindistill.joining import find_rows
from braindistill.targets.asking import chosen_images, describe_rows
from braindistill.targets.soft_labels import SoftLabels, diagnose
from braindistill.teachers.answer import UNSEEN


def export_file(
    teacher_folder: Path | None,
    image_set: ImageSet,
    split: Split,
    device: str,
    *,
    path: Path,
    images: Literal["labelled", "pool", "all"] = "all",
) -> SoftLabels:
    """Read soft labels from ``.npy``, ``.npz`` or ``.safetensors``: probabilities, one row an image.

    Parameters
    ----------
    path : an array of images × classes. An npz may name its rows (``image_id``) and columns (``classes``); without ids, rows
        are the training images in data-set order, and columns the student's classes in their order
    images : which training images use it

    Raises
    ------
    UserError
        Not such a file; rows that don't sum to one; rows or columns that don't match the images or classes.
    """
    rows, image_id, classes = _read(Path(path))
    if rows.ndim != 2 or rows.dtype.kind != "f" or not rows.size:
        raise UserError(
            f"target.path={path}: found {rows.dtype} of shape {rows.shape}, expected floats of images × classes"
        )
    classes = classes or image_set.classes
    if rows.shape[1] != len(classes):
        raise UserError(f"target.path={path}: {rows.shape[1]} columns, but there are {len(classes)} classes")
    if not np.isfinite(rows).all() or rows.min() < 0:
        raise UserError(
            f"target.path={path}: probabilities must be finite and not negative (smallest: {np.nanmin(rows):.3g})"
        )
    off = np.abs(rows.astype(np.float64).sum(1) - 1)
    if off.max() > 1e-2:
        worst = int(off.argmax())
        raise UserError(
            f"target.path={path}: row {worst} sums to {rows[worst].sum():.4g}, expected 1: give probabilities, not logits "
            f"({int((off > 1e-2).sum())} of {len(rows)} rows are off)"
        )
    if image_id is None:
        if len(rows) != len(image_set.train_ids):
            raise UserError(
                f"target.path={path}: {len(rows)} rows without image_id, but there are {len(image_set.train_ids)} training "
                "images; give an npz with image_id"
            )
        image_id = image_set.train_ids
    if len(image_id) != len(rows) or len(np.unique(image_id)) != len(rows):
        raise UserError(f"target.path={path}: image_id must name each of the {len(rows)} rows once")
    wanted = image_set.train_ids[chosen_images(split, images)]
    row, found = find_rows(image_id, wanted)
    missing = wanted[~found]
    if len(missing):
        raise UserError(
            f"target.path={path}: no row for {len(missing)} of {len(wanted)} training images (first: "
            f"{', '.join(missing[:5].tolist())}); its ids are like {image_id[0]}"
        )
    with np.errstate(divide="ignore"):
        log_p = np.maximum(np.log(rows.astype(np.float32)), -30)
    source, fold = np.full(len(wanted), "file"), np.full(len(wanted), UNSEEN, np.int16)
    record = describe_rows("file", source, fold, None) | {"temperature": None}
    target = SoftLabels(wanted, log_p[row], classes, record, source, fold)
    target.record |= diagnose(target, image_set, split)
    return target


def _read(path: Path) -> tuple[np.ndarray, np.ndarray | None, list[str] | None]:
    if not path.exists():
        raise UserError(f"target.path={path}: no such file")
    if path.suffix not in (".npy", ".npz", ".safetensors"):
        raise UserError(f"target.path={path}: expected a .npy, .npz or .safetensors file")
    try:
        if path.suffix == ".npy":
            return np.lib.format.open_memmap(path, mode="r"), None, None
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            stored = load_file(path)
        else:
            with np.load(path, allow_pickle=False) as file:
                stored = {key: file[key] for key in file.files}
    except Exception as error:  # each reader raises errors of its own kinds
        raise UserError(f"target.path={path}: can't be read: {error}") from error
    tables = [key for key, value in stored.items() if value.ndim == 2]
    if len(tables) != 1:
        raise UserError(f"target.path={path}: expected one array of images × classes, found {sorted(stored)}")
    classes = stored["classes"].astype(str).tolist() if "classes" in stored else None
    image_id = stored["image_id"].astype(str) if "image_id" in stored else None
    return stored[tables[0]], image_id, classes

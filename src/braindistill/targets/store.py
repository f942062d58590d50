"""A target's rows on disk: memory-mapped arrays, and a few bytes an image for its id, its source and its fold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from braindistill import targets
from braindistill.errors import UserError

#: kind in ``target.json`` → its container
_CONTAINERS = {
    "soft_labels": "SoftLabels",
    "voxels": "Voxels",
    "relations": "Relations",
    "mask": "Masks",
    "features": "Features",
}


class StoredRows(NamedTuple):
    """What `read_rows` gives back.

    Attributes
    ----------
    image_id : (images) str
    source, fold : (images) where a row came from, and the fold that held its image out; None where that is not known
    arrays : name → memory map, a row an image
    names : name → array of any other length (classes, weights)
    record : ``target.json``
    """

    image_id: np.ndarray
    source: np.ndarray | None
    fold: np.ndarray | None
    arrays: dict[str, np.ndarray]
    names: dict[str, np.ndarray]
    record: dict[str, Any]


def write_rows(
    folder: Path,
    image_id: np.ndarray,
    source: np.ndarray | None,
    fold: np.ndarray | None,
    arrays: Mapping[str, np.ndarray],
    names: Mapping[str, np.ndarray],
    record: Mapping[str, Any],
) -> None:
    """Write ``NAME.npy`` for each array, ``ids.npz`` and ``target.json``; parameters as in `StoredRows`."""
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    known = {"source": source, "fold": fold, **names}
    # as bytes: of the four bytes that numpy gives a character, deflate leaves more than of one
    ids = np.char.encode(np.asarray(image_id, str), "utf-8")
    np.savez_compressed(
        folder / "ids.npz",
        image_id=ids,
        **{name: value for name, value in known.items() if value is not None},  # type: ignore[arg-type]
    )
    (folder / "target.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


def read_rows(folder: Path, arrays: Sequence[str]) -> StoredRows:
    """Read what `write_rows` wrote; those of the ``arrays`` that are there are memory-mapped, read-only."""
    folder = Path(folder)
    with np.load(folder / "ids.npz", allow_pickle=False) as stored:
        names = {name: stored[name] for name in stored.files}
    image_id = names.pop("image_id")
    if image_id.dtype.kind == "S":
        image_id = np.char.decode(image_id, "utf-8")
    mapped = {
        name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        for name in arrays
        if (folder / f"{name}.npy").exists()
    }
    record = json.loads((folder / "target.json").read_text(encoding="utf-8"))
    return StoredRows(image_id, names.pop("source", None), names.pop("fold", None), mapped, names, record)


def load_target(folder: Path) -> Any:
    """Read a target of any kind back: `SoftLabels`, `Voxels`, `Relations`, `Masks` or `Features`.

    Raises
    ------
    UserError
        The folder holds no target, or one of another version.
    """
    folder = Path(folder)
    if not (folder / "target.json").exists():
        raise UserError(f"{folder}: holds no target (target.json is missing); give the key of an export run")
    kind = json.loads((folder / "target.json").read_text(encoding="utf-8")).get("kind")
    if kind not in _CONTAINERS:
        raise UserError(f"{folder}: a target of another version of braindistill; export it again")
    return getattr(targets, _CONTAINERS[kind]).load(folder)

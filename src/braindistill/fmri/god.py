"""Generic Object Decoding (Horikawa & Kamitani 2017): BData files joined with ImageNet pictures on the stimulus id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from braindistill.errors import UserError, nearest
from braindistill.fmri.bdata import BData, open_bdata
from braindistill.fmri.imagenet_names import Name, find_names, match_names
from braindistill.fmri.pictures import read_pictures
from braindistill.fmri.responses import Responses
from braindistill.fmri.storage import allocate
from braindistill.runtime import say

KINDS = {1: "train", 2: "test", 3: "imagery"}  # the DataType of a row
SPLITS = {"train": [1], "test": [2], "imagery": [3], "perception": [1, 2]}


def files_god(options: Mapping[str, Any], subject: int) -> list[str]:
    """Patterns of the files below ``root`` that a subject is read from, so that only they are fingerprinted."""
    return [f"Subject{subject}.h5"]


def load_god(
    workspace: Path | None = None,
    *,
    root: Path,
    subject: int = 1,
    split: Literal["train", "test", "imagery", "perception"] = "train",
    roi: str | list[str] | None = None,
    stimuli: Path | None = None,
    image_size: int | None = None,
) -> Responses:
    """Read one subject. Rows and pictures are joined on the stimulus id, never on their position.

    Parameters
    ----------
    root : folder that holds ``SubjectN.h5``, or one such file.
    split : ``train`` (1,200 images once), ``test`` (50 images, 35 times each), ``perception`` (both) or ``imagery``
        (50 categories imagined, no picture shown).
    roi : read these ROIs only (``V1``, ``LVC``, …); None reads every voxel of ``VoxelData``.
    stimuli : folder of the pictures, also in folders inside it, named ``n01518878_10042.JPEG`` or
        ``1518878.010042.jpg``; or a text table of such names, which is checked against and gives no pictures.
    image_size : side in pixels, see `read_pictures`.

    Raises
    ------
    UserError
        A file or key is missing, an ROI is unknown or empty, ids lost their digits, a stimulus has no picture or
        several that it could be.
    """
    path = _find_file(root, subject)
    with open_bdata(path) as data:
        columns, rois = _choose_voxels(data, roi)
        kinds = _read_first(data, "DataType")
        rows = np.flatnonzero(np.isin(kinds, SPLITS[split]))
        if not len(rows):
            raise UserError(f"fmri.split={split}: {path} has no such trials (DataType {SPLITS[split]}); choose another")
        split_of = np.array([KINDS[int(kind)] for kind in kinds[rows]])
        names = _read_names(data, rows)
        _check_indices(data, rows, split_of, names)
        session, run = _read_runs(data, rows, split_of)
        coordinates = _read_coordinates(data, columns)
        matched, images, image_id = _join_pictures(names, stimuli, image_size)
        responses = allocate(workspace, len(rows), len(columns))
        data.read(rows, columns, responses)
    return Responses(
        responses,
        np.array([str(matched[name]) for name in names]),
        run=run,
        session=session,
        label=np.array([name.category for name in names]),
        split=split_of,
        rois=rois,
        voxel_coordinates=coordinates,
        images=images,
        image_id=image_id,
    )


def _find_file(root: Path, subject: int) -> Path:
    path = root / f"Subject{subject}.h5" if root.is_dir() else root
    if path.suffix == ".mat":
        raise UserError(f"{path}: a MATLAB file; download the .h5 of the same name (Generic Object Decoding, figshare)")
    if not path.is_file():
        found = ", ".join(sorted(file.name for file in root.glob("*.h5"))) if root.is_dir() else ""
        hint = f"; found {found}" if found else ""
        raise UserError(f"{path}: no such file; expected Subject1.h5 … Subject5.h5 in fmri.root={root}{hint}")
    return path


def _choose_voxels(data: BData, roi: str | list[str] | None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The columns to read, and the masks over them of every ROI that has a voxel there."""
    masks = {key.removeprefix("ROI_"): data.metadata[key] == 1 for key in data.metadata if key.startswith("ROI_")}
    wanted = [roi] if isinstance(roi, str) else roi
    for name in wanted or []:
        if name not in masks:
            raise UserError(f"fmri.roi={name}: no such ROI in {data.path}; {nearest(name, masks)}")
        if not masks[name].any():
            raise UserError(f"fmri.roi={name}: this ROI has no voxel in {data.path}; choose another")
    if wanted:
        chosen = np.logical_or.reduce([masks[name] for name in wanted])
    else:
        chosen = data.metadata[_voxel_key(data)] == 1
    columns = np.flatnonzero(chosen)
    return columns, {name: mask[columns] for name, mask in masks.items() if mask[columns].any()}


def _voxel_key(data: BData) -> str:
    if not len(data.columns("VoxelData")):
        raise UserError(f"{data.path}: the key VoxelData selects no column; expected the voxels of the subject")
    return "VoxelData"


def _read_first(data: BData, key: str) -> np.ndarray:
    """(samples,) the first column of a key (old files keep several under ``Label``, of which the first is the id)."""
    values = np.empty((data.dataset.shape[0], 1), dtype=np.float64)
    columns = data.columns(key)[:1]
    if not len(columns):
        raise UserError(f"{data.path}: the key {key} selects no column; download the file again")
    data.read(np.arange(len(values)), columns, values)
    return values[:, 0]


def _read_names(data: BData, rows: np.ndarray) -> list[Name]:
    """The stimulus of each row, from ids such as 1518878.010042 (category 1518878, image 10042)."""
    if data.dataset.dtype.itemsize < 8:
        raise UserError(
            f"{data.path}: stored as {data.dataset.dtype}, which merges the images of a category into one id; "
            "expected float64, take the original file"
        )
    ids = _read_first(data, "stimulus_id" if "stimulus_id" in data.metadata else "Label")[rows]
    wrong = np.flatnonzero(~(np.isfinite(ids) & (ids >= 1)))
    if len(wrong):
        raise UserError(
            f"{data.path}: {len(wrong)} stimulus ids are no ImageNet ids, the first is {ids[wrong[0]]} in row "
            f"{rows[wrong[0]]}; expected numbers such as 1518878.010042"
        )
    return [Name.from_number(value) for value in ids.tolist()]


def _read_runs(data: BData, rows: np.ndarray, split_of: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Session and run of each row, named after the split too: their numbers begin again in each."""
    levels = [split_of.tolist()]
    session = run = None
    if "Session" in data.metadata:
        levels.append(_numbers(_read_first(data, "Session")[rows]))
        session = np.array(["-".join(words) for words in zip(*levels, strict=True)])
    if "Run" in data.metadata:
        levels.append(_numbers(_read_first(data, "Run")[rows]))
        run = np.array(["-".join(words) for words in zip(*levels, strict=True)])
    return session, run


def _numbers(values: np.ndarray) -> list[str]:
    return [f"{value:g}" for value in values.tolist()]


def _read_coordinates(data: BData, columns: np.ndarray) -> np.ndarray | None:
    """(voxels, 3) in millimetres of the subject's own space, where every voxel has them."""
    keys = ("voxel_x", "voxel_y", "voxel_z")
    if not all(key in data.metadata for key in keys):
        return None
    found = np.stack([data.metadata[key][columns] for key in keys], axis=1)
    return found if np.isfinite(found).all() else None


def _check_indices(data: BData, rows: np.ndarray, split_of: np.ndarray, names: list[Name]) -> None:
    """Say where ``category_index`` or ``image_index`` contradict the ids, as in files before figshare version 5."""
    for key in ("category_index", "image_index"):
        if key not in data.metadata:
            continue
        index = _read_first(data, key)[rows].tolist()
        wrong = total = 0
        for kind in np.unique(split_of).tolist():
            if kind == "imagery" and key == "image_index":
                continue  # nothing was shown
            told = [str(name) if key == "image_index" else name.category for name in names]
            pairs = {(i, t) for i, t, k in zip(index, told, split_of, strict=True) if k == kind and i == i}
            wrong += _contradictions(pairs)
            total += len(pairs)
        if wrong:
            say(
                f"{data.path}: {key} contradicts stimulus_id for {wrong} of {total} values; files before version 5 on "
                "figshare (July 2020) number them wrongly. Stimuli are joined on stimulus_id, which is right in both"
            )


def _contradictions(pairs: set[tuple[float, str]]) -> int:
    """Count the pairs that are not one to one, or out of the order of the names, by which the owners number them."""
    indices, names = (Counter(column) for column in zip(*pairs, strict=True)) if pairs else (Counter(), Counter())
    doubled = sum(indices[index] > 1 or names[name] > 1 for index, name in pairs)
    by_name = [index for index, _ in sorted(pairs, key=lambda pair: pair[1])]
    moved = sum(one != other for one, other in zip(by_name, sorted(by_name), strict=True))
    return max(doubled, moved)


def _join_pictures(
    names: list[Name], stimuli: Path | None, image_size: int | None
) -> tuple[dict[Name, Name], np.ndarray | None, np.ndarray | None]:
    """For each stimulus the name it goes by, and the pictures in order of first appearance."""
    shown = [name for name in dict.fromkeys(names) if name.image]
    matched = {name: name for name in names}
    if stimuli is None:
        return matched, None, None
    if not shown:
        say("fmri.stimuli: imagined categories have no picture of their own; none is read")
        return matched, None, None
    known = find_names(stimuli)
    matched |= match_names(shown, list(known), stimuli)
    if stimuli.is_file():
        return matched, None, None
    images = read_pictures([known[matched[name]] for name in shown], image_size)
    return matched, images, np.array([str(matched[name]) for name in shown])

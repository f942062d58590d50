"""THINGS-fMRI (Hebart et al. 2023): single-trial responses in the table format of its owners, read without pandas."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from braindistill.errors import UserError, nearest
from braindistill.fmri.frames import Frame, open_frame
from braindistill.fmri.hdf5 import pieces
from braindistill.fmri.pictures import read_pictures
from braindistill.fmri.responses import Responses
from braindistill.fmri.storage import BLOCK, allocate

LAYOUT = "betas_csv/sub-01_ResponseData.h5, …_StimulusMetadata.csv and …_VoxelMetadata.csv"
TRIAL_COLUMNS = ["trial_type", "session", "run", "stimulus", "concept"]
SPLITS = {"all": ["train", "test"], "train": ["train"], "test": ["test"]}
COORDINATES = ["voxel_x", "voxel_y", "voxel_z"]
NUMBERS = ["voxel_id", *COORDINATES, "nc_singletrial", "nc_testset"]  # voxel columns that are read as numbers
NO_ROI = {*NUMBERS, "subject_id", "splithalf_uncorrected", "splithalf_corrected"}  # nor is any that begins with prf-


def files_things(options: Mapping[str, Any], subject: int) -> list[str]:
    """Patterns of the files below ``root`` that a subject is read from, so that only they are fingerprinted."""
    return [f"*sub-{subject:02d}_*"]


def load_things(
    workspace: Path | None = None,
    *,
    root: Path,
    subject: int = 1,
    split: Literal["all", "train", "test"] = "all",
    roi: str | list[str] | None = None,
    stimuli: Path | None = None,
    image_size: int | None = None,
) -> Responses:
    """Read one subject.

    The ceiling is the owners' ``nc_testset`` (the mean over the 12 repeats of a test image), and ``nc_singletrial``
    where ``split`` is ``train``, whose images were shown once; both in percent there, 0 to 1 here.

    Parameters
    ----------
    root : folder that holds ``betas_csv``, or that folder.
    split : ``train`` (8,640 images once), ``test`` (100 images, 12 times each) or ``all``.
    roi : read the voxels of these ROIs only; None reads the whole brain mask (more than 200,000).
    stimuli : folder of the pictures, as ``dog/dog_12s.jpg`` or ``dog_12s.jpg``.
    image_size : side in pixels, see `read_pictures`.

    Raises
    ------
    UserError
        A file, column or key is missing, the three files contradict each other, or an ROI is unknown or empty.
    """
    folder = root / "betas_csv" if (root / "betas_csv").is_dir() else root
    if not folder.is_dir():
        raise UserError(f"fmri.root={root}: no such folder; expected {LAYOUT}")
    stem = f"sub-{subject:02d}"
    trials = _read_trials(folder / f"{stem}_StimulusMetadata.csv")
    rows = [row for row, trial in enumerate(trials) if trial.split in SPLITS[split]]
    if not rows:
        raise UserError(f"fmri.split={split}: {folder}/{stem}_StimulusMetadata.csv has no such trials; choose another")
    chosen = [trials[row] for row in rows]
    voxels = _read_voxels(folder / f"{stem}_VoxelMetadata.csv")
    wanted = voxels.choose(roi)
    images, image_id = _read_pictures(chosen, stimuli, image_size)
    with open_frame(folder / f"{stem}_ResponseData.h5", "ResponseData", "voxel_id") as frame:
        if frame.width != len(trials):
            raise UserError(
                f"{frame.path}: {frame.width} trials, but {stem}_StimulusMetadata.csv has {len(trials)} rows; take "
                "both from the same release"
            )
        lines, wanted = _join_voxels(frame, voxels, wanted)
        responses = allocate(workspace, len(rows), len(lines))
        for across, kept in pieces(lines, max(1, BLOCK // frame.width)):
            block = frame.read(across)[lines[kept] - across.start]
            responses[:, kept] = block[:, rows].T
    ceiling = voxels.numbers["nc_singletrial" if split == "train" else "nc_testset"][wanted] / 100
    return Responses(
        responses,
        np.array([trial.stimulus_id for trial in chosen]),
        run=np.array([f"{trial.session}-{trial.run}" for trial in chosen]),
        session=np.array([trial.session for trial in chosen]),
        label=np.array([trial.concept for trial in chosen]),
        split=np.array([trial.split for trial in chosen]),
        rois={name: mask[wanted] for name, mask in voxels.rois.items() if mask[wanted].any()},
        voxel_coordinates=np.stack([voxels.numbers[key][wanted] for key in COORDINATES], axis=1),
        ceiling=ceiling,
        images=images,
        image_id=image_id,
    )


@dataclasses.dataclass(frozen=True)
class _Trial:
    split: str
    session: str
    run: str
    file: str
    concept: str

    @property
    def stimulus_id(self) -> str:
        return Path(self.file).stem


@dataclasses.dataclass
class _Voxels:
    path: Path
    numbers: dict[str, np.ndarray]
    rois: dict[str, np.ndarray]

    def choose(self, roi: str | list[str] | None) -> np.ndarray:
        """Positions of the voxels of an ROI or of several, else of all."""
        masks = []
        for name in [roi] if isinstance(roi, str) else roi or []:
            if name not in self.rois:
                raise UserError(f"fmri.roi={name}: no such ROI in {self.path}; {nearest(name, self.rois)}")
            if not self.rois[name].any():
                raise UserError(f"fmri.roi={name}: this ROI has no voxel in {self.path}; choose another")
            masks.append(self.rois[name])
        total = len(self.numbers["voxel_id"])
        return np.flatnonzero(np.logical_or.reduce(masks)) if masks else np.arange(total)


def _read_trials(path: Path) -> list[_Trial]:
    """The trials in the order of the response columns: that of ``trial_id`` where it counts from 0, else of the rows."""
    with _open_table(path, TRIAL_COLUMNS) as (header, lines):
        rows = list(lines)
    at = [header.index(column) for column in TRIAL_COLUMNS]
    if "trial_id" in header:
        order = [row[header.index("trial_id")] for row in rows]
        if sorted(order) == sorted(map(str, range(len(rows)))):
            rows = [row for _, row in sorted(zip(map(int, order), rows, strict=True), key=lambda pair: pair[0])]
    trials = [_Trial(*(row[column].strip() for column in at)) for row in rows]
    for trial in trials:
        if trial.split not in ("train", "test", "catch"):
            raise UserError(f"{path}: trial_type is {trial.split!r}; expected train, test or catch")
    return trials


def _read_voxels(path: Path) -> _Voxels:
    """The numbers of each voxel, and a mask for each column of zeros and ones. Hundreds of columns: kept as bytes."""
    bit = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}
    numbers, flags = [], []
    with _open_table(path, NUMBERS) as (header, lines):
        names = [" ".join(column.split()).replace("- ", "-") for column in header]  # one name is broken over two lines
        candidates = [c for c, name in enumerate(names) if name not in NO_ROI and not name.startswith("prf-")]
        at = [(header.index(key), key) for key in NUMBERS]
        for row in lines:
            numbers.append([_number(row[column], path, key) for column, key in at])
            flags.append(bytes([bit.get(row[column], 2) for column in candidates]))
    masks = np.frombuffer(b"".join(flags), dtype=np.uint8).reshape(len(flags), len(candidates))
    binary = np.all(masks < 2, axis=0)
    rois = {names[c]: np.equal(masks[:, i], 1) for i, c in enumerate(candidates) if binary[i]}
    return _Voxels(path, dict(zip(NUMBERS, np.array(numbers).T, strict=True)), rois)


@contextlib.contextmanager
def _open_table(path: Path, needed: list[str]) -> Iterator[tuple[list[str], Iterator[list[str]]]]:
    """The header of a csv file and its rows, which are checked as they are read."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected {LAYOUT}")
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file)
        header = next(lines, [])
        missing = [column for column in needed if column not in header]
        if missing:
            found = ", ".join(header[:12]) or "nothing"
            raise UserError(f"{path}: no column {' and '.join(missing)}; expected the owners' table; found {found}")
        yield header, _check_rows(lines, len(header), path)


def _check_rows(lines: Iterable[list[str]], width: int, path: Path) -> Iterator[list[str]]:
    number = 0
    for number, row in enumerate((line for line in lines if line), start=1):
        if len(row) != width:
            raise UserError(f"{path}: row {number} has {len(row)} cells, the header {width}; copy the file again")
        yield row
    if not number:
        raise UserError(f"{path}: no rows below the header; copy the file again")


def _number(cell: str, path: Path, column: str) -> float:
    try:
        return float(cell or "nan")
    except ValueError as error:
        raise UserError(f"{path}: {column} holds {cell!r}; expected a number") from error


def _join_voxels(frame: Frame, voxels: _Voxels, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lines of the table that hold the wanted voxels, in increasing order, and those voxels in the same order."""
    known = {voxel: line for line, voxel in enumerate(frame.ids.tolist())}
    ids = voxels.numbers["voxel_id"][wanted]
    if len(known) != len(frame.ids):
        raise UserError(f"{frame.path}: {len(frame.ids) - len(known)} voxel_id are there twice; copy the file again")
    missing = [int(voxel) for voxel in ids.tolist() if voxel not in known]
    if missing or len(known) != len(voxels.numbers["voxel_id"]):
        raise UserError(
            f"{frame.path}: {len(known)} voxels, but {voxels.path.name} has {len(voxels.numbers['voxel_id'])}"
            f"{f', among them {missing[:5]} that it lacks' if missing else ''}; take both from the same release"
        )
    lines = np.array([known[voxel] for voxel in ids.tolist()])
    order = np.argsort(lines)
    return lines[order], wanted[order]


def _read_pictures(
    trials: list[_Trial], stimuli: Path | None, image_size: int | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    if stimuli is None:
        return None, None
    if not stimuli.is_dir():
        raise UserError(f"fmri.stimuli={stimuli}: no such folder; expected pictures such as dog/dog_12s.jpg")
    shown = {trial.stimulus_id: trial for trial in trials}
    files = []
    for trial in shown.values():
        nested = stimuli / trial.concept / trial.file
        files.append(nested if nested.is_file() else stimuli / trial.file)
    return read_pictures(files, image_size), np.array(list(shown))

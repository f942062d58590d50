"""BIDS ``events.tsv`` files: what was shown when, and its picture."""

from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path

import numpy as np

from braindistill.errors import UserError
from braindistill.fmri.pictures import read_pictures


@dataclasses.dataclass(frozen=True)
class Event:
    """One row: onset and duration in seconds, label and picture's relative path (either may be ''), stimulus id."""

    onset: float
    duration: float
    label: str
    stimulus_id: str
    stim_file: str


def read_events(path: Path) -> list[Event]:
    """Read the events of one run, in the file's order.

    The stimulus id is the column ``stimulus_id``, else ``stim_file`` without folder and ending, else ``trial_type``.

    Raises
    ------
    UserError
        The file is missing or empty, lacks a column, or holds a time that is no number.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected an events.tsv beside each run")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a UTF-8 text file ({error}); save it as tab-separated UTF-8") from error
    if not rows:
        raise UserError(f"{path}: no events; expected a header and a row for each")
    columns = [column for column in rows[0] if column]
    missing = [column for column in ("onset", "duration") if column not in columns]
    if missing:
        raise UserError(f"{path}: no column {' and '.join(missing)}; columns found: {', '.join(columns)}")
    if not {"trial_type", "stim_file", "stimulus_id"} & set(columns):
        found = ", ".join(columns)
        raise UserError(f"{path}: no column trial_type, stim_file or stimulus_id; columns found: {found}")
    return [_event(row, f"{path}, line {line}") for line, row in enumerate(rows, start=2)]


def read_event_pictures(events: list[Event], folder: Path, size: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read the picture of each stimulus, in order of first appearance.

    Parameters
    ----------
    folder : where ``stim_file`` starts from; without one, the picture is the file named like the stimulus id.
    size : side in pixels, as in `read_pictures`.

    Returns
    -------
    images : (stimuli, C, H, W) uint8, C = 1 where every picture is grey, else 3
    image_id : (stimuli,) str
    """
    files = _picture_files(events, folder)
    return read_pictures(list(files.values()), size), np.array(list(files), dtype=str)


def _event(row: dict[str, str | None], where: str) -> Event:
    def text(column: str) -> str:
        value = (row.get(column) or "").strip()
        return "" if value.lower() == "n/a" else value

    def seconds(column: str) -> float:
        try:
            value = float(text(column) or "nan")
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UserError(f"{where}: {column} is {row.get(column)!r}; expected a number of seconds")
        return value

    label, stim_file = text("trial_type"), text("stim_file")
    stimulus = text("stimulus_id") or Path(stim_file).stem or label
    if not stimulus:
        raise UserError(f"{where}: no trial_type, stim_file or stimulus_id; name the stimulus or remove the row")
    return Event(seconds("onset"), seconds("duration"), label, stimulus, stim_file)


def _picture_files(events: list[Event], folder: Path) -> dict[str, Path]:
    """Stimulus id → picture file; every one exists, and no two files claim one id."""
    if not folder.is_dir():
        raise UserError(f"fmri.stimuli={folder}: no such folder; expected the pictures that stim_file names")
    by_stem = {file.stem: file for file in sorted(folder.iterdir()) if file.is_file()}
    files: dict[str, Path] = {}
    for event in events:
        file = (
            folder / event.stim_file if event.stim_file else by_stem.get(event.stimulus_id, folder / event.stimulus_id)
        )
        if files.setdefault(event.stimulus_id, file) != file:
            both = f"{files[event.stimulus_id]} and {file}"
            raise UserError(f"{folder}: stimulus {event.stimulus_id} is {both}; file names must differ without endings")
    lacking = [stimulus for stimulus, file in files.items() if not file.is_file()]
    if lacking:
        raise UserError(
            f"fmri.stimuli={folder}: {len(lacking)} stimuli have no picture: {', '.join(lacking[:5])}; add the files"
        )
    return files

"""A table of trials: which file, stimulus, run and session each volume or frame belongs to."""

from __future__ import annotations

import csv
import dataclasses
from collections import defaultdict
from pathlib import Path

import numpy as np

from braindistill.errors import UserError


@dataclasses.dataclass(frozen=True)
class Trial:
    """One row; what the table does not say is ''."""

    file: str
    stimulus_id: str
    label: str
    stim_file: str
    run: str
    session: str


def read_trials(path: Path) -> list[Trial]:
    """Read a table of trials, tab-separated or (``.csv``) comma-separated, in the file's order.

    Columns: ``file``, ``stimulus_id`` or ``stim_file`` (the picture), ``label`` or ``trial_type``, ``run``, ``session``;
    at least one of them names the stimulus, in the order stimulus_id, stim_file without folder and ending, label.
    ``n/a`` means nothing.

    Raises
    ------
    UserError
        The file is missing or empty, has no column that names the stimulus, a row names none, or some rows have a run
        or session and others none.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a table of trials with the columns file and stimulus_id")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="," if path.suffix == ".csv" else "\t"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a UTF-8 table ({error}); save it as tab-separated UTF-8") from error
    if not rows:
        raise UserError(f"{path}: no trials; expected a header and a row for each")
    columns = [column for column in rows[0] if column]
    if not {"stimulus_id", "stim_file", "label", "trial_type"} & set(columns):
        found = ", ".join(columns)
        raise UserError(f"{path}: no column stimulus_id, stim_file, label or trial_type; columns found: {found}")
    trials = [_trial(row, f"{path}, line {line}") for line, row in enumerate(rows, start=2)]
    for column in ("file", "run", "session"):
        given = sum(bool(getattr(trial, column)) for trial in trials)
        if 0 < given < len(trials):
            raise UserError(
                f"{path}: {given} of {len(trials)} rows have a {column}; give it to all of them, or to none"
            )
    return trials


def trial_runs(trials: list[Trial]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The run and the session of each trial, or None; runs of different sessions get different names."""
    sessions: dict[str, set[str]] = defaultdict(set)
    for trial in trials:
        sessions[trial.run].add(trial.session)
    shared = max(map(len, sessions.values())) > 1
    run = [f"ses-{trial.session}_run-{trial.run}" if shared else trial.run for trial in trials]
    return (
        np.array(run) if trials[0].run else None,
        np.array([trial.session for trial in trials]) if trials[0].session else None,
    )


def _trial(row: dict[str, str | None], where: str) -> Trial:
    def text(column: str) -> str:
        value = (row.get(column) or "").strip()
        return "" if value.lower() == "n/a" else value

    label, stim_file = text("label") or text("trial_type"), text("stim_file")
    stimulus = text("stimulus_id") or Path(stim_file).stem or label
    if not stimulus:
        raise UserError(f"{where}: no stimulus_id, stim_file or label; name the stimulus or remove the row")
    return Trial(text("file"), stimulus, label, stim_file, text("run"), text("session"))

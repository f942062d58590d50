"""Going on from an older teacher, on other sessions or another subject; the older artifact is only read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.teachers.artifact import load_teacher
from braindistill.teachers.brain_teacher import BrainTeacher
from braindistill.teachers.folds import stimuli_of
from braindistill.teachers.stimulus_features import StimulusFeatures


def continued(
    init_from: Path | None,
    name: str,
    data: Responses,
    n_folds: int,
    *,
    classes: list[str] | None = None,
    stimuli: StimulusFeatures | None = None,
    disjoint: bool = False,
) -> BrainTeacher | None:
    """The teacher that ``teacher.init_from`` names, checked to be one that can be continued on these data.

    Parameters
    ----------
    name, n_folds, classes, stimuli, disjoint : kind, folds, classes, features and rule of the teacher that is to come

    Raises
    ------
    UserError
        It is of another kind, tells other classes apart, reads pictures in another way, or has folds or roles that would
        let something in that is held out.
    """
    if init_from is None:
        return None
    older = load_teacher(init_from)
    where = f"teacher.init_from={init_from}"
    if older.name != name or not isinstance(older, BrainTeacher):
        raise UserError(f"{where}: a teacher={older.name}, and this is teacher={name}; continue one of the same kind")
    if classes is not None and older.classes != classes:
        raise UserError(
            f"{where}: it tells the classes {', '.join(older.classes)} apart, this one is to tell {', '.join(classes)}; "
            "give labels of the same classes"
        )
    if stimuli is not None and stimuli.reader is not None and older.reader is not None:
        before, now = older.reader.describe(), stimuli.reader.describe()
        different = [key for key in now if older.reader.kind != "images" and before.get(key) != now[key]]
        if different:
            key = different[0]
            raise UserError(
                f"{where}: its encoder reads pictures with {key}={before.get(key)}, this one with {key}={now[key]}; "
                "give it the same teacher.features and pictures of the same size"
            )
    if disjoint and (older.roles == "b").any():
        raise UserError(
            f"{where}: its encoder and decoder share stimuli (teacher.disjoint=false), and keep what they learned; "
            "continue one whose stimuli are disjoint"
        )
    folds, fitted_on = len(older.roles), older.fitted_on()
    if (older.held >= 0).all() and folds != n_folds:
        raise UserError(
            f"{where}: it has {folds} fold(s), this one {n_folds}: what a fold held out must stay out; "
            + (f"give teacher.n_folds={folds}" if folds > 1 else "continue one that was cross-fitted")
        )
    known = [stimulus for stimulus in stimuli_of(data)[0].tolist() if fitted_on.get(stimulus, (0, ""))[0] < 0]
    if known:
        raise UserError(
            f"{where}: it had folds by run, and {len(known)} of its stimuli occur again (first: {known[0]}): no fold holds "
            "them out; continue on stimuli that it never saw"
        )
    return older


def earlier_folds(older: BrainTeacher | None) -> dict[str, int] | None:
    """The folds that stimuli have from the teacher that is continued; None without one."""
    return None if older is None else {name: held for name, (held, _) in older.fitted_on().items()}


def earlier_stimuli(older: BrainTeacher, names: np.ndarray) -> dict[str, tuple[int, str]]:
    """What ``older`` was fitted on and is not among ``names``: `BrainTeacher.before` of one that continues it."""
    now = set(names.tolist())
    return {stimulus: seen for stimulus, seen in older.fitted_on().items() if stimulus not in now}

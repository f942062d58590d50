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
    init_from: Path | None, name: str, data: Responses, stimuli: StimulusFeatures | None = None
) -> BrainTeacher | None:
    """The teacher that ``teacher.init_from`` names, checked to be one that can be continued on these data.

    Raises
    ------
    UserError
        It is of another kind, or reads pictures in another way.
    """
    if init_from is None:
        return None
    older = load_teacher(init_from)
    where = f"teacher.init_from={init_from}"
    if older.name != name or not isinstance(older, BrainTeacher):
        raise UserError(f"{where}: a teacher={older.name}, and this is teacher={name}; continue one of the same kind")
    if stimuli is not None and stimuli.reader is not None and older.reader is not None:
        before, now = older.reader.describe(), stimuli.reader.describe()
        different = [key for key in now if older.reader.kind != "images" and before.get(key) != now[key]]
        if different:
            key = different[0]
            raise UserError(
                f"{where}: its encoder reads pictures with {key}={before.get(key)}, this one with {key}={now[key]}; "
                "give it the same teacher.features and pictures of the same size"
            )
    known = np.intersect1d(older.stimulus_id, stimuli_of(data)[0])
    row = np.searchsorted(older.stimulus_id, known)
    if (older.held[row] < 0).any():
        raise UserError(
            f"{where}: it had folds by run, and {len(known)} of its stimuli occur again (first: {known[0]}): no fold holds "
            "them out; continue on stimuli that it never saw"
        )
    return older

"""Teachers that need no brain: ordinary KD's network, and the original project's noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from braindistill.images import ImageSet, Split
from braindistill.runtime import Runtime, derive
from braindistill.students.fitting import fit_student


def fit_cnn(
    image_set: ImageSet,
    split: Split,
    training: dict[str, Any],
    folder: Path,
    runtime: Runtime,
    *,
    network: str = "small_cnn",
    width: int | None = None,
    seed: int = 0,
) -> None:
    """Train ordinary KD's teacher on the student's labelled images, with the student's training options.

    Parameters
    ----------
    image_set, split, training, folder, runtime : as in `fit_student`; the artifact is written to ``folder``
    network, width : any student by name, and its width (None: that network's own)
    seed : initial weights, order and augmentation
    """
    student = {"name": network} | ({} if width is None else {"width": width})
    # a teacher's epoch is as long as a student's, so that both make the same number of steps
    # and its weights start elsewhere: from the student's own seed it would be the baseline of that seed
    own = derive(seed, "cnn teacher")
    history = fit_student(image_set, split, None, student, {"name": "none"}, training, own, folder, runtime)
    record = {"name": "cnn", "classes": image_set.classes, "trained_on": image_set.train_ids[split.labelled].tolist()}
    (folder / "teacher.json").write_text(json.dumps(record))
    scores = {"network": {key: value for key, value in history[-1].items() if key in ("loss", "val_accuracy")}}
    (folder / "scores.json").write_text(json.dumps(scores))


def fit_random(folder: Path, *, seed: int = 0) -> None:
    """The original project's noise teacher: only its seed is kept."""
    (folder / "teacher.json").write_text(json.dumps({"name": "random", "seed": seed}))
    (folder / "scores.json").write_text("{}")

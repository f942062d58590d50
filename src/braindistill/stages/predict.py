"""predict (part of the verb eval): what a student says about test and validation images, kept so that no comparison retrains it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from braindistill.errors import UserError
from braindistill.images import ImageSet, open_images
from braindistill.runtime import Runtime
from braindistill.students import load
from braindistill.verdict import save_predictions

_BATCH = 512


def run(config: dict[str, Any], inputs: dict[str, Path], out: Path, runtime: Runtime) -> None:
    """Write what `save_predictions` does, and a copy of the training's log, ``metrics.jsonl``.

    Validation images are asked about where ``config`` says which these are: ``images`` (the roles) and ``seed``.
    """
    student = load(inputs["student"])
    image_set, held_out = ImageSet.load(inputs["images"]), None
    if config.get("images", {}).get("n_val"):
        _, split = open_images(inputs["images"], config["images"], config["seed"])
        said = student.log_probabilities(image_set.train_images[split.val], runtime.device, _BATCH)
        held_out = said, image_set.train_labels[split.val]
    rows = student.log_probabilities(image_set.test_images, runtime.device, _BATCH)
    if not np.isfinite(rows).all():  # told here, it costs its arm only; `eval` would lose every arm by it
        raise UserError("the student says NaN or infinity: its training has diverged; lower train.lr")
    save_predictions(out, image_set, rows, held_out)
    if (inputs["student"] / "metrics.jsonl").exists():
        shutil.copyfile(inputs["student"] / "metrics.jsonl", out / "metrics.jsonl")

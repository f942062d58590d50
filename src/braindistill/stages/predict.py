"""predict (part of the verb eval): what a student says about test and validation images, kept so that no comparison retrains it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

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
    save_predictions(out, image_set, rows, held_out)
    if (inputs["student"] / "metrics.jsonl").exists():
        shutil.copyfile(inputs["student"] / "metrics.jsonl", out / "metrics.jsonl")

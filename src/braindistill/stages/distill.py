"""distill: train a student, or several seeds of it at once, on labels and, where the method uses one, on a target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from braindistill.images import open_images
from braindistill.runtime import Runtime
from braindistill.students.fitting import finish_student, prepare_student
from braindistill.targets import load_target
from braindistill.training import Learner, TrainOptions, train


def run(config: dict[str, Any], inputs: dict[str, Path], out: Path, runtime: Runtime) -> None:
    """Write ``student.safetensors``, ``student.json``, ``metrics.jsonl``; the test set is not touched."""
    run_together([config], [inputs], [out], runtime)


def run_together(
    configs: Sequence[dict[str, Any]],
    inputs: Sequence[dict[str, Path]],
    outs: Sequence[Path | None],
    runtime: Runtime,
) -> None:
    """`run` for several seeds, whose configs differ in nothing else; where ``outs`` is None nothing is written."""
    parts = zip(configs, inputs, outs, strict=True)
    learners = [_prepare(config, own, out, runtime) for config, own, out in parts]
    train(learners, runtime, TrainOptions(**configs[0]["train"]))
    for learner in learners:
        finish_student(learner)


def _prepare(config: dict[str, Any], inputs: dict[str, Path], out: Path | None, runtime: Runtime) -> Learner:
    image_set, split = open_images(inputs["images"], config["images"], config["seed"])
    method = config["method"]
    targets = {
        name.partition("/")[2] or method["name"]: load_target(folder)
        for name, folder in inputs.items()
        if name.partition("/")[0] == "target"
    }
    options = (config["student"], method, config["train"])
    return prepare_student(image_set, split, targets, *options, config["seed"], out, runtime)

"""distill: train a student on labels and, where the method uses one, on a target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from braindistill.images import open_images
from braindistill.runtime import Runtime
from braindistill.students.fitting import fit_student
from braindistill.targets import load_target


def run(config: dict[str, Any], inputs: dict[str, Path], out: Path, runtime: Runtime) -> None:
    """Write ``student.safetensors``, ``student.json``, ``metrics.jsonl``; the test set is not touched."""
    image_set, split = open_images(inputs["images"], config["images"], config["seed"])
    target = load_target(inputs["target"]) if "target" in inputs else None
    parts = (config["student"], config["method"], config["train"])
    fit_student(image_set, split, target, *parts, config["seed"], out, runtime)

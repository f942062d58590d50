"""export: ask a teacher about the student's training images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from braindistill import targets
from braindistill.config import parameters
from braindistill.images import open_images
from braindistill.runtime import Runtime
from braindistill.targets import ViewMaker


def run(config: dict[str, Any], inputs: dict[str, Path], out: Path, runtime: Runtime) -> None:
    """Write a target: rows by image id, with where they came from."""
    options = dict(config["target"])
    name = options.pop("name")
    export = getattr(targets, f"export_{name}")
    image_set, split = open_images(inputs["images"], config["images"], config["seed"])
    given: list[Any] = [inputs.get("teacher"), image_set, split, runtime.device]
    if "view_maker" in parameters("target", name) and options.get("views"):
        # the views are those that the training will show, so its augmentation and seed make them
        given.append(ViewMaker(config["train"], config["seed"]))
    export(*given, **options).save(out)

"""export: ask a teacher about the student's training images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from braindistill import targets
from braindistill.images import open_images
from braindistill.runtime import Runtime


def run(config: dict[str, Any], inputs: dict[str, Path], out: Path, runtime: Runtime) -> None:
    """Write a target: rows by image id, with where they came from."""
    options = dict(config["target"])
    export = getattr(targets, f"export_{options.pop('name')}")
    image_set, split = open_images(inputs["images"], config["images"], config["seed"])
    export(inputs.get("teacher"), image_set, split, runtime.device, **options).save(out)

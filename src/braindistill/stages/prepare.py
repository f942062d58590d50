"""prepare: read an fMRI data set into trials × voxels, checked and joined with its stimuli."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from braindistill import fmri
from braindistill.runtime import Runtime


def run(config: dict[str, Any], inputs: dict[str, Path], out: Path, runtime: Runtime) -> None:
    """Write a `Responses` folder; a simulated subject leaves its raw data set in ``dataset/`` beside it."""
    options = dict(config["fmri"])
    responses = fmri.load(options.pop("name"), workspace=out / "dataset", **options)
    responses.save(out)

"""features (part of the verb train-teacher): what is read from the stimuli's pictures, once for all teachers and ROIs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from braindistill.config import bundled
from braindistill.fmri.responses import Responses
from braindistill.runtime import Runtime
from braindistill.teachers import extract_stimuli


def run(config: dict[str, Any], inputs: dict[str, Path], out: Path, runtime: Runtime) -> None:
    """Write a `StimulusFeatures` folder: a row a stimulus, and the Gram matrix of each layer where it is the smaller."""
    options = {key: value for key, value in config["teacher"].items() if key != "name"}
    given = bundled(extract_stimuli, options)
    extract_stimuli(Responses.load(inputs["responses"]), device=runtime.device, **given).save(out)

"""predict (part of the verb eval): what a student says about the test images, kept so that no comparison retrains it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from braindistill.images import ImageSet
from braindistill.runtime import Runtime
from braindistill.students import load

_BATCH = 512


def run(config: dict[str, Any], inputs: dict[str, Path], out: Path, runtime: Runtime) -> None:
    """Write ``log_probabilities.npy``: float32 (test images × classes), in the image set's order."""
    image_set = ImageSet.load(inputs["images"])
    rows = load(inputs["student"]).log_probabilities(image_set.test_images, runtime.device, _BATCH)
    np.save(out / "log_probabilities.npy", rows, allow_pickle=False)

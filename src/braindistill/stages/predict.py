"""predict (part of the verb eval): what a student says about the test images, kept so that no comparison retrains it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from braindistill.images import ImageSet
from braindistill.runtime import Runtime
from braindistill.students import load

_BATCH = 512


def run(config: dict[str, Any], inputs: dict[str, Path], out: Path, runtime: Runtime) -> None:
    """Write ``log_probabilities.npy``: float32 (test images × classes), in the image set's order."""
    image_set = ImageSet.load(inputs["images"])
    student = load(inputs["student"]).to(runtime.device)
    rows = []
    with torch.no_grad():
        for start in range(0, len(image_set.test_images), _BATCH):
            batch = torch.from_numpy(np.array(image_set.test_images[start : start + _BATCH])).to(runtime.device)
            rows.append(student(batch).log_softmax(1).float().cpu().numpy())
    np.save(out / "log_probabilities.npy", np.concatenate(rows), allow_pickle=False)

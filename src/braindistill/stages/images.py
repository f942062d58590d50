"""images (part of the verb prepare): the student's pictures, joined by the stimuli where asked, checked for overlap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from braindistill import images
from braindistill.config import parameters
from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.images import Stimuli, assemble, check_overlap, save_images
from braindistill.runtime import Runtime


def run(config: dict[str, Any], inputs: dict[str, Path], out: Path, runtime: Runtime) -> None:
    """Write an `ImageSet` folder, with ``stimuli.npz`` naming the training images that were shown in the scanner."""
    options = dict(config["images"])
    name = options.pop("name")
    shared = {key: options.pop(key) for key in ("stimuli", "classes", "n_test")}
    allow_overlap = options.pop("allow_overlap")
    responses = Responses.load(inputs["responses"])
    reader = getattr(images, f"load_{name}")
    own = "shown" in parameters("images", name)  # the data set's pictures are the student's
    shown = None
    if responses.images is not None and responses.image_id is not None:
        shown = Stimuli(np.asarray(responses.images), responses.image_id, _labels(responses))
    elif shared["stimuli"]:
        raise UserError("images.stimuli=true: the fMRI data have no pictures that could join the training images")
    elif own:
        raise UserError(f"images={name}: the fMRI data have no pictures; give fmri.stimuli, or take other images")
    image_set = assemble(reader(*([shown] if own else []), **options), shown, **shared)
    image_set.check(f"images={name}")
    if not own:  # then no teacher is fitted on the responses to test images
        check_overlap(image_set, responses.stimulus_id, responses.images, allow_overlap=allow_overlap)
    save_images(image_set, responses.stimulus_id, out)


def _labels(responses: Responses) -> np.ndarray:
    """The label of each picture, '' where the data give none."""
    assert responses.image_id is not None
    given = {}
    if responses.label is not None:
        given = dict(zip(responses.stimulus_id.tolist(), responses.label.tolist(), strict=True))
    return np.array([given.get(name, "") for name in responses.image_id.tolist()], str)

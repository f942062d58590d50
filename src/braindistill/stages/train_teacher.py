"""train-teacher: fit a teacher, and score it out of fold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from braindistill import teachers
from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.images import open_images
from braindistill.runtime import Runtime
from braindistill.teachers.cross_fitting import Labels


def run(config: dict[str, Any], inputs: dict[str, Path], out: Path, runtime: Runtime) -> None:
    """Write ``teacher.json``, its arrays and ``scores.json``."""
    options = dict(config["teacher"])
    name = options.pop("name")
    fit = getattr(teachers, f"fit_{name}")
    if name == "random":
        fit(out, **options)
    elif name == "cnn":
        image_set, split = open_images(inputs["images"], config["images"], config["seed"])
        fit(image_set, split, config["train"], out, runtime, **options)
    else:
        responses = Responses.load(inputs["responses"])
        known = None
        if options.get("labels") == "student":
            image_set, split = open_images(inputs["images"], config["images"], config["seed"])
            labels = image_set.train_labels[split.labelled].tolist()
            given = dict(zip(image_set.train_ids[split.labelled].tolist(), labels, strict=True))
            known = Labels(list(image_set.classes), given, "student")
        elif "labels" in options:
            known = all_labels(responses)
        fit(responses, known, runtime.device, **options).save(out)


def all_labels(responses: Responses) -> Labels:
    """Every label that the fMRI data have, classes in sorted order."""
    if responses.label is None or not (responses.label != "").any():
        raise UserError("teacher.labels=all: the fMRI data have no labels, so there is nothing to fit a decoder on")
    classes = sorted(set(responses.label.tolist()) - {""})
    place = {label: index for index, label in enumerate(classes)}
    pairs = zip(responses.stimulus_id.tolist(), responses.label.tolist(), strict=True)
    return Labels(classes, {stimulus: place[label] for stimulus, label in pairs if label}, "all")

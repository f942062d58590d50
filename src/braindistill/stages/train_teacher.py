"""train-teacher: fit a teacher, and score it out of fold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from braindistill import teachers
from braindistill.config import bundled, parameters
from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.images import ImageSet, Split, open_images
from braindistill.report.encoding import draw_encoding
from braindistill.runtime import Runtime
from braindistill.teachers import StimulusFeatures, load_teacher
from braindistill.teachers.cross_fitting import Labels


def run(config: dict[str, Any], inputs: dict[str, Path], out: Path, runtime: Runtime) -> None:
    """Write ``teacher.json``, its arrays, ``scores.json`` and, with an encoder, ``encoding.png``."""
    options = dict(config["teacher"])
    fit = getattr(teachers, f"fit_{options['name']}")
    needs = parameters("teacher", options.pop("name"))
    image_set, split = (None, None)
    if "images" in inputs:
        image_set, split = open_images(inputs["images"], config["images"], config["seed"])
    responses = None
    if "responses" in inputs:
        responses = _teachable(Responses.load(inputs["responses"]), image_set, split)
    if options.get("init_from") and image_set is not None and split is not None:
        _check_older(Path(options["init_from"]), image_set, split)
    there: dict[str, Any] = {"image_set": image_set, "split": split, "responses": responses}
    there |= {"folder": out, "runtime": runtime}
    for name, group in (("training", "train"), ("student", "student")):
        if name in needs:
            there[name] = config[group]
    if "known" in needs:
        assert responses is not None
        there["known"] = _labels(responses, options["labels"], image_set, split)
    if "stimuli" in needs:
        there["stimuli"] = StimulusFeatures.load(inputs["features"])
    if "brain" in needs:
        there["brain"] = load_teacher(inputs["brain"])
    teacher = fit(**{name: there[name] for name in needs if name in there}, **bundled(fit, options))
    teacher.save(out)
    if getattr(teacher, "voxel_scores", None):
        draw_encoding(teacher.voxel_scores, teacher.rois, out / "encoding.png")


def _teachable(responses: Responses, image_set: ImageSet | None, split: Split | None) -> Responses:
    """The trials that a teacher may be fitted on: none of the student's test or validation images."""
    if image_set is None or split is None:
        return responses
    return responses.without(_kept_out(image_set, split))


def _check_older(folder: Path, image_set: ImageSet, split: Split) -> None:
    """Nor may a teacher that it continues have been."""
    older = load_teacher(folder)
    seen = sorted(set(_kept_out(image_set, split).tolist()) & set(getattr(older, "fitted_on", dict)()))
    if seen:
        raise UserError(
            f"teacher.init_from={folder}: it was fitted on {len(seen)} of the student's test or validation images (first: "
            f"{seen[0]}); continue one that was fitted without them (the same images and seed)"
        )


def _kept_out(image_set: ImageSet, split: Split) -> np.ndarray:
    return np.concatenate([image_set.test_ids, image_set.train_ids[split.val]])


def _labels(responses: Responses, source: str, image_set: ImageSet | None, split: Split | None) -> Labels:
    """The labels that a decoder may use: those of the student's labelled images and no others, or all."""
    if source == "student":
        assert image_set is not None
        assert split is not None
        labels = image_set.train_labels[split.labelled].tolist()
        given = dict(zip(image_set.train_ids[split.labelled].tolist(), labels, strict=True))
        return Labels(list(image_set.classes), given, "student")
    return all_labels(responses)


def all_labels(responses: Responses) -> Labels:
    """Every label that the fMRI data have, classes in sorted order."""
    if responses.label is None or not (responses.label != "").any():
        raise UserError(
            "teacher.labels=all: the fMRI data have no labels, so there is nothing to fit a decoder on; bring them "
            "(fmri.labels=TABLE), or take teacher=encoder with target=voxels, relations or mask"
        )
    classes = sorted(set(responses.label.tolist()) - {""})
    place = {label: index for index, label in enumerate(classes)}
    pairs = zip(responses.stimulus_id.tolist(), responses.label.tolist(), strict=True)
    return Labels(classes, {stimulus: place[label] for stimulus, label in pairs if label}, "all")

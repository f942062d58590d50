"""From labels and targets to a trained network on disk: what ``distill`` does, and how the CNN teacher is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from braindistill.errors import UserError
from braindistill.images import ImageSet, Moves, Split, channel_statistics
from braindistill.methods import make_objective
from braindistill.runtime import Runtime, warn
from braindistill.students.artifact import save
from braindistill.students.build import build
from braindistill.students.lessons import Lesson, equip, prepare_lesson, read_terms
from braindistill.targets import ViewMaker
from braindistill.training import Learner, TrainingSet, TrainOptions, Validation, train


@dataclass
class StudentLearner(Learner):
    """A student in training.

    Attributes
    ----------
    student : the bare network, a part of ``network`` or all of it
    description : what goes into ``student.json``
    """

    student: nn.Module = field(default_factory=nn.Identity)
    description: dict[str, Any] = field(default_factory=dict)


def fit_student(
    image_set: ImageSet,
    split: Split,
    targets: Mapping[str, Any],
    student: Mapping[str, Any],
    method: Mapping[str, Any],
    training: Mapping[str, Any],
    seed: int,
    folder: Path | None,
    runtime: Runtime,
) -> list[dict[str, float]]:
    """`prepare_student`, train and `finish_student`.

    Returns
    -------
    list of dict
        The training's history, an entry an epoch.
    """
    learner = prepare_student(image_set, split, targets, student, method, training, seed, folder, runtime)
    (history,) = train([learner], runtime, TrainOptions(**training))
    finish_student(learner)
    return history


def prepare_student(
    image_set: ImageSet,
    split: Split,
    targets: Mapping[str, Any],
    student: Mapping[str, Any],
    method: Mapping[str, Any],
    training: Mapping[str, Any],
    seed: int,
    folder: Path | None,
    runtime: Runtime,
) -> StudentLearner:
    """A network that learns from the labelled images and, where its method uses targets, from the images that have one.

    Parameters
    ----------
    image_set, split : the pictures, and which of them are labelled, pool and validation
    targets : name of a term → `SoftLabels`, `Voxels`, `Relations`, `Masks` or `Features`, whichever it learns from. A
        method's only term is called as the method
    student, method, training : options of ``student=``, ``method=`` (with their ``name``) and ``train``; those of
        ``combined`` are ``label_weight`` and ``terms``, by name the options of a method each
    seed : initial weights, order and augmentation; the same for every arm
    folder : receives ``student.safetensors``, ``student.json``, ``metrics.jsonl`` and events; None: nothing is written

    Raises
    ------
    UserError
        A method needs a target and there is none, it is of another kind, or it covers none of the training images; there
        are no labels to learn from; images are mixed whose targets can't be; views are of another augmentation.
    """
    known = np.concatenate([split.labelled, split.pool])
    shape = image_set.image_shape
    options = {key: value for key, value in student.items() if key != "name"}
    network = build(student["name"], len(image_set.classes), shape, seed, **options)
    weight, terms = read_terms(method)
    lessons = [
        prepare_lesson(name, own, targets.get(name), network, image_set, known, runtime.device)
        for name, own in terms.items()
    ]
    _check_training(lessons, training)
    useful = np.arange(len(known)) < len(split.labelled)
    for lesson in lessons:
        if lesson.found is not None:  # an image with neither a label nor a target teaches nothing
            useful = useful | lesson.found
    rows = known[useful]
    if not len(rows):
        raise UserError(
            f"method={method['name']} learns from labels, and no training image has one: raise images.n_train"
        )
    for lesson in lessons:
        if lesson.rows is not None and lesson.found is not None and not useful.all():
            lesson.rows, lesson.found = lesson.rows[torch.from_numpy(useful)], lesson.found[useful]
    pictures = torch.from_numpy(np.asarray(image_set.train_images[known]))
    mean, std = channel_statistics(pictures)
    labels = np.full(len(rows), -1)
    labels[: len(split.labelled)] = image_set.train_labels[split.labelled]
    data = TrainingSet(
        pictures if useful.all() else pictures[torch.from_numpy(useful)],
        torch.from_numpy(labels),
        len(known),
        mean=mean,
        std=std,
        names=image_set.train_ids[rows].tolist(),
    )
    for lesson in lessons:
        _teach(data, lesson)
    data.views, data.viewed = _views(lessons, training, seed, image_set, rows)
    passes = 2 if training.get("sam") else 1
    trained, made = equip(network, lessons, data.labels, seed, runtime.device, shape, passes)
    description = {
        "name": student["name"],
        "options": options,
        "classes": image_set.classes,
        "image_shape": list(shape),
        "mean": mean.tolist(),
        "std": std.tolist(),
    }
    held_out = _held_out(image_set, split, training.get("select"))
    loss = make_objective(made, weight)
    return StudentLearner(trained, data, held_out, loss, seed, folder, network, description)


def finish_student(learner: Learner) -> None:
    """Save the bare network, without what stood between it and the losses, into the learner's folder if it has one."""
    assert isinstance(learner, StudentLearner)
    learner.student.cpu()
    if learner.folder is not None:
        save(learner.student, learner.folder, learner.description)


def _teach(data: TrainingSet, lesson: Lesson) -> None:
    """Add a lesson's target to the training set."""
    if lesson.rows is None or lesson.found is None:
        return
    data.targets[lesson.name] = lesson.rows
    if not lesson.found.all():
        data.has_target[lesson.name] = torch.from_numpy(lesson.found)
    if lesson.kind == "soft_labels":
        data.log_targets |= {lesson.name}
    if lesson.kind == "mask":
        data.maps |= {lesson.name}


def _check_training(lessons: list[Lesson], training: Mapping[str, Any]) -> None:
    """Refuse to mix images whose targets can't be mixed, and warn of maps that don't move with their image."""
    mixing = next((option for option in ("mixup", "cutmix") if training.get(option)), None)
    for lesson in lessons:
        if mixing and lesson.kind in ("relations", "features", "mask"):
            raise UserError(
                f"train.{mixing}={training[mixing]}: method={lesson.method} learns from {lesson.kind}, which two images can't "
                f"share; take train.{mixing}=0"
            )
        plain, moved = TrainOptions().augmentation, TrainOptions(**training).augmentation
        plain["rand_magnitude"] = moved["rand_magnitude"]
        if lesson.kind == "features" and moved != plain and not (lesson.record or {}).get("views"):
            warn(
                f"method={lesson.method}: images are augmented, and the teacher's features are of the images as they are; "
                "take target.views=4 or so"
            )


def _views(
    lessons: list[Lesson], training: Mapping[str, Any], seed: int, image_set: ImageSet, rows: np.ndarray
) -> tuple[Moves | None, frozenset[str]]:
    """The views that the training set's images are augmented by, and the targets that are of them."""
    records = {
        lesson.name: lesson.record["views"] for lesson in lessons if lesson.record and lesson.record.get("views")
    }
    if not records:
        return None, frozenset()
    plain, count = TrainOptions().augmentation, int(next(iter(records.values()))["count"])
    maker = ViewMaker(TrainOptions(**training).augmentation, seed)
    wanted = maker.record(count)["views"]
    for name, record in records.items():
        found = record | {"augmentation": plain | record["augmentation"]}
        for key, option in {"count": "target.views", "augmentation": "train", "seed": "seed"}.items():
            if found[key] != wanted[key]:
                one, other = _difference(found[key], wanted[key])
                raise UserError(
                    f"the views of target {name} were made with {option}={one}, and the student would be trained with "
                    f"{other}; export the target again"
                )
    return maker.draw(image_set.train_images, count, rows), frozenset(records)


def _difference(one: Any, other: Any) -> tuple[Any, Any]:
    """Two values, or those entries of two mappings that differ."""
    if not isinstance(one, Mapping):
        return one, other
    keys = [key for key in other if one.get(key) != other[key]]
    return {key: one.get(key) for key in keys}, {key: other[key] for key in keys}


def _held_out(image_set: ImageSet, split: Split, select: str | None) -> Validation | None:
    """Images to choose an epoch on: those held out for it. ``test`` shows what choosing on the test images does."""
    if select == "test":
        images, labels, name = image_set.test_images, image_set.test_labels, "test_accuracy"
    elif len(split.val):
        images, labels, name = image_set.train_images[split.val], image_set.train_labels[split.val], "accuracy"
    else:
        return None
    truth = torch.from_numpy(np.array(labels))

    def accuracy(logits: Tensor) -> float:
        return int((logits.argmax(1) == truth).sum()) / len(truth)

    return Validation(torch.from_numpy(np.array(images)), accuracy, name)

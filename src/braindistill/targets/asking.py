"""Asking a teacher about a student's training images, and dealing the answers to other images for a control."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from braindistill.errors import UserError
from braindistill.images import ImageSet, Split
from braindistill.targets.views import ViewMaker, see
from braindistill.teachers import controls
from braindistill.teachers.answer import Answer
from braindistill.teachers.artifact import load_teacher

_BATCH = 4096


def chosen_images(split: Split, images: str) -> np.ndarray:
    """Indices of the training images that ``target.images`` names."""
    parts = {"labelled": [split.labelled], "pool": [split.pool], "all": [split.labelled, split.pool]}
    return np.concatenate(parts[images])


def ask_voxels(
    teacher_folder: Path, image_set: ImageSet, chosen: np.ndarray, device: str, *, measured: bool
) -> tuple[Any, Answer]:
    """The teacher, and its responses to the chosen training images, asked for in batches.

    Raises
    ------
    UserError
        The teacher has no voxels.
    """
    teacher = load_teacher(teacher_folder)
    if not hasattr(teacher, "voxels"):
        raise UserError(
            f"teacher={teacher.name} has no voxels to learn from; take teacher=encoder or brain, or target=soft_labels"
        )
    answers = []
    for start in range(0, max(len(chosen), 1), _BATCH):
        batch = chosen[start : start + _BATCH]
        answers.append(teacher.voxels(image_set.train_ids[batch], image_set.train_images[batch], device, measured))
    if len(answers) == 1:
        return teacher, answers[0]
    return teacher, Answer(*(np.concatenate(parts) for parts in zip(*answers, strict=True)))


def ask_soft_labels(
    teacher: Any, image_set: ImageSet, chosen: np.ndarray, device: str, views: int, view_maker: ViewMaker | None
) -> Answer:
    """The teacher's log-probabilities of the chosen training images; with views, of these (images × views × classes).

    Pictures of the views are made as they are asked about, one view of a few thousand images at a time. What was measured
    is the same in every view.

    Raises
    ------
    UserError
        Fewer views than 0, or no way to make them.
    """
    image_id = image_set.train_ids[chosen]
    if views == 0:
        return teacher.soft_labels(image_id, image_set.train_images[chosen], device)
    if view_maker is None:
        raise UserError(
            f"target.views={views}: give the training's augmentation and seed, ViewMaker(augmentation, seed)"
        )
    moves = view_maker.draw(image_set.train_images, views)
    rows: np.ndarray | None = None
    answers: list[Answer] = []
    for view in range(views):
        answers = []
        for start in range(0, max(len(chosen), 1), _BATCH):
            part = slice(start, start + _BATCH)
            pictures = see(image_set.train_images, chosen[part], view, moves)
            answers.append(teacher.soft_labels(image_id[part], pictures, device))
        answer = np.concatenate([answer.rows for answer in answers])
        rows = np.empty((len(chosen), views, answer.shape[1]), np.float32) if rows is None else rows
        rows[:, view] = answer
    assert rows is not None
    # where a row came from is a matter of the image
    return Answer(rows, *(np.concatenate([getattr(answer, name) for answer in answers]) for name in ("source", "fold")))


def check_control(control: str | None, image_set: ImageSet, split: Split, images: str) -> None:
    """Refuse a control that needs true classes where images must not have them.

    Raises
    ------
    UserError
        There are unlabelled images among those chosen, or a class of one image, which can't be shuffled within.
    """
    if control not in ("random_matched", "shuffled_within"):
        return
    if images != "labelled" and (images == "pool" or len(split.pool)):
        raise UserError(
            f"target.control={control} needs each image's true class, which the pool must not reveal; "
            "take target.images=labelled"
        )
    if control == "shuffled_within":
        counts = np.bincount(image_set.train_labels[split.labelled], minlength=len(image_set.classes))
        single = [name for name, count in zip(image_set.classes, counts, strict=True) if count == 1]
        if single:
            raise UserError(
                f"target.control=shuffled_within: class '{single[0]}' has a single labelled image, so its target can't "
                f"go to another one of the class ({len(single)} such classes); raise images.n_train"
            )


def deal(control: str | None, image_set: ImageSet, chosen: np.ndarray, seed: int) -> np.ndarray:
    """Which of the chosen images each one gets its row from: its own, unless the control is a shuffle."""
    image_id = image_set.train_ids[chosen]
    if control == "shuffled_within":
        return controls.shuffle_within(image_set.train_labels[chosen], image_id, seed)
    if control == "shuffled_across":
        return controls.shuffle_across(image_id, seed)
    return np.arange(len(chosen))


def describe_rows(teacher: str, source: np.ndarray, fold: np.ndarray, control: str | None) -> dict[str, Any]:
    """The part of ``target.json`` that every kind has: the teacher's name, and how many rows came from where."""
    return {
        "teacher": teacher,
        "control": control,
        "sources": {str(kind): int((source == kind).sum()) for kind in np.unique(source)},
        "folds": {str(kind): int((fold == kind).sum()) for kind in np.unique(fold)},
        "n_images": len(source),
    }

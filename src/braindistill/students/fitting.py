"""From labels and targets to a trained network on disk: what ``distill`` does, and how the CNN teacher is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from braindistill.errors import UserError
from braindistill.images import ImageSet, Split, channel_statistics
from braindistill.methods import needs_target, objective
from braindistill.runtime import Runtime
from braindistill.students.artifact import save
from braindistill.students.build import build
from braindistill.targets import SoftLabels
from braindistill.training import TrainingSet, train


def fit_student(
    image_set: ImageSet,
    split: Split,
    target: SoftLabels | None,
    student: dict[str, Any],
    method: dict[str, Any],
    training: dict[str, Any],
    seed: int,
    folder: Path,
    runtime: Runtime,
) -> list[dict[str, float]]:
    """Train a network on the labelled images and, where the method uses a target, on the images that have one.

    Parameters
    ----------
    image_set, split : the pictures, and which of them are labelled, pool and validation
    target : soft labels by image id, or None
    student, method, training : options of ``student=``, ``method=`` (with their ``name``) and ``train``
    seed : initial weights, order and augmentation; the same for every arm
    folder : receives ``student.safetensors``, ``student.json``, ``metrics.jsonl`` and events

    Returns
    -------
    list of dict
        The training's history, an entry an epoch.

    Raises
    ------
    UserError
        The method needs a target and there is none, or it covers none of the training images; there are no labels to
        learn from.
    """
    known = np.concatenate([split.labelled, split.pool])
    rows = split.labelled
    log_probabilities = has_target = None
    if needs_target(method["name"]):
        if target is None:
            raise UserError(f"method={method['name']} learns from a target; export one (teacher=…) or take method=none")
        log_probabilities, has_target = target.rows_for(image_set.train_ids[known], image_set.classes)
        if not has_target.any():
            raise UserError("the target covers none of the training images: its image ids are others")
        # an image with neither a label nor a target teaches nothing
        useful = has_target | (np.arange(len(known)) < len(split.labelled))
        rows, log_probabilities, has_target = known[useful], log_probabilities[useful], has_target[useful]
    elif not len(rows):
        raise UserError(
            f"method={method['name']} learns from labels, and no training image has one: raise images.n_train"
        )
    labels = np.full(len(rows), -1)
    labels[: len(split.labelled)] = image_set.train_labels[split.labelled]
    mean, std = channel_statistics(torch.from_numpy(np.array(image_set.train_images[known])))
    data = TrainingSet(
        torch.from_numpy(np.array(image_set.train_images[rows])),
        torch.from_numpy(labels),
        None if log_probabilities is None else torch.from_numpy(log_probabilities),
        None if has_target is None else torch.from_numpy(has_target),
        len(known),
        mean,
        std,
    )
    validation = None
    if len(split.val):
        held_out = torch.from_numpy(np.array(image_set.train_images[split.val]))
        validation = (held_out, torch.from_numpy(np.array(image_set.train_labels[split.val])))
    options = {key: value for key, value in student.items() if key != "name"}
    shape = tuple(image_set.train_images.shape[1:])
    network = build(student["name"], len(image_set.classes), shape, seed, **options)
    history = train(network, data, validation, _loss(method), seed, folder, runtime, **training)
    description = {
        "name": student["name"],
        "options": options,
        "classes": image_set.classes,
        "image_shape": list(shape),
        "mean": mean.tolist(),
        "std": std.tolist(),
    }
    save(network.cpu(), folder, description)
    return history


def _loss(method: dict[str, Any]) -> Any:
    name = method["name"]
    weights = {key: method[key] for key in ("label_weight", "target_weight") if key in method}
    options = {key: value for key, value in method.items() if key not in ("name", *weights)}

    def loss(logits: Any, labels: Any, target: Any, has_target: Any) -> Any:
        return objective(logits, labels, target, has_target, name, options, **weights)

    return loss

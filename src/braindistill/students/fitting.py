"""From labels and targets to a trained network on disk: what ``distill`` does, and how the CNN teacher is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from braindistill import methods
from braindistill.errors import UserError
from braindistill.images import ImageSet, Split, channel_statistics
from braindistill.methods import method_parameters, needs_target, objective
from braindistill.runtime import Runtime
from braindistill.students.artifact import save
from braindistill.students.build import build
from braindistill.students.taps import tap
from braindistill.training import TrainingSet, Validation, train


def fit_student(
    image_set: ImageSet,
    split: Split,
    target: Any | None,
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
    target : `SoftLabels`, `Voxels` or `Relations`, whichever the method learns from, or None
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
        The method needs a target and there is none, it is of another kind, or it covers none of the training images;
        there are no labels to learn from.
    """
    known = np.concatenate([split.labelled, split.pool])
    rows = split.labelled
    targets = has_target = None
    kind = needs_target(method["name"])
    if kind:
        targets, has_target = _join(target, kind, method["name"], image_set, known)
        # an image with neither a label nor a target teaches nothing
        useful = has_target | (np.arange(len(known)) < len(split.labelled))
        rows, targets, has_target = known[useful], targets[useful], has_target[useful]
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
        None if targets is None else torch.from_numpy(targets),
        None if has_target is None else torch.from_numpy(has_target),
        len(known),
        mean,
        std,
    )
    options = {key: value for key, value in student.items() if key != "name"}
    shape = tuple(image_set.train_images.shape[1:])
    network = build(student["name"], len(image_set.classes), shape, seed, **options)
    trained = network
    if kind in ("voxels", "relations"):
        # a head predicts voxels; features that are compared as a geometry have any width
        predicts = "teacher_voxels" in method_parameters(method["name"])
        width = targets.shape[1] if predicts and targets is not None else None
        trained = tap(network, shape, width, seed, layer=method.get("layer"))
    held_out = _held_out(image_set, split, training.get("select"))
    loss = _loss(method, kind, target, runtime.device)
    history = train(trained, data, held_out, loss, seed, folder, runtime, **training)
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


def _join(
    target: Any | None, kind: str, method: str, image_set: ImageSet, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A target's rows for the known images (of relations, their numbers), and which images have one."""
    if target is None:
        raise UserError(f"method={method} learns from a target; export one (teacher=…) or take method=none")
    if target.kind != kind:
        raise UserError(f"method={method} learns from {kind}, and the target holds {target.kind}; take target={kind}")
    image_id = image_set.train_ids[known]
    if kind == "soft_labels":
        rows, found = target.rows_for(image_id, image_set.classes)
    elif kind in ("voxels", "relations"):
        rows, found = target.rows_for(image_id)
    else:
        raise UserError(f"method={method}: students can't be trained on a {kind} yet; take another method")
    if not found.any():
        raise UserError("the target covers none of the training images: its image ids are others")
    if kind == "voxels":
        # z-scored over the images that this student learns from, so that 1 is the loss of a head that knows nothing
        deviation = rows[found].std(0)
        rows = (rows - rows[found].mean(0)) / np.where(deviation > 0, deviation, 1)
        if "teacher_features" in method_parameters(method):
            rows = rows * np.sqrt(target.weight)  # so that inner products and squared distances are weighted
    return rows, found


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


def _loss(method: dict[str, Any], kind: str | None, target: Any, device: str) -> Callable[..., Tensor]:
    name = distil = method["name"]
    weights = {key: method[key] for key in ("label_weight", "target_weight", "target_warmup") if key in method}
    options = {key: value for key, value in method.items() if key not in ("name", "layer", *weights)}
    if "teacher_voxels" in method_parameters(name):
        options["weight"] = torch.from_numpy(np.array(target.weight)).to(device)
    elif kind == "relations":
        similarities, compare = target.blocks_on(device), getattr(methods, f"{name}_loss")

        def distil(features: Tensor, rows: Tensor, **options: Any) -> Tensor:
            return compare(features, similarities(rows).to(features.dtype), **options)

    def loss(outputs: Any, labels: Tensor, target: Tensor | None, has_target: Tensor | None, epoch: int) -> Tensor:
        return objective(outputs, labels, target, has_target, distil, options, epoch, **weights)

    return loss

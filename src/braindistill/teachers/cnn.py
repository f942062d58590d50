"""Teachers that need no brain: ordinary KD's network, and a network of the student's own kind (born-again)."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from braindistill import students
from braindistill.errors import UserError, nearest
from braindistill.images import ImageSet, Split, channel_statistics
from braindistill.runtime import Runtime, derive, say
from braindistill.students.artifact import Student, load
from braindistill.students.build import build, student_names
from braindistill.students.fitting import fit_student
from braindistill.teachers.held_out_images import deal_images
from braindistill.teachers.network_teacher import NetworkTeacher, network_folders
from braindistill.teachers.networks import find_network


def fit_cnn(
    image_set: ImageSet,
    split: Split,
    training: dict[str, Any],
    folder: Path,
    runtime: Runtime,
    *,
    network: str = "small_cnn",
    width: int | None = None,
    shortcut: Literal["padded", "projected"] | None = None,
    checkpoint: Path | None = None,
    cross_fit: int = 1,
    lr: float | None = None,
    seed: int = 0,
) -> NetworkTeacher:
    """Train ordinary KD's teacher on the student's labelled images, with the student's training options.

    Parameters
    ----------
    image_set, split, training, folder, runtime : as in `fit_student`; the trainings leave their records in ``folder``
    network, width : any student or torchvision network by name, and a student's width (None: that network's own)
    shortcut : of a ResNet of the CIFAR kind (None: that network's own)
    checkpoint : take the weights from a file or folder instead of training, see `open_network`
    cross_fit : folds over the labelled images: 1 = one network, which is in sample on them; more: one network a fold, and
        a labelled image is answered by the one that held it out
    lr : learning rate, where the student's (``train.lr``) doesn't suit it; None: the student's
    seed : initial weights, order, augmentation and folds

    Raises
    ------
    UserError
        No such network; weights of another one; more folds than labelled images.
    """
    # options have other names than the brain teacher's (weights, n_folds): an experiment sets those for all of its arms
    if checkpoint is None:
        student = describe_student(network, width)
        if shortcut is not None:
            own = inspect.signature(getattr(students, student["name"])).parameters
            if "shortcut" not in own:
                raise UserError(f"teacher.shortcut={shortcut}: {network} has no such choice; leave it out")
            student["shortcut"] = shortcut
        if lr is not None:
            training = {**training, "lr": lr}
        return train_networks("cnn", image_set, split, student, training, folder, runtime, cross_fit, seed)
    if cross_fit != 1:
        raise UserError(
            f"teacher.cross_fit={cross_fit}: with teacher.checkpoint nothing is trained; take teacher.cross_fit=1"
        )
    opened = open_network(Path(checkpoint), network, width, image_set, split)
    say(
        f"teacher=cnn: weights of {checkpoint}; what they were trained on is not known, so no row is marked as in sample"
    )
    scores: dict[str, Any] = {"weights": Path(checkpoint).name}
    if len(split.val):
        said = opened.log_probabilities(image_set.train_images[split.val], runtime.device, 512).argmax(1)
        truth = np.array(image_set.classes)[image_set.train_labels[split.val]]
        scores["val_accuracy"] = float((np.array(opened.classes)[said] == truth).mean())
    return NetworkTeacher("cnn", opened.classes, [opened], scores={"network": scores}, seed=seed)


def fit_self(
    image_set: ImageSet,
    split: Split,
    student: dict[str, Any],
    training: dict[str, Any],
    folder: Path,
    runtime: Runtime,
    *,
    seed: int = 0,
) -> NetworkTeacher:
    """Train a network of the student's own architecture as its teacher: born-again networks (Furlanello et al. 2018).

    Parameters
    ----------
    student : options of ``student=``, with its ``name``
    image_set, split, training, folder, runtime, seed : as in `fit_cnn`
    """
    return train_networks("self", image_set, split, student, training, folder, runtime, 1, seed)


def train_networks(
    name: str,
    image_set: ImageSet,
    split: Split,
    student: dict[str, Any],
    training: dict[str, Any],
    folder: Path,
    runtime: Runtime,
    n_folds: int,
    seed: int,
) -> NetworkTeacher:
    """Train one network on all labelled images, or one a fold on the images of the other folds."""
    # a teacher's epoch is as long as a student's, so that both make the same number of steps
    # and its weights start elsewhere: from the student's own seed it would be the baseline of that seed
    image_id, labels = image_set.train_ids[split.labelled], image_set.train_labels[split.labelled]
    held = np.zeros(len(labels), int)
    if n_folds != 1:
        held = deal_images(image_id, labels, n_folds, seed, "cross_fit" if name == "cnn" else "n_folds")
    places = network_folders(folder, n_folds)
    histories = []
    for k, place in enumerate(places):
        place.mkdir(parents=True, exist_ok=True)
        own, roles = derive(seed, f"{name} teacher"), split
        if n_folds > 1:
            own = derive(seed, f"{name} teacher", k)
            # held out means without a label
            pool = np.sort(np.concatenate([split.pool, split.labelled[held == k]]))
            roles = dataclasses.replace(split, labelled=split.labelled[held != k], pool=pool)
        history = fit_student(image_set, roles, {}, student, {"name": "none"}, training, own, place, runtime)
        histories.append(history[-1])
    networks = [load(place) for place in places]
    known = [key for key in ("loss", "val_accuracy") if key in histories[0]]
    scores: dict[str, Any] = {key: float(np.mean([history[key] for history in histories])) for key in known}
    teacher = NetworkTeacher(name, list(image_set.classes), networks, image_id.tolist(), seed=seed)
    if n_folds > 1:
        teacher.held = held.tolist()
        said = teacher.soft_labels(image_id, image_set.train_images[split.labelled], runtime.device).rows.argmax(1)
        scores |= {
            "accuracy": float((said == labels).mean()),
            "n_images": len(labels),
            "chance": float(np.bincount(labels).max() / len(labels)),
            "scheme": f"{n_folds} folds by image",
        }
    teacher.scores = {"network": scores}
    return teacher


def describe_student(network: str, width: int | None, option: str = "network") -> dict[str, Any]:
    """Options of ``student=`` for a student's name or torchvision's; ``option`` is what an error calls it."""
    if network not in student_names():
        from torchvision import models

        if network not in (known := models.list_models(module=models)):
            raise UserError(
                f"teacher.{option}={network}: neither torchvision nor braindistill has such a network; "
                f"{nearest(network, {*known, *student_names()})}"
            )
        if width is not None:
            prefix = "" if option == "network" else f"{option}_"
            raise UserError(f"teacher.{prefix}width={width}: {network} has no width; leave it out")
        return {"name": "torchvision", "network": network}
    return {"name": network} | ({} if width is None else {"width": width})


def open_network(weights: Path, network: str, width: int | None, image_set: ImageSet, split: Split) -> Student:
    """A trained network from a student's artifact (a folder) or from a file of tensors.

    Parameters
    ----------
    weights : folder of ``student.json`` and ``student.safetensors``, which names its classes; or a ``.safetensors`` or
        ``weights_only`` file, whose outputs are taken for the student's classes in their order. Pictures are normalised as
        the folder says, else as ImageNet's (a network of torchvision) or as the student's own training images
    network, width : what the weights must belong to

    Raises
    ------
    UserError
        Another architecture (both are named), other classes or another number of them, pictures of another size.
    """
    if not weights.is_dir():
        return _open_file(weights, network, width, image_set, split)
    opened = load(weights)
    name, options = opened.description["name"], opened.description["options"]
    found = options["network"] if name == "torchvision" else name
    if found != network:
        raise UserError(
            f"teacher.checkpoint={weights} holds a {found}, and teacher.network={network}; take teacher.network={found}"
        )
    if width not in (None, options.get("width", width)):
        raise UserError(f"teacher.checkpoint={weights} has width {options['width']}, and teacher.width={width}")
    if sorted(opened.classes) != sorted(image_set.classes):
        raise UserError(
            f"teacher.checkpoint={weights} knows {len(opened.classes)} classes ({', '.join(opened.classes[:3])} …) and the "
            f"student {len(image_set.classes)} ({', '.join(image_set.classes[:3])} …); both must have the same ones"
        )
    if tuple(opened.description["image_shape"]) != image_set.image_shape:
        raise UserError(
            f"teacher.checkpoint={weights} takes images of {opened.description['image_shape']} (C, H, W), and the student's "
            f"are {list(image_set.image_shape)}; bring them to one size (images.size)"
        )
    return opened


def _open_file(weights: Path, network: str, width: int | None, image_set: ImageSet, split: Split) -> Student:
    if weights.name == "student.safetensors":
        return open_network(weights.parent, network, width, image_set, split)
    if width is not None:
        raise UserError(f"teacher.width={width}: only weights in a student's folder (student.json) can have a width")
    shape, classes = image_set.image_shape, list(image_set.classes)
    try:
        loaded = find_network(network, weights, len(classes), shape)
    except UserError as error:  # which knows the option of another teacher
        raise UserError(str(error).replace("teacher.weights", "teacher.checkpoint")) from error
    description: dict[str, Any] = {"name": network, "options": {}, "classes": classes, "image_shape": list(shape)}
    if loaded.side is None:  # torchvision's own, which takes pictures of any size
        description |= {"name": "torchvision", "options": {"network": network}}
        description |= {"mean": list(loaded.mean), "std": list(loaded.std)}
    else:
        known = np.concatenate([split.labelled, split.pool])
        mean, std = channel_statistics(torch.from_numpy(np.array(image_set.train_images[known])))
        description |= {"mean": mean.tolist(), "std": std.tolist()}
    bare = build(description["name"], len(classes), shape, 0, **description["options"])
    bare.load_state_dict(loaded.network.state_dict())
    return Student(bare, description).eval()

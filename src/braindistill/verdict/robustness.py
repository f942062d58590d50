"""How right students stay when test images are corrupted, or changed to mislead them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from braindistill.errors import UserError, nearest
from braindistill.images import ImageSet
from braindistill.metrics.attacks import fgsm, pgd
from braindistill.metrics.corruptions import CORRUPTIONS, corrupt
from braindistill.runtime import progress, torch_generator
from braindistill.students import Student

_BATCH = 512
#: attacks follow the slope of each image, several times over
_ATTACKED, _ATTACK_BATCH = 1000, 128


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse corruptions that don't exist and sizes of attacks that are none.

    Parameters
    ----------
    options : of ``eval``: ``corruptions`` and ``epsilons``, or one of them

    Raises
    ------
    UserError
        If there is no corruption of a name, or none is named; if an ε isn't above 0 and at most 1, or there is none.
    """
    if options.get("corruptions") is not None:
        known = [name for members in CORRUPTIONS.values() for name in members]
        if not options["corruptions"]:
            raise UserError("eval.corruptions=[]: name at least one, or null for all")
        for name in options["corruptions"]:
            if name not in known:
                raise UserError(f"eval.corruptions: no corruption is called {name}; {nearest(name, known)}")
    if "epsilons" in options:
        sizes = list(options["epsilons"])
        if not sizes or min(sizes) <= 0 or max(sizes) > 1:
            raise UserError(
                f"eval.epsilons={sizes}: expected changes of a pixel above 0 and up to 1, such as 0.0157 (4 / 255)"
            )


def measure_corruptions(
    students: Sequence[Student], image_set: ImageSet, names: Sequence[str] | None, device: str
) -> list[dict[str, Any]]:
    """Accuracy on the test images, clean and under each corruption at five severities.

    Corruption and severity alone seed the draws, so every student of every arm sees the same corrupted images.

    Parameters
    ----------
    names : of the corruptions; None: all

    Returns
    -------
    A dict a student: ``clean``, ``corruptions`` (name → five accuracies), ``families`` (family → five means over its
    corruptions), ``mean`` over all corruptions and severities.

    Raises
    ------
    UserError
        `check_options` refuses the names.
    """
    check_options({"corruptions": names})
    families = {name: family for family, members in CORRUPTIONS.items() for name in members}
    names = list(families) if names is None else list(dict.fromkeys(names))
    images, labels = _tensors(image_set, np.arange(len(image_set.test_ids)), device)
    clean = [_accuracy(student, images, labels) for student in students]
    scores: dict[str, list[list[float]]] = {name: [[] for _ in students] for name in names}
    for name in progress(names, "corruptions"):
        for severity in range(1, 6):
            seen = corrupt(images, name, severity, torch_generator(0, "corruption", name, severity))
            for student, found in zip(students, scores[name], strict=True):
                found.append(_accuracy(student, seen, labels))
    made = []
    for k in range(len(students)):
        own = {name: found[k] for name, found in scores.items()}
        members = {family: [own[n] for n in names if families[n] == family] for family in CORRUPTIONS}
        made.append(
            {
                "clean": clean[k],
                "corruptions": own,
                "families": {family: np.mean(rows, 0).tolist() for family, rows in members.items() if rows},
                "mean": float(np.mean(list(own.values()))),
            }
        )
    return made


def measure_attacks(student: Student, image_set: ImageSet, epsilons: Sequence[float], device: str) -> dict[str, Any]:
    """Accuracy after one step of the slope's sign, and after ten from a random start, inside balls of each size.

    At most 1,000 test images, evenly chosen.

    Returns
    -------
    dict
        ``clean``: accuracy on all test images as they are; ``attacked``: on those that are attacked, as they are; ``fgsm`` and
        ``pgd``: ε as text → accuracy.

    Raises
    ------
    UserError
        `check_options` refuses the sizes.
    """
    check_options({"epsilons": epsilons})
    count = len(image_set.test_ids)
    rows = np.linspace(0, count - 1, min(count, _ATTACKED)).round().astype(int)
    clean = _accuracy(student, *_tensors(image_set, np.arange(count), device))
    images, labels = _tensors(image_set, rows, device)
    student.to(device).requires_grad_(False)
    parts = list(zip(images.split(_ATTACK_BATCH), labels.split(_ATTACK_BATCH), strict=True))
    found: dict[str, Any] = {"clean": clean, "attacked": _accuracy(student, images, labels), "fgsm": {}, "pgd": {}}
    for epsilon in epsilons:
        generator = torch_generator(0, "attack", f"{epsilon:g}")
        one = [fgsm(student, part, truth, epsilon) for part, truth in parts]
        ten = [pgd(student, part, truth, epsilon, generator=generator) for part, truth in parts]
        found["fgsm"][f"{epsilon:g}"] = _accuracy(student, torch.cat(one), labels)
        found["pgd"][f"{epsilon:g}"] = _accuracy(student, torch.cat(ten), labels)
    return found


def _tensors(image_set: ImageSet, rows: np.ndarray, device: str) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(np.array(image_set.test_images[rows]))
    return images.to(device), torch.from_numpy(np.array(image_set.test_labels[rows])).to(device)


@torch.no_grad()
def _accuracy(student: Student, images: Tensor, labels: Tensor) -> float:
    student.to(images.device)
    parts = zip(images.split(_BATCH), labels.split(_BATCH), strict=True)
    return sum(int((student(part).argmax(1) == truth).sum()) for part, truth in parts) / len(labels)

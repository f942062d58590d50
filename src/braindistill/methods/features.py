"""Losses on features: layers of the student imitate layers of the teacher."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from braindistill.errors import UserError


def fitnet_loss(student_layers: Tensor | Sequence[Tensor], teacher_layers: Tensor | Sequence[Tensor]) -> Tensor:
    """Hints (Romero et al. 2015, "FitNets: hints for thin deep nets", equation 3): the mean squared difference.

    Summed over pairs of layers; the paper has one pair, in the middle.

    Parameters
    ----------
    student_layers : N × … each, behind an adapter (a 1 × 1 convolution or a linear layer) that gives it the teacher's
        channels
    teacher_layers : of the same shapes; of maps of unequal sizes the larger one is averaged down to the smaller

    Raises
    ------
    UserError
        The shapes differ otherwise.
    """
    total = _nothing(student_layers)
    for student, teacher in zip(_several(student_layers), _several(teacher_layers), strict=True):
        if student.ndim == teacher.ndim == 4:
            student, teacher = _of_one_size(student, teacher)
        if student.shape != teacher.shape:
            found = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
            raise UserError(
                f"method=fitnet: the student's and the teacher's features are of shapes {found}; put an adapter between"
            )
        total = total + F.mse_loss(student, teacher)
    return total


def attention_loss(student_layers: Tensor | Sequence[Tensor], teacher_layers: Tensor | Sequence[Tensor]) -> Tensor:
    """Attention transfer (Zagoruyko and Komodakis 2017, "Paying more attention to attention", equation 2).

    An image's map is the mean over channels of the squared activations, divided by its length; the loss is the mean squared
    difference of the maps, over images and places (as in the authors' code; the paper sums lengths), summed over pairs of
    layers.

    Parameters
    ----------
    student_layers, teacher_layers : N × channels × height × width each; of a pair the larger one is averaged down to the
        smaller

    Raises
    ------
    UserError
        Features that have no places.
    """
    total = _nothing(student_layers)
    for student, teacher in zip(_several(student_layers), _several(teacher_layers), strict=True):
        check_maps("attention", student=student, teacher=teacher)
        own, wanted = (F.normalize(part.square().mean(1).flatten(1), dim=1) for part in _of_one_size(student, teacher))
        total = total + F.mse_loss(own, wanted)
    return total


def review_loss(student_layers: Tensor | Sequence[Tensor], teacher_layers: Tensor | Sequence[Tensor]) -> Tensor:
    """Knowledge review (Chen et al. 2021, "Distilling knowledge via knowledge review", equation 6 with the hierarchical
    context loss of section 3.4).

    Σ over layers of Σ_l w_l · MSE(P_l(s), P_l(t)) / Σ_l w_l, where P_0 is the map itself with weight 1 and P_l averages it
    down to 4 × 4, 2 × 2 and 1 × 1 places with weights ½, ¼ and ⅛; a level that is not smaller than the map is left out
    (as in the authors' code).

    Parameters
    ----------
    student_layers : N × channels × height × width each, behind the fusion of `adapt_review`, by which a layer also answers
        for the deeper ones
    teacher_layers : of the same shapes; vectors (N × channels) count as maps of one place
    """
    total = _nothing(student_layers)
    for student, teacher in zip(_several(student_layers), _several(teacher_layers), strict=True):
        student, teacher = (part[:, :, None, None] if part.ndim == 2 else part for part in (student, teacher))
        check_maps("review", student=student, teacher=teacher)
        student, teacher = _of_one_size(student, teacher)
        loss, weight, weights = F.mse_loss(student, teacher), 1.0, 1.0
        for side in (4, 2, 1):
            if side < student.shape[2]:
                weight, weights = weight / 2, weights + weight / 2
                own, wanted = (average_down(part, (side, side)) for part in (student, teacher))
                loss = loss + weight * F.mse_loss(own, wanted)
        total = total + loss / weights
    return total


def check_maps(method: str, **features: Tensor) -> None:
    """Refuse features (by whose they are) that are no maps.

    Raises
    ------
    UserError
        With the shape that was found.
    """
    for whose, part in features.items():
        if part.ndim != 4:
            raise UserError(
                f"method={method}: the {whose}'s features are of shape {tuple(part.shape)}, expected maps: images × "
                "channels × height × width; name a convolutional layer"
            )


def _several(features: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return [features] if isinstance(features, Tensor) else features


def _nothing(features: Tensor | Sequence[Tensor]) -> Tensor:
    return _several(features)[0].new_zeros(())


def average_down(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Average maps (N × C × height × width) over the parts of a grid, as adaptive pooling does.

    Written as products where parts overlap, since the gradient of adaptive pooling isn't deterministic on CUDA.
    """
    height, width = maps.shape[2:]
    if (height, width) == tuple(size):
        return maps
    if height % size[0] == 0 and width % size[1] == 0:
        return F.avg_pool2d(maps, (height // size[0], width // size[1]))
    return _shares(height, size[0], maps) @ maps @ _shares(width, size[1], maps).T


def _shares(length: int, parts: int, like: Tensor) -> Tensor:
    """Which places each part averages over: parts × length."""
    part, place = torch.arange(parts)[:, None], torch.arange(length)
    inside = (place >= part * length // parts) & (place < ((part + 1) * length + parts - 1) // parts)
    return (inside.double() / inside.sum(1, keepdim=True)).to(like)


def _of_one_size(one: Tensor, other: Tensor) -> list[Tensor]:
    """Two maps with the height and the width of the smaller."""
    size = (min(one.shape[2], other.shape[2]), min(one.shape[3], other.shape[3]))
    return [average_down(part, size) for part in (one, other)]

"""Losses on where the student looks."""

from __future__ import annotations

import torch
from torch import Tensor

from braindistill.errors import UserError
from braindistill.methods.features import average_down, check_maps


def mask_loss(student_features: Tensor, teacher_mask: Tensor, *, floor: float = 0.01) -> Tensor:
    """The student's spatial attention is drawn to a map of the image, such as where a brain's activity comes from.

    KL(m ‖ a), averaged over images, between distributions over places: a is the mean over channels of the squared
    activations (the attention of Zagoruyko and Komodakis 2017), m the map, averaged down to the layer's size; each is
    divided by its sum and mixed with a share ε of the uniform distribution, so that a place where nothing is active has a
    logarithm.

    Parameters
    ----------
    student_features : N × channels × height × width
    teacher_mask : N × rows × columns, not negative. A map of zeros (its image was moved out of sight) teaches nothing
    floor : ε, above 0 and at most 1

    Raises
    ------
    UserError
        Features that have no places.
    """
    if not 0 < floor <= 1:
        raise UserError(f"method.floor={floor}: must be above 0 and at most 1")
    check_maps("mask", student=student_features)
    resized = average_down(teacher_mask[:, None], student_features.shape[2:]).flatten(1)
    attention = _distribution(student_features.square().mean(1).flatten(1), floor)
    wanted = _distribution(resized, floor)
    rows = (wanted * (wanted.log() - attention.log())).sum(1)
    seen = resized.sum(1) > 0
    return (rows * seen).sum() / seen.sum().clamp(min=1)


def _distribution(maps: Tensor, floor: float) -> Tensor:
    """Rows (N × places) as probabilities; a row of zeros is uniform."""
    total = maps.sum(1, keepdim=True)
    places = maps.shape[1]
    shares = torch.where(total > 0, maps / total.masked_fill(total == 0, 1), 1 / places)
    return (1 - floor) * shares + floor / places

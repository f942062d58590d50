"""Losses on features: the student's layer imitates a layer of the teacher."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from braindistill.errors import UserError


def fitnet_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Hints (Romero et al. 2015, "FitNets: hints for thin deep nets", equation 3): the mean squared difference.

    Parameters
    ----------
    student_features : N × …, behind an adapter (a 1 × 1 convolution or a linear layer) that gives it the teacher's shape
    teacher_features : of the same shape

    Raises
    ------
    UserError
        The shapes differ.
    """
    if student_features.shape != teacher_features.shape:
        found = f"{tuple(student_features.shape)} and {tuple(teacher_features.shape)}"
        raise UserError(
            f"method=fitnet: the student's and the teacher's features are of shapes {found}; put an adapter between"
        )
    return F.mse_loss(student_features, teacher_features)


def attention_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Attention transfer (Zagoruyko and Komodakis 2017, "Paying more attention to attention", equation 2).

    An image's map is the mean over channels of the squared activations, divided by its length; the loss is the mean squared
    difference of the maps, over images and places (as in the authors' code; the paper sums lengths).

    Parameters
    ----------
    student_features, teacher_features : N × channels × height × width; the larger one is averaged down to the smaller

    Raises
    ------
    UserError
        Features that have no places.
    """
    for whose, features in (("student", student_features), ("teacher", teacher_features)):
        if features.ndim != 4:
            raise UserError(
                f"method=attention: the {whose}'s features are of shape {tuple(features.shape)}, expected maps: images × "
                "channels × height × width; name a convolutional layer"
            )
    height, width = (min(student_features.shape[side], teacher_features.shape[side]) for side in (2, 3))
    pooled = (F.adaptive_avg_pool2d(maps, (height, width)) for maps in (student_features, teacher_features))
    student, teacher = (F.normalize(maps.square().mean(1).flatten(1), dim=1) for maps in pooled)
    return F.mse_loss(student, teacher)

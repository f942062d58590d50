"""Losses on relations: how alike two images are to the student, and how alike to the teacher."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def rdm_loss(
    student_features: Tensor,
    teacher_similarity: Tensor,
    *,
    similarity: Literal["correlation", "cosine"] = "correlation",
    compare: Literal["pearson", "cosine", "cka"] = "pearson",
) -> Tensor:
    """One minus the agreement of two similarity matrices over the images of a batch.

    ``pearson``: of the entries above the diagonals, as representational similarity analysis compares matrices (Kriegeskorte
    et al. 2008, "Representational similarity analysis"); as a loss on brain data, see Li et al. 2019, "Learning from
    brains how to regularize machines". ``cosine``: the same without centring. ``cka``: centred kernel alignment of the
    whole matrices (Kornblith et al. 2019, "Similarity of neural network representations revisited", equation 3).

    Parameters
    ----------
    student_features : N × features
    teacher_similarity : N × N, symmetric. Any increasing linear function of it gives the same ``pearson`` and ``cka``
    similarity : of two rows of features: ``correlation`` (Pearson, over features) or ``cosine``

    Returns
    -------
    Tensor
        In [0, 2]; 0 with fewer than three rows, which have no two pairs to compare.
    """
    n = len(student_features)
    if n < 3:
        return student_features.sum() * 0
    centred = student_features - student_features.mean(1, keepdim=True)
    rows = F.normalize(centred if similarity == "correlation" else student_features, dim=1)
    student, teacher = rows @ rows.T, teacher_similarity
    if compare == "cka":
        return 1 - _alignment(student, teacher)
    above = torch.triu_indices(n, n, offset=1, device=student.device).unbind()
    student, teacher = student[above], teacher[above]
    if compare == "pearson":
        student, teacher = student - student.mean(), teacher - teacher.mean()
    return 1 - F.cosine_similarity(student, teacher, dim=0)


def cka_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """One minus linear CKA (Kornblith et al. 2019, "Similarity of neural network representations revisited", equation 4).

    1 − ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) with Frobenius norms of the features X and Y, centred over the images of the batch. Blind to
    shift, scale and rotation of either.

    Parameters
    ----------
    student_features, teacher_features : X and Y, N × …; each in its own width

    Returns
    -------
    Tensor
        In [0, 1]; 0 with fewer than three rows, of which any two representations are aligned.
    """
    if len(student_features) < 3:
        return student_features.sum() * 0
    centred = [f.flatten(1) - f.flatten(1).mean(0) for f in (student_features, teacher_features)]
    return 1 - _alignment(*(f @ f.T for f in centred))


def similarity_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Similarity-preserving distillation (Tung and Mori 2019, "Similarity-preserving knowledge distillation", equations 2
    to 4).

    ‖G_t − G_s‖² / N² (Frobenius), where G holds the inner products of the images' features, each row divided by its
    length. Blind to scale and rotation of either.

    Parameters
    ----------
    student_features, teacher_features : N × …; each in its own width
    """
    features = (f.flatten(1) for f in (student_features, teacher_features))
    student, teacher = (F.normalize(f @ f.T, dim=1) for f in features)
    return (teacher - student).square().sum() / max(len(student), 1) ** 2


def rkd_loss(
    student_features: Tensor, teacher_features: Tensor, *, distance_weight: float = 25.0, angle_weight: float = 50.0
) -> Tensor:
    """Relational knowledge distillation (Park et al. 2019, "Relational knowledge distillation", equations 4 to 9).

    Distances between any two images, divided by the mean of those that are not zero, and cosines of the angles between any
    three, each compared by the Huber loss with threshold 1 and averaged over all pairs and triples (those that name an
    image twice included, as in the authors' code). Blind to shift, scale and rotation of either.

    Parameters
    ----------
    student_features, teacher_features : N × …; each in its own width
    distance_weight, angle_weight : of the two terms; that of angles takes memory for several times N³ numbers, unless its
        weight is 0

    Returns
    -------
    Tensor
        0 with fewer than two rows.
    """
    if len(student_features) < 2:
        return student_features.sum() * 0
    # Not by inner products, which cancel where two images are close.
    exact = "donot_use_mm_for_euclid_dist"
    features = (f.flatten(1) for f in (student_features, teacher_features))
    student, teacher = (torch.cdist(f, f, compute_mode=exact) for f in features)
    loss = distance_weight * F.smooth_l1_loss(_in_means(student), _in_means(teacher))
    if angle_weight:
        loss = loss + angle_weight * F.smooth_l1_loss(_cosines(student), _cosines(teacher))
    return loss


def _alignment(one: Tensor, other: Tensor) -> Tensor:
    """Centred alignment of two kernels, N × N (equation 3 of Kornblith et al. 2019)."""
    one, other = (k - k.mean(0) - k.mean(1, keepdim=True) + k.mean() for k in (one, other))
    return F.cosine_similarity(one.flatten(), other.flatten(), dim=0)


def _in_means(distances: Tensor) -> Tensor:
    """Distances (N × N) divided by the mean of those that are not zero; zeros if there are none."""
    mean = distances.sum() / (distances > 0).sum().clamp(min=1)
    return distances / mean.masked_fill(mean == 0, math.inf)


def _cosines(distances: Tensor) -> Tensor:
    """Cosine of the angle at image j between images i and k, indexed [j, i, k]; 0 where one of them lies on j.

    By the law of cosines, so that no difference of features is formed, which would be N × N × width.
    """
    square = distances.square()
    inverse = 1 / distances.masked_fill(distances == 0, math.inf)
    return (square[:, :, None] + square[:, None] - square) / 2 * inverse[:, :, None] * inverse[:, None]

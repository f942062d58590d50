"""Losses on relations: how alike two images are to the student, and how alike to the teacher."""

from __future__ import annotations

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
        student, teacher = (k - k.mean(0) - k.mean(1, keepdim=True) + k.mean() for k in (student, teacher))
        return 1 - F.cosine_similarity(student.flatten(), teacher.flatten(), dim=0)
    above = torch.triu_indices(n, n, offset=1, device=student.device).unbind()
    student, teacher = student[above], teacher[above]
    if compare == "pearson":
        student, teacher = student - student.mean(), teacher - teacher.mean()
    return 1 - F.cosine_similarity(student, teacher, dim=0)

"""Losses on responses: the student's features, through a linear head, predict the teacher's voxels."""

from __future__ import annotations

from torch import Tensor


def voxels_loss(student_features: Tensor, teacher_voxels: Tensor, weight: Tensor | None = None) -> Tensor:
    """Weighted squared error: Σ_v w_v · mean_n (s_nv − t_nv)² / Σ_v w_v.

    Voxels are z-scored over the training images, so that it is 1 − R² of each voxel where the student's mean is right,
    and a head that knows nothing is at 1. A correlation over the batch would say the same with the noise of a batch's
    mean and deviation added.

    Parameters
    ----------
    student_features : s, N × voxels, of a linear head
    teacher_voxels : t, N × voxels, z-scored
    weight : w, voxels, not negative (such as the encoder's out-of-fold R²); None: all alike
    """
    error = (student_features - teacher_voxels).square().mean(0)
    return error.mean() if weight is None else (weight * error).sum() / weight.sum()

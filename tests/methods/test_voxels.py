from __future__ import annotations

import numpy as np
import pytest
import torch

from braindistill.methods import voxels_loss

GENERATOR = torch.Generator().manual_seed(0)
STUDENT = torch.randn(7, 4, generator=GENERATOR, dtype=torch.float64)
TEACHER = torch.randn(7, 4, generator=GENERATOR, dtype=torch.float64)
WEIGHT = torch.tensor([0.0, 1.0, 3.0, 0.5], dtype=torch.float64)


def test_it_is_the_weighted_squared_error():
    error = ((STUDENT.numpy() - TEACHER.numpy()) ** 2).mean(0)
    assert voxels_loss(STUDENT, TEACHER).item() == pytest.approx(error.mean(), rel=1e-12)
    assert voxels_loss(STUDENT, TEACHER, WEIGHT).item() == pytest.approx(np.average(error, weights=WEIGHT), rel=1e-12)
    assert voxels_loss(STUDENT, TEACHER, 7 * WEIGHT).item() == pytest.approx(
        voxels_loss(STUDENT, TEACHER, WEIGHT).item(), rel=1e-12
    )
    assert voxels_loss(TEACHER, TEACHER, WEIGHT).item() == 0


def test_a_head_that_knows_nothing_is_at_one():
    standard = (TEACHER - TEACHER.mean(0)) / TEACHER.std(0, correction=0)
    assert voxels_loss(torch.zeros_like(standard), standard, WEIGHT).item() == pytest.approx(1, rel=1e-12)


def test_gradient():
    student = STUDENT.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: voxels_loss(x, TEACHER, WEIGHT), student)
    voxels_loss(student, TEACHER, WEIGHT).backward()
    assert (student.grad[:, 0] == 0).all(), "a voxel of weight 0 teaches nothing"
    assert (student.grad[:, 1:] != 0).all()

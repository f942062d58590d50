from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from braindistill.methods import rdm_loss


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def similarities(rows: np.ndarray, kind: str) -> np.ndarray:
    if kind == "correlation":
        return np.corrcoef(rows)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))


@pytest.mark.parametrize("similarity", ["correlation", "cosine"])
def test_it_compares_the_upper_triangles(similarity):
    features, teacher = draw(9, 5), similarities(draw(9, 30, seed=1).numpy(), "correlation")
    above = np.triu_indices(9, 1)
    one, other = similarities(features.numpy(), similarity)[above], teacher[above]
    given = torch.from_numpy(teacher)
    pearson = rdm_loss(features, given, similarity=similarity).item()
    assert pearson == pytest.approx(1 - np.corrcoef(one, other)[0, 1], abs=1e-10)
    plain = rdm_loss(features, given, similarity=similarity, compare="cosine").item()
    assert plain == pytest.approx(1 - cosine(one, other), abs=1e-10)


def test_cka_is_kornbliths():
    x, y = draw(8, 5).numpy(), draw(8, 6, seed=1).numpy()
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    loss = rdm_loss(torch.from_numpy(x), torch.from_numpy(y @ y.T), similarity="cosine", compare="cka").item()
    x, y = x - x.mean(0), y - y.mean(0)  # linear CKA of features, equation 4
    expected = (np.linalg.norm(y.T @ x) ** 2) / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    assert loss == pytest.approx(1 - expected, abs=1e-10)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 9), st.floats(-3, 3), st.integers(0, 99))
def test_zero_for_the_same_geometry_in_any_linear_unit(scale, shift, seed):
    features = draw(6, 5, seed=seed)
    teacher = torch.from_numpy(similarities(features.numpy(), "correlation"))
    assert rdm_loss(features, scale * teacher + shift).item() == pytest.approx(0, abs=1e-9)
    assert rdm_loss(features, -scale * teacher + shift).item() == pytest.approx(2, abs=1e-9)
    assert rdm_loss(7 * features + 3, teacher).item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("similarity", ["correlation", "cosine"])
@pytest.mark.parametrize("compare", ["pearson", "cosine", "cka"])
def test_gradient(similarity, compare):
    teacher = torch.from_numpy(similarities(draw(5, 20, seed=1).numpy(), "correlation"))
    features = draw(5, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: rdm_loss(x, teacher, similarity=similarity, compare=compare), features)


@pytest.mark.parametrize("compare", ["pearson", "cosine", "cka"])
def test_nothing_to_compare_gives_no_gradient_and_no_nan(compare):
    for n in (0, 1, 2):
        features = draw(n, 4).requires_grad_()
        loss = rdm_loss(features, torch.eye(n, dtype=torch.float64), compare=compare)
        loss.backward()
        assert loss.item() == 0
        assert (features.grad == 0).all()
    features = torch.zeros(4, 3).requires_grad_()
    rdm_loss(features, torch.eye(4), compare=compare).backward()
    assert torch.isfinite(features.grad).all(), "a student whose features are all alike"

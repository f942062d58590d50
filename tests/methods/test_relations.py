from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from braindistill.methods import cka_loss, rdm_loss, rkd_loss, similarity_loss


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


# Relations of features: the papers' formulas, in plain loops over images


def huber(difference: float) -> float:
    return difference**2 / 2 if abs(difference) <= 1 else abs(difference) - 0.5


def rkd_formula(x: np.ndarray, y: np.ndarray, distance_weight: float = 25, angle_weight: float = 50) -> float:
    n = len(x)
    relative = []
    for rows in (x, y):
        distances = np.array([[np.linalg.norm(a - b) for b in rows] for a in rows])
        relative.append(distances / distances[distances > 0].mean())
    pairs = [huber(s - t) for s, t in zip(relative[0].flat, relative[1].flat, strict=True)]

    def angle(rows: np.ndarray, i: int, j: int, k: int) -> float:
        one, other = rows[i] - rows[j], rows[k] - rows[j]
        lengths = np.linalg.norm(one) * np.linalg.norm(other)
        return one @ other / lengths if lengths > 0 else 0.0

    triples = [huber(angle(x, *t) - angle(y, *t)) for t in np.ndindex(n, n, n)]
    return distance_weight * float(np.mean(pairs)) + angle_weight * float(np.mean(triples))


def similarity_formula(x: np.ndarray, y: np.ndarray) -> float:
    grams = [rows @ rows.T for rows in (x, y)]
    one, other = (np.stack([row / np.sqrt((row**2).sum()) for row in gram]) for gram in grams)
    return float(((one - other) ** 2).sum()) / len(x) ** 2


def cka_formula(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(0), y - y.mean(0)
    return 1 - float(np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


OF_FEATURES = {
    "rkd": (rkd_loss, rkd_formula),
    "similarity": (similarity_loss, similarity_formula),
    "cka": (cka_loss, cka_formula),
}
over_features = pytest.mark.parametrize(("loss", "formula"), OF_FEATURES.values(), ids=OF_FEATURES)


@over_features
def test_published_formula(loss, formula):
    for seed in range(3):
        # positive, as behind a ReLU: a mean of the size of the deviation; one image is twice in the batch
        student, teacher = draw(7, 5, seed=seed).abs(), draw(7, 9, seed=seed + 50) + 1
        student[3], teacher[3] = student[1], teacher[1]
        expected = formula(student.numpy(), teacher.numpy())
        assert expected > 1e-3
        assert loss(student, teacher).item() == pytest.approx(expected, rel=1e-10)
        single = loss(student.float(), teacher.float())
        assert single.dtype == torch.float32
        assert single.item() == pytest.approx(expected, rel=1e-5)
    maps = student.reshape(7, 5, 1, 1)
    assert loss(maps, teacher).item() == pytest.approx(expected, rel=1e-10)


@over_features
def test_same_geometry_in_any_pose_is_zero(loss, formula):
    teacher = draw(8, 5)
    rotation, _ = torch.linalg.qr(draw(6, 6, seed=1))
    turned = 3 * torch.cat([teacher, torch.zeros(8, 1, dtype=torch.float64)], 1) @ rotation
    turned = turned + (0 if loss is similarity_loss else 7)  # inner products have an origin
    assert loss(turned, teacher).item() == pytest.approx(0, abs=1e-10)
    there = teacher.clone().requires_grad_()
    loss(there, teacher).backward()
    assert there.grad.abs().max() < 1e-8, "a minimum"
    other = draw(8, 6, seed=2)
    assert loss(other @ rotation, teacher).item() == pytest.approx(loss(other, teacher).item(), rel=1e-9)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    assert loss(other[order], teacher[order]).item() == pytest.approx(loss(other, teacher).item(), rel=1e-9)
    assert loss(other[order], teacher).item() != pytest.approx(loss(other, teacher).item(), rel=1e-3)


@over_features
def test_gradient_of_features(loss, formula):
    teacher = draw(5, 6, seed=1)
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher), draw(5, 4).requires_grad_())


@over_features
def test_degenerate_batches_of_features(loss, formula):
    for n in (0, 1):
        features = draw(n, 4).requires_grad_()
        value = loss(features, draw(n, 3))
        value.backward()
        assert value.item() == 0
        assert (features.grad == 0).all()
    for features in (torch.zeros(4, 3), torch.ones(4, 3), torch.eye(3)[[0, 0, 1, 1]]):  # all alike; twins
        features.requires_grad_()
        loss(features, draw(4, 5).float()).backward()
        assert torch.isfinite(features.grad).all()
        assert torch.isfinite(loss(draw(4, 5).float(), features))


def test_weights_of_distances_and_angles():
    student, teacher = draw(6, 3), draw(6, 4, seed=1)
    for weights in ((2.0, 0.0), (0.0, 3.0)):
        expected = rkd_formula(student.numpy(), teacher.numpy(), *weights)
        loss = rkd_loss(student, teacher, distance_weight=weights[0], angle_weight=weights[1])
        assert loss.item() == pytest.approx(expected, rel=1e-10)


def test_both_ways_to_cka_agree():
    student, teacher = draw(8, 5), draw(8, 6, seed=1)
    rows = torch.nn.functional.normalize(student, dim=1)
    by_kernels = rdm_loss(student, teacher @ teacher.T, similarity="cosine", compare="cka")
    assert cka_loss(rows, teacher).item() == pytest.approx(by_kernels.item(), rel=1e-10)

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import pdist, squareform

from braindistill.metrics.rdms import compare_rdms, rdm, rdm_noise_ceiling

MEASURES = ["spearman", "pearson", "cosine", "kendall"]


def features(seed: int, images: int = 12, width: int = 20) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(images, width))


@pytest.mark.parametrize(("measure", "metric"), [("correlation", "correlation"), ("cosine", "cosine")])
def test_scipy_has_the_same_matrices(measure: str, metric: str) -> None:
    x = features(0) + 0.5
    assert rdm(x, measure) == pytest.approx(squareform(pdist(x, metric)), abs=1e-12)


def test_euclidean_is_squared_and_a_mean_over_features() -> None:
    x = features(0) + 1000
    assert rdm(x, "euclidean") == pytest.approx(squareform(pdist(x, "sqeuclidean")) / 20, abs=1e-9)


@given(st.integers(0, 1000))
def test_a_matrix_is_symmetric_and_ignores_what_it_should(seed: int) -> None:
    x = features(seed)
    found = rdm(x)
    assert (found == found.T).all()
    assert (np.diag(found) == 0).all()
    assert found.min() >= 0
    assert found.max() <= 2 + 1e-12
    scale, shift = np.random.default_rng(seed).uniform(0.5, 2, size=(2, 12, 1))
    assert rdm(scale * x + shift) == pytest.approx(found, abs=1e-9)


def test_comparisons_have_oracles() -> None:
    a, b = rdm(features(1)), rdm(features(1) + 0.7 * features(2))
    one, other = (matrix[np.triu_indices(12, 1)] for matrix in (a, b))
    assert compare_rdms(a, b, "spearman") == pytest.approx(stats.spearmanr(one, other).statistic)
    assert compare_rdms(a, b, "pearson") == pytest.approx(stats.pearsonr(one, other).statistic)
    assert compare_rdms(a, b, "kendall") == pytest.approx(stats.kendalltau(one, other).statistic)
    assert compare_rdms(a, b, "cosine") == pytest.approx(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_ties_lower_tau_a() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 5))
    a, b = np.round(rdm(x), 0), np.round(rdm(x + 0.5 * rng.normal(size=(6, 5))), 0)
    one, other = (matrix[np.triu_indices(6, 1)] for matrix in (a, b))
    signs = np.sign(one[:, None] - one) * np.sign(other[:, None] - other)
    assert compare_rdms(a, b, "kendall") == pytest.approx(signs.sum() / (15 * 14))
    assert compare_rdms(a, b, "kendall") > 0.1
    assert compare_rdms(a, a, "kendall") < 0.9
    assert compare_rdms(a, a, "spearman") == pytest.approx(1)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_matrix_is_most_like_itself(measure: str) -> None:
    a, b = rdm(features(1)), rdm(features(2))
    assert compare_rdms(a, a, measure) == pytest.approx(1)
    assert compare_rdms(a, b, measure) == pytest.approx(compare_rdms(b, a, measure))
    assert compare_rdms(a, b, measure) < 1
    if measure in ("spearman", "kendall"):
        assert compare_rdms(a**3, b, measure) == pytest.approx(compare_rdms(a, b, measure))


@pytest.mark.parametrize("measure", MEASURES)
def test_noise_ceiling_brackets_the_truth(measure: str) -> None:
    truth = features(0, images=20, width=50)
    for noise, least in ((0.1, 0.85), (1.0, 0.2)):
        people = np.stack([rdm(truth + noise * features(seed, 20, 50)) for seed in range(1, 9)])
        lower, upper = rdm_noise_ceiling(people, measure)
        assert least < lower < upper <= 1
        true = np.mean([compare_rdms(rdm(truth), one, measure) for one in people])
        assert lower - 0.05 < true < upper


@pytest.mark.parametrize("measure", ["pearson", "cosine"])
def test_no_matrix_beats_the_upper_bound(measure: str) -> None:
    people = np.stack([rdm(features(seed)) for seed in range(4)])
    _, upper = rdm_noise_ceiling(people, measure)
    for seed in range(4, 40):
        weights = np.random.default_rng(seed).dirichlet(np.ones(4))
        tried = np.tensordot(weights, people, axes=1) + 0.1 * rdm(features(seed))
        assert np.mean([compare_rdms(tried, one, measure) for one in people]) <= upper + 1e-12


def test_equal_subjects_have_a_ceiling_of_one() -> None:
    assert rdm_noise_ceiling(np.stack([rdm(features(0))] * 3)) == pytest.approx((1, 1))


def test_what_has_no_similarity_is_refused() -> None:
    x = features(0)
    x[3] = 0.1
    with pytest.raises(ValueError, match="row 3 is constant"):
        rdm(x)
    with pytest.raises(ValueError, match="measure"):
        rdm(features(0), "manhattan")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="measure"):
        compare_rdms(rdm(features(0)), rdm(features(1)), "tau")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="finite"):
        rdm(np.full((3, 3), np.nan))
    a = rdm(features(0))
    flat = 1 - np.eye(12)
    for measure in ("spearman", "pearson", "kendall"):
        with pytest.raises(ValueError, match="without any differences"):
            compare_rdms(a, flat, measure)
    with pytest.raises(ValueError, match="without any differences"):
        rdm_noise_ceiling(np.stack([a, flat]), "pearson")
    with pytest.raises(ValueError, match="same images"):
        compare_rdms(a, rdm(features(0, images=11)))
    with pytest.raises(ValueError, match="not symmetric"):
        compare_rdms(a, np.triu(a))
    with pytest.raises(ValueError, match="at least 3"):
        compare_rdms(np.eye(2), np.eye(2))
    with pytest.raises(ValueError, match="at least 2 matrices"):
        rdm_noise_ceiling(a[None])

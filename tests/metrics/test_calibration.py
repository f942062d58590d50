from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import log_loss

from braindistill.metrics.calibration import brier, ece, entropy, nll, reliability_curve


def drawn(seed: int = 0, images: int = 200, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.dirichlet(np.ones(classes), size=images), generator.integers(0, classes, size=images)


def test_nll_and_entropy_have_oracles() -> None:
    probabilities, labels = drawn()
    assert nll(np.log(probabilities), labels) == pytest.approx(log_loss(labels, probabilities, labels=range(4)))
    assert entropy(np.log(probabilities)) == pytest.approx(stats.entropy(probabilities, axis=1).mean())


def test_entropy_bounds() -> None:
    with np.errstate(divide="ignore"):
        assert entropy(np.log(np.eye(3))) == 0
        assert nll(np.log(np.eye(3)), [0, 1, 2]) == 0
        assert nll(np.log(np.eye(3)), [1, 1, 2]) == np.inf
    assert entropy(np.log(np.full((5, 8), 1 / 8))) == pytest.approx(np.log(8))


def test_brier_by_hand() -> None:
    assert brier([[0.7, 0.3], [0.2, 0.8]], [0, 0]) == pytest.approx((0.09 + 0.09 + 0.64 + 0.64) / 2)
    assert brier(np.eye(3), [0, 1, 2]) == 0
    assert brier(np.eye(3), [1, 2, 0]) == 2


def test_ece_by_hand() -> None:
    probabilities = np.array([[0.6, 0.4]] * 5 + [[0.1, 0.9]] * 5)
    labels = [0, 0, 0, 1, 1, 1, 1, 1, 1, 0]  # right 3/5 at confidence 0.6, right 4/5 at 0.9
    assert ece(probabilities, labels, n_bins=2) == pytest.approx(0.5 * 0.0 + 0.5 * 0.1)
    assert ece(probabilities, labels, n_bins=1) == pytest.approx(abs(0.7 - 0.75))
    assert ece(probabilities, labels, n_bins=50) == pytest.approx(0.05)  # ties keep together


def test_ece_bins_hold_equal_mass() -> None:
    confidence = np.linspace(0.55, 0.99, 40)
    probabilities, labels = np.stack([confidence, 1 - confidence], axis=1), np.tile([0, 0, 0, 1], 10)
    gaps = [abs(0.75 - part.mean()) for part in np.split(confidence, 10)]
    assert ece(probabilities, labels, n_bins=10) == pytest.approx(np.mean(gaps))


def test_ece_is_small_for_calibrated_predictions() -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(3), size=20_000)
    labels = (probabilities.cumsum(axis=1) < generator.random((20_000, 1))).sum(axis=1)
    assert ece(probabilities, labels) < 0.02
    sharper = probabilities**3 / (probabilities**3).sum(axis=1, keepdims=True)
    assert ece(sharper, labels) > 0.1


@given(st.integers(0, 1000), st.integers(1, 30))
def test_ece_ignores_the_order_of_images_and_stays_in_bounds(seed: int, n_bins: int) -> None:
    probabilities, labels = drawn(seed, images=30)
    probabilities = np.round(probabilities, 1) + 0.01
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    order = np.random.default_rng(seed).permutation(30)
    value = ece(probabilities, labels, n_bins)
    assert value == pytest.approx(ece(probabilities[order], labels[order], n_bins))
    assert 0 <= value <= 1


def test_logits_and_log_probabilities_are_not_taken_for_probabilities() -> None:
    probabilities, labels = drawn()
    for call in (lambda x: ece(x, labels), lambda x: brier(x, labels)):
        with pytest.raises(ValueError, match="sum to 1"):
            call(np.log(probabilities))
    for call in (lambda x: nll(x, labels), entropy):
        with pytest.raises(ValueError, match="sum to 1"):
            call(probabilities)
        with pytest.raises(ValueError, match="sum to 1"):
            call(np.full((2, 3), np.nan))
    with pytest.raises(ValueError, match="n_bins"):
        ece(probabilities, labels, 0)


def test_reliability_curve_by_hand() -> None:
    probabilities = np.array([[0.6, 0.4]] * 5 + [[0.1, 0.9]] * 5)
    curve = reliability_curve(probabilities, [0, 0, 0, 1, 1, 1, 1, 1, 1, 0], n_bins=2)
    assert curve.confidence == pytest.approx([0.6, 0.9])
    assert curve.accuracy == pytest.approx([0.6, 0.8])
    assert curve.share == pytest.approx([0.5, 0.5])
    assert len(reliability_curve(np.full((6, 2), 0.5), [0, 1] * 3, n_bins=4).share) == 1  # ties share a bin


@given(st.integers(0, 1000), st.integers(1, 30))
def test_the_gap_of_the_reliability_curve_is_ece(seed: int, n_bins: int) -> None:
    probabilities, labels = drawn(seed, images=40)
    curve = reliability_curve(probabilities, labels, n_bins)
    gap = np.sum(curve.share * np.abs(curve.accuracy - curve.confidence))
    assert gap == pytest.approx(ece(probabilities, labels, n_bins))
    assert curve.share.sum() == pytest.approx(1)
    assert (curve.share > 0).all()
    assert (np.diff(curve.confidence) > 0).all()
    assert np.sum(curve.share * curve.accuracy) == pytest.approx((probabilities.argmax(1) == labels).mean())

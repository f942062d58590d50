"""Temperatures that are known beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from braindistill.teachers.calibration import calibrate, log_softmax


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_calibration_recovers_a_known_temperature(temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 5))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(1)  # drawn from softmax(logits)
    assert calibrate(log_softmax(logits * temperature), labels) == pytest.approx(temperature, rel=0.03)


def test_calibration_stays_within_bounds() -> None:
    certain = log_softmax(np.array([[5.0, 0.0], [0.0, 5.0]]))
    assert 950 < calibrate(certain, np.array([1, 0])) <= 1000
    assert 0.05 <= calibrate(certain / 1000, np.array([0, 1])) < 0.06


@pytest.mark.parametrize(("n", "confidence"), [(4, 0.9), (40, 0.9878)])
def test_a_few_right_answers_are_not_taken_for_certainty(n: int, confidence: float) -> None:
    """All right and all alike: confidence ends where one row of doubt puts it, (n + 1 / K) / (n + 1)."""
    labels = np.arange(n) % 2
    rows = log_softmax(3 * np.eye(2)[labels])
    calibrated = log_softmax(rows / calibrate(rows, labels))
    np.testing.assert_allclose(np.exp(calibrated).max(1), confidence, atol=2e-3)


def test_log_softmax_is_normalised_and_stable() -> None:
    rows = log_softmax(np.array([[1e4, 0.0, -1e4], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(rows[1], -np.log(3), rtol=1e-6)
    assert rows[0].tolist() == [0, -1e4, -2e4]

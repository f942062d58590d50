"""Noise on a network's answers is a function of the image's id."""

from __future__ import annotations

import numpy as np
import pytest

from braindistill.teachers.calibration import log_softmax
from braindistill.teachers.network_teacher import degrade

IDS = np.array([f"image-{row}" for row in range(400)])
ROWS = log_softmax(np.random.default_rng(0).normal(size=(400, 5)))


def test_noise_depends_on_the_id_and_the_seed_alone() -> None:
    noisy = degrade(ROWS, IDS, 2.0, 1.5, 7)
    order = np.random.default_rng(1).permutation(400)[:50]
    np.testing.assert_array_equal(degrade(ROWS[order], IDS[order], 2.0, 1.5, 7), noisy[order])
    assert not np.allclose(degrade(ROWS, IDS, 2.0, 1.5, 8), noisy)
    np.testing.assert_allclose(np.exp(noisy).sum(1), 1, rtol=1e-5)


def test_noise_has_its_size_and_the_temperature_comes_after_it() -> None:
    # differences of two classes lose the normaliser: their noise has variance 2 σ² / T²
    change = degrade(ROWS, IDS, 2.0, 4.0, 0) * 4 - ROWS
    assert (change[:, 0] - change[:, 1]).std() == pytest.approx(2 * np.sqrt(2), rel=0.1)
    np.testing.assert_allclose(degrade(ROWS, IDS, 0.0, 1.0, 0), ROWS, atol=1e-5)
    np.testing.assert_allclose(degrade(ROWS, IDS, 0.0, 2.0, 0), log_softmax(ROWS / 2), atol=1e-6)

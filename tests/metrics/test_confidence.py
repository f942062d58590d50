from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braindistill.metrics.confidence import aurc, choose_threshold, risk_coverage_curve, selective


def two_classes(confidence: list[float], right: list[bool]) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of class 0 at so much confidence."""
    top = np.array(confidence)
    return np.stack([top, 1 - top], axis=1), np.where(right, 0, 1)


CONFIDENCE = [0.95, 0.9, 0.9, 0.8, 0.7, 0.6]
RIGHT = [True, True, False, True, True, False]


def drawn(seed: int, images: int = 40, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    probabilities = np.round(generator.dirichlet(np.ones(classes), size=images), 1) + 0.01
    probabilities /= probabilities.sum(axis=1, keepdims=True)  # rounded, so that there are ties
    return probabilities, generator.integers(0, classes, size=images)


def test_threshold_by_hand() -> None:
    probabilities, labels = two_classes(CONFIDENCE, RIGHT)
    # accepted: 1 (precision 1), 3 (2/3), 4 (3/4), 5 (4/5), 6 (4/6); the two of 0.9 only together
    assert choose_threshold(probabilities, labels, coverage_at_least=0.1) == 0.95
    assert choose_threshold(probabilities, labels, coverage_at_least=0.3) == 0.7
    assert choose_threshold(probabilities, labels, coverage_at_least=0.9) == 0.6
    assert choose_threshold(probabilities, labels, coverage_at_least=1) == 0.6


def test_of_equally_precise_thresholds_the_lowest_is_taken() -> None:
    probabilities, labels = two_classes([0.9, 0.8, 0.7], [True, True, True])
    assert choose_threshold(probabilities, labels, coverage_at_least=0.1) == 0.7
    probabilities, labels = two_classes([0.9, 0.8], [False, False])
    assert choose_threshold(probabilities, labels) == 0.8


@given(st.integers(0, 1000), st.floats(0.01, 1))
def test_no_other_threshold_is_more_precise(seed: int, coverage: float) -> None:
    probabilities, labels = drawn(seed)
    chosen = choose_threshold(probabilities, labels, coverage_at_least=coverage)
    best = selective(probabilities, labels, chosen)
    assert best["coverage"] >= coverage - 1e-9
    for other in np.unique(probabilities.max(axis=1)):
        found = selective(probabilities, labels, other)
        if found["coverage"] >= coverage:
            assert found["precision"] <= best["precision"]
            if found["precision"] == best["precision"]:
                assert chosen <= other


def test_selective_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1, 0.0], [0.9, 0.1, 0.0], [0.9, 0.1, 0.0], [0.4, 0.3, 0.3], [0.0, 0.2, 0.8]])
    labels = [0, 1, 2, 0, 2]  # right, mild (0 and 1 are one group), severe, declined, right
    found = selective(probabilities, labels, 0.8, groups=["animal", "animal", "vehicle"])
    assert found == {"coverage": 0.8, "precision": 0.5, "severe": 0.25, "mild": 0.25}
    assert selective(probabilities, labels, 0.8) == {"coverage": 0.8, "precision": 0.5, "severe": None, "mild": None}
    nothing = selective(probabilities, labels, 0.99, groups=[0, 0, 1])
    assert nothing == {"coverage": 0.0, "precision": None, "severe": None, "mild": None}


@given(st.integers(0, 1000), st.floats(0, 1))
def test_precision_severe_and_mild_share_what_is_accepted(seed: int, threshold: float) -> None:
    probabilities, labels = drawn(seed)
    found = selective(probabilities, labels, threshold, groups=[0, 0, 1, 1])
    if found["precision"] is not None:
        assert found["precision"] + found["severe"] + found["mild"] == pytest.approx(1)
    alone = selective(probabilities, labels, threshold, groups=[0, 1, 2, 3])
    assert alone["mild"] in (None, 0)


def test_aurc_by_hand_and_with_ties() -> None:
    probabilities, labels = two_classes([0.9, 0.8, 0.7, 0.6], [True, False, True, False])
    assert aurc(probabilities, labels) == pytest.approx((0 + 1 / 2 + 1 / 3 + 2 / 4) / 4)
    coverage, risk = risk_coverage_curve(probabilities, labels)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert risk[-1] == 0.5
    # all equal: at every coverage the error rate
    probabilities, labels = two_classes([0.8] * 4, [True, False, True, False])
    assert risk_coverage_curve(probabilities, labels)[1].tolist() == [0.5] * 4


def test_ties_are_the_mean_over_their_orders() -> None:
    probabilities, labels = two_classes(CONFIDENCE, RIGHT)
    apart = []
    for first, second in ((0.91, 0.89), (0.89, 0.91)):
        changed, _ = two_classes([0.95, first, second, 0.8, 0.7, 0.6], RIGHT)
        apart.append(aurc(changed, labels))
    assert aurc(probabilities, labels) == pytest.approx(np.mean(apart))


@given(st.integers(0, 1000))
def test_aurc_lies_between_the_best_and_the_worst_order(seed: int) -> None:
    probabilities, labels = drawn(seed)
    wrong = probabilities.argmax(axis=1) != labels
    count = np.arange(1, len(wrong) + 1)
    best, worst = (np.mean(np.cumsum(order) / count) for order in (np.sort(wrong), np.sort(wrong)[::-1]))
    assert best - 1e-12 <= aurc(probabilities, labels) <= worst + 1e-12
    order = np.random.default_rng(seed).permutation(len(labels))
    assert aurc(probabilities[order], labels[order]) == pytest.approx(aurc(probabilities, labels))


def test_what_cannot_be_is_refused() -> None:
    probabilities, labels = drawn(0)
    for coverage in (0, 1.1):
        with pytest.raises(ValueError, match="coverage_at_least"):
            choose_threshold(probabilities, labels, coverage_at_least=coverage)
    with pytest.raises(ValueError, match="groups"):
        selective(probabilities, labels, 0.5, groups=[0, 1])
    with pytest.raises(ValueError, match="sum to 1"):
        aurc(np.log(probabilities), labels)

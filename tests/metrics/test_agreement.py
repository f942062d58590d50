from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from braindistill.metrics.agreement import human_agreement


def drawn(seed: int, images: int = 100, classes: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(classes), size=images)


def test_scipy_agrees() -> None:
    student, people = drawn(0), drawn(1)
    found = human_agreement(np.log(student), people)
    assert found["kl"] == pytest.approx(np.mean(stats.entropy(people, student, axis=1)))
    assert found["cross_entropy"] == pytest.approx(found["kl"] + stats.entropy(people, axis=1).mean())
    ranks = stats.spearmanr(stats.entropy(student, axis=1), stats.entropy(people, axis=1))
    assert found["entropy_correlation"] == pytest.approx(ranks.statistic)
    assert found["top1_agreement"] == pytest.approx((student.argmax(1) == people.argmax(1)).mean())


def test_a_copy_agrees_wholly() -> None:
    people = drawn(2)
    found = human_agreement(np.log(people), people)
    assert found["kl"] == pytest.approx(0, abs=1e-12)
    assert found["entropy_correlation"] == pytest.approx(1)
    assert found["top1_agreement"] == 1


def test_one_hot_people_make_it_the_nll_and_have_no_entropies_to_correlate() -> None:
    student, labels = drawn(3, images=6), [0, 1, 2, 3, 4, 0]
    found = human_agreement(np.log(student), np.eye(5)[labels])
    assert found["cross_entropy"] == found["kl"] == pytest.approx(-np.log(student[range(6), labels]).mean())
    assert found["entropy_correlation"] is None
    with np.errstate(divide="ignore"):
        sure = human_agreement(np.log(np.eye(5)[labels]), np.eye(5)[labels])
        assert sure["cross_entropy"] == 0
        assert human_agreement(np.log(np.eye(5)[labels]), drawn(4, images=6))["kl"] == np.inf


def test_shared_favourites_agree_in_part() -> None:
    people = [[0.5, 0.5, 0.0], [0.4, 0.2, 0.4], [0.2, 0.2, 0.6]]
    student = np.log([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
    assert human_agreement(student, people)["top1_agreement"] == pytest.approx((1 / 2 + 0 + 1) / 3)


def test_counts_and_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        human_agreement(np.log(drawn(0)), 50 * drawn(1))
    with pytest.raises(ValueError, match="equal shapes"):
        human_agreement(np.log(drawn(0)), drawn(1, classes=4))

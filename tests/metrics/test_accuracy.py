from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, top_k_accuracy_score

from braindistill.metrics.accuracy import accuracy, balanced_accuracy, correct, top_k_accuracy

SCORES = np.log([[0.7, 0.3], [0.2, 0.8], [0.6, 0.4], [0.9, 0.1]])


def test_by_hand() -> None:
    assert correct(SCORES, [0, 1, 1, 0]).tolist() == [True, True, False, True]
    assert accuracy(SCORES, [0, 1, 1, 0]) == 0.75
    assert balanced_accuracy(SCORES, [0, 1, 0, 0]) == 1.0
    assert balanced_accuracy(SCORES, [1, 1, 0, 0]) == 0.75


def test_sklearn_agrees_on_unbalanced_classes() -> None:
    generator = np.random.default_rng(0)
    scores, labels = generator.normal(size=(300, 5)), generator.choice(4, size=300, p=[0.7, 0.2, 0.05, 0.05])
    predicted = scores.argmax(axis=1)
    assert accuracy(scores, labels) == pytest.approx(accuracy_score(labels, predicted))
    recalls = [(predicted[labels == name] == name).mean() for name in range(4)]  # class 4 is never true
    assert balanced_accuracy(scores, labels) == pytest.approx(np.mean(recalls))
    kept = scores[:, :4]
    assert balanced_accuracy(kept, labels) == pytest.approx(balanced_accuracy_score(labels, kept.argmax(axis=1)))


@pytest.mark.parametrize(
    ("scores", "labels", "words"),
    [
        (SCORES, [0, 1], "expected images × classes"),
        (SCORES[0], [0, 1], "expected images × classes"),
        (SCORES, [0, 1, 2, 0], "expected 0 to 1"),
        (SCORES, [0, -1, 1, 0], "expected 0 to 1"),
        (SCORES * np.nan, [0, 1, 1, 0], "NaN"),
    ],
)
def test_what_cannot_be_scored_is_refused(scores: np.ndarray, labels: list[int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        accuracy(scores, labels)


def test_top_k() -> None:
    generator = np.random.default_rng(0)
    scores, labels = generator.normal(size=(300, 8)), generator.integers(0, 8, size=300)
    for k in (1, 2, 5, 8):
        assert top_k_accuracy(scores, labels, k) == pytest.approx(
            top_k_accuracy_score(labels, scores, k=k, labels=range(8)) if k < 8 else 1.0
        )
    assert top_k_accuracy(scores, labels, 1) == accuracy(scores, labels)
    assert top_k_accuracy(scores, labels, 50) == 1
    tied = np.zeros((4, 4))  # the lower number wins, as in argmax
    assert [top_k_accuracy(tied, [0, 1, 2, 3], k) for k in (1, 2, 3)] == [0.25, 0.5, 0.75]
    assert top_k_accuracy(tied, [0, 1, 2, 3], 1) == accuracy(tied, [0, 1, 2, 3])
    assert top_k_accuracy(np.zeros((3, 4)), [0, 0, 1], 1) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="k: found 0"):
        top_k_accuracy(scores, labels, 0)

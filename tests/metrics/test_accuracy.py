from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from braindistill.metrics.accuracy import accuracy, balanced_accuracy, correct

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

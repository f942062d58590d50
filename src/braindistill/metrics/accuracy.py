"""How often a student is right."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def correct(log_probabilities: ArrayLike, labels: ArrayLike) -> NDArray[np.bool_]:
    """Which images are classified correctly (images, bool).

    Parameters
    ----------
    log_probabilities
        images × classes; any monotone score serves (logits, probabilities).
    labels
        Class numbers (images, int in [0, classes)).

    Raises
    ------
    ValueError
        If shapes do not match, a score is NaN (a diverged student), or a label is out of range.
    """
    scores, truth = np.asarray(log_probabilities), np.asarray(labels)
    if scores.ndim != 2 or truth.shape != scores.shape[:1] or not truth.size:
        raise ValueError(f"found scores {scores.shape} and labels {truth.shape}, expected images × classes and images")
    if np.isnan(scores).any():
        raise ValueError("scores: found NaN, expected numbers (the student has diverged)")
    if truth.min() < 0 or truth.max() >= scores.shape[1]:
        raise ValueError(f"labels: found {truth.min()} to {truth.max()}, expected 0 to {scores.shape[1] - 1}")
    return np.equal(scores.argmax(axis=1), truth)


def accuracy(log_probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Share of images classified correctly, in [0, 1]; arguments as in `correct`."""
    return float(correct(log_probabilities, labels).mean())


def balanced_accuracy(log_probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Recall averaged over the classes present in ``labels``, in [0, 1]; arguments as in `correct`."""
    right, (_, members) = correct(log_probabilities, labels), np.unique(np.asarray(labels), return_inverse=True)
    return float(np.mean(np.bincount(members, weights=right) / np.bincount(members)))


def top_k_accuracy(log_probabilities: ArrayLike, labels: ArrayLike, k: int = 5) -> float:
    """Share of images whose true class is among the ``k`` highest scores, in [0, 1].

    Classes that tie with the true one count as better placed when their number is lower, as `correct` breaks ties: with
    ``k`` = 1 it is `accuracy`. With ``k`` at least the number of classes it is 1. Arguments as in `correct`.
    """
    if k < 1:
        raise ValueError(f"k: found {k}, expected at least 1")
    correct(log_probabilities, labels)
    scores, truth = np.asarray(log_probabilities), np.asarray(labels)[:, None]
    own = np.take_along_axis(scores, truth, axis=1)
    ahead = (scores > own) | ((scores == own) & (np.arange(scores.shape[1]) < truth))
    return float((ahead.sum(axis=1) < k).mean())

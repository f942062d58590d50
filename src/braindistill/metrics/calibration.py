"""How far a student's, or a teacher's, probabilities can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from braindistill.metrics.accuracy import correct

Array = NDArray[np.float64]


def check_probabilities(probabilities: ArrayLike) -> Array:
    """Rows as float64, or a ValueError where they are none: logits passed by mistake would give a number, too."""
    rows = np.asarray(probabilities, dtype=np.float64)
    if rows.ndim != 2 or not rows.size or not (rows >= 0).all() or np.abs(rows.sum(axis=1) - 1).max() > 1e-3:
        raise ValueError("expected images × classes whose probabilities are at least 0 and sum to 1 in every row")
    return rows


def _from_logs(log_probabilities: ArrayLike) -> tuple[Array, Array]:
    logs = np.asarray(log_probabilities, dtype=np.float64)
    return logs, check_probabilities(np.exp(np.minimum(logs, 1.0)))


def nll(log_probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean negative log-likelihood of the true class, in nats, ≥ 0 (infinite where a true class has probability 0).

    Parameters
    ----------
    log_probabilities
        images × classes; every row's exponentials sum to 1.
    labels
        Class numbers (images, int in [0, classes)).

    Raises
    ------
    ValueError
        If rows are not log-probabilities, or labels do not match.
    """
    logs, _ = _from_logs(log_probabilities)
    correct(logs, labels)
    return float(-np.take_along_axis(logs, np.asarray(labels)[:, None], axis=1).mean())


def brier(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Brier (1950) score: squared distance to the one-hot truth, summed over classes, mean over images, in [0, 2].

    Parameters
    ----------
    probabilities
        images × classes; every row sums to 1.
    labels
        Class numbers (images, int in [0, classes)).
    """
    table = check_probabilities(probabilities)
    correct(table, labels)
    return float(((table - np.eye(table.shape[1])[np.asarray(labels)]) ** 2).sum(axis=1).mean())


def ece(probabilities: ArrayLike, labels: ArrayLike, n_bins: int = 15) -> float:
    """Expected calibration error of the top class, equal-mass bins: Σ (bin share) · |accuracy − confidence|, in [0, 1].

    Bins are cut at quantiles of confidence (Nguyen & O'Connor 2015); images of equal confidence share a bin, so that
    the order of the images does not matter. Few images with many bins bias it upwards.

    Parameters
    ----------
    probabilities
        images × classes; every row sums to 1.
    labels
        Class numbers (images, int in [0, classes)).
    n_bins
        Number of bins, at least 1.
    """
    curve = reliability_curve(probabilities, labels, n_bins)
    return float(np.sum(curve.share * np.abs(curve.accuracy - curve.confidence)))


@dataclass(frozen=True)
class ReliabilityCurve:
    """Confidence and accuracy of the top class bin by bin, from the least to the most confident bin; all in [0, 1].

    Attributes
    ----------
    confidence : (bins) mean confidence
    accuracy : (bins) share that is right
    share : (bins) of the images; they sum to 1
    """

    confidence: Array
    accuracy: Array
    share: Array


def reliability_curve(probabilities: ArrayLike, labels: ArrayLike, n_bins: int = 15) -> ReliabilityCurve:
    """The reliability curve of the top class over equal-mass bins, whose mean gap is the `ece` of as many bins.

    A calibrated student lies on the diagonal (Niculescu-Mizil & Caruana 2005; Guo et al. 2017). Ties share a bin, so
    there may be fewer bins than asked for; none is empty. Arguments as in `ece`.
    """
    if n_bins < 1:
        raise ValueError(f"n_bins: found {n_bins}, expected at least 1")
    table = check_probabilities(probabilities)
    right, confidence = correct(table, labels), table.max(axis=1)
    edges = np.quantile(confidence, np.arange(1, n_bins) / n_bins)
    _, members = np.unique(np.searchsorted(edges, confidence, side="left"), return_inverse=True)
    counts = np.bincount(members)
    return ReliabilityCurve(
        np.bincount(members, weights=confidence) / counts,
        np.bincount(members, weights=right) / counts,
        counts / len(right),
    )


def entropy(log_probabilities: ArrayLike) -> float:
    """Mean entropy of the rows (images × classes), in nats, from 0 to ln(classes)."""
    logs, table = _from_logs(log_probabilities)
    return float(-np.where(table > 0, table * np.maximum(logs, -1e9), 0.0).sum(axis=1).mean())

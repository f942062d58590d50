"""How closely a student doubts where people doubt."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from braindistill.metrics.calibration import Array, check_probabilities


def human_agreement(log_probabilities: ArrayLike, people: ArrayLike) -> dict[str, float | None]:
    """Agreement with people's distributions over the classes (Peterson et al. 2019, ICCV, "Human uncertainty").

    Parameters
    ----------
    log_probabilities
        images × classes; every row's exponentials sum to 1.
    people
        images × classes: shares of the people who chose each class, every row sums to 1. Counts must be divided first.

    Returns
    -------
    dict
        ``cross_entropy``: mean of −Σ people · log student, in nats, ≥ the people's own entropy (infinite where a class
        that somebody chose has probability 0); ``kl``: the same less that entropy, ≥ 0, 0 for a perfect copy;
        ``entropy_correlation``: Spearman's ρ over images of both entropies, in [−1, 1], None where either is constant;
        ``top1_agreement``: mean over images of the student's top class being people's favourite, in [0, 1]; where m
        classes share people's first place, any one of them agrees by 1/m.
    """
    logs = np.asarray(log_probabilities, dtype=np.float64)
    student, shares = check_probabilities(np.exp(np.minimum(logs, 1.0))), check_probabilities(people)
    if student.shape != shares.shape:
        raise ValueError(f"found a student's {student.shape} and people's {shares.shape}, expected equal shapes")
    with np.errstate(divide="ignore", invalid="ignore"):
        cross = -np.where(shares > 0, shares * logs, 0.0).sum(axis=1)
    student_entropy, human_entropy = _entropies(student), _entropies(shares)
    favourite = shares == shares.max(axis=1, keepdims=True)
    chosen = np.take_along_axis(favourite, student.argmax(axis=1)[:, None], axis=1)[:, 0]
    return {
        "cross_entropy": float(cross.mean()),
        "kl": float(np.mean(cross - human_entropy)),
        "entropy_correlation": _spearman(student_entropy, human_entropy),
        "top1_agreement": float(np.mean(chosen / favourite.sum(axis=1))),
    }


def _entropies(probabilities: Array) -> Array:
    return -np.where(probabilities > 0, probabilities * np.log(np.maximum(probabilities, 1e-300)), 0.0).sum(axis=1)


def _spearman(one: Array, other: Array) -> float | None:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(one, other).statistic)

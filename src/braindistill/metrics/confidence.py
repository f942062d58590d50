"""What a student gets right when it may decline: a threshold on its confidence, chosen on validation images."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from braindistill.metrics.accuracy import correct
from braindistill.metrics.calibration import Array, check_probabilities


def choose_threshold(probabilities_val: ArrayLike, labels_val: ArrayLike, *, coverage_at_least: float = 0.5) -> float:
    """The threshold on the top class's probability with the best precision among what it accepts.

    Every confidence that occurs is tried; images of equal confidence are accepted together, never split. Of thresholds
    with equal precision the lowest is taken: it accepts most. Choose on validation images only: on test images the best
    of many thresholds flatters.

    Parameters
    ----------
    probabilities_val
        images × classes; every row sums to 1.
    labels_val
        Class numbers (images, int in [0, classes)).
    coverage_at_least
        Share of the images that must be accepted, in (0, 1]; without one, a single sure image would win. 1 accepts all.

    Returns
    -------
    float
        In [0, 1]; for `selective`, which accepts a confidence of at least this.
    """
    if not 0 < coverage_at_least <= 1:
        raise ValueError(f"coverage_at_least: found {coverage_at_least}, expected a share in (0, 1]")
    confidence, right = _ranked(probabilities_val, labels_val)
    last = np.flatnonzero(np.append(confidence[1:] != confidence[:-1], True))  # of each block of ties
    accepted = last + 1
    precision = np.cumsum(right)[last] / accepted
    enough = accepted >= coverage_at_least * len(confidence) - 1e-9
    best = np.flatnonzero(enough & (precision == precision[enough].max()))[-1]
    return float(confidence[last[best]])


def selective(
    probabilities: ArrayLike, labels: ArrayLike, threshold: float, groups: ArrayLike | None = None
) -> dict[str, float | None]:
    """Precision, coverage, and severe and mild mistakes among the images whose top class reaches the threshold.

    Parameters
    ----------
    probabilities
        images × classes; every row sums to 1.
    labels
        Class numbers (images, int in [0, classes)).
    threshold
        From `choose_threshold`; a confidence equal to it is accepted.
    groups
        Group of each class (classes): a mistake inside the true class's group is mild, one outside is severe
        (`group_of_class` reads them off a hierarchy). None: ``severe`` and ``mild`` are None.

    Returns
    -------
    dict
        ``coverage``: accepted share of the images; ``precision``, ``severe``, ``mild``: shares of the accepted ones,
        which sum to 1, all None where nothing is accepted.
    """
    table = check_probabilities(probabilities)
    right, predicted, truth = correct(table, labels), table.argmax(axis=1), np.asarray(labels)
    accepted = table.max(axis=1) >= threshold
    found: dict[str, float | None] = {
        "coverage": float(accepted.mean()),
        "precision": float(right[accepted].mean()) if accepted.any() else None,
        "severe": None,
        "mild": None,
    }
    if groups is not None:
        group = np.asarray(groups)
        if group.shape != table.shape[1:]:
            raise ValueError(
                f"groups: found shape {group.shape}, expected one group for each of {table.shape[1]} classes"
            )
        if accepted.any():
            inside = group[predicted] == group[truth]
            found["severe"] = float((~inside)[accepted].mean())
            found["mild"] = float((inside & ~right)[accepted].mean())
    return found


def risk_coverage_curve(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Array, Array]:
    """Coverage and risk (share of mistakes among the accepted) as images are accepted from the most confident on.

    Returns
    -------
    coverage, risk
        (images) each: coverage is 1/n, 2/n … 1. Inside a block of equal confidence the order is unknown, so the risk is
        what a random order would give on average: errors are spread evenly over the block.
    """
    confidence, right = _ranked(probabilities, labels)
    block = np.cumsum(np.append(0, confidence[1:] != confidence[:-1]))
    errors = (np.bincount(block, weights=~right) / np.bincount(block))[block]
    count = np.arange(1, len(right) + 1)
    return count / len(right), np.cumsum(errors) / count


def aurc(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Area under the risk–coverage curve: the mean risk over all coverages, in [0, 1], less is better.

    Geifman, Uziel & El-Yaniv (2018). It rewards accuracy as well as knowing one's mistakes: with equal confidences it
    is the error rate. Ties as in `risk_coverage_curve`.

    Parameters
    ----------
    probabilities
        images × classes; every row sums to 1.
    labels
        Class numbers (images, int in [0, classes)).
    """
    return float(risk_coverage_curve(probabilities, labels)[1].mean())


def _ranked(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
    """Confidence of the top class from highest to lowest, and which of these images are right."""
    table = check_probabilities(probabilities)
    right, confidence = correct(table, labels), table.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    return confidence[order], right[order]

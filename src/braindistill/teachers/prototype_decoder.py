"""Decoder by correlation with the mean pattern of each class (Haxby et al. 2001)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from braindistill.teachers.calibration import calibrate, log_softmax
from braindistill.teachers.inner_split import inner_groups
from braindistill.teachers.linear_continuation import check_start
from braindistill.teachers.linear_decoder import FLOOR, column_scale


@dataclass
class PrototypeDecoder:
    """Log-softmax of β · Pearson's r between a z-scored pattern and the z-scored mean pattern of each class.

    Attributes
    ----------
    mean, scale : (voxels) of the training trials; ``scale`` is infinite for a constant voxel
    means : (classes × voxels) mean responses
    counts : (classes) trials in them; a class without any gets the floor
    beta : what a correlation of 1 is worth as a logit
    """

    mean: np.ndarray
    scale: np.ndarray
    means: np.ndarray
    counts: np.ndarray
    beta: float

    def predict(self, responses: np.ndarray) -> np.ndarray:
        """Responses (trials × voxels) → log-probabilities float32 (trials × classes)."""
        known = np.flatnonzero(self.counts)
        correlations = _unit(self._patterns(responses)) @ _unit(self._patterns(self.means[known])).T
        logits = np.full((len(responses), len(self.counts)), FLOOR)
        logits[:, known] = self.beta * (correlations - correlations.mean(1, keepdims=True))
        return log_softmax(logits)

    def _patterns(self, responses: np.ndarray) -> np.ndarray:
        """z-scored (up to a factor), less each row's mean; constant voxels are left out."""
        varying = np.isfinite(self.scale)
        rows = (responses[:, varying] - self.mean[varying]) / self.scale[varying]
        return rows - rows.mean(1, keepdims=True)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"mean": self.mean, "scale": self.scale, "means": self.means, "counts": self.counts}

    def describe(self) -> dict[str, Any]:
        return {"kind": "prototype", "beta": self.beta}


def fit_prototypes(
    responses: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    groups: np.ndarray | None = None,
    together: bool = False,
    start: PrototypeDecoder | None = None,
) -> PrototypeDecoder:
    """Average the trials of each class, and choose β on correlations with means that leave a trial's own group out.

    With ``start``, means and deviations are those of old and new trials together; β is chosen on the new ones. The
    parameters are those of `fit_decoder_model`.
    """
    mean, scale = column_scale(responses, together)
    sums = np.zeros((n_classes, responses.shape[1]))
    np.add.at(sums, labels, responses)
    counts = np.bincount(labels, minlength=n_classes)
    if start is not None:
        check_start(start.means.shape[::-1], sums.shape[::-1])
        joined = _joined(start, mean, scale, len(labels))
        mean, scale = (joined[0], scale) if together else joined
        sums += start.counts[:, None] * start.means
        counts = counts + start.counts
    model = PrototypeDecoder(mean, scale, sums / np.maximum(counts, 1)[:, None], counts, 1.0)
    known = np.flatnonzero(counts)
    place = np.searchsorted(known, labels)
    totals = model._patterns(model.means[known]) * counts[known, None]
    correlations = _left_out(model._patterns(responses), place, totals, counts[known], inner_groups(labels, groups))
    # under noise, correlations vary by 1 / √voxels: in that unit their temperature is within reach of `calibrate`
    model.beta = float(np.sqrt(np.isfinite(scale).sum()))
    scored = np.isfinite(correlations).all(1)
    if scored.any():
        model.beta /= calibrate(model.beta * correlations[scored], place[scored])
    return model


def _left_out(
    patterns: np.ndarray, place: np.ndarray, totals: np.ndarray, counts: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """Correlations (trials × classes) with class means without the trial's group; NaN where nothing is left of a class.

    From dot products alone: those of the patterns (trials × voxels) with the classes' sums (classes × voxels) and with
    the other patterns of their group. Rows of both have zero mean.
    """
    dots = patterns @ totals.T
    squares = (totals**2).sum(1)
    found = np.empty(dots.shape)
    for number in np.unique(groups):
        rows = np.flatnonzero(groups == number)
        mine = np.eye(len(counts))[place[rows]]
        gram = patterns[rows] @ patterns[rows].T
        within = gram @ mine  # of each pattern with the group's own part of a class
        lengths = squares - 2 * (mine * dots[rows]).sum(0) + (mine * within).sum(0)
        lengths = np.where(counts > mine.sum(0), np.maximum(lengths, 1e-300), np.nan)
        norms = np.sqrt(np.maximum(np.diag(gram), 1e-300))
        found[rows] = (dots[rows] - within) / (norms[:, None] * np.sqrt(lengths))
    return found


def _joined(start: PrototypeDecoder, mean: np.ndarray, scale: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale of old and new trials together."""
    share = n / (n + start.counts.sum())
    both = (1 - share) * start.mean + share * mean
    finite = [np.where(np.isfinite(part), part, 0) ** 2 for part in (start.scale, scale)]
    moved = len(mean) * share * (1 - share) * (start.mean - mean) ** 2
    joined = np.sqrt((1 - share) * finite[0] + share * finite[1] + moved)
    return both, np.where(joined > 1e-6 * np.sqrt(len(mean)) * np.abs(both), joined, np.inf)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)

"""Linear decoders: shrinkage discriminant analysis, logistic regression and ridge regression onto the classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from braindistill.errors import UserError
from braindistill.teachers.calibration import calibrate, log_softmax
from braindistill.teachers.inner_split import inner_groups

LINEAR = ("lda", "logistic", "ridge")
#: log-probability given to a class that a decoder never saw
FLOOR = -12.0
#: penalties that ridge chooses from, in units of the inputs' mean squared singular value
PENALTIES = np.logspace(-4, 4, 17)


@dataclass
class LinearDecoder:
    """A fitted linear decoder: ``log_softmax(responses @ weights + bias)``.

    Attributes
    ----------
    weights : (voxels × classes) float32, of raw responses (z-scoring is folded in)
    bias : (classes); a class without training trials has zero weights and a bias that floors it
    counts : (classes) trials that each class was fitted on
    means : of ``lda``: (classes × voxels) float32 mean responses, which a later fit goes on from
    description : ``kind``; of ``ridge`` also the ``penalty``, and ``unit``: what a logit is worth in one-hot units
    """

    weights: np.ndarray
    bias: np.ndarray
    counts: np.ndarray | None = None
    means: np.ndarray | None = None
    description: dict[str, Any] = field(default_factory=lambda: {"kind": "linear"})

    def predict(self, responses: np.ndarray) -> np.ndarray:
        """Responses (trials × voxels) → log-probabilities float32 (trials × classes)."""
        return log_softmax(responses @ self.weights + self.bias)

    def arrays(self) -> dict[str, np.ndarray]:
        found = {"weights": self.weights, "bias": self.bias, "counts": self.counts, "means": self.means}
        return {name: value for name, value in found.items() if value is not None}

    def describe(self) -> dict[str, Any]:
        return self.description


class Scaled(NamedTuple):
    """Trials brought to one scale, and to the span of their rows where that has fewer dimensions than there are voxels.

    Attributes
    ----------
    rows : (trials × width)
    rotation : (width × voxels) orthonormal, or None where ``rows`` are voxels
    mean, scale : (voxels) ``rows @ rotation = (responses − mean) / scale``
    """

    rows: np.ndarray
    rotation: np.ndarray | None
    mean: np.ndarray
    scale: np.ndarray

    def raw(self, slopes: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Slopes (classes × width) and offsets → those of raw responses (classes × voxels)."""
        whole = slopes if self.rotation is None else slopes @ self.rotation
        return whole / self.scale, offsets - (whole / self.scale) @ self.mean


def fit_linear_decoder(
    kind: str,
    responses: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    penalty: float,
    groups: np.ndarray | None = None,
    together: bool = False,
) -> LinearDecoder:
    """Fit ``lda``, ``logistic`` or ``ridge``; the parameters are those of `fit_decoder_model`."""
    trials = scaled(responses, together, rotate=kind == "ridge")
    present, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    description: dict[str, Any] = {"kind": kind}
    means = None
    if kind == "lda":
        centres = np.stack([trials.rows[place == k].mean(0) for k in range(len(present))])
        slopes, offsets = discriminants(trials.rows - centres[place], centres, counts, responses.shape[1])
        means = np.zeros((n_classes, responses.shape[1]), np.float32)
        means[present] = [responses[place == k].mean(0, dtype=np.float64) for k in range(len(present))]
    elif kind == "logistic":
        if penalty <= 0:
            raise UserError(f"teacher.penalty={penalty:g}: expected more than 0")
        slopes, offsets = _logistic(trials.rows, labels, penalty)
    else:
        found = ridge(trials.rows, np.eye(len(present))[place], inner_groups(labels, groups))
        unit = calibrated_unit(found.left_out, place)
        slopes, offsets = found.slopes / unit, found.offsets / unit
        description |= {"penalty": found.penalty, "unit": unit}
    if len(present) < n_classes:
        # the softmax does not mind, and the floor of the classes that are absent is a floor wherever logits lie
        slopes, offsets = slopes - slopes.mean(0), offsets - offsets.mean()
    weights = np.zeros((responses.shape[1], n_classes), np.float32)
    bias = np.full(n_classes, FLOOR, np.float32)
    slopes, bias[present] = trials.raw(slopes, offsets)
    weights[:, present] = slopes.T
    return LinearDecoder(weights, bias, np.bincount(labels, minlength=n_classes), means, description)


def column_scale(responses: np.ndarray, together: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each column, and what to divide it by: its deviation (infinite if constant) times √columns.

    ``together``: the same number for each, so that total variance is as it would be.
    """
    mean = responses.mean(0, dtype=np.float64)
    deviation = responses.std(0, dtype=np.float64)
    if together:
        return mean, np.full_like(deviation, np.sqrt((deviation**2).sum()) or np.inf)
    # a constant voxel's deviation is rounding error, whatever the unit
    return mean, np.where(deviation > 1e-6 * np.abs(mean), deviation, np.inf) * np.sqrt(responses.shape[1])


def scaled(responses: np.ndarray, together: bool, rotate: bool, also: np.ndarray | None = None) -> Scaled:
    """Scale trials, and rotate them where there are more voxels than trials, or ``rotate`` (then along principal axes).

    ``also`` : (rows × voxels) further raw rows that are scaled likewise and follow the trials
    """
    mean, scale = column_scale(responses, together)
    inputs = (np.concatenate([responses, also]) if also is not None else responses) - mean
    inputs = inputs / scale
    if not rotate and inputs.shape[1] <= inputs.shape[0]:
        return Scaled(inputs, None, mean, scale)
    left, values, rotation = np.linalg.svd(inputs, full_matrices=False)
    return Scaled(left * values, rotation, mean, scale)


def _logistic(inputs: np.ndarray, labels: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Slopes (classes × columns) and offsets (classes) of the classes that occur, in sorted order."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1 / penalty, max_iter=1000, tol=1e-5).fit(inputs, labels)
    slopes, offsets = model.coef_, model.intercept_
    if len(slopes) == 1:  # scikit-learn keeps one row for two classes: the second's log-odds
        slopes, offsets = np.concatenate([-slopes, slopes]) / 2, np.concatenate([-offsets, offsets]) / 2
    return slopes, offsets


def discriminants(
    residuals: np.ndarray, centres: np.ndarray, counts: np.ndarray, n_voxels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Slopes (classes × columns) and offsets (classes) of shrinkage discriminant analysis.

    The shrinkage is that of all ``n_voxels`` columns, though the residuals (trials × columns) may hold their row space
    only: their Gram matrix has all that it needs.
    """
    n, width = residuals.shape
    squares = (residuals**2).sum(1)
    spread = squares.sum() / (n * n_voxels)  # mean variance of a voxel: the identity's multiple
    gram = residuals @ residuals.T if n < width else residuals.T @ residuals
    # Ledoit & Wolf (2004), lemma 3.2: distance of the covariance from its target, and how much of it is sampling error
    power = (gram**2).sum() / n**2
    distance = power - n_voxels * spread**2
    error = min(((squares**2).sum() / n - power) / n, distance)
    shrinkage = float(np.clip(error / distance, 0, 1)) if distance > 0 else 1.0
    covariance = (1 - shrinkage) * (residuals.T @ residuals) / n
    # one trial a class leaves no residuals: then every direction counts alike (nearest mean)
    covariance[np.diag_indices(width)] += max(shrinkage * spread, 1e-9 * spread) if spread > 0 else 1 / n_voxels
    slopes = np.linalg.solve(covariance, centres.T).T
    return slopes, np.log(counts / counts.sum()) - (slopes * centres).sum(1) / 2


class OneHotRidge(NamedTuple):
    """Ridge regression onto one-hot classes: slopes (classes × columns), offsets (classes), the penalty that was chosen,
    and the predictions (trials × classes) for each trial from fits without its group."""

    slopes: np.ndarray
    offsets: np.ndarray
    penalty: float
    left_out: np.ndarray


def ridge(axes: np.ndarray, targets: np.ndarray, groups: np.ndarray) -> OneHotRidge:
    """Ridge regression with the penalty that predicts left-out groups best (squared error), in closed form.

    A fit on all trials but those of group g errs by (1 − H_gg)⁻¹ r_g, where r are the residuals of the fit on all and
    H is its hat matrix (as in generalised cross-validation, Golub et al. 1979).

    Parameters
    ----------
    axes : (trials × width) orthogonal columns of zero mean: principal components
    targets : (trials × classes)
    groups : (trials) numbers of the groups that are left out, one after the other
    """
    n = len(axes)
    squares = (axes**2).sum(0)
    held = squares > 1e-12 * squares.sum()
    left = axes[:, held] / np.sqrt(squares[held])
    centre = targets.mean(0)
    along = left.T @ (targets - centre)
    members = [np.flatnonzero(groups == number) for number in np.unique(groups)]
    best: tuple[float, float, np.ndarray] | None = None
    for penalty in PENALTIES * squares[held].mean():
        kept = squares[held] / (squares[held] + penalty)
        residuals = targets - centre - left @ (kept[:, None] * along)
        if len(members) == n:
            errors = residuals / (1 - 1 / n - left**2 @ kept)[:, None]
        else:
            errors = np.empty_like(residuals)
            for rows in members:
                hat = (left[rows] * kept) @ left[rows].T + 1 / n
                errors[rows] = np.linalg.solve(np.eye(len(rows)) - hat, residuals[rows])
        loss = float((errors**2).mean())
        if best is None or loss < best[0]:
            best = loss, float(penalty), targets - errors
    assert best is not None
    slopes = np.zeros((targets.shape[1], axes.shape[1]))
    slopes[:, held] = (np.sqrt(squares[held]) / (squares[held] + best[1]))[None] * along.T
    return OneHotRidge(slopes, centre, best[1], best[2])


def calibrated_unit(left_out: np.ndarray, place: np.ndarray) -> float:
    """How much of a one-hot score makes a logit, by the likelihood of scores (trials × classes) that were left out."""
    spread = float((left_out - left_out.mean(1, keepdims=True)).std()) or 1.0
    return spread * calibrate(left_out / spread, place)

"""Decoder: voxels → class log-probabilities, linear: shrinkage discriminant analysis or logistic regression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from braindistill.errors import UserError, nearest

DECODERS = ("lda", "logistic")
#: log-probability given to a class that a fold's decoder never saw
_FLOOR = -12.0


@dataclass
class LinearDecoder:
    """A fitted linear decoder: ``log_softmax(responses @ weights + bias)``.

    Attributes
    ----------
    weights : (voxels × classes) float32, of raw responses (z-scoring is folded in)
    bias : (classes); a class without training trials has zero weights and a bias that floors it
    """

    weights: np.ndarray
    bias: np.ndarray

    def predict(self, responses: np.ndarray) -> np.ndarray:
        """Responses (trials × voxels) → log-probabilities float32 (trials × classes)."""
        return log_softmax(responses @ self.weights + self.bias)


def fit_decoder_model(
    kind: str, responses: np.ndarray, labels: np.ndarray, n_classes: int, penalty: float, *, together: bool = False
) -> LinearDecoder:
    """Fit the decoder named ``kind``.

    ``lda`` is linear discriminant analysis with the pooled within-class covariance shrunk towards a multiple of the
    identity by Ledoit and Wolf's (2004) analytic amount, as Blankertz et al. (2011) recommend for few trials and many
    channels. ``logistic`` is multinomial logistic regression with an L2 penalty.

    Parameters
    ----------
    kind : ``lda`` or ``logistic``
    responses : (trials × voxels)
    labels : (trials) class indices
    penalty : of ``logistic``: L2, on voxels that were z-scored and divided by √n_voxels (so that it suits any number)
    together : scale all columns by one number, to the same total variance, instead of z-scoring each. Voxels have no
        common unit; pixels have, and z-scoring would blow up those that hardly ever change

    Raises
    ------
    UserError
        Unknown decoder; fewer than two classes among the labels.
    """
    if kind not in DECODERS:
        raise UserError(f"teacher.decoder={kind}: no such decoder; {nearest(kind, DECODERS)}")
    present = np.unique(labels)
    if len(present) < 2:
        raise UserError(
            "the decoder needs trials of at least two classes to be fitted on; give more labels (images.n_train)"
        )
    mean = responses.mean(0, dtype=np.float64)
    deviation = responses.std(0, dtype=np.float64)
    if together:
        scale = np.full_like(deviation, np.sqrt((deviation**2).sum()) or np.inf)
    else:
        # a constant voxel's deviation is rounding error, whatever the unit
        scale = np.where(deviation > 1e-6 * np.abs(mean), deviation, np.inf) * np.sqrt(responses.shape[1])
    inputs = (responses - mean) / scale
    # both models live in the span of their rows: solve there, in n_trials dimensions instead of n_voxels
    rotation = None
    if inputs.shape[1] > inputs.shape[0]:
        left, values, rotation = np.linalg.svd(inputs, full_matrices=False)
        inputs = left * values
    if kind == "lda":
        slopes, offsets = _discriminants(inputs, labels, responses.shape[1])
    else:
        slopes, offsets = _logistic(inputs, labels, penalty)
    if rotation is not None:
        slopes = slopes @ rotation
    weights = np.zeros((responses.shape[1], n_classes), np.float32)
    bias = np.full(n_classes, _FLOOR, np.float32)
    weights[:, present] = (slopes / scale).T
    bias[present] = offsets - (slopes / scale) @ mean
    return LinearDecoder(weights, bias)


def _logistic(inputs: np.ndarray, labels: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Slopes (classes × columns) and offsets (classes) of the classes that occur, in sorted order."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1 / penalty, max_iter=1000, tol=1e-5).fit(inputs, labels)
    slopes, offsets = model.coef_, model.intercept_
    if len(slopes) == 1:  # scikit-learn keeps one row for two classes: the second's log-odds
        slopes, offsets = np.concatenate([-slopes, slopes]) / 2, np.concatenate([-offsets, offsets]) / 2
    return slopes, offsets


def _discriminants(inputs: np.ndarray, labels: np.ndarray, n_voxels: int) -> tuple[np.ndarray, np.ndarray]:
    """As `_logistic`, by shrinkage discriminant analysis.

    The shrinkage is that of all ``n_voxels`` columns, though ``inputs`` may hold their row space only: the residuals'
    Gram matrix has all that it needs.
    """
    present, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    means = np.stack([inputs[place == k].mean(0) for k in range(len(present))])
    residuals = inputs - means[place]
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
    slopes = np.linalg.solve(covariance, means.T).T
    return slopes, np.log(counts / n) - (slopes * means).sum(1) / 2


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Row-wise log-softmax, float32."""
    shifted = logits - logits.max(1, keepdims=True)
    return (shifted - np.log(np.exp(shifted).sum(1, keepdims=True))).astype(np.float32)


def calibrate(log_probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that minimises the negative log-likelihood of held-out rows (Guo et al. 2017), in [0.05, 1000].

    Labels are smoothed by the weight of one row, lest a handful of right answers be taken for certainty (as in Platt 1999).
    """
    from scipy.optimize import minimize_scalar

    n = len(labels)

    def nll(log_temperature: float) -> float:
        rows = log_softmax(log_probabilities / np.exp(log_temperature))
        return -float(n * rows[np.arange(n), labels].mean() + rows.mean()) / (n + 1)

    found = minimize_scalar(nll, bounds=(np.log(0.05), np.log(1000)), method="bounded")
    return float(np.exp(found.x))

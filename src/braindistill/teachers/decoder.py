"""Decoder: voxels → class log-probabilities, by multinomial logistic regression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from braindistill.errors import UserError, nearest

DECODERS = ("logistic",)
#: log-probability given to a class that a fold's decoder never saw
_FLOOR = -12.0


@dataclass
class Logistic:
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
) -> Logistic:
    """Fit the decoder named ``kind``.

    Parameters
    ----------
    responses : (trials × voxels)
    labels : (trials) class indices
    penalty : L2 penalty on voxels that were z-scored and divided by √n_voxels (so that it suits any number of voxels)
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
    from sklearn.linear_model import LogisticRegression

    mean = responses.mean(0, dtype=np.float64)
    deviation = responses.std(0, dtype=np.float64)
    if together:
        scale = np.full_like(deviation, np.sqrt((deviation**2).sum()) or np.inf)
    else:
        # a constant voxel's deviation is rounding error, whatever the unit
        scale = np.where(deviation > 1e-6 * np.abs(mean), deviation, np.inf) * np.sqrt(responses.shape[1])
    inputs = (responses - mean) / scale
    # an L2-penalised linear model lives in the span of its rows: solve there, in n_trials dimensions instead of n_voxels
    rotation = None
    if inputs.shape[1] > inputs.shape[0]:
        left, values, rotation = np.linalg.svd(inputs, full_matrices=False)
        inputs = left * values
    model = LogisticRegression(C=1 / penalty, max_iter=1000, tol=1e-5).fit(inputs, labels)
    slopes, offsets = model.coef_, model.intercept_
    if len(present) == 2:  # scikit-learn keeps one row for two classes: the second's log-odds
        slopes, offsets = np.concatenate([-slopes, slopes]) / 2, np.concatenate([-offsets, offsets]) / 2
    if rotation is not None:
        slopes = slopes @ rotation
    weights = np.zeros((responses.shape[1], n_classes), np.float32)
    bias = np.full(n_classes, _FLOOR, np.float32)
    weights[:, present] = (slopes / scale).T
    bias[present] = offsets - (slopes / scale) @ mean
    return Logistic(weights, bias)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Row-wise log-softmax, float32."""
    shifted = logits - logits.max(1, keepdims=True)
    return (shifted - np.log(np.exp(shifted).sum(1, keepdims=True))).astype(np.float32)


def calibrate(log_probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that minimises the negative log-likelihood of held-out rows (Guo et al. 2017), in [0.05, 20].

    Labels are smoothed by the weight of one row, lest a handful of right answers be taken for certainty (as in Platt 1999).
    """
    from scipy.optimize import minimize_scalar

    n = len(labels)

    def nll(log_temperature: float) -> float:
        rows = log_softmax(log_probabilities / np.exp(log_temperature))
        return -float(n * rows[np.arange(n), labels].mean() + rows.mean()) / (n + 1)

    found = minimize_scalar(nll, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return float(np.exp(found.x))

"""A linear decoder goes on learning from new trials, of another session say, of the same voxels."""

from __future__ import annotations

from typing import Any

import numpy as np

from braindistill.errors import UserError
from braindistill.teachers.inner_split import inner_groups
from braindistill.teachers.linear_decoder import (
    FLOOR,
    LinearDecoder,
    calibrated_unit,
    discriminants,
    ridge,
    scaled,
)


def continue_linear_decoder(
    start: LinearDecoder,
    responses: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    penalty: float,
    groups: np.ndarray | None = None,
    together: bool = False,
) -> LinearDecoder:
    """Fit ``start`` further; the other parameters are those of `fit_decoder_model`.

    ``logistic`` and ``ridge`` penalise the distance from the older weights instead of that from zero; ``lda`` pools the
    class means of old and new trials by their numbers, under the covariance of the new ones. Classes without new trials
    stay as they were.

    Raises
    ------
    UserError
        The older decoder reads another number of voxels, or tells other classes apart.
    """
    check_start(start.weights.shape, (responses.shape[1], n_classes))
    assert start.counts is not None
    seen = start.counts > 0
    counts = start.counts + np.bincount(labels, minlength=len(seen))
    if start.description["kind"] == "lda":
        return _pooled(start, responses, labels, counts, together)
    present, place = np.unique(labels, return_inverse=True)
    before = np.where(seen[present], responses @ start.weights[:, present] + start.bias[present], 0)
    description = dict(start.description)
    unit, older = 1.0, 1.0
    if start.description["kind"] == "ridge":
        trials = scaled(responses, together, rotate=True)
        older = start.description["unit"]
        found = ridge(trials.rows, np.eye(len(present))[place] - before * older, inner_groups(labels, groups))
        unit = calibrated_unit(before * older + found.left_out, place)
        slopes, offsets = found.slopes, found.offsets
        description |= {"penalty": found.penalty, "unit": unit}
    else:
        trials = scaled(responses, together, rotate=False)
        gone = np.flatnonzero(seen & (counts == start.counts))
        others = responses @ start.weights[:, gone] + start.bias[gone]
        slopes, offsets = _logistic_from(before, others, trials.rows, place, penalty)
    changes, shifts = trials.raw(slopes, offsets)
    weights = start.weights * (older / unit)
    bias = np.where(seen, start.bias, 0) * (older / unit)
    weights[:, present] += changes.T / unit
    bias[present] += shifts / unit
    return _floored(weights, bias, counts, None, description)


def check_start(older: tuple[int, ...], newer: tuple[int, ...]) -> None:
    """Refuse an older decoder of another (voxels, classes)."""
    if older[0] != newer[0]:
        raise UserError(
            f"teacher.init_from: the older decoder reads {older[0]} voxels, these data have {newer[0]}: only "
            "teacher.decoder=resnet1d can go on with other voxels"
        )
    if older[1] != newer[1]:
        raise UserError(
            f"teacher.init_from: the older decoder tells {older[1]} classes apart, the new labels have {newer[1]}; "
            "give the same classes"
        )


def _pooled(
    start: LinearDecoder, responses: np.ndarray, labels: np.ndarray, counts: np.ndarray, together: bool
) -> LinearDecoder:
    assert start.means is not None
    assert start.counts is not None
    new = np.bincount(labels, minlength=len(counts))
    sums = np.zeros(start.means.shape)
    np.add.at(sums, labels, responses)
    means = (start.counts[:, None] * start.means + sums) / np.maximum(counts, 1)[:, None]
    known = np.flatnonzero(counts)
    # both kinds of rows are wanted in one row space: the trials, and the means that they are told apart by
    trials = scaled(responses, together, rotate=False, also=means[known])
    rows, centres = trials.rows[: len(labels)], trials.rows[len(labels) :]
    own = np.zeros((len(counts), rows.shape[1]))
    np.add.at(own, labels, rows)
    residuals = rows - (own / np.maximum(new, 1)[:, None])[labels]
    slopes, offsets = trials.raw(*discriminants(residuals, centres, counts[known], responses.shape[1]))
    weights, bias = np.zeros(start.weights.shape), np.zeros(len(counts))
    weights[:, known], bias[known] = slopes.T, offsets
    return _floored(weights, bias, counts, means.astype(np.float32), start.description)


def _logistic_from(
    before: np.ndarray, others: np.ndarray, inputs: np.ndarray, place: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """What to add to the logits ``before`` (trials × classes): slopes (classes × columns) and offsets (classes).

    The logits of ``others`` (trials × classes without trials) take part and are not changed. Offsets have a mean of
    zero, or they would rise until those classes were forgotten.
    """
    from scipy.optimize import minimize

    n_classes, width = before.shape[1], inputs.shape[1]
    wanted = np.eye(n_classes)[place]
    design = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)

    def split(flat: np.ndarray) -> np.ndarray:
        added = flat.reshape(n_classes, width + 1).copy()
        added[:, -1] -= added[:, -1].mean()
        return added

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        added = split(flat)
        logits = np.concatenate([before + design @ added.T, others], axis=1)
        shifted = logits - logits.max(1, keepdims=True)
        rows = (shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))[:, :n_classes]
        slope = (np.exp(rows) - wanted).T @ design
        slope[:, :-1] += penalty * added[:, :-1]
        slope[:, -1] -= slope[:, -1].mean()
        return float(penalty / 2 * (added[:, :-1] ** 2).sum() - rows[wanted > 0].sum()), slope.ravel()

    options = {"maxiter": 1000, "gtol": 1e-6, "ftol": 1e-12}
    found = minimize(loss, np.zeros(n_classes * (width + 1)), jac=True, method="L-BFGS-B", options=options)
    added = split(found.x)
    return added[:, :-1], added[:, -1]


def _floored(
    weights: np.ndarray, bias: np.ndarray, counts: np.ndarray, means: np.ndarray | None, description: dict[str, Any]
) -> LinearDecoder:
    """As `fit_linear_decoder` leaves them: known classes about zero, so that the others' floor is one."""
    known = counts > 0
    if not known.all():
        weights[:, known] -= weights[:, known].mean(1, keepdims=True)
        bias = np.where(known, bias - bias[known].mean(), FLOOR)
    return LinearDecoder(weights.astype(np.float32), bias.astype(np.float32), counts, means, description)

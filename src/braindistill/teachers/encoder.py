"""Encoder: image features → voxels, by ridge regression with cross-validated penalties for each voxel."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from braindistill.errors import UserError
from braindistill.teachers.penalties import RidgeProblem, choose_penalties
from braindistill.teachers.stimulus_features import StimulusFeatures, band_columns, column_blocks

if TYPE_CHECKING:
    from torch import Tensor

#: columns of features that are looked at in one go
_COLUMNS = 4096
#: numbers in a temporary array (64 MB)
_BLOCK = 2**24


@dataclass
class Ridge:
    """A fitted encoder in the form that is smaller: slopes, or weights of the stimuli it was fitted on.

    Attributes
    ----------
    mean : (features) what features are shifted by, from the stimuli it was fitted on
    intercept : (voxels) mean response to them
    coefficients : (features × voxels) slopes of the features as they are, or, with ``rows``, the dual (rows × voxels)
    alphas : (voxels) penalty of each voxel, on features whose total variance is 1
    mixture : (bands × voxels) share of each band, a column's sum is 1: its penalty is ``alphas / mixture``
    scale : (bands) square root of the total variance of each band
    widths : (bands) how many features it has
    rows : the stimuli of the dual form, empty in the other
    support : (stimuli × features) of the dual form, shared by all folds and not part of `arrays`; None in the other
    """

    mean: np.ndarray
    intercept: np.ndarray
    coefficients: np.ndarray
    alphas: np.ndarray
    mixture: np.ndarray
    scale: np.ndarray
    widths: np.ndarray
    rows: np.ndarray
    support: np.ndarray | None = None

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Features (images × features) → predicted responses float32 (images × voxels)."""
        if self.support is None:
            answer = np.ascontiguousarray(inputs - self.mean, np.float32) @ self.coefficients
        else:
            similar = self._similarities(inputs)
            answer = np.empty((len(inputs), len(self.intercept)), np.float32)
            for voxels in column_blocks(slice(0, len(self.intercept)), max(1, _BLOCK // similar[0].shape[1])):
                answer[:, voxels] = similar[0] @ (self.coefficients[:, voxels] * self.mixture[0, voxels])
                for band in range(1, len(similar)):
                    answer[:, voxels] += similar[band] @ (self.coefficients[:, voxels] * self.mixture[band, voxels])
        answer += self.intercept
        return answer

    def respond(self, inputs: Tensor) -> Tensor:
        """The deviation from the intercept that features (images × features) are answered with, differentiable."""
        import torch

        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.require(array, np.float32, ["C", "W"])).to(inputs.device)

        centred = inputs - tensor(self.mean)
        if self.support is None:
            return centred @ tensor(self.coefficients)
        answer = inputs.new_zeros(len(inputs), len(self.intercept))
        for band, columns in enumerate(self._columns()):
            weights = tensor(self.coefficients * (self.mixture[band] / self.scale[band] ** 2))
            answer = answer + centred[:, columns] @ tensor(self._centred(columns)).T @ weights
        return answer

    def compose(self, weights: np.ndarray, bias: np.ndarray) -> Ridge:
        """What follows linearly from the responses, as one step from the features: slopes (features × outputs).

        Parameters
        ----------
        weights : (voxels × outputs), e.g. of a linear decoder, or a column that averages the voxels of an ROI
        bias : (outputs)

        Returns
        -------
        a Ridge whose voxels are the outputs: ``predict`` gives ``self.predict(inputs) @ weights + bias``. Its penalties and
        mixture are empty
        """
        weights = np.asarray(weights, np.float32)
        if self.support is None:
            slopes = self.coefficients @ weights
        else:
            slopes = np.empty((len(self.mean), weights.shape[1]), np.float32)
            for band, columns in enumerate(self._columns()):
                dual = self.coefficients @ (self.mixture[band, :, None] / self.scale[band] ** 2 * weights)
                for block in column_blocks(columns, _COLUMNS):
                    slopes[block] = self._centred(block).T @ dual
        nothing = np.empty(0, np.float32)
        return Ridge(
            self.mean,
            (self.intercept @ weights + bias).astype(np.float32),
            slopes,
            nothing,
            nothing.reshape(len(self.scale), 0),
            self.scale,
            self.widths,
            np.empty(0, np.int64),
        )

    def columns(self, index: np.ndarray) -> Ridge:
        """Restricted to some voxels (bool mask or indices)."""
        return dataclasses.replace(
            self,
            intercept=self.intercept[index],
            coefficients=self.coefficients[:, index],
            alphas=self.alphas[index],
            mixture=self.mixture[:, index],
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything but the support: what `load_ridge` takes."""
        return {name: value for name, value in vars(self).items() if name != "support"}

    def describe(self) -> dict[str, Any]:
        """What it is, for JSON."""
        return {
            "kind": "ridge",
            "form": "primal" if self.support is None else "dual",
            "bands": self.widths.tolist(),
            "alpha_median": float(np.median(self.alphas)) if len(self.alphas) else None,
        }

    def _columns(self) -> Iterator[slice]:
        return band_columns([("", int(width)) for width in self.widths])

    def _centred(self, columns: slice) -> np.ndarray:
        assert self.support is not None
        return self.support[self.rows, columns] - self.mean[columns]

    def _similarities(self, inputs: np.ndarray) -> list[np.ndarray]:
        """For each band the inner products of new features with those it was fitted on (images × rows)."""
        found = []
        for scale, columns in zip(self.scale, self._columns(), strict=True):
            total = np.zeros((len(inputs), len(self.rows)), np.float32)
            for block in column_blocks(columns, _COLUMNS):
                total += np.asarray(inputs[:, block] - self.mean[block], np.float32) @ self._centred(block).T
            total /= scale**2
            found.append(total)
        return found


def load_ridge(arrays: dict[str, np.ndarray], support: np.ndarray | None) -> Ridge:
    """A ridge of its `Ridge.arrays`, and of the features (stimuli × features) of the stimuli, which the dual form needs."""
    whole = {name: np.asarray(arrays[name], np.int64) for name in ("rows", "widths")}
    return Ridge(**{**arrays, **whole}, support=support if len(whole["rows"]) else None)


def fit_ridge(
    stimuli: StimulusFeatures,
    rows: np.ndarray,
    responses: np.ndarray,
    *,
    banded: bool = False,
    n_folds: int = 5,
    device: str = "cpu",
    start: Ridge | None = None,
) -> Ridge:
    """Fit one ridge regression a voxel, its penalty chosen by inner cross-validation; ``banded``: and one a layer.

    The primal form where there are fewer features than stimuli, else the kernel form: the same solution at the cost of
    the smaller of the two Gram matrices (Saunders 1998). Penalties are chosen by himalaya (Dupré la Tour et al. 2022), in
    banded ridge by its random search over mixtures of the bands.

    Parameters
    ----------
    stimuli : features of all stimuli, whose Gram matrix is shared by all fits
    rows : (n) the stimuli to fit on
    responses : (n × voxels) theirs
    banded : each band is scaled to a total variance of 1 and has its own penalty; else all are scaled by one number
    n_folds : inner folds that choose the penalties; fewer where there are fewer stimuli
    device : ``cuda`` solves on the GPU
    start : an older encoder, of the same features and voxels, to continue from: what it leaves unexplained is fitted, so
        that weights shrink towards its own. The result is in the primal form

    Raises
    ------
    UserError
        Fewer than two stimuli; an older encoder of other features or voxels.
    """
    if len(rows) < 2:
        raise UserError(
            f"the encoder needs at least 2 stimuli to be fitted on, and there are {len(rows)}: take fewer folds"
        )
    if start is not None and (len(start.mean), len(start.intercept)) != (stimuli.values.shape[1], responses.shape[1]):
        raise UserError(
            f"the encoder to continue from reads {len(start.mean)} features and answers for {len(start.intercept)} voxels; "
            f"here there are {stimuli.values.shape[1]} and {responses.shape[1]}: take the same features and ROI"
        )
    rows = np.asarray(rows, np.int64)
    if start is not None:
        responses = responses - start.predict(stimuli.values[rows])
    problem = RidgeProblem.of(stimuli, rows, banded)
    intercept = responses.mean(0, dtype=np.float64).astype(np.float32)
    targets = np.asarray(responses - intercept, np.float32)
    alphas, mixture, coefficients = choose_penalties(problem, targets, n_folds, device)
    scale, widths = problem.scale, problem.widths
    if problem.dual:
        fitted = Ridge(problem.mean, intercept, coefficients, alphas, mixture, scale, widths, rows, stimuli.values)
    else:
        coefficients /= np.repeat(scale, widths)[:, None]
        fitted = Ridge(problem.mean, intercept, coefficients, alphas, mixture, scale, widths, np.empty(0, np.int64))
    return fitted if start is None else _add(fitted, start)


def _add(fitted: Ridge, start: Ridge) -> Ridge:
    """The sum of two encoders, in the primal form, with the penalties of the first."""
    everything, nothing = np.eye(len(fitted.intercept), dtype=np.float32), np.zeros(1, np.float32)
    new, old = (part if part.support is None else part.compose(everything, nothing) for part in (fitted, start))
    intercept = new.intercept + old.intercept + (new.mean - old.mean) @ old.coefficients
    total = new.coefficients + old.coefficients
    return dataclasses.replace(
        new, intercept=intercept, coefficients=total, alphas=fitted.alphas, mixture=fitted.mixture
    )


def correlate(predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Pearson r per voxel between (stimuli × voxels) arrays; 0 where either is constant."""
    p, m = predicted - predicted.mean(0), measured - measured.mean(0)
    norm = np.linalg.norm(p, axis=0) * np.linalg.norm(m, axis=0)
    return np.where(norm > 0, (p * m).sum(0) / np.where(norm > 0, norm, 1), 0)


def explained_variance(predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """R² per voxel, 1 − SS_residual / SS_total, of (stimuli × voxels) arrays; at most 1, and unbounded below.

    0 where the measured responses are constant: there is no variance to explain.
    """
    total = ((measured - measured.mean(0)) ** 2).sum(0, dtype=np.float64)
    left = ((measured - predicted) ** 2).sum(0, dtype=np.float64)
    return np.where(total > 0, 1 - left / np.where(total > 0, total, 1), 0)

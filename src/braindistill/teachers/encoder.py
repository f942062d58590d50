"""Encoder: image features → voxels, by ridge regression with a cross-validated penalty per voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from braindistill.errors import UserError
from braindistill.runtime import numpy_generator

#: penalties tried, times the number of stimuli, on features scaled to a total variance of 1: a grid for any size and unit
ALPHAS = np.logspace(-5, 0, 11)
_TARGETS_AT_ONCE = 5000


@dataclass
class Ridge:
    """A fitted encoder in the form that is smaller.

    Attributes
    ----------
    mean, scale : (features) and (1): what features are shifted and divided by, from the stimuli it was fitted on
    intercept : (voxels)
    coefficients : (features × voxels), or, with ``support``, the dual (stimuli × voxels)
    support : (stimuli × features) scaled features of the dual form, or empty (0 × features)
    alphas : (voxels) penalty chosen for each voxel
    """

    mean: np.ndarray
    scale: np.ndarray
    intercept: np.ndarray
    coefficients: np.ndarray
    support: np.ndarray
    alphas: np.ndarray

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Features (images × features) → predicted responses float32 (images × voxels)."""
        inputs = (features - self.mean) / self.scale
        if len(self.support):
            inputs = inputs @ self.support.T
        return inputs @ self.coefficients + self.intercept


def fit_ridge(features: np.ndarray, responses: np.ndarray, n_folds: int = 5) -> Ridge:
    """Fit one ridge regression a voxel, its penalty chosen by inner cross-validation.

    The primal form where there are fewer features than stimuli, else the kernel form: the same solution at the cost of
    the smaller of the two Gram matrices (Saunders 1998). Solved by himalaya (Dupré la Tour et al. 2022).

    Parameters
    ----------
    features : (stimuli × features)
    responses : (stimuli × voxels)
    n_folds : inner folds that choose the penalty; fewer where there are fewer stimuli

    Raises
    ------
    UserError
        Fewer than two stimuli.
    """
    from himalaya.kernel_ridge import KernelRidgeCV
    from himalaya.ridge import RidgeCV

    n, width = features.shape
    if n < 2:
        raise UserError(f"the encoder needs at least 2 stimuli to be fitted on, and there are {n}: take fewer folds")
    # inner folds are cut in order, and stimuli often come sorted by class
    order = numpy_generator(0, "inner folds").permutation(n)
    features, responses = features[order], responses[order]
    mean = features.mean(0)
    # one scale for all: z-scoring would blow up pixels that hardly ever change
    spread = float(np.sqrt(features.var(0, dtype=np.float64).sum()))
    scale = np.array([spread or 1.0], np.float32)
    inputs = ((features - mean) / scale).astype(np.float32)
    intercept = responses.mean(0)
    targets = (responses - intercept).astype(np.float32)
    folds = max(2, min(n_folds, n))
    common = {"alphas": ALPHAS * n, "cv": folds}
    if width <= n:
        model = RidgeCV(fit_intercept=False, solver_params=_solver(targets), **common)
        coefficients = model.fit(inputs, targets).coef_
        support = np.empty((0, width), np.float32)
    else:
        model = KernelRidgeCV(kernel="linear", solver_params=_solver(targets), **common)
        coefficients = model.fit(inputs, targets).dual_coef_
        support = inputs
    alphas = np.asarray(model.best_alphas_, np.float32)
    return Ridge(mean, scale, intercept, np.asarray(coefficients, np.float32), support, alphas)


def _solver(targets: np.ndarray) -> dict[str, int | None]:
    return {"n_targets_batch": _TARGETS_AT_ONCE if targets.shape[1] > _TARGETS_AT_ONCE else None}


def correlate(predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Pearson r per voxel between (stimuli × voxels) arrays; 0 where either is constant."""
    p, m = predicted - predicted.mean(0), measured - measured.mean(0)
    norm = np.linalg.norm(p, axis=0) * np.linalg.norm(m, axis=0)
    return np.where(norm > 0, (p * m).sum(0) / np.where(norm > 0, norm, 1), 0)

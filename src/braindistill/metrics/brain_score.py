"""How well a network's features predict measured responses: out-of-fold ridge regression, against the noise ceiling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

#: penalties tried, times the number of training rows, on features scaled to a total variance of 1
ALPHAS = tuple(np.logspace(-5, 1, 13).tolist())
#: numbers in a temporary array
_BLOCK = 2**23


@dataclass(frozen=True)
class BrainScore:
    """Scores of every voxel.

    Attributes
    ----------
    r : (voxels) Pearson correlation of measured and out-of-fold predicted responses, in [−1, 1]
    r2 : (voxels) 1 − squared error / variance, at most 1; negative where the voxel's mean would predict better
    ceiling_r : (voxels) the best r that a perfect model could reach: √reliability; NaN where unknown or negative
    normalised_r : (voxels) r / ceiling_r, never clipped (it exceeds 1 by chance); NaN where reliability is under the floor
    penalty : (folds × voxels) the penalty chosen, out of ``alphas``
    """

    r: Array
    r2: Array
    ceiling_r: Array
    normalised_r: Array
    penalty: Array

    def summary(self) -> dict[str, float | int | None]:
        """Medians over voxels, with units in the names; None without a ceiling or without voxels above the floor."""
        above = np.isfinite(self.normalised_r)
        return {
            "r_median": float(np.median(self.r)),
            "r2_median": float(np.median(self.r2)),
            "r_normalised_median": float(np.median(self.normalised_r[above])) if above.any() else None,
            "n_voxels": self.r.size,
            "n_voxels_above_floor": int(above.sum()),
        }


def brain_score(
    features: ArrayLike,
    responses: ArrayLike,
    folds: ArrayLike,
    reliability: ArrayLike | None = None,
    *,
    floor_r2: float = 0.05,
    alphas: Sequence[float] = ALPHAS,
) -> BrainScore:
    """Predict each fold's responses by ridge regression on the others (Schrimpf et al. 2018; Naselaris et al. 2011).

    Features and responses are centred on the training rows, and features scaled by one number to a total variance of 1.
    Each voxel's penalty is the one of least leave-one-out error *inside the training rows*, exact and with the intercept
    refitted, from one decomposition of the Gram matrix (rows or features, whichever are fewer; Golub, Heath & Wahba
    1979). r is pooled over folds, without each fold's intercept: a fold's mean lies opposite to the mean of the rows that
    are held out, which would pull the r of a voxel that nothing predicts below zero. R² is with the intercept. Such a voxel
    still leans to about −1 / √images with a scatter of that size, as k-fold predictions do whose slopes are noise: the r
    to beat is that of an untrained network, or of pixels, rather than 0.

    Parameters
    ----------
    features
        images × features, float: of a layer of the network, an image's own.
    responses
        images × voxels, float, mean over each image's repeats.
    folds
        Which fold holds an image out (images), at least 2 different ones. Images that are not independent (of one
        category, run or film) belong in one fold.
    reliability
        (voxels) share of the responses' variance that repeats, i.e. the ceiling of R²: `noise_ceiling` or `split_half`.
        Its root is the ceiling of r: an r is never divided by an R² ceiling. None: no ceiling.
    floor_r2
        Voxels whose reliability is lower are left out of ``normalised_r``: a ratio to almost nothing says nothing.
    alphas
        Penalties to choose from, each times the number of training rows.
    """
    x, y, fold = np.asarray(features), np.asarray(responses), np.asarray(folds)
    if x.ndim != 2 or y.ndim != 2 or not len(x) == len(y) == fold.size or fold.ndim != 1:
        raise ValueError(
            f"found features {x.shape}, responses {y.shape}, folds {fold.shape}; expected equally many rows"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("features, responses: found NaN or infinity, expected finite numbers")
    if floor_r2 <= 0:
        raise ValueError(f"floor_r2: found {floor_r2}, expected a positive reliability")
    names, sizes = np.unique(fold, return_counts=True)
    if len(names) < 2 or len(x) - sizes.max() < 3:
        raise ValueError(
            f"folds: found sizes {sizes.tolist()}, expected at least 2 folds that leave 3 rows to train on"
        )
    deviation, intercept = np.empty(y.shape), np.empty(y.shape)
    penalty = np.empty((len(names), y.shape[1]))
    for k, name in enumerate(names):
        held = fold == name
        intercept[held] = y[~held].mean(axis=0, dtype=np.float64)
        deviation[held], penalty[k] = _predict(x[~held], y[~held], x[held], np.asarray(alphas, dtype=np.float64))
    spread = ((y - y.mean(axis=0, dtype=np.float64)) ** 2).sum(axis=0)
    error = ((y - deviation - intercept) ** 2).sum(axis=0)
    r2 = 1 - np.divide(error, spread, out=np.ones_like(spread), where=spread > 0)
    r = _correlate(deviation, y)
    ceiling = np.full(y.shape[1], np.nan)
    if reliability is not None:
        share = np.asarray(reliability, dtype=np.float64)
        if share.shape != ceiling.shape:
            raise ValueError(
                f"reliability: found shape {share.shape}, expected one number for each of {ceiling.size} voxels"
            )
        ceiling = np.sqrt(np.where(share >= 0, share, np.nan))
        usable = np.where(share >= floor_r2, ceiling, np.nan)
        return BrainScore(r, r2, ceiling, r / usable, penalty)
    return BrainScore(r, r2, ceiling, np.full_like(r, np.nan), penalty)


def _predict(x: NDArray, y: NDArray, x_held: NDArray, alphas: Array) -> tuple[Array, Array]:
    """Held rows' predicted deviations from the training mean (rows × voxels), and the penalty of each voxel."""
    left, values, held = _basis(x, x_held)
    centred = y - y.mean(axis=0, dtype=np.float64)
    n = len(y)
    gains = values / (values + alphas[:, None] * n)  # penalties × components
    # the part of the hat matrix's diagonal that is no longer one row's own after leaving it out
    stays = 1 - 1 / n - gains @ (left**2).T  # penalties × rows
    out, chosen = np.empty((len(x_held), y.shape[1])), np.empty(y.shape[1])
    for start in range(0, y.shape[1], step := max(1, _BLOCK // n)):
        voxels = slice(start, start + step)
        rotated = left.T @ centred[:, voxels]
        errors = np.stack(
            [
                (((centred[:, voxels] - left @ (gain[:, None] * rotated)) / keep[:, None]) ** 2).sum(axis=0)
                for gain, keep in zip(gains, stays, strict=True)
            ]
        )
        best = errors.argmin(axis=0)
        chosen[voxels] = alphas[best]
        out[:, voxels] = held @ (gains[best].T * rotated)
    return out, chosen


def _basis(x: NDArray, x_held: NDArray) -> tuple[Array, Array, Array]:
    """Thin SVD of the scaled features: left vectors (rows × k), squared singular values (k), and the held rows in the
    same coordinates (held × k)."""
    mean = x.mean(axis=0, dtype=np.float64)
    train, held = x - mean, x_held - mean
    total = float(np.sum(train**2)) / len(x)
    if total <= 1e-12 * float(np.sum(mean**2)) or total == 0:  # constant but for rounding
        return np.zeros((len(x), 1)), np.zeros(1), np.zeros((len(x_held), 1))
    train /= np.sqrt(total)
    held /= np.sqrt(total)
    tall = train.shape[0] > train.shape[1]
    values, vectors = np.linalg.eigh(train.T @ train if tall else train @ train.T)
    kept = values > 1e-10 * values[-1]
    values, vectors = values[kept], vectors[:, kept]
    if tall:
        return train @ vectors / np.sqrt(values), values, held @ vectors / np.sqrt(values)
    return vectors, values, held @ (train.T @ vectors) / values


def _correlate(first: Array, second: NDArray) -> Array:
    """Pearson correlation of matching columns; 0 where one is constant."""
    one, other = first - first.mean(axis=0), second - second.mean(axis=0, dtype=np.float64)
    scale = np.sqrt((one**2).sum(axis=0) * (other**2).sum(axis=0))
    return np.divide((one * other).sum(axis=0), scale, out=np.zeros_like(scale), where=scale > 0)

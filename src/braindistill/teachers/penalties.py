"""The penalties of ridge regressions: one a voxel, or one a voxel and band, chosen by himalaya on inner folds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from braindistill.runtime import numpy_generator
from braindistill.teachers.stimulus_features import StimulusFeatures, band_columns, column_blocks

#: penalties tried, times the number of stimuli, on features scaled to a total variance of 1: a grid for any size and unit
ALPHAS = np.logspace(-5, 0, 11)
#: mixtures of bands that banded ridge tries beside the pure and the even ones, times the number of bands
_MIXTURES = 8
#: the least share of a band: at 0 the solver of the primal form would divide by it
_LEAST = 1e-4
#: numbers in a temporary array (16 MB): larger ones are slower, too
_BLOCK = 2**22


@dataclass
class RidgeProblem:
    """A ridge regression's inputs, each band scaled to a total variance of 1 (or all by one number, as one band).

    Attributes
    ----------
    dual : kernels are inner products of stimuli; else parts are features
    parts : for each band (n × n) centred kernel, or (n × features) centred features
    mean, scale, widths : as in `Ridge`
    """

    dual: bool
    parts: list[np.ndarray]
    mean: np.ndarray
    scale: np.ndarray
    widths: np.ndarray

    @classmethod
    def of(cls, stimuli: StimulusFeatures, rows: np.ndarray, banded: bool) -> RidgeProblem:
        """Of some rows of the stimuli; the kernel form where there are more features than rows."""
        values = stimuli.values
        bands = stimuli.bands if banded else [("features", values.shape[1])]
        mean = np.empty(values.shape[1], np.float32)
        for block in column_blocks(slice(0, len(mean)), max(1, _BLOCK // len(rows))):
            mean[block] = values[rows, block].mean(0, dtype=np.float64)
        dual = values.shape[1] > len(rows)
        parts, variance = [], []
        for band, columns in enumerate(band_columns(bands)):
            if not dual:
                parts.append(values[rows, columns] - mean[columns])
                variance.append(np.square(parts[-1]).sum(dtype=np.float64) / len(rows))
                continue
            if stimuli.gram is None:
                centred = values[rows, columns] - mean[columns]
                kernel = centred @ centred.T
            else:
                chosen = stimuli.gram[band : band + 1] if banded else stimuli.gram
                kernel = _centre(sum(gram[np.ix_(rows, rows)] for gram in chosen))
            parts.append(kernel)
            variance.append(np.trace(kernel, dtype=np.float64) / len(rows))
        # a band that is constant but for rounding explains nothing, at any scale
        least = [1e-12 * np.square(mean[columns], dtype=np.float64).sum() for columns in band_columns(bands)]
        scale = np.sqrt([found if found > few else 1.0 for found, few in zip(variance, least, strict=True)])
        for part, size in zip(parts, scale, strict=True):
            part /= size**2 if dual else size
        return cls(dual, parts, mean, scale.astype(np.float32), np.array([width for _, width in bands], np.int64))


def choose_penalties(
    problem: RidgeProblem, targets: np.ndarray, n_folds: int, device: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Choose each voxel's penalties, and solve with them.

    Parameters
    ----------
    targets : (n × voxels) float32, centred
    n_folds : inner folds

    Returns
    -------
    alphas : (voxels) float32
    mixture : (bands × voxels) float32, a column's sum is 1
    coefficients : dual (n × voxels), to be multiplied by a band's mixture, or slopes (features × voxels) with it in them
    """
    from himalaya.kernel_ridge import solve_multiple_kernel_ridge_random_search
    from himalaya.ridge import solve_group_ridge_random_search

    n, folds = len(targets), max(2, min(n_folds, len(targets)))
    held = -(-n // folds)
    width = held if problem.dual else sum(part.shape[1] for part in problem.parts)
    with _himalaya_on(device) as backend:
        parts = [backend.asarray(part, dtype="float32") for part in problem.parts]
        responses = backend.asarray(targets, dtype="float32")
        mixtures = _mixtures(len(parts))
        common: dict[str, Any] = {
            "n_iter": mixtures,
            "alphas": backend.asarray(ALPHAS * n, dtype="float32"),
            "cv": _inner_folds(n, folds),
            "n_targets_batch": max(1, _BLOCK // (len(ALPHAS) * held)),
            "n_alphas_batch": min(len(ALPHAS), max(1, 4 * _BLOCK // (width * n))),
            "progress_bar": False,
        }
        if problem.dual:
            deltas = solve_multiple_kernel_ridge_random_search(backend.stack(parts), responses, **common)[0]
        else:
            deltas = solve_group_ridge_random_search(parts, responses, warn=False, **common)[0]
        shares = np.exp(backend.to_numpy(deltas))  # mixture / alpha, up to rounding
        total = shares.sum(0)
        kind = (2 * mixtures @ (shares / total) - np.square(mixtures).sum(1)[:, None]).argmax(0)  # the nearest one
        alphas = (n * ALPHAS[np.abs(np.log(n * total) + np.log(ALPHAS)[:, None]).argmin(0)]).astype(np.float32)
        return alphas, mixtures[kind].T.copy(), _solve(backend, problem.dual, parts, responses, alphas, mixtures, kind)


def _solve(
    backend: Any,
    dual: bool,
    parts: list[Any],
    responses: Any,
    alphas: np.ndarray,
    mixtures: np.ndarray,
    kind: np.ndarray,
) -> np.ndarray:
    """Ridge on all stimuli at the chosen penalties, by one decomposition for each mixture that some voxel chose.

    himalaya refits at every penalty and keeps one a voxel, which takes as long as choosing it did.
    """
    n, voxels = responses.shape
    solved = np.empty((n if dual else sum(part.shape[1] for part in parts), voxels), np.float32)
    for taken in np.unique(kind):
        shares = mixtures[taken].tolist()
        if dual:
            values, left = backend.eigh(sum(share * part for share, part in zip(shares, parts, strict=True)))
            values, right, before = backend.to_numpy(values).clip(0), left.T, np.ones((1, 1), np.float32)
        else:
            roots = np.repeat(np.sqrt(shares), [part.shape[1] for part in parts]).astype(np.float32)
            whole = backend.concatenate([share**0.5 * part for share, part in zip(shares, parts, strict=True)], 1)
            basis, values, left = backend.svd(whole, full_matrices=False)
            values, left, right, before = backend.to_numpy(values), left.T, basis.T, roots[:, None]
        chosen = np.flatnonzero(kind == taken)
        for block in column_blocks(slice(0, len(chosen)), max(1, _BLOCK // n)):
            some = chosen[block]
            gain = (
                1 / (values[:, None] + alphas[some])
                if dual
                else values[:, None] / (values[:, None] ** 2 + alphas[some])
            )
            rotated = backend.matmul(right, responses[:, some])
            answer = backend.matmul(left, rotated * backend.asarray(gain, dtype="float32"))
            solved[:, some] = before * backend.to_numpy(answer)
    return solved


def _mixtures(bands: int) -> np.ndarray:
    """Shares of the bands that are tried (mixtures × bands): even, pure, and Dirichlet draws between the two."""
    if bands == 1:
        return np.ones((1, 1), np.float32)
    rng = numpy_generator(0, "band mixtures", bands)
    drawn = [rng.dirichlet(np.full(bands, width), _MIXTURES * bands // 2) for width in (0.3, 1.0)]
    mixtures = np.concatenate([np.full((1, bands), 1 / bands), np.eye(bands), *drawn]).clip(_LEAST)
    return (mixtures / mixtures.sum(1, keepdims=True)).astype(np.float32)


def _inner_folds(n: int, folds: int) -> Any:
    """Folds of shuffled stimuli, since they often come sorted by class; the same for every fit of as many."""
    from sklearn.model_selection import PredefinedSplit

    of_row = np.empty(n, int)
    for fold, members in enumerate(np.array_split(numpy_generator(0, "inner folds").permutation(n), folds)):
        of_row[members] = fold
    return PredefinedSplit(of_row)


def _centre(kernel: Any) -> np.ndarray:
    """Inner products of features less their mean over these rows, from those of features less any constant."""
    mean = kernel.mean(0, dtype=np.float64)
    kernel -= mean.astype(np.float32)
    kernel -= (mean - mean.mean()).astype(np.float32)[:, None]
    return kernel


@contextlib.contextmanager
def _himalaya_on(device: str) -> Iterator[Any]:
    """himalaya's backend is global: choose the device's, and put the old one back."""
    from himalaya.backend import get_backend, set_backend

    before = get_backend()
    try:
        if not device.startswith("cuda"):
            yield set_backend("numpy")
            return
        import torch

        with torch.cuda.device(device):
            yield set_backend("torch_cuda")
    finally:
        set_backend(before)

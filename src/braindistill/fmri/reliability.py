"""How much of a voxel's response repeats when the stimulus does: the ceiling of what any model could explain.

A reliability and a ceiling in R² units are two names of one number; the ceiling of a correlation is its square root.
Single trials yield None everywhere, never a number. Every estimate looks at a block of the data at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from braindistill.runtime import numpy_generator

BLOCK = 2**20  # numbers of single-trial data looked at in one go by the estimates that read trial after trial
COLUMNS = 2**23  # and by the one that reads voxel after voxel


def noise_ceiling(
    responses: np.ndarray, stimulus_id: np.ndarray, trials: np.ndarray | None = None
) -> np.ndarray | None:
    """Noise ceiling of each voxel from repeated stimuli (NSD; Allen et al. 2022, Nature Neuroscience 25, Methods).

    For N trials of S stimuli, the i-th shown n_i times:

    - noise variance σ²ₙ: squared deviations from the stimulus's mean, over Σ(n_i − 1), stimuli with n_i ≥ 2;
    - signal variance σ²ₛ = max(0, (v − σ²ₙ) · (N − 1) / (N − Σn_i² / N)), v the variance (N − 1) of all trials.
      The factor makes v − σ²ₙ unbiased: trials of one stimulus share their signal (Allen et al. leave it at 1);
    - ncsnr = σₛ / σₙ and NC = ncsnr² / (ncsnr² + mean over stimuli of 1 / n_i).

    Parameters
    ----------
    responses : (trials, voxels) float
    stimulus_id : (trials,) str
    trials : indices of the trials to take; None takes all.

    Returns
    -------
    (voxels,) float64 in R² units (0 to 1) of the mean over a stimulus's repeats: the ceiling of a correlation is its
    square root. None where no stimulus is repeated: single trials yield no ceiling. A constant voxel has 0.
    """
    found = _variances(responses, stimulus_id, trials)
    if found is None:
        return None
    signal, noise, inverse = found
    return _share(np.maximum(0.0, signal), noise * inverse)


def ncsnr(responses: np.ndarray, stimulus_id: np.ndarray) -> np.ndarray | None:
    """Noise-ceiling signal-to-noise ratio σₛ / σₙ of a single trial, see `noise_ceiling` (Allen et al. 2022).

    Returns
    -------
    (voxels,) float64, 0 or more, infinite for a voxel without noise; None where no stimulus is repeated.
    """
    found = _variances(responses, stimulus_id)
    if found is None:
        return None
    signal, noise = np.maximum(0.0, found[0]), found[1]
    infinite = np.where(signal > 0, np.inf, 0.0)
    return np.sqrt(np.divide(signal, noise, out=infinite, where=noise > 0))


def explainable_variance(responses: np.ndarray, stimulus_id: np.ndarray) -> np.ndarray | None:
    """Share of a single trial's variance that the stimulus explains, corrected for the bias of few repeats.

    σ²ₛ / (σ²ₛ + σ²ₙ) with the unbiased variances of `noise_ceiling`. With n repeats of each stimulus this is the
    signal power (n · var(mean) − mean(var)) / (n − 1) over the total power mean(var) (Sahani & Linden 2003, NIPS 15,
    eq. 1; Schoppe et al. 2016, Frontiers in Computational Neuroscience 10:10), in other words the uncorrected
    EV = var(mean) / mean(var) less (1 − EV) / (n − 1) (Hsu, Borst & Theunissen 2004, Network 15).

    Returns
    -------
    (voxels,) float64, at most 1 and negative by chance, so that an average is unbiased; 0 for a constant voxel.
    None where no stimulus is repeated.
    """
    found = _variances(responses, stimulus_id)
    return None if found is None else _share(found[0], found[1])


def split_half(
    responses: np.ndarray,
    stimulus_id: np.ndarray,
    trials: np.ndarray | None = None,
    *,
    n_splits: int = 100,
    seed: int = 0,
) -> np.ndarray | None:
    """Split-half reliability of each voxel, corrected to the full number of repeats (Spearman 1910; Brown 1910).

    Each split halves the trials of every repeated stimulus at random (one more in the second half where odd), averages
    each half, correlates the halves over stimuli (r), and corrects: k r / (1 + (k − 1) r), where k is how much more
    noise a half has than the mean of all repeats: 2 for even numbers of repeats, slightly more where some are odd (mean
    over stimuli of the halves' 1 / n, over that of 1 / n). The median over splits is returned.

    Returns
    -------
    (voxels,) float64 in R² units, at most 1 and negative by chance; 0 for a constant voxel. None with fewer than
    three repeated stimuli, over which no correlation means anything.
    """
    chosen = np.arange(len(responses)) if trials is None else np.asarray(trials)
    _, inverse, counts = np.unique(stimulus_id[chosen], return_inverse=True, return_counts=True)
    used = np.flatnonzero(counts[inverse] >= 2)
    stimuli = np.unique(inverse[used], return_inverse=True)[1]
    if len(np.unique(stimuli)) < 3:
        return None
    sizes = np.bincount(stimuli)
    factor = np.mean((1 / (sizes // 2) + 1 / (sizes - sizes // 2)) / 2) / np.mean(1 / sizes)
    generator = numpy_generator(seed, "split_half")
    splits = [_halves(stimuli, generator) for _ in range(n_splits)]
    voxels = responses.shape[1]
    reliability = np.empty(voxels)
    for start in range(0, voxels, step := max(1, COLUMNS // (len(used) + n_splits))):
        values = np.asarray(responses[:, start : start + step])[chosen[used]].astype(np.float64)
        values -= values.mean(axis=0)
        r = np.stack([_correlate(first @ values, second @ values) for first, second in splits])
        r = np.maximum(r, (-1 + 1e-9) / (factor - 1))
        reliability[start : start + step] = np.median(factor * r / (1 + (factor - 1) * r), axis=0)
    return reliability


def _variances(
    responses: np.ndarray, stimulus_id: np.ndarray, trials: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Unbiased signal and noise variance of each voxel, and the mean over stimuli of 1 / repeats.

    One pass over the rows, in an order that brings the trials of a stimulus together.
    """
    chosen = np.arange(len(responses)) if trials is None else np.asarray(trials)
    _, inverse, counts = np.unique(stimulus_id[chosen], return_inverse=True, return_counts=True)
    if counts.max(initial=0) < 2 or len(counts) < 2:
        return None
    order = chosen[np.argsort(inverse, kind="stable")]
    shift = np.array(responses[order[0]])  # close to the mean, and exact for a constant voxel
    total, squares, within = np.zeros((3, len(shift)))
    for stimuli, rows in _stimulus_blocks(counts, len(shift)):
        values = responses[order[rows]] - shift
        total += values.sum(axis=0)
        squares += np.einsum("ij,ij->j", values, values)
        sizes = counts[stimuli]
        if sizes.max() > 1:
            means = np.add.reduceat(values, np.cumsum(sizes) - sizes, axis=0) / sizes[:, None].astype(values.dtype)
            values -= np.repeat(means, sizes, axis=0)
            within += np.einsum("ij,ij->j", values, values)
    count = len(order)
    variance = np.maximum(0.0, squares - total**2 / count) / (count - 1)
    noise = within / (counts - 1).sum()
    spread = (count - 1) / (count - (counts**2).sum() / count)
    return (variance - noise) * spread, noise, float(np.mean(1 / counts))


def _stimulus_blocks(counts: np.ndarray, voxels: int) -> Iterator[tuple[slice, slice]]:
    """Slices of whole stimuli, and of their trials, of about BLOCK numbers and 512 trials (so float32 sums are exact)."""
    ends = np.cumsum(counts)
    start, row = 0, 0
    while start < len(counts):
        stop = max(start + 1, int(np.searchsorted(ends, row + min(512, max(1, BLOCK // voxels)), side="right")))
        yield slice(start, stop), slice(row, int(ends[stop - 1]))
        start, row = stop, int(ends[stop - 1])


def _share(part: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """part / (part + rest), 0 where both are."""
    whole = part + rest
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)


def _halves(stimuli: np.ndarray, generator: np.random.Generator) -> tuple:
    """Two sparse (stimuli, trials) matrices; each averages one random half of every stimulus's trials."""
    from scipy.sparse import csr_array

    order = np.lexsort((generator.random(len(stimuli)), stimuli))
    counts = np.bincount(stimuli)
    place = np.arange(len(stimuli)) - np.repeat(np.cumsum(counts) - counts, counts)
    first = place < (counts // 2)[stimuli[order]]
    halves = []
    for trials, size in ((order[first], counts // 2), (order[~first], counts - counts // 2)):
        rows = stimuli[trials]
        halves.append(csr_array((1 / size[rows], (rows, trials)), shape=(len(counts), len(stimuli))))
    return tuple(halves)


def _correlate(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pearson correlation of matching columns; 0 where one is constant."""
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    scale = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
    return np.divide((first * second).sum(axis=0), scale, out=np.zeros_like(scale), where=scale > 0)

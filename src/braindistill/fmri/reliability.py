"""How much of a voxel's response repeats when the stimulus does: the ceiling of what any model could explain."""

from __future__ import annotations

import numpy as np

from braindistill.runtime import numpy_generator

BLOCK = 2**23  # numbers of single-trial data held as float64 in one go


def noise_ceiling(responses: np.ndarray, stimulus_id: np.ndarray) -> np.ndarray | None:
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

    Returns
    -------
    (voxels,) float64 in R² units (0 to 1) of the mean over a stimulus's repeats: the ceiling of a correlation is its
    square root. None where no stimulus is repeated: single trials yield no ceiling. A constant voxel has 0.
    """
    order, starts, counts = _by_stimulus(stimulus_id)
    trials, voxels = responses.shape
    if counts.max(initial=0) < 2 or len(counts) < 2:
        return None
    spread = (trials - 1) / (trials - (counts**2).sum() / trials)
    ceiling = np.empty(voxels)
    for start in range(0, voxels, step := max(1, BLOCK // trials)):
        values = np.asarray(responses[:, start : start + step])[order].astype(np.float64)
        values -= values.mean(axis=0)
        total = (values**2).sum(axis=0) / (trials - 1)
        values -= np.repeat(np.add.reduceat(values, starts, axis=0) / counts[:, None], counts, axis=0)
        noise = (values**2).sum(axis=0) / (counts - 1).sum()
        signal = np.maximum(0.0, (total - noise) * spread)
        scale = signal + noise * np.mean(1 / counts)  # NC with both of its parts multiplied by σ²ₙ, which may be 0
        ceiling[start : start + step] = np.divide(signal, scale, out=np.zeros_like(signal), where=scale > 0)
    return ceiling


def split_half(
    responses: np.ndarray, stimulus_id: np.ndarray, *, n_splits: int = 100, seed: int = 0
) -> np.ndarray | None:
    """Split-half reliability of each voxel, corrected to the full number of repeats (Spearman 1910; Brown 1910).

    Each split halves the trials of every repeated stimulus at random (one more in the second half where odd), averages
    each half, correlates the halves over stimuli (r), and corrects: 2r / (1 + r). The median over splits is returned.

    Returns
    -------
    (voxels,) float64 in R² units, at most 1 and negative by chance; 0 for a constant voxel. None with fewer than
    three repeated stimuli, over which no correlation means anything.
    """
    _, inverse, counts = np.unique(stimulus_id, return_inverse=True, return_counts=True)
    used = np.flatnonzero(counts[inverse] >= 2)
    stimuli = np.unique(inverse[used], return_inverse=True)[1]
    if len(np.unique(stimuli)) < 3:
        return None
    generator = numpy_generator(seed, "split_half")
    splits = [_halves(stimuli, generator) for _ in range(n_splits)]
    voxels = responses.shape[1]
    reliability = np.empty(voxels)
    for start in range(0, voxels, step := max(1, BLOCK // (len(used) + n_splits))):
        values = np.asarray(responses[:, start : start + step])[used].astype(np.float64)
        values -= values.mean(axis=0)
        r = np.stack([_correlate(first @ values, second @ values) for first, second in splits])
        r = np.maximum(r, -1 + 1e-9)
        reliability[start : start + step] = np.median(2 * r / (1 + r), axis=0)
    return reliability


def _by_stimulus(stimulus_id: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Trials in an order that groups the stimuli, where each group starts, and its size."""
    _, inverse, counts = np.unique(stimulus_id, return_inverse=True, return_counts=True)
    return np.argsort(inverse, kind="stable"), np.cumsum(counts) - counts, counts


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

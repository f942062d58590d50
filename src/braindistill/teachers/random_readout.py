"""The control ``random_readout``: voxels replaced by random linear readouts of the features that the encoder reads."""

from __future__ import annotations

import dataclasses

import numpy as np

from braindistill.errors import UserError
from braindistill.fmri.reliability import noise_ceiling
from braindistill.fmri.responses import Responses
from braindistill.runtime import numpy_generator, say, warn
from braindistill.teachers.folds import stimuli_of
from braindistill.teachers.stimulus_features import StimulusFeatures

#: largest relative error of an eigenvalue at which the matching ends; eigenvalues below this share of the largest don't count
_TOLERANCE, _SMALLEST = 0.005, 1e-5
_MOST_ROUNDS = 400
#: measured residuals that a trial's noise is a sum of
_MIXED = 4


def random_readout(responses: Responses, stimuli: StimulusFeatures, seed: int) -> Responses:
    """Replace every voxel by a random linear readout of the stimuli's features, as noisy as the voxel was.

    Rules out that the features alone carry what the voxels are said to carry. Same trials, stimuli, runs and masks. With
    A the measured mean patterns (stimuli × voxels, each voxel's mean removed) and A′ = S + N those of the control, S being
    the readouts, S = F·W for features F, and N the noise that is left in the mean over repeats, these are equal:

    - the eigenvalues of A′A′ᵀ and of AAᵀ, within 1 % (those above 10⁻⁵ of the largest): by W, drawn as Gaussian and then
      re-coloured among voxels. Features narrower than the voxels' patterns can't reach it: warned about, with the error;
    - each voxel's mean, its variance over stimuli (the diagonals of A′ᵀA′ and AᵀA), and its residual variance across
      repeats; hence, with equal repeats, its estimated noise ceiling;
    - the share of S in each voxel's variance over stimuli: the noise ceiling of the measured voxel, from its repeats.
      (A voxel's N is orthogonal to its S.)

    Noise is sums of measured residuals of random trials, with random signs: it keeps its correlation among voxels.
    Where nothing is repeated, the ceiling is the data's own (`Responses.ceiling`); where they have none, the noise's
    share can't be told and there is none (N = 0). ``preparation["random_readout"]`` of the result says which.

    Parameters
    ----------
    responses : the voxels to be replaced, with their trials
    stimuli : features of (at least) the stimuli of the responses
    seed : draws the readouts and the noise

    Raises
    ------
    UserError
        A stimulus has no features, or there are fewer than three stimuli.
    """
    names, of_trial = stimuli_of(responses)
    if len(names) < 3:
        raise UserError(f"teacher.control=random_readout: {len(names)} stimuli are too few; it needs at least 3")
    n_repeats = np.bincount(of_trial)
    trials = np.asarray(responses.responses, np.float64)
    averaged = _average(trials, of_trial, n_repeats)
    mean = averaged.mean(0)
    averaged -= mean
    ceiling = noise_ceiling(responses.responses, responses.stimulus_id)
    source = "repeats"
    if ceiling is None:
        ceiling, source = responses.ceiling, "the data's own ceilings"
    if ceiling is None:
        ceiling, source = np.ones(trials.shape[1]), "no ceilings: signal only"
    rng = numpy_generator(seed, "random_readout")
    axes, lengths = _feature_axes(stimuli, names)
    deviations, noise = _deal_noise(trials, averaged + mean, of_trial, n_repeats, ceiling, rng)
    patterns, error = _match(axes, lengths, averaged, noise, np.clip(ceiling, 0.0, 1.0), rng)
    record = {"ceilings": source, "largest_eigenvalue_error": error, "feature_dimensions": len(lengths)}
    say(f"random_readout: spectrum of the patterns matched within {error:.2%}; {source}", level=2)
    return dataclasses.replace(
        responses,
        responses=(mean + patterns[of_trial] + deviations).astype(np.float32),
        preparation={**(responses.preparation or {}), "random_readout": record},
    )


def _average(trials: np.ndarray, of_trial: np.ndarray, n_repeats: np.ndarray) -> np.ndarray:
    order = np.argsort(of_trial, kind="stable")
    return np.add.reduceat(trials[order], np.cumsum(n_repeats) - n_repeats, axis=0) / n_repeats[:, None]


def _feature_axes(stimuli: StimulusFeatures, names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal principal axes of the stimuli's features (stimuli × dimensions), and their lengths (dimensions).

    A Gaussian readout of axes times lengths is distributed as one of the features: only their Gram matrix matters.
    """
    place = {name: row for row, name in enumerate(stimuli.stimulus_id.tolist())}
    absent = [name for name in names.tolist() if name not in place]
    if absent:
        raise UserError(
            f"teacher.control=random_readout: {len(absent)} stimuli have no features: {', '.join(absent[:5])}; "
            "every stimulus needs its picture"
        )
    rows = np.array([place[name] for name in names.tolist()])
    if stimuli.gram is not None:
        gram = np.asarray(stimuli.gram).sum(0, dtype=np.float64)[np.ix_(rows, rows)]
    else:
        values = np.asarray(stimuli.values[rows], np.float64).reshape(len(rows), -1)
        values -= values.mean(0)
        gram = values @ values.T
    gram -= gram.mean(0)
    gram -= gram.mean(1, keepdims=True)
    lengths, directions = np.linalg.eigh(gram)
    kept = lengths > 1e-7 * max(lengths[-1], 0)
    return directions[:, kept], np.sqrt(lengths[kept])


def _deal_noise(
    trials: np.ndarray,
    averaged: np.ndarray,
    of_trial: np.ndarray,
    n_repeats: np.ndarray,
    ceiling: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of residuals of random trials → each trial's deviation from its stimulus's mean, and the noise left in that mean.

    Deviations have exactly the measured residual variance of every voxel, pooled over stimuli.
    """
    residuals = trials - averaged[of_trial]
    repeated = n_repeats[of_trial] > 1
    variance = (residuals**2).sum(0)
    if not repeated.any():
        # nothing to learn the noise's correlations from: independent, wherever the data's own ceilings leave room for it
        return np.zeros_like(trials), rng.standard_normal(averaged.shape) * (ceiling < 1)
    n = n_repeats[of_trial[repeated]]
    pool = residuals[repeated] * np.sqrt(n / (n - 1))[:, None]
    dealt = np.zeros_like(trials)
    for _ in range(
        _MIXED
    ):  # of one residual each, trials would be too often alike (two repeats have the same one, negated)
        rounds = [rng.permutation(len(pool)) for _ in range(-(-len(trials) // len(pool)))]
        signs = rng.choice([-1.0, 1.0], (len(trials), 1)) / np.sqrt(_MIXED)
        dealt += pool[np.concatenate(rounds)[: len(trials)]] * signs
    noise = _average(dealt, of_trial, n_repeats)
    deviations = dealt - noise[of_trial]
    found = (deviations**2).sum(0)
    return deviations * np.sqrt(np.divide(variance, found, out=np.zeros_like(found), where=found > 0)), noise


def _match(
    axes: np.ndarray,
    lengths: np.ndarray,
    averaged: np.ndarray,
    noise: np.ndarray,
    share: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, float]:
    """Mean patterns with the measured spectrum, variances and shares of signal, and the largest error of an eigenvalue.

    Two steps in turn, until both hold: all eigenvalues are set (signal and noise are mixed among voxels by one symmetric
    matrix, which leaves readouts readouts), and all variances and shares (each voxel's signal and noise are scaled).
    """
    variance = (averaged**2).sum(0)
    spectrum = _principal(averaged)[0]
    # signals are kept as weights of the features' axes, lest rounding carry them away from what features can say
    weights = lengths[:, None] * rng.standard_normal((len(lengths), averaged.shape[1]))
    values, mixed = _principal(weights)
    weights = _recolour(weights, values, _signal_spectrum(spectrum, float(share @ variance)), mixed)
    best, least = averaged, np.inf
    for _ in range(_MOST_ROUNDS):
        signal, noise = axes @ weights, noise - noise.mean(0)
        sizes, noise = _scale(signal, noise, variance, share)
        signal, weights = signal * sizes, weights * sizes
        values, mixed = _principal(signal + noise)
        error = _largest_error(values, spectrum)
        if error < least:
            best, least = signal + noise, error
        if error < _TOLERANCE:
            break
        weights, noise = (_recolour(part, values, spectrum, mixed) for part in (weights, noise))
    if least > 0.01:
        dimensions = np.count_nonzero(spectrum > _SMALLEST * spectrum[0])
        why = (
            f": the features have {len(lengths)} dimensions, the voxels {dimensions}"
            if len(lengths) < dimensions
            else ""
        )
        warn(f"control random_readout: the spectrum of the patterns is matched within {least:.1%} only{why}")
    return best, least


def _principal(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared singular values, falling, and right singular vectors (min(rows, columns) × columns) of a matrix.

    From the smaller Gram matrix: several times faster than a decomposition of the matrix, and as exact as is needed here.
    """
    wide = matrix.shape[0] < matrix.shape[1]
    values, vectors = np.linalg.eigh(matrix @ matrix.T if wide else matrix.T @ matrix)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    if not wide:
        return values, vectors.T
    size = np.sqrt(np.where(_sure(values), values, np.inf))  # a direction without length gets no vector
    return values, (matrix.T @ vectors / size).T


def _sure(values: np.ndarray) -> np.ndarray:
    """Which squared singular values are more than rounding (and than the direction that the mean took)."""
    return values > 1e-12 * max(values[0], 0)


def _recolour(part: np.ndarray, values: np.ndarray, wanted: np.ndarray, mixed: np.ndarray) -> np.ndarray:
    """Mix the columns of a matrix by the one symmetric matrix that turns squared singular values into the wanted ones."""
    n = min(len(values), len(wanted))
    factor = np.sqrt(np.divide(wanted[:n], values[:n], out=np.ones(n), where=_sure(values[:n]))) - 1
    return part + (part @ mixed[:n].T * factor) @ mixed[:n]


def _signal_spectrum(spectrum: np.ndarray, power: float) -> np.ndarray:
    """What stays of a spectrum above a floor of noise, the floor being such that it sums to ``power``."""
    floors = np.maximum(np.cumsum(spectrum) - power, 0) / np.arange(1, len(spectrum) + 1)
    n = int(np.count_nonzero(spectrum > floors))
    return np.maximum(spectrum - floors[max(n, 1) - 1], 0)


def _scale(
    signal: np.ndarray, noise: np.ndarray, variance: np.ndarray, share: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What to scale each column of the signal by, and the noise that then makes up the wanted ``variance`` with it.

    What a voxel's noise has of its own signal is taken out, lest noise cancel signal where the spectrum would have it so.
    """
    power = (signal**2).sum(0)
    noise = noise - signal * _ratio((signal * noise).sum(0), power)
    loudness = (noise**2).sum(0)
    share = np.where(loudness > 0, np.where(power > 0, share, 0.0), 1.0)
    return np.sqrt(_ratio(share * variance, power)), noise * np.sqrt(_ratio((1 - share) * variance, loudness))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, 0 where the whole is."""
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)


def _largest_error(found: np.ndarray, wanted: np.ndarray) -> float:
    counted = wanted > _SMALLEST * wanted[0]
    return float(np.abs(found[counted] / wanted[counted] - 1).max(initial=0.0))

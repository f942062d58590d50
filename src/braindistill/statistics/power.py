"""How many seeds, or subjects, would have separated a difference of a given size, given the spread that was found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from braindistill.statistics.intervals import (
    Array,
    check_table,
    error_of_mean,
    factor_sets,
    mean_squares,
    parts_of_variance,
)
from braindistill.statistics.sign_flips import fewest_seeds


def variance_components(differences: ArrayLike) -> Array:
    """Variances of the effects, by equating mean squares with their expectations; negative ones are 0.

    Parameters
    ----------
    differences
        Paired differences of two arms, seeds × images or subjects × seeds × images, at least two of each.

    Returns
    -------
    Of seed, image and residual (3); or of the seven effects and interactions of subjects, seeds and images, in the order of
    `factor_sets`.
    """
    table = check_table(differences)
    if min(table.shape) < 2:
        raise ValueError(f"differences: found shape {table.shape}, expected at least 2 of each")
    return parts_of_variance(mean_squares(table)[0]) / _repeats(table.shape)


def power_of(components: Array, shape: Sequence[int], effect: float, level: float = 0.95) -> float:
    """Probability that the interval of a table of this shape lies above zero, where the mean difference is ``effect``.

    Noncentral t with the standard error and Satterthwaite degrees of freedom of `crossed_interval` at the expected mean
    squares.

    Parameters
    ----------
    components
        Of `variance_components`.
    shape
        Numbers of seeds and images, or of subjects, seeds and images.
    """
    sets, parts = [set(axes) for axes in factor_sets(len(shape))], components * _repeats(shape)
    squares = np.array([sum(parts[other] for other, axes in enumerate(sets) if axes >= own) for own in sets])
    if not squares.any():
        return 1.0 if effect > 0 else 0.0
    freedom = np.array([float(np.prod([shape[axis] - 1 for axis in axes])) for axes in sets])
    error, df = error_of_mean(squares, freedom)
    shift = min(effect / error, 30.0)  # scipy's noncentral t is lost far out, where the power is 1 anyway
    return float(stats.nct.sf(stats.t.ppf((1 + level) / 2, df), df, shift))


def _repeats(shape: Sequence[int]) -> Array:
    """How many cells share a level of each effect."""
    return np.array([np.prod(shape) / np.prod([shape[axis] for axis in axes]) for axes in factor_sets(len(shape))])


def power_hint(
    differences: ArrayLike, effect: float = 0.005, *, power: float = 0.8, level: float = 0.95, most: int = 1000
) -> int | None:
    """The fewest seeds that would separate ``effect`` from zero with probability ``power``, on the same test images.

    Of subjects × seeds × images, the fewest subjects: seeds stay as many as they were.

    From the variance components of the differences found, so it is itself uncertain: from few seeds, within a factor
    of about two. Never fewer than `fewest_seeds`.

    Parameters
    ----------
    differences
        Paired differences of two arms, seeds × images or subjects × seeds × images, of correctness or another measure.
    effect
        The difference to be found, in the unit of ``differences``: 0.005 is half a point of accuracy.
    most
        The most seeds that are worth a thought.

    Returns
    -------
    int | None
        None where there is one seed, image or subject, or where ``most`` seeds would not do. Seeds average out everything but
        the spread over test images, so often only more images would: see `power_sentence`.
    """
    table = check_table(differences)
    if effect <= 0:
        raise ValueError(f"effect: found {effect}, expected a positive difference")
    if min(table.shape) < 2:
        return None
    components, others = variance_components(table), table.shape[1:]
    few, many = fewest_seeds(1 - level), most
    if power_of(components, (many, *others), effect, level) < power:
        return None
    while few < many:
        middle = (few + many) // 2
        if power_of(components, (middle, *others), effect, level) >= power:
            many = middle
        else:
            few = middle + 1
    return few


def power_sentence(differences: ArrayLike, effect: float = 0.005, *, power: float = 0.8, most: int = 1000) -> str:
    """`power_hint` in words, for differences of accuracies: ``with this spread, 23 seeds would separate 0.5 points``."""
    table, size = check_table(differences), f"{100 * effect:g} points"
    unit = "seed" if table.ndim == 2 else "subject"
    if min(table.shape) < 2:
        names = [unit, *(["seed"] if table.ndim == 3 else []), "test image"]
        lone = next(name for name, number in zip(names, table.shape, strict=True) if number < 2)
        return f"one {lone} shows no spread: how many would separate {size} is unknown"
    enough = power_hint(table, effect, power=power, most=most)
    if enough is not None:
        return f"with this spread, {enough} {unit}s would separate {size}"
    return f"with this spread, not even {most:,} {unit}s would separate {size} on {table.shape[-1]:,} test images"

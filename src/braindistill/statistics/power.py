"""How many seeds would have separated a difference of a given size, given the spread that was found."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from braindistill.statistics.intervals import Array, check_table, error_of_mean, mean_squares
from braindistill.statistics.sign_flips import fewest_seeds


def variance_components(differences: ArrayLike) -> Array:
    """Variances of seed, image and residual (3), by equating mean squares with their expectations; negative ones are 0.

    Parameters
    ----------
    differences
        Paired differences of two arms, seeds × images, at least two of each.
    """
    table = check_table(differences)
    if min(table.shape) < 2:
        raise ValueError(f"differences: found shape {table.shape}, expected at least 2 seeds and 2 images")
    (ms_seed, ms_image, ms_residual), _ = mean_squares(table)
    seeds, images = table.shape
    return np.array([max(0.0, ms_seed - ms_residual) / images, max(0.0, ms_image - ms_residual) / seeds, ms_residual])


def power_of(components: Array, seeds: int, images: int, effect: float, level: float = 0.95) -> float:
    """Probability that the interval of so many seeds and images lies above zero, where the mean difference is ``effect``.

    Noncentral t with the standard error and Satterthwaite degrees of freedom of `two_way_interval` at the expected mean
    squares.

    Parameters
    ----------
    components
        Of `variance_components`.
    """
    of_seed, of_image, residual = components
    squares = np.array([residual + images * of_seed, residual + seeds * of_image, residual])
    if not squares.any():
        return 1.0 if effect > 0 else 0.0
    freedom = np.array([seeds - 1.0, images - 1.0, (seeds - 1.0) * (images - 1.0)])
    error, df = error_of_mean(squares, freedom)
    shift = min(effect / error, 30.0)  # scipy's noncentral t is lost far out, where the power is 1 anyway
    return float(stats.nct.sf(stats.t.ppf((1 + level) / 2, df), df, shift))


def power_hint(
    differences: ArrayLike, effect: float = 0.005, *, power: float = 0.8, level: float = 0.95, most: int = 1000
) -> int | None:
    """The fewest seeds that would separate ``effect`` from zero with probability ``power``, on the same test images.

    From the variance components of the differences found, so it is itself uncertain: from few seeds, within a factor
    of about two. Never fewer than `fewest_seeds`.

    Parameters
    ----------
    differences
        Paired differences of two arms, seeds × images, of correctness or another measure.
    effect
        The difference to be found, in the unit of ``differences``: 0.005 is half a point of accuracy.
    most
        The most seeds that are worth a thought.

    Returns
    -------
    int | None
        None where there is one seed or one image, or where ``most`` seeds would not do. Seeds average out everything but
        the spread over test images, so often only more images would: see `power_sentence`.
    """
    table = check_table(differences)
    if effect <= 0:
        raise ValueError(f"effect: found {effect}, expected a positive difference")
    if min(table.shape) < 2:
        return None
    components, images = variance_components(table), table.shape[1]
    few, many = fewest_seeds(1 - level), most
    if power_of(components, many, images, effect, level) < power:
        return None
    while few < many:
        middle = (few + many) // 2
        if power_of(components, middle, images, effect, level) >= power:
            many = middle
        else:
            few = middle + 1
    return few


def power_sentence(differences: ArrayLike, effect: float = 0.005, *, power: float = 0.8, most: int = 1000) -> str:
    """`power_hint` in words, for differences of accuracies: ``with this spread, 23 seeds would separate 0.5 points``."""
    table, size = check_table(differences), f"{100 * effect:g} points"
    if min(table.shape) < 2:
        return f"one {'seed' if len(table) < 2 else 'test image'} shows no spread: how many would separate {size} is unknown"
    seeds = power_hint(table, effect, power=power, most=most)
    if seeds is not None:
        return f"with this spread, {seeds} seeds would separate {size}"
    return f"with this spread, not even {most:,} seeds would separate {size} on {table.shape[1]:,} test images"

"""Resampling seeds and images, as a check beside the interval."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from braindistill.statistics.intervals import Array, check_table


def crossed_bootstrap(values: ArrayLike, n: int = 2000, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval (low, high) of the mean over ``n`` resamples of seeds and, independently, of images.

    A check beside `two_way_interval`, not its substitute: its coverage wanders between 92 and 99 %.

    Parameters
    ----------
    values
        seeds × images.
    """
    return percentiles(resampled_means(check_table(values)[None], n, seed)[0], level)


def resampled_means(tables: ArrayLike, n: int = 2000, seed: int = 0) -> Array:
    """Means of several tables over the same ``n`` resamples: what two of them differ by is the mean of their difference.

    Parameters
    ----------
    tables
        tables × seeds × images, e.g. the correct answers of every arm.

    Returns
    -------
    tables × n
    """
    stacked = np.asarray(tables, dtype=np.float64)
    number, seeds, images = stacked.shape
    columns = stacked.reshape(number * seeds, images).T
    generator = np.random.default_rng(seed)
    means: list[Array] = []
    for start in range(0, n, 100):  # 100 at a time keeps memory small for large test sets
        rows = np.arange(min(100, n - start))[:, None]
        drawn_seeds = generator.integers(0, seeds, size=(len(rows), seeds))
        drawn_images = generator.integers(0, images, size=(len(rows), images))
        # how often each image was drawn: a product with these counts replaces indexing seeds × images × n
        counts = np.bincount((rows * images + drawn_images).ravel(), minlength=len(rows) * images)
        per_seed = (counts.reshape(len(rows), images) @ columns / images).reshape(len(rows), number, seeds)
        means.append(np.take_along_axis(per_seed, drawn_seeds[:, None], axis=2).mean(axis=2))
    return np.concatenate(means).T


def percentiles(means: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """The interval (low, high) that holds the share ``level`` of resampled means."""
    low, high = np.quantile(np.asarray(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)

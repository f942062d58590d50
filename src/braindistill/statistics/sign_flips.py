"""What flips of the seeds' signs can say, and how many seeds they need to say anything."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def smallest_p(seeds: int) -> float:
    """The smallest two-sided p that sign flips of this many seeds can reach: 2 / 2^S (and 1 for one seed)."""
    return float(2.0 ** (1 - seeds))


def fewest_seeds(alpha: float = 0.05) -> int:
    """The fewest seeds that can reach ``alpha`` by sign flips: 6 for 0.05."""
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha: found {alpha}, expected a number in (0, 1]")
    return int(np.ceil(1 - np.log2(alpha)))


def cannot_decide(number: int, alpha: float = 0.05, unit: str = "seed") -> str | None:
    """Why so few seeds, or subjects, cannot decide, as half a sentence; None where they can.

    The interval of `crossed_interval` may exclude zero with fewer; sign flips, which assume next to nothing, cannot.
    """
    if number >= fewest_seeds(alpha):
        return None
    counted = f"{number} {unit}{'s' * (number != 1)}"
    more = "; ask for 10" if unit == "seed" else ""
    return f"{counted} cannot reach p < {alpha:g} by sign flips (fewest: {fewest_seeds(alpha)}{more})"


def sign_flip_p(differences: ArrayLike, draws: int = 100_000, seed: int = 0) -> float:
    """Two-sided p of a mean difference under flips of the seeds' signs (H0: symmetric around zero).

    Exact up to 16 seeds; beyond, ``draws`` random flips and (1 + hits) / (1 + draws). All zero: p = 1.

    Parameters
    ----------
    differences
        One mean difference a seed (seeds).
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"differences: found shape {values.shape}, expected one finite number a seed")
    # sums that are equal on paper differ in their last bits: count them as ties
    reach = abs(values.sum()) - 1e-9 * np.abs(values).sum()
    if values.size <= 16:
        # half of the flips are enough: negating every sign leaves the absolute sum as it is
        codes = np.arange(2 ** (values.size - 1))
        signs = 1.0 - 2.0 * ((codes[:, None] >> np.arange(values.size)) & 1)
        return float(np.mean(np.abs(signs @ values) >= reach))
    generator = np.random.default_rng(seed)
    hits, left = 0, draws
    while left:
        signs = 2.0 * generator.integers(0, 2, size=(min(left, 10_000), values.size)) - 1.0
        hits += int(np.sum(np.abs(signs @ values) >= reach))
        left -= len(signs)
    return (1 + hits) / (1 + draws)

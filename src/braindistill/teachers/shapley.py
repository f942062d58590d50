"""Shapley values (Shapley 1953): what each player adds, averaged over the orders in which they may come."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np

from braindistill.runtime import numpy_generator

#: up to so many players all subsets are tried
EXACT = 8


def shapley_values(
    value: Callable[[np.ndarray], np.ndarray], n_players: int, n_permutations: int = 128
) -> tuple[np.ndarray, np.ndarray]:
    """Shapley values of several games at once, and their standard errors (games × players).

    Up to `EXACT` players by all subsets. With more, by random orders from a fixed generator, each with its reverse
    (Mitchell et al. 2022): an order's contributions add up to the difference between all and none, and so do the means.

    Parameters
    ----------
    value : who is there (players, bool) → what they are worth (games)
    n_permutations : orders to try, half of them reversed ones
    """
    if n_players <= EXACT:
        subsets = np.array(list(itertools.product([False, True], repeat=n_players)))
        worth = np.stack([value(subset) for subset in subsets])
        found = np.empty((worth.shape[1], n_players))
        for player in range(n_players):
            without = np.flatnonzero(~subsets[:, player])
            size = subsets[without].sum(1)
            weight = np.array([1 / (n_players * math.comb(n_players - 1, count)) for count in size])
            step = 2 ** (n_players - 1 - player)  # from a subset to the same one with the player
            found[:, player] = weight @ (worth[without + step] - worth[without])
        return found, np.zeros_like(found)
    generator = numpy_generator(0, "shapley")
    pairs = []
    for _ in range(max(2, n_permutations // 2)):
        order = generator.permutation(n_players)
        pairs.append((_along(value, order) + _along(value, order[::-1])) / 2)
    every = np.stack(pairs)
    return every.mean(0), every.std(0, ddof=1) / np.sqrt(len(every))


def _along(value: Callable[[np.ndarray], np.ndarray], order: np.ndarray) -> np.ndarray:
    """What each player adds as they come in an order (games × players)."""
    present = np.zeros(len(order), bool)
    before = value(present)
    added = np.empty((len(before), len(order)))
    for player in order.tolist():
        present[player] = True
        after = value(present)
        added[:, player] = after - before
        before = after
    return added

"""How bad a student's mistakes are: taking a cat for a dog is not taking it for a truck."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from braindistill.errors import UserError, nearest

Ancestors = Mapping[str, Sequence[str]]


def severity(
    predicted: ArrayLike, labels: ArrayLike, hierarchy: Ancestors, classes: Sequence[str], level: int = 1
) -> dict[str, float | None]:
    """Mistakes inside and outside the true superclass, and how far up the hierarchy they lie.

    Parameters
    ----------
    predicted, labels
        Class numbers (images, int in [0, classes)), and the true ones.
    hierarchy
        Class → its superclass, that one's superclass, …: of `read_hierarchy` or `built_in_hierarchy`.
    classes
        Names of the classes, in the order of their numbers.
    level
        Which superclass makes a mistake mild: 1 is the nearest.

    Returns
    -------
    dict
        ``mistakes``: share of all images, in [0, 1]; ``mild`` and ``severe``: share of the mistakes inside and outside the
        true superclass, which sum to 1; ``lca_height``: mean over the mistakes of the height of the lowest common
        ancestor of predicted and true class (Bertinetto et al. 2020, "Making better mistakes"), at least 1;
        ``lca_height_all``: the same over all images, 0 for a right one. All but the first and the last are None where
        there is no mistake.

    Raises
    ------
    UserError
        If the hierarchy lacks a class.
    """
    guessed, truth = np.asarray(predicted), np.asarray(labels)
    if guessed.shape != truth.shape or truth.ndim != 1 or not truth.size:
        raise ValueError(
            f"found {guessed.shape} predictions and {truth.shape} labels, expected two vectors of equal length"
        )
    for name, numbers in (("predicted", guessed), ("labels", truth)):
        if numbers.min() < 0 or numbers.max() >= len(classes):
            raise ValueError(f"{name}: found {numbers.min()} to {numbers.max()}, expected 0 to {len(classes) - 1}")
    wrong = guessed != truth
    heights = lca_heights(classes, hierarchy)[guessed, truth]
    found: dict[str, float | None] = {
        "mistakes": float(wrong.mean()),
        "mild": None,
        "severe": None,
        "lca_height": None,
        "lca_height_all": float(heights.mean()),
    }
    if wrong.any():
        group = group_of_class(classes, hierarchy, level)
        mild = float((group[guessed] == group[truth])[wrong].mean())
        found |= {"mild": mild, "severe": 1 - mild, "lca_height": float(heights[wrong].mean())}
    return found


def group_of_class(classes: Sequence[str], hierarchy: Ancestors, level: int = 1) -> NDArray[np.int64]:
    """Number of each class's superclass (classes, int64), for `selective`.

    Parameters
    ----------
    level
        1 is the nearest superclass. A class with fewer has its last one.
    """
    if level < 1:
        raise ValueError(f"level: found {level}, expected at least 1")
    chains = _chains_of(classes, hierarchy)
    names = [chain[min(level, len(chain) - 1)] for chain in chains]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def lca_heights(classes: Sequence[str], hierarchy: Ancestors) -> NDArray[np.int64]:
    """Height of the lowest common ancestor of every two classes (classes × classes), 0 on the diagonal.

    A class has height 0, any other node 1 + the highest below it; branches that share no named ancestor meet in a root
    above all.
    """
    chains = _chains_of(classes, hierarchy)
    members: dict[str, list[int]] = {}
    height: dict[str, int] = {}
    for number, chain in enumerate(chains):
        for step, node in enumerate(chain):
            members.setdefault(node, []).append(number)
            height[node] = max(height.get(node, 0), step)
    heights = np.full((len(classes), len(classes)), max(height.values()) + 1, dtype=np.int64)
    for node in sorted(members, key=lambda node: -height[node]):  # lower nodes overwrite the higher ones
        heights[np.ix_(members[node], members[node])] = height[node]
    np.fill_diagonal(heights, 0)
    return heights


def _chains_of(classes: Sequence[str], hierarchy: Ancestors) -> list[list[str]]:
    """Each class followed by its superclasses, from near to far."""
    for name in classes:
        if name not in hierarchy:
            raise UserError(f"the class hierarchy lacks {name}: give it a superclass; {nearest(name, hierarchy)}")
    return [[name, *hierarchy[name]] for name in classes]

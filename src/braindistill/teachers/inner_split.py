"""What is held out *inside* the training trials of a fold, where a decoder chooses its own settings."""

from __future__ import annotations

import numpy as np

from braindistill.runtime import numpy_generator

#: about this share of the trials is held out to choose epochs and learning rate on
SHARE = 0.2


def inner_groups(labels: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Numbers of the groups (trials) that are left out one after the other to choose a penalty or a scale.

    The given groups (stimuli or runs) where each class occurs in at least two of them, else single trials: a class that
    leaves together with its only group could not be predicted.
    """
    if groups is not None:
        _, numbers = np.unique(groups, return_inverse=True)
        pairs = np.unique(np.stack([labels, numbers]), axis=1)
        if np.unique(pairs[0], return_counts=True)[1].min() > 1:
            return numbers
    return np.arange(len(labels))


def inner_split(labels: np.ndarray, groups: np.ndarray | None, seed: int) -> np.ndarray | None:
    """Which trials to validate on (trials, bool): whole groups with about a fifth of each class's trials.

    Groups are gone through in random order. One is taken where it brings the classes' shares nearer to a fifth, and
    leaves trials of each of its classes behind. None where no group can be taken (each class lies in one group).

    Parameters
    ----------
    labels : (trials) class indices
    groups : (trials) what may not be torn apart, such as stimulus or run; None: trials stand alone
    seed : of the order in which groups are tried
    """
    _, place = np.unique(labels, return_inverse=True)
    _, group = np.unique(np.arange(len(labels)) if groups is None else groups, return_inverse=True)
    members = np.zeros((group.max() + 1, place.max() + 1), int)
    np.add.at(members, (group, place), 1)
    total = members.sum(0)
    # a class of few trials sends its smallest group: less than that could not be scored at all
    wanted = np.maximum(SHARE * total, np.where(members > 0, members, total).min(0))
    taken = np.zeros(len(members), bool)
    held = np.zeros_like(total)
    for number in numpy_generator(seed, "inner split").permutation(len(members)):
        after = held + members[number]
        nearer = np.abs(held - wanted).sum() - np.abs(after - wanted).sum()
        if nearer > 0 and (after < total)[members[number] > 0].all():
            taken[number], held = True, after
    return taken[group] if taken.any() else None

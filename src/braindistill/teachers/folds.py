"""Who is fitted on what: folds, and the three roles of stimuli inside a fold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.runtime import numpy_generator, warn


class Folds(NamedTuple):
    """A partition of trials.

    Attributes
    ----------
    scheme : ``stimulus`` or ``run``: what is held out together; ``none``: nothing is
    of_trial : (trials) fold of each trial
    number : number of folds
    """

    scheme: str
    of_trial: np.ndarray
    number: int

    def sentence(self) -> str:
        return "leave-one-run-out" if self.scheme == "run" else f"{self.number} folds by stimulus"


def make_folds(
    responses: Responses,
    classes: np.ndarray,
    scheme: str,
    n_folds: int,
    seed: int,
    given: Mapping[str, int] | None = None,
) -> Folds:
    """Partition trials so that nothing that is scored was fitted on.

    Parameters
    ----------
    classes : (stimuli, sorted by id) class index, −1 = unlabelled
    scheme : ``auto``, ``stimulus`` or ``run``. ``auto`` is by stimulus; by run where each class is a single stimulus,
        or where there are runs but no pictures.
    n_folds : folds by stimulus, class-balanced; by run there is one a run. 1 = no cross-fitting: all is in sample
    given : folds that stimuli have already, from a teacher that is continued

    Raises
    ------
    UserError
        Fewer stimuli than folds; folds by run without runs; a class of one stimulus where folds must be by stimulus: the
        fold that holds it out would not know the class.
    """
    if n_folds < 1:
        raise UserError(f"teacher.n_folds={n_folds}: take 2 or more, or 1 to hold nothing out")
    names, of_stimulus = stimuli_of(responses)
    single = _single_stimuli(classes)
    lone = len(single) == (classes >= 0).sum() > 0
    run = np.array([], str) if responses.run is None else responses.run
    runs = np.unique(run)
    no_pictures = responses.images is None and len(runs) > 1
    if n_folds == 1:
        return Folds("none", np.zeros(len(of_stimulus), int), 1)
    if scheme == "run" or (scheme == "auto" and (lone or no_pictures)):
        if len(runs) < 2:
            why, way = "teacher.folds=run", "take teacher.folds=stimulus"
            if scheme == "auto":
                why = "each class is a single stimulus, so folds must be by run"
                way = "give more labels a class (images.n_train)"
            raise UserError(f"{why}, but the data name {len(runs)} run(s): at least 2 are needed; {way}")
        again = [name for name in names.tolist() if name in (given or {})]
        if again:
            raise UserError(
                f"teacher.init_from: folds are by run here, and the older teacher was fitted on {len(again)} of these "
                f"stimuli (first: {again[0]}): no run holds them out; take teacher.folds=stimulus or other stimuli"
            )
        return Folds("run", np.searchsorted(runs, run), len(runs))
    if scheme == "stimulus" and len(single) and given is None:
        trial = np.flatnonzero(of_stimulus == single[0])[0]
        name = classes[single[0]] if responses.label is None else f"'{responses.label[trial]}'"
        raise UserError(
            f"teacher.folds=stimulus: class {name} has a single labelled stimulus ({names[single[0]]}), and the fold that "
            f"holds it out can't know it ({len(single)} such classes); give more labels a class, or take teacher.folds=run"
        )
    if len(single) and given is None:
        warn(
            f"{len(single)} classes have a single labelled stimulus (first: {names[single[0]]}): the fold that holds it out "
            "can't know its class, so its soft label is wrong for certain; give more labels a class"
        )
    if len(names) < n_folds:
        raise UserError(f"teacher.n_folds={n_folds}: there are only {len(names)} stimuli; take at most that many folds")
    rng = numpy_generator(seed, "folds")
    # deal every class in turn, so that each fold gets its share of it
    order = np.concatenate([rng.permutation(np.flatnonzero(classes == value)) for value in np.unique(classes)])
    fold_of_stimulus = np.array([(given or {}).get(name, -1) for name in names.tolist()])
    order = order[fold_of_stimulus[order] < 0]
    fold_of_stimulus[order] = np.arange(len(order)) % n_folds
    return Folds("stimulus", fold_of_stimulus[of_stimulus], n_folds)


def _single_stimuli(classes: np.ndarray) -> np.ndarray:
    """Indices of the stimuli that are the only ones of their class."""
    labelled = np.flatnonzero(classes >= 0)
    return labelled[np.bincount(classes[labelled])[classes[labelled]] == 1]


def split_roles(
    rest: np.ndarray, classes: np.ndarray, seed: int, fold: int, given: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Divide a fold's remaining stimuli between encoder and decoder, which never share one.

    The rule of disjoint stimuli: fitted on the same ones, their product classifies images without needing a brain.
    The encoder takes the unlabelled stimuli; where they are less than half, labelled ones join, class by class.

    Parameters
    ----------
    rest : indices of the stimuli that are not held out
    classes : (stimuli) class index, −1 = unlabelled
    given : (stimuli) roles that a teacher which is continued gave in this fold: ``e``, ``d``, or ``-`` for neither

    Returns
    -------
    encoder, decoder : index arrays, disjoint, together ``rest``
    """
    rng = numpy_generator(seed, "roles", fold)
    if given is not None:
        free = rest[given[rest] == "-"]
        for_encoder, for_decoder = split_roles(free, classes, seed, fold)
        both = (for_encoder, rest[given[rest] == "e"]), (for_decoder, rest[given[rest] == "d"])
        return tuple(np.sort(np.concatenate(parts)) for parts in both)  # type: ignore[return-value]
    unlabelled, labelled = rest[classes[rest] < 0], rng.permutation(rest[classes[rest] >= 0])
    wanted = len(rest) // 2 - len(unlabelled)
    if wanted > 0:
        # every class gives the same share: rank stimuli inside their class, take the low ranks; the decoder keeps the last
        rank = np.empty(len(labelled))
        for value in np.unique(classes[labelled]):
            members = np.flatnonzero(classes[labelled] == value)
            rank[members] = np.arange(1, len(members) + 1) / len(members)
        chosen = np.argsort(rank, kind="stable")[:wanted]
        moved = np.zeros(len(labelled), bool)
        moved[chosen] = True
        return np.sort(np.concatenate([unlabelled, labelled[moved]])), np.sort(labelled[~moved])
    return np.sort(unlabelled), np.sort(labelled)


def average_stimuli(responses: Responses) -> np.ndarray:
    """Mean over repeats, float32 (stimuli × voxels), in the order of `stimuli_of`."""
    averaged, names = responses.average()
    return averaged[np.argsort(names)]


def stimuli_of(responses: Responses) -> tuple[np.ndarray, np.ndarray]:
    """Stimulus names, sorted, and each trial's index into them.

    Sorted, so that folds and roles depend on the seed and the stimuli, and not on the order of trials: a control that
    deals responses to other images has the folds of the teacher that it controls.
    """
    names, of_trial = np.unique(responses.stimulus_id, return_inverse=True)
    return names, of_trial

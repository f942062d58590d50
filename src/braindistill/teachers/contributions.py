"""How much each ROI contributes to a decoder's soft labels: gradient × input, and Shapley values over ROIs.

What is explained is the *centred logit* of a stimulus's own class: its logit minus the mean over the classes that the
decoder knows, divided by the soft labels' temperature. It depends on the soft label alone (it is its centred log-ratio),
and unlike the log-probability it doesn't level off where the decoder is sure: there the slope of the log-probability is 0,
and the best decoded stimuli would count for nothing. Everything is relative to the decoder's mean training response, which
stands for a ROI that says nothing, and out of fold.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.joining import find_rows
from braindistill.runtime import progress
from braindistill.teachers.differentiable import known_classes, logits_of, training_mean
from braindistill.teachers.linear_decoder import LinearDecoder
from braindistill.teachers.shapley import shapley_values
from braindistill.teachers.voxel_layout import REST

_BATCH = 256


class Cover(NamedTuple):
    """ROIs that share no voxel.

    Attributes
    ----------
    parts : name → index of its voxels; those of no ROI are `REST`
    left_out : name of an ROI that is not used → why
    """

    parts: dict[str, np.ndarray]
    left_out: dict[str, str]


class HeldOut(NamedTuple):
    """Labelled responses, and the fold whose decoder was fitted without them.

    Attributes
    ----------
    responses : (rows × voxels), may be a memory map
    rows : (n) which of them
    fold, classes : (n) the fold that held it out, and its class
    """

    responses: np.ndarray
    rows: np.ndarray
    fold: np.ndarray
    classes: np.ndarray

    def take(self, chosen: np.ndarray) -> HeldOut:
        """Some of them, by index."""
        return HeldOut(self.responses, self.rows[chosen], self.fold[chosen], self.classes[chosen])


class Contributions(NamedTuple):
    """What each ROI adds to the centred logit of each response's own class, in nats.

    Attributes
    ----------
    names : of the ROIs
    gradient_input, shapley : (n × ROIs)
    error : (n × ROIs) standard error of ``shapley`` from sampling; 0 where all subsets were tried
    full, empty : (n) the centred logit of the response, and of the mean training response
    """

    names: list[str]
    gradient_input: np.ndarray
    shapley: np.ndarray
    error: np.ndarray
    full: np.ndarray
    empty: np.ndarray


def disjoint_cover(rois: Mapping[str, np.ndarray], n_voxels: int) -> Cover:
    """Choose ROIs that share no voxel, the smallest first.

    A voxel of several counts for the smallest. An ROI of which smaller ones have taken half or more is left out (LVC
    beside V1, V2 and V3); what is left of it is `REST`, as are voxels of no ROI. Parts come in the order of ``rois``.

    Parameters
    ----------
    rois : name → index of its voxels
    """
    owner = np.full(n_voxels, -1)
    names, left_out = list(rois), {}
    for number in sorted(range(len(names)), key=lambda number: len(rois[names[number]])):
        index = rois[names[number]]
        free = index[owner[index] < 0]
        if not len(index):
            left_out[names[number]] = "it has no voxel of this teacher"
        elif 2 * len(free) <= len(index):
            takers = ", ".join(names[other] for other in np.unique(owner[index]).tolist() if other >= 0)
            left_out[names[number]] = f"{len(index) - len(free)} of its {len(index)} voxels count for {takers}"
        else:
            owner[free] = number
    parts = {name: np.flatnonzero(owner == number) for number, name in enumerate(names) if name not in left_out}
    if (owner < 0).any():
        parts[REST] = np.flatnonzero(owner < 0)
    return Cover(parts, left_out)


def held_out(teacher: Any, labels: Mapping[str, int], trials: Responses | None = None) -> HeldOut:
    """The labelled responses of a teacher, each with the fold that held it out and knows its class.

    Parameters
    ----------
    teacher : a brain teacher with a decoder
    labels : stimulus id → class index
    trials : of the teacher's voxels; needed where folds are by run, since several then hold parts of a stimulus out

    Raises
    ------
    UserError
        The teacher has no decoder, or no fold that was held out; folds by run without matching trials.
    """
    members = getattr(teacher, "members", None)
    if not members:
        raise UserError(f"teacher={teacher.name} has no decoder of voxels, so no ROI contributes to soft labels of its")
    number = len(members[0].decoders)
    if number == 1:
        raise UserError("teacher.n_folds=1: nothing is held out, so contributions would be those to fitted responses")
    if (teacher.held >= 0).all():
        responses, names, fold = teacher.averaged, teacher.stimulus_id, teacher.held
    else:
        responses, names, fold = _by_run(teacher, trials, number)
    classes = np.array([labels.get(name, -1) for name in names.tolist()], int)
    known = np.stack([known_classes(members[0].decoders[k], len(teacher.classes)) for k in range(number)])
    rows = np.flatnonzero((classes >= 0) & known[fold, classes])
    if not len(rows):
        raise UserError(f"teacher={teacher.name}: none of its stimuli has a label that a fold without it knows")
    return HeldOut(responses, rows, fold[rows].astype(int), classes[rows])


def contribute(
    teacher: Any, held: HeldOut, cover: Cover, device: str = "cpu", n_permutations: int = 128
) -> Contributions:
    """Gradient × input and Shapley value of every ROI, for each held-out response.

    - Gradient × input: the slope of the centred logit at the response, times the response's deviation from the training
      mean, summed over the ROI's voxels (Shrikumar et al. 2016). Of a linear decoder that is exactly what the ROI adds.
      The correlations of a ``prototype`` decoder have no slope along the response itself, as its length doesn't matter to
      them; that length is held fixed, so that there too the parts make up the whole.
    - Shapley (1953): what the ROI adds to a random set of others, averaged over the orders in which ROIs may come; voxels
      of absent ROIs hold their training mean. See `shapley_values`.

    Parameters
    ----------
    teacher, held, cover : as from `held_out` and `disjoint_cover`
    device : where networks are asked
    n_permutations : where there are too many ROIs to try all subsets
    """
    n, names = len(held.rows), list(cover.parts)
    found = Contributions(names, *(np.zeros((n, len(names))) for _ in range(3)), *np.zeros((2, n)))
    n_voxels = held.responses.shape[1]
    part_of = np.empty(n_voxels, int)
    for number, index in enumerate(cover.parts.values()):
        part_of[index] = number
    inside = torch.from_numpy(np.eye(len(names))[part_of]).to(device)
    for k in progress(np.unique(held.fold).tolist(), "contributions"):
        rows = np.flatnonzero(held.fold == k)
        score = class_scores(teacher, k, device)
        centre = torch.from_numpy(mean_response(teacher, held, k)).to(device)
        x = torch.from_numpy(np.asarray(held.responses[held.rows[rows]], np.float64)).to(device)
        classes = torch.from_numpy(held.classes[rows]).to(device)
        slopes = _gradient_input(score, x, centre, classes)
        found.gradient_input[rows] = (slopes @ inside).cpu().numpy()
        worth = functools.partial(_worth, score, x, centre, classes, part_of)
        found.empty[rows], found.full[rows] = worth(np.zeros(len(names), bool)), worth(np.ones(len(names), bool))
        if all(isinstance(member.decoders[k], LinearDecoder) for member in teacher.members):
            # ROIs simply add up, so no set of them needs a product with all voxels
            worth = functools.partial(_sum_of_parts, found.empty[rows], found.gradient_input[rows])
        found.shapley[rows], found.error[rows] = shapley_values(worth, len(names), n_permutations)
    return found


def class_scores(teacher: Any, fold: int, device: str) -> Callable[[Tensor], Tensor]:
    """The differentiable function from responses (n × voxels) to centred logits (n × classes) of a fold's decoder.

    Members of an ensemble are averaged, as their log-probabilities are.
    """
    known = torch.from_numpy(known_classes(teacher.members[0].decoders[fold], len(teacher.classes))).to(device)
    members = [
        (torch.from_numpy(np.array(member.columns)).to(device), logits_of(member.decoders[fold], device))
        for member in teacher.members
    ]
    temperature = teacher.temperature["measured"]

    def score(responses: Tensor) -> Tensor:
        logits = torch.stack([respond(responses[:, columns]) for columns, respond in members]).mean(0)
        return (logits - logits[:, known].mean(1, keepdim=True)) / temperature

    return score


def mean_response(teacher: Any, held: HeldOut, fold: int) -> np.ndarray:
    """What a fold's decoder was fitted on, on average (voxels): as it remembers it, else from the stimuli of its role."""
    if (teacher.held >= 0).all():
        used = np.isin(teacher.roles[fold], ["d", "b"])
        centre = teacher.averaged[used].mean(0, dtype=np.float64)
    else:
        centre = held.responses[held.rows[held.fold != fold]].mean(0, dtype=np.float64)
    for member in teacher.members:
        centre[member.columns] = training_mean(member.decoders[fold], centre[member.columns])
    return centre


def _by_run(teacher: Any, trials: Responses | None, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Responses, stimulus ids and folds of trials, where each run is held out by a fold of its own."""
    if trials is None or trials.run is None:
        raise UserError(
            "teacher.folds=run: several folds hold parts of a stimulus out, and its trials' runs are not at hand"
        )
    known = find_rows(teacher.stimulus_id, trials.stimulus_id)[1]
    runs, fold = np.unique(trials.run[known], return_inverse=True)
    if trials.responses.shape[1] != teacher.averaged.shape[1] or len(runs) != number:
        raise UserError(
            "teacher.folds=run: the responses at hand have other voxels or runs than the teacher was fitted on"
        )
    return np.asarray(trials.responses)[known], trials.stimulus_id[known], fold


def _gradient_input(score: Callable[[Tensor], Tensor], x: Tensor, centre: Tensor, classes: Tensor) -> Tensor:
    """Slope of each row's own class × deviation from the centre (n × voxels)."""
    from captum.attr import InputXGradient

    explained = InputXGradient(lambda change: score(centre + change))
    parts = [
        explained.attribute((x[at] - centre).requires_grad_(), target=classes[at]).detach() for at in _batches(len(x))
    ]
    return torch.cat(parts)


@torch.no_grad()
def _worth(
    score: Callable[[Tensor], Tensor],
    x: Tensor,
    centre: Tensor,
    classes: Tensor,
    part_of: np.ndarray,
    present: np.ndarray,
) -> np.ndarray:
    """Score of each row's own class, where voxels of absent parts hold their training mean (n)."""
    kept = torch.from_numpy(present[part_of]).to(x.device)
    parts = [score(torch.where(kept, x[at], centre)).gather(1, classes[at, None])[:, 0] for at in _batches(len(x))]
    return torch.cat(parts).double().cpu().numpy()


def _sum_of_parts(empty: np.ndarray, parts: np.ndarray, present: np.ndarray) -> np.ndarray:
    return empty + parts @ present


def _batches(n: int) -> list[slice]:
    return [slice(start, start + _BATCH) for start in range(0, n, _BATCH)]

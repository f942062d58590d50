"""How well a student's last features predict measured responses, beside the same network untrained."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.images import fit_pictures
from braindistill.joining import find_rows
from braindistill.metrics.brain_score import brain_score
from braindistill.metrics.rdms import compare_rdms, rdm, rdm_noise_ceiling
from braindistill.runtime import numpy_generator
from braindistill.students.artifact import Student
from braindistill.students.build import build
from braindistill.students.taps import average_places, find_last_input, keep
from braindistill.verdict.rdms import make_rdms, take_evenly

_BATCH, _FOLDS = 256, 5
#: stimuli, and voxels of an ROI, that are looked at: evenly chosen ones where there are more
_MOST_STIMULI, _MOST_VOXELS = 1000, 500
#: with fewer stimuli there is no score; with fewer that students were not trained on, all are taken
_LEAST, _LEAST_UNSEEN = 15, 50


class Unmeasurable(Exception):
    """Why a measure can't be had, for the report."""


def measure_brain(
    student: Student, responses: Responses, trained_on: Collection[str], seed: int, device: str
) -> tuple[dict[str, dict[str, Any]], str | None, dict[str, np.ndarray]]:
    """Brain score of every ROI (`brain_score`, RSA), on stimuli that the student was not trained on where that leaves 50.

    Folds and choices of stimuli and voxels are the same for every student with the same training images.

    Parameters
    ----------
    trained_on : ids of the student's training images
    seed : of the untrained network, the student's own

    Returns
    -------
    scores
        ROI (``all`` where there are none) → ``r`` and ``untrained_r``: medians over voxels; ``normalised_r``: by the root of
        the noise ceiling, None without one; ``rsa``: Spearman's ρ of the dissimilarities (1 − r) of features and voxels;
        ``rsa_ceiling``: its bounds, where every stimulus was repeated. Then ``rsa`` is the mean over the halves of the
        repeats, as the bounds are; else it is with the mean response, and there are none.
    note
        What is to be said about the stimuli, or None.
    rdms
        `make_rdms` of the student's features and of each ROI's mean response.

    Raises
    ------
    Unmeasurable
        There are no pictures, too few stimuli, or the student has no linear layer.
    """
    layer = find_last_input(student.network)
    if layer is None:
        raise Unmeasurable("the student has no linear layer whose input could be its features")
    if responses.images is None or responses.image_id is None:
        raise Unmeasurable("the fMRI data have no pictures of the stimuli")
    if responses.rois:
        responses = responses.select(list(responses.rois))
    chosen, note = _choose_stimuli(responses, trained_on)
    voxels = {
        roi: take_evenly(np.flatnonzero(mask), _MOST_VOXELS)
        for roi, mask in (responses.rois or {"all": np.ones(responses.responses.shape[1], bool)}).items()
    }
    kept = np.unique(np.concatenate(list(voxels.values())))
    halves = _halves(responses, chosen, kept)
    averaged, names = responses.average()
    assert responses.images is not None
    assert responses.image_id is not None
    measured = averaged[find_rows(names, chosen)[0]][:, kept]
    pictures = np.asarray(responses.images)[find_rows(responses.image_id, chosen)[0]]
    pictures = fit_pictures(pictures, tuple(student.description["image_shape"]))
    features = _read(student, pictures, layer, device)
    before = _read(_untrained(student, seed), pictures, layer, device)
    folds = numpy_generator(0, "brain_score", "folds").permutation(len(chosen)) % _FOLDS
    ceiling = None if responses.ceiling is None else responses.ceiling[kept]
    trained, untrained = (brain_score(x, measured, folds, ceiling) for x in (features, before))
    found = {}
    for roi, own in voxels.items():
        place = np.searchsorted(kept, own)
        normalised = trained.normalised_r[place]
        normalised = normalised[np.isfinite(normalised)]
        found[roi] = {
            "r": float(np.median(trained.r[place])),
            "normalised_r": float(np.median(normalised)) if normalised.size else None,
            "untrained_r": float(np.median(untrained.r[place])),
        } | _resemblance(features, [half[:, place] for half in halves] or [measured[:, place]])
    brain = {roi: measured[:, np.searchsorted(kept, own)] for roi, own in voxels.items()}
    return found, note, make_rdms(chosen, _labels(responses, chosen), features, brain)


def _choose_stimuli(responses: Responses, trained_on: Collection[str]) -> tuple[np.ndarray, str | None]:
    """Ids of the stimuli, sorted, and a note where the student was trained on some of them."""
    assert responses.image_id is not None
    known = np.intersect1d(responses.image_id, responses.stimulus_id)
    if len(known) < _LEAST:
        raise Unmeasurable(f"only {len(known)} stimuli have a picture and responses; at least {_LEAST} are needed")
    seen = np.isin(known, np.array(sorted(trained_on), str))
    if (~seen).sum() >= _LEAST_UNSEEN or not seen.any():
        return take_evenly(known[~seen], _MOST_STIMULI), None
    chosen = take_evenly(known, _MOST_STIMULI)
    number = int(np.isin(chosen, known[seen]).sum())
    return chosen, (
        f"brain_score: students were trained on {number} of the {len(chosen)} stimuli (fewer than {_LEAST_UNSEEN} others are "
        "left), so a score above the untrained network's may be what they remember"
    )


def _labels(responses: Responses, chosen: np.ndarray) -> np.ndarray | None:
    return None if responses.label is None else responses.label[find_rows(responses.stimulus_id, chosen)[0]]


def _halves(responses: Responses, chosen: np.ndarray, kept: np.ndarray) -> list[np.ndarray]:
    """Mean over every other repeat of each stimulus, twice; nothing where a stimulus was shown only once."""
    row, wanted = find_rows(chosen, responses.stimulus_id)
    trials = np.flatnonzero(wanted)
    trials = trials[np.argsort(row[trials], kind="stable")]
    counts = np.bincount(row[trials], minlength=len(chosen))
    if counts.min() < 2:
        return []
    turn = np.arange(len(trials)) - np.repeat(np.cumsum(counts) - counts, counts)
    found = []
    for half in (0, 1):
        own = trials[turn % 2 == half]
        sums = np.zeros((len(chosen), len(kept)))
        np.add.at(sums, row[own], np.asarray(responses.responses[own])[:, kept])
        found.append(sums / np.bincount(row[own], minlength=len(chosen))[:, None])
    return found


def _resemblance(features: np.ndarray, measured: list[np.ndarray]) -> dict[str, Any]:
    """RSA with one or two sets of responses, and the bounds that two give."""
    try:
        own, tables = rdm(features), [rdm(part) for part in measured]
        bounds = list(rdm_noise_ceiling(tables)) if len(tables) > 1 else None
        return {"rsa": float(np.mean([compare_rdms(own, table) for table in tables])), "rsa_ceiling": bounds}
    except ValueError:  # an ROI of one voxel, or a student whose features are the same everywhere
        return {"rsa": None, "rsa_ceiling": None}


def _untrained(student: Student, seed: int) -> Student:
    known = student.description
    shape = tuple(known["image_shape"])
    return Student(build(known["name"], len(known["classes"]), shape, seed, **known["options"]), known).eval()


@torch.no_grad()
def _read(student: Student, pictures: np.ndarray, layer: str, device: str) -> np.ndarray:
    """What the student's last linear layer is given (pictures × width)."""
    seen: dict[str, torch.Tensor] = {}
    (handle,) = keep(student.network, [layer], seen)
    student.to(device)
    rows = []
    try:
        for start in range(0, len(pictures), _BATCH):
            student(torch.from_numpy(np.array(pictures[start : start + _BATCH])))
            rows.append(average_places(seen[layer]).float().cpu().numpy())
    except KeyError:
        raise UserError(f"student={student.description['name']}: a pass doesn't use its last linear layer") from None
    finally:
        handle.remove()
    return np.concatenate(rows)

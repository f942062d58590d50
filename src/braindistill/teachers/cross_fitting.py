"""The decoder, cross-fitted on measured responses: the part that every teacher with a decoder shares."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.runtime import Runtime, derive, progress, say, warn
from braindistill.teachers.answer import SEVERAL, UNSEEN
from braindistill.teachers.brain_teacher import BrainTeacher, Member
from braindistill.teachers.calibration import calibrate, log_softmax
from braindistill.teachers.chosen_voxels import choose_voxels, widen
from braindistill.teachers.continuing import earlier_folds, earlier_stimuli
from braindistill.teachers.decoder import fit_decoder_model
from braindistill.teachers.folds import Folds, average_stimuli, make_folds, stimuli_of
from braindistill.teachers.options import DecoderOptions
from braindistill.teachers.voxel_layout import voxel_layout

#: decoders that are fitted in no time, so that every ROI can be scored on its own beside the teacher's voxels
_QUICK = ("lda", "logistic", "ridge", "prototype")


class Labels(NamedTuple):
    """The labels a decoder may use.

    Attributes
    ----------
    classes : names of the classes
    of_stimulus : stimulus id → class index; stimuli that are absent are unlabelled
    source : ``student`` (the student's labelled images and no others) or ``all``
    """

    classes: list[str]
    of_stimulus: dict[str, int]
    source: str


@dataclass
class DecoderFit:
    """How decoders are fitted on some of the trials of a subject.

    Attributes
    ----------
    data, known, options, seed : as in `cross_fit_decoder`
    fold : who is held out when
    classes : (stimuli) class index, −1 = unlabelled
    together : scale all columns by one number (features in the place of voxels)
    start : a teacher that is continued
    seen : (stimuli) whether decoders may have been fitted on it: labelled ones, and those of the teacher that is continued
    runtime : how a network's training is run
    """

    data: Responses
    known: Labels
    options: DecoderOptions
    fold: Folds
    classes: np.ndarray
    seed: int
    together: bool = False
    start: BrainTeacher | None = None
    runtime: Runtime | None = None

    @functools.cached_property
    def seen(self) -> np.ndarray:
        earlier = [] if self.start is None else list(self.start.fitted_on())
        return (self.classes >= 0) | np.isin(stimuli_of(self.data)[0], earlier)

    def fit(self, trials: np.ndarray, columns: np.ndarray, k: int, member: int | None = None) -> Any:
        """Fit a decoder on some trials and voxels; ``k`` is the fold, which seeds it and says what it may continue."""
        of_stimulus = stimuli_of(self.data)[1]
        labels, n_voxels = self.classes[of_stimulus[trials]], len(columns)
        chosen = choose_voxels(self.values(trials, columns), labels, self.options.top_voxels)
        columns = columns[chosen]
        layout = None
        if self.options.decoder == "resnet1d":
            rois = {name: mask[columns] for name, mask in self.data.rois.items()}
            places = self.data.voxel_coordinates
            places = None if places is None else places[columns]
            layout = voxel_layout(rois, places, len(columns), self.options.channels)
        start = None
        if self.start is not None and member is not None:
            older = self.start.members[member].decoders
            start = older[k % len(older)]
            if self.options.top_voxels is not None or "chosen" in start.describe():
                raise UserError(
                    "teacher.init_from: with teacher.top_voxels each decoder chooses its own voxels, so none can be "
                    "continued; leave teacher.top_voxels out of both teachers"
                )
        decoder = fit_decoder_model(
            self.options,
            self.values(trials, columns),
            labels,
            len(self.known.classes),
            groups=self.fold.of_trial[trials] if self.fold.scheme == "run" else of_stimulus[trials],
            layout=layout,
            together=self.together,
            seed=derive(self.seed, "decoder", k),
            start=start,
            runtime=self.runtime,
        )
        return widen(decoder, chosen, n_voxels)

    def values(self, trials: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Responses of some trials and voxels."""
        responses = np.asarray(self.data.responses)
        return (responses if len(columns) == responses.shape[1] else responses[:, columns])[trials]

    def cross_fit(self, columns: np.ndarray, member: int | None = None) -> tuple[list[Any], np.ndarray]:
        """A decoder a fold, and the log-probabilities of every trial, averaged over the folds that may speak about it."""
        of_trial = stimuli_of(self.data)[1]
        labelled, seen = self.classes[of_trial] >= 0, self.seen[of_trial]
        spoken = np.zeros((len(of_trial), len(self.known.classes)))
        times = np.zeros((len(of_trial), 1))
        decoders = []
        for k in progress(range(self.fold.number), "decoder folds"):
            held = (self.fold.of_trial == k) & (self.fold.number > 1)
            decoders.append(self.fit(np.flatnonzero(labelled & ~held), columns, k, member))
            # it may have seen any such stimulus outside the fold; by run, it saw every other run's trials of the stimulus
            admitted = held | ~seen if self.fold.scheme != "run" else held
            rows = np.flatnonzero(admitted | (self.fold.number == 1))
            spoken[rows] += decoders[-1].predict(self.values(rows, columns))
            times[rows] += 1
        return decoders, spoken / np.maximum(times, 1)


def cross_fit_decoder(
    data: Responses,
    known: Labels,
    options: DecoderOptions,
    members: dict[str, np.ndarray],
    folds: str,
    n_folds: int,
    seed: int,
    *,
    together: bool = False,
    start: BrainTeacher | None = None,
    runtime: Runtime | None = None,
) -> tuple[BrainTeacher, DecoderFit]:
    """Cross-fit a decoder on measured responses, or on features in their place (which are scaled ``together``).

    Parameters
    ----------
    members : ROI → index of its voxels: a decoder each, whose log-probabilities are averaged
    start : the teacher that is continued
    """
    names, of_trial = stimuli_of(data)
    classes = np.array([known.of_stimulus.get(name, -1) for name in names.tolist()])
    if not (classes >= 0).any():
        raise UserError(_no_labels(known))
    if start is not None and [member.roi for member in start.members] != list(members):
        raise UserError(
            f"teacher.init_from: the older teacher has decoders of {_rois(member.roi for member in start.members)}, "
            f"this one of {_rois(members)}; give the same teacher.roi"
        )
    fold = make_folds(data, classes, folds, n_folds, seed, earlier_folds(start))
    say(f"decoder: {fold.sentence()}, labels of {int((classes >= 0).sum())} stimuli ({known.source})", level=2)
    labelled = classes[of_trial] >= 0
    work = DecoderFit(data, known, options, fold, classes, seed, together, start, runtime=runtime)
    fitted, total = [], np.zeros((len(of_trial), len(known.classes)))
    scores: dict[str, Any] = {"roi": {}}
    in_sample = fold.number == 1
    for m, (roi, columns) in enumerate(members.items()):
        decoders, spoken = work.cross_fit(columns, m)
        # repeats are averaged in log-probability
        measured = np.zeros((len(names), len(known.classes)))
        np.add.at(measured, of_trial, spoken)
        measured = log_softmax(measured / np.bincount(of_trial)[:, None])
        fitted.append(Member(roi, columns, decoders, measured))
        total += spoken
        if roi and not in_sample:
            scores["roi"][roi] = {"decoder": _decoder_score(spoken[labelled], classes[of_trial][labelled], fold)}
    teacher = BrainTeacher("", known.classes, None, names, average_stimuli(data))
    teacher.members, teacher.scores = fitted, scores
    teacher.rois = {name: np.flatnonzero(mask) for name, mask in data.rois.items()}
    teacher.held = _held(fold, of_trial, len(names))
    if start is not None:
        # folds by run have nothing to do with the older ones, so that none of them holds an older stimulus out
        teacher.before = earlier_stimuli(start, names)
        if fold.scheme == "run":
            teacher.before = {name: (SEVERAL, roles) for name, (_, roles) in teacher.before.items()}
    used = (classes >= 0) & ((teacher.held != np.arange(fold.number)[:, None]) | in_sample)
    teacher.roles = np.where(used, "d", "-")
    teacher.spoken = np.where(work.seen | (fold.scheme == "run"), teacher.held, UNSEEN).astype(np.int16)
    teacher.in_sample = in_sample & work.seen
    teacher.labelled = names[classes >= 0].tolist()
    scored = np.flatnonzero(classes >= 0)
    if in_sample:
        warn(
            "teacher.n_folds=1: nothing is held out, so there are no scores, and soft labels of labelled stimuli are in sample"
        )
        right = total[labelled].argmax(1) == classes[of_trial][labelled]
        scores["in_sample"] = {"accuracy": float(right.mean()), "chance": chance(classes[scored])}
        return teacher, work
    teacher.temperature["measured"] = calibrate(teacher.measured()[scored], classes[scored])
    scores["decoder"] = _decoder_score(total[labelled], classes[of_trial][labelled], fold)
    scores["decoder"] |= {"temperature": teacher.temperature["measured"], "model": fitted[0].decoders[0].describe()}
    if options.decoder in _QUICK:
        for name, mask in data.rois.items():
            if name not in scores["roi"]:
                columns = np.flatnonzero(mask)
                rows = total if len(members) == 1 and mask.all() else work.cross_fit(columns)[1]
                scores["roi"][name] = {"decoder": _decoder_score(rows[labelled], classes[of_trial][labelled], fold)}
    return teacher, work


def _held(fold: Folds, of_trial: np.ndarray, n_stimuli: int) -> np.ndarray:
    """The fold that holds each stimulus out; `SEVERAL` where its trials lie in several."""
    held = np.empty(n_stimuli, np.int16)
    held[of_trial] = fold.of_trial
    mixed = np.unique(of_trial[held[of_trial] != fold.of_trial])
    held[mixed] = SEVERAL
    return held


def _decoder_score(rows: np.ndarray, classes: np.ndarray, fold: Folds) -> dict[str, Any]:
    right = rows.argmax(1) == classes
    return {
        "accuracy": float(right.mean()),
        "n_trials": len(classes),
        "chance": chance(classes),
        "scheme": fold.sentence(),
    }


def chance(classes: np.ndarray) -> float:
    """Accuracy of always naming the commonest class."""
    return float(np.bincount(classes).max() / len(classes))


def _rois(names: Iterable[str]) -> str:
    return ", ".join(name or "all voxels together" for name in names)


def _no_labels(known: Labels) -> str:
    if known.source == "student":
        return (
            "teacher.labels=student: none of the student's labelled training images was shown in the scanner; "
            "let the stimuli join them (images.stimuli=true) or use the data's own labels (teacher.labels=all)"
        )
    return "teacher.labels=all: the fMRI data have no labels, so there is nothing to fit a decoder on"

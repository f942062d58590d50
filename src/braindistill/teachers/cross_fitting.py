"""The decoder, cross-fitted on measured responses: the part that every teacher with a decoder shares."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.runtime import say, warn
from braindistill.teachers.artifact import BrainTeacher
from braindistill.teachers.decoder import LinearDecoder, calibrate, fit_decoder_model, log_softmax
from braindistill.teachers.folds import Folds, make_folds, stimuli_of


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


def cross_fit_decoder(
    data: Responses,
    known: Labels,
    folds: str,
    n_folds: int,
    decoder: str,
    penalty: float,
    seed: int,
    *,
    together: bool = False,
) -> tuple[BrainTeacher, Folds, np.ndarray]:
    """Cross-fit the decoder on measured responses, or on features in their place (which are scaled ``together``)."""
    names, of_trial = stimuli_of(data)
    classes = np.array([known.of_stimulus.get(name, -1) for name in names.tolist()])
    if not (classes >= 0).any():
        raise UserError(_no_labels(known))
    fold = make_folds(data, classes, folds, n_folds, seed)
    say(f"decoder: {fold.sentence()}, labels of {int((classes >= 0).sum())} stimuli ({known.source})", level=2)
    labelled = classes[of_trial] >= 0
    models: list[LinearDecoder] = []
    admitted = np.zeros((len(of_trial), fold.number), bool)  # may fold k speak about trial t?
    for k in range(fold.number):
        held = (fold.of_trial == k) & (fold.number > 1)
        models.append(
            fit_trials(data, np.flatnonzero(labelled & ~held), classes[of_trial], known, decoder, penalty, together)
        )
        # the decoder saw the labelled stimuli outside the fold; by run, it saw every other run's trials of the stimulus
        admitted[:, k] = held | ~labelled if fold.scheme != "run" else held
    in_sample = fold.number == 1
    if in_sample:
        admitted[:] = True
    spoken = np.zeros((len(of_trial), len(known.classes)))
    for k, model in enumerate(models):
        rows = np.flatnonzero(admitted[:, k])
        spoken[rows] += model.predict(np.asarray(data.responses)[rows])
    spoken /= np.maximum(admitted.sum(1, keepdims=True), 1)
    # repeats are averaged in log-probability
    measured = np.zeros((len(names), len(known.classes)))
    np.add.at(measured, of_trial, spoken)
    measured = log_softmax(measured / np.bincount(of_trial)[:, None])
    scored = np.flatnonzero(classes >= 0)
    temperature = 1.0 if in_sample else calibrate(measured[scored], classes[scored])
    scores: dict[str, Any] = {"roi": {}}
    if not in_sample:
        scores["decoder"] = _decoder_score(spoken[labelled], classes[of_trial][labelled], fold, temperature)
        whole = data.responses.shape[1]
        for name, mask in data.rois.items():
            if mask.sum() == whole:
                scores["roi"][name] = {"decoder": scores["decoder"]}
                continue
            part = Responses(np.asarray(data.responses)[:, mask], data.stimulus_id)
            out = np.zeros_like(spoken)
            for k in range(fold.number):
                held = fold.of_trial == k
                train = np.flatnonzero(labelled & ~held)
                model = fit_trials(part, train, classes[of_trial], known, decoder, penalty, together)
                out[held] = model.predict(part.responses[held])
            scores["roi"][name] = {"decoder": _decoder_score(out[labelled], classes[of_trial][labelled], fold, None)}
    else:
        warn(
            "teacher.n_folds=1: nothing is held out, so there are no scores, and soft labels of labelled stimuli are in sample"
        )
    teacher = BrainTeacher("", known.classes, None, [], models, names, measured, in_sample & (classes >= 0), scores)
    teacher.temperature["measured"] = temperature
    teacher.labelled, teacher.seed = names[scored].tolist(), seed
    return teacher, fold, classes


def fit_trials(
    data: Responses,
    trials: np.ndarray,
    classes: np.ndarray,
    known: Labels,
    decoder: str,
    penalty: float,
    together: bool = False,
) -> LinearDecoder:
    chosen = np.asarray(data.responses)[trials]
    return fit_decoder_model(decoder, chosen, classes[trials], len(known.classes), penalty, together=together)


def _decoder_score(rows: np.ndarray, classes: np.ndarray, fold: Folds, temperature: float | None) -> dict[str, Any]:
    score = {
        "accuracy": float((rows.argmax(1) == classes).mean()),
        "n_trials": len(classes),
        "chance": chance(classes),
        "scheme": fold.sentence(),
    }
    return score | ({} if temperature is None else {"temperature": temperature})


def chance(classes: np.ndarray) -> float:
    """Accuracy of always naming the commonest class."""
    return float(np.bincount(classes).max() / len(classes))


def _no_labels(known: Labels) -> str:
    if known.source == "student":
        return (
            "teacher.labels=student: none of the student's labelled training images was shown in the scanner; "
            "let the stimuli join them (images.stimuli=true) or use the data's own labels (teacher.labels=all)"
        )
    return "teacher.labels=all: the fMRI data have no labels, so there is nothing to fit a decoder on"

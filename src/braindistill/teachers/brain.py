"""Brain teachers: encoder (image → voxels), decoder (voxels → class), and the two composed.

An image that was seen in the scanner gets its soft label from its measured responses, any other image from predicted
ones. Everything that is scored or exported for a stimulus comes from folds that hold it out, and inside a fold encoder
and decoder never share a stimulus: fitted on the same ones, their product is a classifier of images that needs no brain.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.runtime import progress
from braindistill.teachers.artifact import BrainTeacher
from braindistill.teachers.controls import control_responses
from braindistill.teachers.cross_fitting import Labels, chance, cross_fit_decoder, fit_trials
from braindistill.teachers.decoder import calibrate
from braindistill.teachers.encoder import Ridge, correlate, fit_ridge
from braindistill.teachers.features import ImageFeatures
from braindistill.teachers.folds import Folds, make_folds, split_roles, stimuli_of


def fit_encoder(
    responses: Responses,
    known: Labels | None,
    device: str,
    *,
    roi: str | list[str] = "all",
    nuisance: str = "nuisance",
    control: Literal["shuffled_fmri", "nuisance"] | None = None,
    features: Literal["pixels", "gabor", "network"] = "pixels",
    network: str | None = None,
    layers: list[str] = [],  # noqa: B006 (read as config schema, never mutated)
    weights: Path | None = None,
    image_size: int = 224,
    folds: Literal["auto", "stimulus"] = "auto",
    n_folds: int = 5,
    seed: int = 0,
) -> BrainTeacher:
    """Image → voxels: scored out of fold; can export voxel targets, not soft labels.

    Parameters are those of `fit_brain`.
    """
    data = control_responses(responses, control, roi, nuisance, seed)
    seer = ImageFeatures(features, _picture_shape(data), network, layers, _text(weights), image_size)
    inputs, averaged, names = _encoder_data(data, seer, device)
    fold = make_folds(data, np.full(len(names), -1), "stimulus", n_folds, seed)
    of_stimulus = _fold_of_stimulus(fold, data)
    encoders, predicted = [], np.full_like(averaged, np.nan)
    for k in progress(range(fold.number), "encoder folds"):
        rest, held = _parts(fold, of_stimulus, k)
        encoders.append(fit_ridge(inputs[rest], averaged[rest]))
        predicted[held] = _deviation(encoders[-1], inputs[held])
    teacher = BrainTeacher("encoder", [], seer, encoders, [], names, None, None, {})
    if fold.number > 1:
        teacher.scores = {"roi": {}}
        _score_encoder(teacher, correlate(predicted, averaged), data, fold)
    return teacher


def fit_decoder(
    responses: Responses,
    known: Labels,
    device: str,
    *,
    roi: str | list[str] = "all",
    nuisance: str = "nuisance",
    control: Literal["shuffled_fmri", "nuisance"] | None = None,
    decoder: Literal["lda", "logistic"] = "lda",
    penalty: float = 0.01,
    labels: Literal["all", "student"] = "all",
    folds: Literal["auto", "stimulus", "run"] = "auto",
    n_folds: int = 5,
    seed: int = 0,
) -> BrainTeacher:
    """Voxels → class: soft labels for images that were seen in the scanner, and for no others.

    Parameters are those of `fit_brain`.
    """
    data = control_responses(responses, control, roi, nuisance, seed)
    teacher = cross_fit_decoder(data, known, folds, n_folds, decoder, penalty, seed)[0]
    teacher.name = "decoder"
    return teacher


def fit_brain(
    responses: Responses,
    known: Labels,
    device: str,
    *,
    roi: str | list[str] = "all",
    nuisance: str = "nuisance",
    control: Literal["shuffled_fmri", "nuisance"] | None = None,
    features: Literal["pixels", "gabor", "network"] = "pixels",
    network: str | None = None,
    layers: list[str] = [],  # noqa: B006
    weights: Path | None = None,
    image_size: int = 224,
    decoder: Literal["lda", "logistic"] = "lda",
    penalty: float = 0.01,
    labels: Literal["all", "student"] = "all",
    folds: Literal["auto", "stimulus"] = "auto",
    n_folds: int = 5,
    disjoint: bool = True,
    seed: int = 0,
) -> BrainTeacher:
    """Encoder and decoder, composed under three roles a fold: encoder stimuli, decoder stimuli, held stimuli.

    Parameters
    ----------
    responses, known, device : the subject's trials; labels that may be used; where features are computed
    roi : ``all`` (every voxel outside the nuisance mask), an ROI or a list of them
    nuisance : name of the mask of voxels outside visual cortex
    control : None, ``shuffled_fmri`` (responses dealt to other images) or ``nuisance`` (voxels outside visual cortex)
    features, network, layers, weights, image_size : what the encoder reads from a picture, see `ImageFeatures`
    decoder, penalty : model from voxels to classes, ``lda`` or ``logistic``, and the latter's L2 penalty
    labels : ``student`` = the student's labelled images that were stimuli; ``all`` = every label the data have
    folds, n_folds : what is held out together, and in how many parts; 1 fits once, in sample
    disjoint : keep encoder and decoder stimuli apart. False exists to show the leak, and is marked in every table
    seed : redraws folds, roles and controls

    Raises
    ------
    UserError
        No pictures; each class is a single stimulus (nothing is left to keep apart); a role without stimuli.
    """
    data = control_responses(responses, control, roi, nuisance, seed)
    seer = ImageFeatures(features, _picture_shape(data), network, layers, _text(weights), image_size)
    teacher, fold, classes = cross_fit_decoder(data, known, folds, n_folds, decoder, penalty, seed)
    if fold.scheme == "run":
        raise UserError(
            "teacher=brain: each class is a single stimulus, so encoder and decoder can't have stimuli of their own; "
            "give more labels (images.n_train) or take teacher=decoder"
        )
    inputs, averaged, names = _encoder_data(data, seer, device)
    of_stimulus = _fold_of_stimulus(fold, data)
    _, of_trial = stimuli_of(data)
    predicted = np.full_like(averaged, np.nan)
    composed = np.full((len(names), len(known.classes)), np.nan, np.float32)
    encoders, decoders = [], []
    for k in progress(range(fold.number), "composed folds"):
        rest, held = _parts(fold, of_stimulus, k)
        for_encoder, for_decoder = split_roles(rest, classes, seed, k) if disjoint else (rest, rest)
        trials = np.flatnonzero(np.isin(of_trial, for_decoder) & (classes[of_trial] >= 0))
        if len(for_encoder) < 2 or len(np.unique(classes[of_trial[trials]])) < 2:
            raise UserError(
                f"teacher=brain: fold {k + 1} leaves {len(for_encoder)} stimuli to the encoder and "
                f"{len(np.unique(of_trial[trials]))} labelled ones to the decoder; give more stimuli or labels, or fewer folds"
            )
        encoders.append(fit_ridge(inputs[for_encoder], averaged[for_encoder]))
        decoders.append(fit_trials(data, trials, classes[of_trial], known, decoder, penalty))
        composed[held] = decoders[-1].predict(encoders[-1].predict(inputs[held]))
        whole = encoders[-1] if len(for_encoder) == len(rest) else fit_ridge(inputs[rest], averaged[rest])
        predicted[held] = _deviation(whole, inputs[held])
    teacher.name, teacher.features, teacher.encoders, teacher.decoders = "brain", seer, encoders, decoders
    if fold.number > 1:
        _score_encoder(teacher, correlate(predicted, averaged), data, fold)
        scored = np.flatnonzero(classes >= 0)
        teacher.temperature["predicted"] = calibrate(composed[scored], classes[scored])
        teacher.scores["composed"] = {
            "accuracy": float((composed[scored].argmax(1) == classes[scored]).mean()),
            "n_stimuli": len(scored),
            "chance": chance(classes[scored]),
            "temperature": teacher.temperature["predicted"],
            "scheme": f"{fold.sentence()}, predicted responses of held stimuli, encoder and decoder on "
            + ("disjoint stimuli" if disjoint else "THE SAME stimuli (teacher.disjoint=false)"),
        }
    return teacher


def fit_random_matched(
    responses: Responses,
    known: Labels,
    device: str,
    *,
    roi: str | list[str] = "all",
    nuisance: str = "nuisance",
    features: Literal["pixels", "gabor", "network"] = "pixels",
    network: str | None = None,
    layers: list[str] = [],  # noqa: B006
    weights: Path | None = None,
    image_size: int = 224,
    decoder: Literal["lda", "logistic"] = "lda",
    penalty: float = 0.01,
    labels: Literal["all", "student"] = "all",
    folds: Literal["auto", "stimulus"] = "auto",
    n_folds: int = 5,
    disjoint: bool = True,
    seed: int = 0,
) -> BrainTeacher:
    """The brain teacher, whose exported rows keep their values and the true class's, the other classes' being permuted.

    Rules out that it is regularisation by noise with the right answers. Parameters are those of `fit_brain`.
    """
    chosen = {name: value for name, value in locals().items() if name not in ("responses", "known", "device")}
    teacher = fit_brain(responses, known, device, **chosen)
    teacher.name = "random_matched"
    return teacher


def fit_features(
    responses: Responses,
    known: Labels,
    device: str,
    *,
    features: Literal["pixels", "gabor", "network"] = "pixels",
    network: str | None = None,
    layers: list[str] = [],  # noqa: B006
    weights: Path | None = None,
    image_size: int = 224,
    decoder: Literal["lda", "logistic"] = "lda",
    penalty: float = 0.01,
    labels: Literal["all", "student"] = "all",
    folds: Literal["auto", "stimulus"] = "auto",
    n_folds: int = 5,
    seed: int = 0,
) -> BrainTeacher:
    """The encoder's own image features in the place of voxels: same decoder, folds and labels, no brain.

    Rules out that the images alone carry what the brain is said to carry. Parameters are those of `fit_brain`.
    """
    seer = ImageFeatures(features, _picture_shape(responses), network, layers, _text(weights), image_size)
    inputs, _, names = _encoder_data(responses, seer, device)
    stand_in = Responses(inputs, names, images=responses.images, image_id=responses.image_id)
    teacher, _, _ = cross_fit_decoder(stand_in, known, folds, n_folds, decoder, penalty, seed, together=True)
    teacher.name, teacher.features = "features", seer
    teacher.temperature["predicted"] = teacher.temperature["measured"]
    return teacher


def _encoder_data(data: Responses, seer: ImageFeatures, device: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features and averaged responses of every stimulus, joined on the stimulus id."""
    assert data.images is not None
    assert data.image_id is not None
    averaged, names = data.average()
    order = np.argsort(names)  # as `stimuli_of` has them
    place = {name: row for row, name in enumerate(data.image_id.tolist())}
    rows = [place[name] for name in names[order].tolist()]
    return seer.extract(np.asarray(data.images)[rows], device), averaged[order], names[order]


def _picture_shape(data: Responses) -> tuple[int, int, int]:
    if data.images is None:
        raise UserError(
            "this teacher needs the pictures of the stimuli, and the fMRI data have none; take teacher=decoder"
        )
    return tuple(data.images.shape[1:])  # type: ignore[return-value]


def _fold_of_stimulus(fold: Folds, data: Responses) -> np.ndarray:
    names, of_trial = stimuli_of(data)
    of_stimulus = np.empty(len(names), int)
    of_stimulus[of_trial] = fold.of_trial
    return of_stimulus


def _parts(fold: Folds, of_stimulus: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The stimuli that fold ``k`` may be fitted on, and those that it holds out; a single fold is fitted on all."""
    held = of_stimulus == k
    return np.flatnonzero(~held | (fold.number == 1)), np.flatnonzero(held)


def _score_encoder(teacher: BrainTeacher, r: np.ndarray, data: Responses, fold: Folds) -> None:
    """Keep the out-of-fold r of each voxel, and its summary over all voxels and over each ROI."""
    teacher.voxel_r = r
    teacher.scores["encoder"] = _encoder_score(r, fold)
    for name, mask in data.rois.items():
        teacher.scores["roi"].setdefault(name, {})["encoder"] = _encoder_score(r[mask], fold)


def _deviation(encoder: Ridge, features: np.ndarray) -> np.ndarray:
    """Predictions without the intercept. A fold's mean says nothing about a picture, and it lies opposite to the mean of
    what is held out: pooled over folds it would pull the r of a voxel that nothing predicts below zero."""
    return encoder.predict(features) - encoder.intercept


def _encoder_score(r: np.ndarray, fold: Folds) -> dict[str, Any]:
    return {
        "r_median": float(np.median(r)),
        "r_p95": float(np.percentile(r, 95)),
        "r_max": float(r.max()),
        "n_voxels": len(r),
        "scheme": f"{fold.sentence()}, Pearson r pooled over folds",
    }


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)

"""Brain teachers: encoder (image → voxels), decoder (voxels → class), and the two composed.

An image that was seen in the scanner gets its soft label from its measured responses, any other image from predicted
ones. Everything that is scored or exported for a stimulus comes from folds that hold it out, and inside a fold encoder
and decoder never share a stimulus: fitted on the same ones, their product is a classifier of images that needs no brain.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.runtime import Runtime, progress
from braindistill.teachers.brain_teacher import BrainTeacher
from braindistill.teachers.calibration import calibrate, log_softmax
from braindistill.teachers.continuing import continued, earlier_folds, earlier_stimuli
from braindistill.teachers.controls import control_responses
from braindistill.teachers.cross_fitting import DecoderFit, Labels, chance, cross_fit_decoder
from braindistill.teachers.encoder_fit import EncoderFit
from braindistill.teachers.folds import average_stimuli, make_folds, split_roles, stimuli_of
from braindistill.teachers.options import DecoderOptions, EncoderOptions, FeatureOptions, VoxelOptions
from braindistill.teachers.scoring import score_encoder, summarise_scores
from braindistill.teachers.stimulus_features import StimulusFeatures

#: for calls from Python, where no command has looked for a device
_ALONE = Runtime(device="cpu", tensorboard=False)


def fit_encoder(
    responses: Responses,
    stimuli: StimulusFeatures,
    runtime: Runtime = _ALONE,
    voxels: VoxelOptions = VoxelOptions(),
    features: FeatureOptions = FeatureOptions(),
    encoding: EncoderOptions = EncoderOptions(),
    *,
    folds: Literal["auto", "stimulus"] = "auto",
    n_folds: int = 5,
    init_from: Path | None = None,
    seed: int = 0,
) -> BrainTeacher:
    """Image → voxels: scored out of fold; gives voxels, relations and masks, but no soft labels.

    Parameters are those of `fit_brain`.
    """
    data = control_responses(responses, voxels, seed, stimuli)
    start = continued(init_from, "encoder", data, n_folds, stimuli=stimuli)
    names, of_trial = stimuli_of(data)
    fold = make_folds(data, np.full(len(names), -1), "stimulus", n_folds, seed, earlier_folds(start))
    held = np.empty(len(names), np.int16)
    held[of_trial] = fold.of_trial
    work = EncoderFit(data, average_stimuli(data), stimuli, features, encoding, seed, runtime, start)
    encoders = []
    predicted, deviation = np.full((2, *work.averaged.shape), np.nan, np.float32)
    for k in progress(range(fold.number), "encoder folds"):
        rest = np.flatnonzero((held != k) | (fold.number == 1))
        encoders.append(work.fit(rest, k))
        predicted[held == k] = work.predict(encoders[-1], np.flatnonzero(held == k))
        deviation[held == k] = predicted[held == k] - encoders[-1].intercept
    teacher = BrainTeacher("encoder", [], work.reader, names, work.averaged, encoders, held=held, support=work.support)
    teacher.rois = {name: np.flatnonzero(mask) for name, mask in data.rois.items()}
    teacher.before = {} if start is None else earlier_stimuli(start, names)
    teacher.roles = np.where((held == np.arange(fold.number)[:, None]) & (fold.number > 1), "-", "e")
    if fold.number > 1:
        _score(teacher, work, predicted, deviation, data, f"{fold.sentence()}")
    return teacher


def fit_decoder(
    responses: Responses,
    known: Labels,
    runtime: Runtime = _ALONE,
    voxels: VoxelOptions = VoxelOptions(),
    decoding: DecoderOptions = DecoderOptions(),
    *,
    folds: Literal["auto", "stimulus", "run"] = "auto",
    n_folds: int = 5,
    init_from: Path | None = None,
    original_protocol: bool = False,
    seed: int = 0,
) -> BrainTeacher:
    """Voxels → class: soft labels for images that were seen in the scanner, and for no others.

    Parameters are those of `fit_brain`, and

    original_protocol : the project of 2021, as it was done: in-sample soft labels, passed through a softmax once more at
        0.1. To show what that does; marked as unsound in every table
    """
    data = control_responses(responses, voxels, seed)
    n_folds = 1 if original_protocol else n_folds
    start = continued(init_from, "decoder", data, n_folds, classes=known.classes)
    members = members_of(data, voxels)
    teacher, _ = cross_fit_decoder(data, known, decoding, members, folds, n_folds, seed, start=start, runtime=runtime)
    teacher.name, teacher.original_protocol = "decoder", original_protocol
    return teacher


def fit_brain(
    responses: Responses,
    known: Labels,
    stimuli: StimulusFeatures,
    runtime: Runtime = _ALONE,
    voxels: VoxelOptions = VoxelOptions(),
    features: FeatureOptions = FeatureOptions(),
    encoding: EncoderOptions = EncoderOptions(),
    decoding: DecoderOptions = DecoderOptions(),
    *,
    folds: Literal["auto", "stimulus"] = "auto",
    n_folds: int = 5,
    disjoint: bool = True,
    init_from: Path | None = None,
    seed: int = 0,
) -> BrainTeacher:
    """Encoder and decoder, composed under three roles a fold: encoder stimuli, decoder stimuli, held stimuli.

    Parameters
    ----------
    responses, known, stimuli : the subject's trials; labels that may be used; features of the pictures that were shown
    runtime : device, and how trainings report
    voxels, features, encoding, decoding : options of the parts, see their classes
    folds, n_folds : what is held out together, and in how many parts; 1 fits once, in sample
    disjoint : keep encoder and decoder stimuli apart. False exists to show the leak, and is marked in every table
    init_from : key or folder of a teacher of the same kind to continue from, on other sessions or another subject. Stimuli
        that it knows keep their folds and roles, so that nothing that is held out was ever fitted on
    seed : redraws folds, roles and controls

    Raises
    ------
    UserError
        No pictures; each class is a single stimulus (nothing is left to keep apart); a role without stimuli.
    """
    data = control_responses(responses, voxels, seed, stimuli)
    start = continued(init_from, "brain", data, n_folds, classes=known.classes, stimuli=stimuli, disjoint=disjoint)
    members = members_of(data, voxels)
    teacher, decoder = cross_fit_decoder(
        data, known, decoding, members, folds, n_folds, seed, start=start, runtime=runtime
    )
    fold, classes = decoder.fold, decoder.classes
    if fold.scheme == "run":
        raise UserError(
            "teacher=brain: each class is a single stimulus, so encoder and decoder can't have stimuli of their own; "
            "give more labels (images.n_train) or take teacher=decoder"
        )
    work = EncoderFit(data, teacher.averaged, stimuli, features, encoding, seed, runtime, start)
    teacher.name, teacher.reader = "brain", work.reader
    teacher.roles = np.full((fold.number, len(classes)), "-")
    for member in teacher.members:
        member.decoders = []
    predicted, deviation = np.full((2, *work.averaged.shape), np.nan, np.float32)
    composed = np.full((len(classes), len(known.classes)), np.nan, np.float32)
    for k in progress(range(fold.number), "composed folds"):
        held = np.flatnonzero(teacher.held == k)
        rest = np.flatnonzero((teacher.held != k) | (fold.number == 1))
        older = None if start is None else _older_roles(start, k, decoder)
        for_encoder, for_decoder = split_roles(rest, classes, seed, k, older) if disjoint else (rest, rest)
        teacher.roles[k, for_encoder], teacher.roles[k, for_decoder] = "e", "d" if disjoint else "b"
        trials = _labelled_trials(decoder, for_decoder, k)
        if len(for_encoder) < 2:
            raise UserError(
                f"teacher=brain: fold {k + 1} leaves {len(for_encoder)} stimuli to the encoder; give more stimuli, or "
                "fewer folds"
            )
        encoder = work.fit(for_encoder, k)
        teacher.encoders.append(encoder)
        responses_of_held = work.predict(encoder, held)
        spoken = np.zeros((len(held), len(known.classes)))
        for m, member in enumerate(teacher.members):
            member.decoders.append(decoder.fit(trials, member.columns, k, m))
            spoken += member.decoders[-1].predict(responses_of_held[:, member.columns])
        composed[held] = log_softmax(spoken / len(teacher.members))
        # scored with all the stimuli that it may have; a network is not trained twice for that
        if encoding.encoder != "finetune" and len(for_encoder) < len(rest):
            encoder = work.fit(rest, k)
            responses_of_held = work.predict(encoder, held)
        predicted[held], deviation[held] = responses_of_held, responses_of_held - encoder.intercept
    teacher.support = work.support
    if fold.number > 1:
        _score(teacher, work, predicted, deviation, data, fold.sentence())
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


def fit_features(
    responses: Responses,
    known: Labels,
    stimuli: StimulusFeatures,
    runtime: Runtime = _ALONE,
    features: FeatureOptions = FeatureOptions(),
    decoding: DecoderOptions = DecoderOptions(),
    *,
    folds: Literal["auto", "stimulus"] = "auto",
    n_folds: int = 5,
    seed: int = 0,
) -> BrainTeacher:
    """The encoder's own image features in the place of voxels: same decoder, folds and labels, no brain.

    Rules out that the images alone carry what the brain is said to carry. Parameters are those of `fit_brain`.
    """
    names, _ = stimuli_of(responses)
    values = np.asarray(stimuli.values)[stimuli.rows_of(names)]
    stand_in = Responses(values, names, images=responses.images, image_id=responses.image_id)
    members = {"": np.arange(values.shape[1])}
    teacher, _ = cross_fit_decoder(
        stand_in, known, decoding, members, folds, n_folds, seed, together=True, runtime=runtime
    )
    teacher.name, teacher.reader = "features", stimuli.reader
    teacher.temperature["predicted"] = teacher.temperature["measured"]
    return teacher


def members_of(data: Responses, voxels: VoxelOptions) -> dict[str, np.ndarray]:
    """The ROIs that get a decoder each, with their voxels; one without a name where all voxels go into one.

    Nuisance voxels lie in no ROI, so that control has one decoder.
    """
    if (voxels.roi != "each" and not voxels.ensemble) or voxels.control == "nuisance":
        return {"": np.arange(data.responses.shape[1])}
    names = list(data.rois) if isinstance(voxels.roi, str) else list(voxels.roi)
    members = {name: np.flatnonzero(data.rois[name]) for name in names if name != voxels.nuisance and name in data.rois}
    if not members:
        raise UserError(f"teacher.roi={voxels.roi}: the data name no ROI, so there is none to fit a teacher each for")
    return members


def _labelled_trials(decoder: DecoderFit, stimuli: np.ndarray, k: int) -> np.ndarray:
    """Trials of these stimuli that have a label; there must be two classes of them."""
    of_trial = stimuli_of(decoder.data)[1]
    trials = np.flatnonzero(np.isin(of_trial, stimuli) & (decoder.classes[of_trial] >= 0))
    if len(np.unique(decoder.classes[of_trial[trials]])) < 2:
        raise UserError(
            f"teacher=brain: fold {k + 1} leaves {len(np.unique(of_trial[trials]))} labelled stimuli to the decoder; "
            "give more stimuli or labels, or fewer folds"
        )
    return trials


def _older_roles(start: BrainTeacher, k: int, decoder: DecoderFit) -> np.ndarray:
    """The roles that stimuli had in fold ``k`` of the teacher that is continued; ``-`` for new ones."""
    before = start.fitted_on()
    return np.array([before[name][1][k] if name in before else "-" for name in stimuli_of(decoder.data)[0].tolist()])


def _score(
    teacher: BrainTeacher,
    work: EncoderFit,
    predicted: np.ndarray,
    deviation: np.ndarray,
    data: Responses,
    scheme: str,
) -> None:
    """Keep the out-of-fold scores of every voxel, and their summary over all voxels and over each ROI."""
    found = score_encoder(predicted, deviation, work.averaged, data.ceiling, teacher.held)
    teacher.voxel_scores = found
    teacher.scores["encoder"] = summarise_scores(found, np.arange(len(found["r"])), scheme)
    by_roi = teacher.scores.setdefault("roi", {})
    for name, index in teacher.rois.items():
        by_roi.setdefault(name, {})["encoder"] = summarise_scores(found, index, scheme)

"""Soft labels of measured responses come from folds that hold the stimulus (or the run) out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.teachers import cross_fitting
from braindistill.teachers.brain_teacher import BrainTeacher
from braindistill.teachers.calibration import calibrate, log_softmax
from braindistill.teachers.cross_fitting import DecoderFit, Labels, cross_fit_decoder
from braindistill.teachers.decoder import fit_decoder_model
from braindistill.teachers.folds import make_folds, stimuli_of
from braindistill.teachers.options import DecoderOptions

LOGISTIC = DecoderOptions("logistic", penalty=0.1)

Make = Callable[..., Responses]
Know = Callable[..., Labels]


def cross_fit(subject: Responses, known: Labels, n_folds: int = 4, seed: int = 0) -> tuple[BrainTeacher, DecoderFit]:
    voxels = {"": np.arange(subject.responses.shape[1])}
    return cross_fit_decoder(subject, known, LOGISTIC, voxels, "auto", n_folds, seed)


def fit(subject: Responses, known: Labels, n_folds: int = 4, seed: int = 0) -> BrainTeacher:
    return cross_fit(subject, known, n_folds, seed)[0]


def test_a_stimulus_own_label_never_reaches_its_row(
    make_subject: Make, know: Know, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = make_subject(30, 3, repeats=2)
    known = know(subject)
    before, work = cross_fit(subject, known)
    fold = work.fold
    # folds are balanced by label, so hold them: the label must not come in by any other way
    monkeypatch.setattr(cross_fitting, "make_folds", lambda *_: fold)
    for row in (0, 11, 29):
        name = before.stimulus_id[row]
        wrong = known.of_stimulus | {name: (known.of_stimulus[name] + 1) % 3}
        after = fit(subject, known._replace(of_stimulus=wrong))
        assert np.array_equal(after.measured()[row], before.measured()[row])
        changed = (after.measured() != before.measured()).any(1)
        assert changed.sum() > 20, "while rows of other folds change"


def test_a_stimulus_own_response_never_reaches_the_decoder_of_its_fold(make_subject: Make, know: Know) -> None:
    subject = make_subject(30, 3, repeats=2)
    known = know(subject)
    before, work = cross_fit(subject, known)
    fold = work.fold
    trials = np.flatnonzero(subject.stimulus_id == "s007")
    subject.responses[trials] = 1e3
    after = fit(subject, known)
    assert len(trials) == 2
    for k, (old, new) in enumerate(zip(before.members[0].decoders, after.members[0].decoders, strict=True)):
        assert np.array_equal(old.weights, new.weights) == (k == fold.of_trial[trials[0]])


def test_rows_are_those_of_the_fold_with_repeats_averaged_in_log_probability(make_subject: Make, know: Know) -> None:
    subject = make_subject(24, 2, repeats=3)
    known = know(subject)
    teacher, work = cross_fit(subject, known, 4)
    fold, classes = work.fold, work.classes
    _, of_trial = stimuli_of(subject)
    for k in range(4):
        train = fold.of_trial != k
        by_hand = fit_decoder_model(LOGISTIC, subject.responses[train], classes[of_trial[train]], 2)
        np.testing.assert_array_equal(teacher.members[0].decoders[k].weights, by_hand.weights)
    for row, name in enumerate(teacher.stimulus_id.tolist()):
        trials = np.flatnonzero(subject.stimulus_id == name)
        spoken = teacher.members[0].decoders[fold.of_trial[trials[0]]].predict(subject.responses[trials])
        np.testing.assert_allclose(teacher.measured()[row], log_softmax(spoken.mean(0, keepdims=True))[0], atol=1e-5)
    assert teacher.temperature["measured"] == calibrate(teacher.measured(), classes)
    assert not teacher.in_sample.any()


def test_unlabelled_stimuli_are_averaged_over_all_folds(make_subject: Make, know: Know) -> None:
    subject = make_subject(40, 2, repeats=2)
    known = know(subject, 20, "student")
    teacher = fit(subject, known)
    assert teacher.labelled == sorted(known.of_stimulus)
    for row in (25, 39):
        trials = subject.responses[subject.stimulus_id == teacher.stimulus_id[row]]
        spoken = np.mean([model.predict(trials).mean(0) for model in teacher.members[0].decoders], 0)
        np.testing.assert_allclose(teacher.measured()[row], log_softmax(spoken[None])[0], atol=1e-5)


def test_labels_of_unlabelled_stimuli_are_not_looked_at(make_subject: Make, know: Know) -> None:
    subject = make_subject(40, 2)
    known = know(subject, 20, "student")
    before = fit(subject, known)
    hidden = ~np.isin(subject.stimulus_id, list(known.of_stimulus))
    subject.label[hidden] = "a"
    after = fit(subject, known)
    np.testing.assert_array_equal(after.measured(), before.measured())
    assert after.scores == before.scores


def test_blocks_are_decoded_leave_one_run_out(make_subject: Make, know: Know) -> None:
    """Each class a single stimulus, as in a localiser: a trial is decoded by the model that did not see its run."""
    subject = make_subject(4, 4, repeats=6, runs=3, pictures=False)
    known = know(subject)
    teacher, work = cross_fit(subject, known, 5)
    fold, classes = work.fold, work.classes
    assert (fold.scheme, fold.number, len(teacher.members[0].decoders)) == ("run", 3, 3)
    assert teacher.scores["decoder"]["scheme"] == "leave-one-run-out"
    _, of_trial = stimuli_of(subject)
    spoken = np.empty((24, 4))
    for k, run in enumerate(["run0", "run1", "run2"]):
        held = subject.run == run
        by_hand = fit_decoder_model(LOGISTIC, subject.responses[~held], classes[of_trial[~held]], 4)
        spoken[held] = by_hand.predict(subject.responses[held])
        np.testing.assert_array_equal(teacher.members[0].decoders[k].weights, by_hand.weights)
    right = spoken.argmax(1) == classes[of_trial]
    assert teacher.scores["decoder"]["accuracy"] == right.mean()
    assert teacher.scores["decoder"]["n_trials"] == 24
    np.testing.assert_allclose(
        teacher.measured()[0], log_softmax(spoken[of_trial == 0].mean(0, keepdims=True))[0], atol=1e-5
    )


def test_scores_hold_every_roi_against_chance(make_subject: Make, know: Know) -> None:
    subject = make_subject(60, 3, signal=2.0)
    subject.responses[:, 15:] = np.random.default_rng(0).normal(size=(60, 15))
    subject.rois["all_of_it"] = np.ones(30, bool)
    subject.rois["right"] = ~subject.rois["left"]
    scores = fit(subject, know(subject)).scores
    assert scores["decoder"]["accuracy"] > 0.85
    assert scores["decoder"]["chance"] == pytest.approx(1 / 3)
    assert scores["roi"]["left"]["decoder"]["accuracy"] > 0.85
    assert scores["roi"]["right"]["decoder"]["accuracy"] < 0.6
    assert scores["roi"]["all_of_it"]["decoder"].items() <= scores["decoder"].items()
    assert scores["decoder"]["scheme"] == "4 folds by stimulus"


def test_one_fold_marks_labelled_stimuli_as_in_sample(
    make_subject: Make, know: Know, capsys: pytest.CaptureFixture
) -> None:
    subject = make_subject(30, 2)
    known = know(subject, 10, "student")
    teacher = fit(subject, known, n_folds=1)
    assert teacher.in_sample.tolist() == [True] * 10 + [False] * 20
    assert "decoder" not in teacher.scores
    assert teacher.temperature["measured"] == 1.0
    assert len(teacher.members[0].decoders) == 1
    assert "nothing is held out" in capsys.readouterr().err


def test_in_sample_soft_labels_of_noise_look_right_and_cross_fitted_ones_do_not(make_subject: Make, know: Know) -> None:
    """The leak that made the original project's numbers unsafe: 20 draws of responses that carry nothing."""
    honest, leaky = [], []
    for draw in range(20):
        subject = make_subject(60, 2, voxels=60, signal=0.0, seed=draw)
        known = know(subject)
        truth = np.array(list(known.of_stimulus.values()))
        honest.append((fit(subject, known, seed=draw).measured().argmax(1) == truth).mean())
        leaky.append((fit(subject, known, n_folds=1).measured().argmax(1) == truth).mean())
    error = np.std(honest, ddof=1) / np.sqrt(20)
    assert abs(np.mean(honest) - 0.5) < 2 * error + 0.02
    assert np.mean(leaky) > 0.9


def test_without_labels_there_is_nothing_to_fit(make_subject: Make) -> None:
    subject = make_subject(10, 2)
    with pytest.raises(UserError, match=r"teacher\.labels=student: none of the student's labelled .* in the scanner"):
        fit(subject, Labels(["a", "b"], {"elsewhere": 0}, "student"))
    with pytest.raises(UserError, match=r"teacher\.labels=all: the fMRI data have no labels"):
        fit(subject, Labels(["a", "b"], {}, "all"))


def test_folds_are_the_same_for_the_same_stimuli_whatever_responses_are_dealt_to_them(
    make_subject: Make, know: Know
) -> None:
    from braindistill.teachers.controls import shuffle_pairing

    subject = make_subject(30, 3, repeats=2)
    classes = np.array([know(subject).of_stimulus[name] for name in stimuli_of(subject)[0].tolist()])
    shuffled = shuffle_pairing(subject, 0)
    folds = []
    for data in (subject, shuffled):
        of_trial = make_folds(data, classes, "auto", 4, 0).of_trial
        folds.append(dict(zip(data.stimulus_id.tolist(), of_trial.tolist(), strict=True)))
    assert folds[0] == folds[1]

"""The composed teacher: three roles a fold, and what happens where the rule of disjoint stimuli is broken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.teachers import cross_fitting, encoder_fit
from braindistill.teachers.brain_teacher import BrainTeacher
from braindistill.teachers.calibration import log_softmax
from braindistill.teachers.cross_fitting import Labels
from braindistill.teachers.encoder import correlate, fit_ridge
from braindistill.teachers.folds import make_folds, stimuli_of

Fit = Callable[..., BrainTeacher]
Make = Callable[..., Responses]
Know = Callable[..., Labels]


def accuracy(teacher: BrainTeacher, subject: Responses) -> float:
    """Of predicted responses to the pictures of another subject's stimuli (the same classes, other pictures)."""
    assert subject.label is not None
    rows = teacher.decode(teacher.reader.extract(subject.images[_pictures(subject)]))
    return float((np.array(teacher.classes)[rows.argmax(1)] == subject.label).mean())


def _pictures(subject: Responses) -> list[int]:
    place = {name: row for row, name in enumerate(subject.image_id.tolist())}
    return [place[name] for name in subject.stimulus_id.tolist()]


def halves(subject: Responses) -> tuple[Responses, Responses]:
    """A subject of half the stimuli, and the other half as pictures that were never shown."""
    names = np.unique(subject.stimulus_id)
    parts = []
    for chosen in (names[::2], names[1::2]):
        trials = np.isin(subject.stimulus_id, chosen)
        parts.append(
            Responses(
                subject.responses[trials],
                subject.stimulus_id[trials],
                label=subject.label[trials],
                rois=subject.rois,
                images=subject.images,
                image_id=subject.image_id,
            )
        )
    return parts[0], parts[1]


def test_disjoint_stimuli_keep_noise_at_chance_and_shared_ones_do_not(fit: Fit, make_subject: Make, know: Know) -> None:
    """The rule of disjoint stimuli: noise that both were fitted on is a kernel classifier of pictures."""
    found: dict[bool, list[float]] = {True: [], False: []}
    scored: list[float] = []
    for draw in range(20):
        shown, unseen = halves(make_subject(120, 2, voxels=60, signal=0.0, seed=draw))
        for disjoint, values in found.items():
            teacher = fit("brain", shown, know(shown), n_folds=3, disjoint=disjoint, seed=draw)
            values.append(accuracy(teacher, unseen))
            if disjoint:
                scored.append(teacher.scores["composed"]["accuracy"])
    for honest in (found[True], scored):
        assert abs(np.mean(honest) - 0.5) < 2 * np.std(honest, ddof=1) / np.sqrt(20) + 0.02
    assert np.mean(found[False]) > 0.75


def test_signal_gets_through(fit: Fit, make_subject: Make, know: Know) -> None:
    shown, unseen = halves(make_subject(160, 2, voxels=40, signal=1.0))
    teacher = fit("brain", shown, know(shown), n_folds=4)
    assert accuracy(teacher, unseen) > 0.85
    assert teacher.scores["composed"]["accuracy"] > 0.8
    assert teacher.scores["composed"]["n_stimuli"] == 80
    assert teacher.scores["composed"]["temperature"] == teacher.temperature["predicted"]
    assert "disjoint stimuli" in teacher.scores["composed"]["scheme"]
    assert teacher.scores["encoder"]["r_p95"] > 0.4
    assert teacher.scores["encoder"]["n_voxels"] == 36, "voxels outside the nuisance mask"
    assert set(teacher.scores["roi"]) == {"left"}
    assert set(teacher.scores["roi"]["left"]) == {"encoder", "decoder"}
    shared = fit("brain", shown, know(shown), n_folds=2, disjoint=False)
    assert "THE SAME stimuli (teacher.disjoint=false)" in shared.scores["composed"]["scheme"]


@pytest.mark.parametrize("n_labelled", [60, 20])
@pytest.mark.parametrize("disjoint", [True, False])
def test_who_is_fitted_on_what(
    fit: Fit, make_subject: Make, know: Know, monkeypatch: pytest.MonkeyPatch, n_labelled: int, disjoint: bool
) -> None:
    """Seen from outside: voxel 0 says which stimulus a response belongs to, and models record what they are given."""
    subject = make_subject(60, 2, repeats=2)
    subject.rois = {}
    names, of_trial = stimuli_of(subject)
    subject.responses[:, 0] = of_trial
    known = know(subject, n_labelled, "student")
    encoded: list[set[int]] = []
    decoded: list[set[int]] = []

    def ridge(stimuli: Any, rows: np.ndarray, responses: np.ndarray, **options: Any) -> Any:
        encoded.append(set(responses[:, 0].round().astype(int).tolist()))
        return fit_ridge(stimuli, rows, responses, **options)

    def decoder(options: Any, responses: np.ndarray, *rest: Any, **more: Any) -> Any:
        decoded.append(set(responses[:, 0].round().astype(int).tolist()))
        return fit_decoder_model(options, responses, *rest, **more)

    fit_decoder_model = cross_fitting.fit_decoder_model
    monkeypatch.setattr(encoder_fit, "fit_ridge", ridge)
    monkeypatch.setattr(cross_fitting, "fit_decoder_model", decoder)
    fit("brain", subject, known, n_folds=3, disjoint=disjoint, seed=5)
    classes = np.array([known.of_stimulus.get(name, -1) for name in names.tolist()])
    fold = make_folds(subject, classes, "auto", 3, 5)
    # a second encoder, on all that is not held, is there for the encoding score only
    composed = encoded[::2] if disjoint else encoded
    decoded = decoded[3:]  # those of measured responses come first
    assert len(composed) == len(decoded) == 3
    for k in range(3):
        held = set(of_trial[fold.of_trial == k].tolist())
        assert not held & (composed[k] | decoded[k])
        assert decoded[k] <= set(np.flatnonzero(classes >= 0).tolist())
        assert bool(composed[k] & decoded[k]) != disjoint
        if disjoint:
            assert composed[k] | decoded[k] | held == set(range(60)), "every stimulus has a role"
            assert encoded[2 * k + 1] == set(range(60)) - held


def test_a_held_stimulus_changes_nothing_in_its_fold(
    fit: Fit, make_subject: Make, know: Know, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = make_subject(40, 2)
    known = know(subject)
    before = fit("brain", subject, known, n_folds=4)
    names, _ = stimuli_of(subject)
    classes = np.array([known.of_stimulus[name] for name in names.tolist()])
    fold = make_folds(subject.select("all"), classes, "auto", 4, 0)
    monkeypatch.setattr(cross_fitting, "make_folds", lambda *_: fold)
    name = "s005"
    trial = np.flatnonzero(subject.stimulus_id == name)
    subject.responses[trial] = 1e3
    known.of_stimulus[name] = 1 - known.of_stimulus[name]
    after = fit("brain", subject, known, n_folds=4)
    own = fold.of_trial[trial[0]]
    for k in range(4):
        same = [
            np.array_equal(getattr(old[k], part), getattr(new[k], part))
            for old, new, part in (
                (before.encoders, after.encoders, "coefficients"),
                (before.members[0].decoders, after.members[0].decoders, "weights"),
            )
        ]
        assert all(same) if k == own else not all(same)


def test_an_encoder_is_scored_out_of_fold(fit: Fit, make_subject: Make) -> None:
    subject = make_subject(50, 2, repeats=2)
    teacher = fit("encoder", subject, n_folds=5, seed=3)
    data = subject.select("all")
    fold = make_folds(data, np.full(50, -1), "stimulus", 5, 3)
    names, _ = stimuli_of(data)
    of_stimulus = dict(zip(data.stimulus_id.tolist(), fold.of_trial.tolist(), strict=True))
    averaged = np.stack([data.responses[data.stimulus_id == name].mean(0) for name in names.tolist()])
    pictures = data.images[[data.image_id.tolist().index(name) for name in names.tolist()]]
    predicted = np.empty_like(averaged)
    for k in range(5):
        held = np.array([of_stimulus[name] == k for name in names.tolist()])
        encoder = teacher.encoders[k]
        predicted[held] = encoder.predict(teacher.reader.extract(pictures[held])) - encoder.intercept
    r = correlate(predicted, averaged)
    np.testing.assert_allclose(teacher.voxel_r, r, atol=1e-5)
    score = teacher.scores["encoder"]
    assert score["r_median"] == pytest.approx(np.median(r), abs=1e-5)
    assert score["r_p95"] == pytest.approx(np.percentile(r, 95), abs=1e-5)
    assert score["r_max"] == pytest.approx(r.max(), abs=1e-5)
    assert score["scheme"] == "5 folds by stimulus, Pearson r pooled over folds"
    assert teacher.scores["roi"]["left"]["encoder"]["n_voxels"] == 15


def test_an_encoder_without_folds_has_no_scores(fit: Fit, make_subject: Make) -> None:
    teacher = fit("encoder", make_subject(20, 2), n_folds=1)
    assert (teacher.scores, teacher.voxel_r, len(teacher.encoders)) == ({}, None, 1)


def test_a_decoder_alone_is_the_brain_teachers_measured_half(fit: Fit, make_subject: Make, know: Know) -> None:
    subject = make_subject(40, 2)
    alone = fit("decoder", subject, know(subject), n_folds=4, seed=1)
    whole = fit("brain", subject, know(subject), n_folds=4, seed=1)
    assert alone.name == "decoder"
    np.testing.assert_array_equal(alone.measured(), whole.measured())
    assert alone.scores["decoder"] == whole.scores["decoder"]
    assert alone.temperature["measured"] == whole.temperature["measured"]


def test_the_features_control_reads_pictures_and_no_voxels(fit: Fit, make_subject: Make, know: Know) -> None:
    shown, unseen = halves(make_subject(120, 2, signal=0.0))
    teacher = fit("features", shown, know(shown), n_folds=4)
    assert teacher.scores["decoder"]["accuracy"] > 0.9, "pictures tell the classes apart, though no voxel does"
    assert accuracy(teacher, unseen) > 0.9
    shown.responses[:] = 7.0
    again = fit("features", shown, know(shown), n_folds=4)
    np.testing.assert_array_equal(again.measured(), teacher.measured())
    assert teacher.temperature["predicted"] == teacher.temperature["measured"]
    # a picture that was never shown: the mean over folds of what decoders say about its features
    pictures = unseen.images[:3]
    spoken = np.mean([model.predict(teacher.reader.extract(pictures)) for model in teacher.members[0].decoders], 0)
    np.testing.assert_allclose(teacher.decode(teacher.reader.extract(pictures)), log_softmax(spoken), atol=1e-5)


def test_controls_have_the_folds_of_the_brain_teacher(
    fit: Fit, make_subject: Make, know: Know, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = make_subject(40, 2, repeats=2)
    folds: list[dict[str, int]] = []

    def spy(data: Responses, *rest: Any) -> Any:
        fold = make_folds(data, *rest)
        folds.append(dict(zip(data.stimulus_id.tolist(), fold.of_trial.tolist(), strict=True)))
        return fold

    monkeypatch.setattr(cross_fitting, "make_folds", spy)
    fit("brain", subject, know(subject), seed=2)
    fit("brain", subject, know(subject), seed=2, control="shuffled_fmri")
    fit("brain", subject, know(subject), seed=2, control="nuisance", roi="left")
    fit("features", subject, know(subject), seed=2)
    assert folds[0] == folds[1] == folds[2] == folds[3]
    fit("features", subject, know(subject), seed=3)
    assert folds[0] != folds[4]


def test_a_composed_teacher_needs_pictures_and_stimuli_for_each_role(fit: Fit, make_subject: Make, know: Know) -> None:
    subject = make_subject(20, 2, pictures=False)
    for name in ("brain", "encoder", "features"):
        with pytest.raises(UserError, match="needs the pictures of the stimuli"):
            fit(name, subject, know(subject))
    blocks = make_subject(3, 3, repeats=4, runs=2)
    with pytest.raises(UserError, match="each class is a single stimulus"):
        fit("brain", blocks, know(blocks))
    few = make_subject(4, 2)
    with pytest.raises(UserError, match="fold 1 leaves 1 labelled stimuli to the decoder"):
        fit("brain", few, know(few), n_folds=2)
    lone = make_subject(20, 2)
    known = Labels(["a", "b"], {"s000": 0, "s001": 1}, "student")
    with pytest.raises(UserError, match=r"each class is a single stimulus.*0 run\(s\).*images\.n_train"):
        fit("brain", lone, known)


def test_controls_act_before_anything_is_fitted(fit: Fit, make_subject: Make, know: Know) -> None:
    subject = make_subject(80, 2, signal=3.0, voxels=60)
    subject.rois["nuisance"] = np.arange(60) >= 30
    subject.responses[:, 30:] = np.random.default_rng(0).normal(size=(80, 30))
    known = know(subject)
    assert fit("decoder", subject, known).scores["decoder"]["accuracy"] > 0.9
    for control in ("shuffled_fmri", "nuisance"):
        scores = [
            fit("decoder", subject, known, control=control, seed=seed).scores["decoder"]["accuracy"]
            for seed in range(5)
        ]
        assert np.mean(scores) < 0.65
    shuffled = fit("encoder", subject, control="shuffled_fmri")
    assert shuffled.scores["encoder"]["r_p95"] < 0.5 < fit("encoder", subject).scores["encoder"]["r_p95"]

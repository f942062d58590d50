"""A teacher goes on from an older one: which is only read, and whose folds and roles hold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from braindistill.fmri.responses import Responses
from braindistill.teachers import cross_fitting, encoder_fit
from braindistill.teachers.answer import UNSEEN
from braindistill.teachers.artifact import load_teacher
from braindistill.teachers.brain_teacher import BrainTeacher
from braindistill.teachers.cross_fitting import Labels
from braindistill.teachers.encoder import correlate, fit_ridge

Fit = Callable[..., BrainTeacher]
Make = Callable[..., Responses]
Know = Callable[..., Labels]
NETWORK = {"decoder": "resnet1d", "width": 2, "epochs": 2, "lr": [0.01]}
FINETUNE = {"encoder": "finetune", "image_size": None, "encoder_epochs": 1}


def digest(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("encoder", {}),
        ("encoder", {"encoder": "banded"}),
        ("encoder", FINETUNE),
        ("decoder", {"decoder": "lda"}),
        ("decoder", {"decoder": "ridge"}),
        ("decoder", {"decoder": "prototype"}),
        ("decoder", NETWORK),
        ("brain", {}),
        ("brain", {"roi": "each"}),
        ("brain", FINETUNE | NETWORK),
    ],
)
def test_the_older_artifact_stays_as_it_is_and_the_new_one_differs(
    fit: Fit,
    make_subject: Make,
    know: Know,
    tmp_path: Path,
    name: str,
    options: dict[str, Any],
    session: Callable[..., Any],
    enlarged: Callable[..., Any],
    kept: Callable[..., Any],
) -> None:
    subject = enlarged(make_subject(36, 2, repeats=2))
    first, second = session(subject, range(24)), session(subject, range(12, 36), 1)
    known = know(subject)
    older = kept(fit, tmp_path / "older", name, first, known, n_folds=2, **options)
    before = digest(older)
    new = kept(fit, tmp_path / "new", name, second, known, n_folds=2, init_from=older, **options)
    assert digest(older) == before
    anew = fit(name, second, known, n_folds=2, **options)
    back = load_teacher(new)
    models = (back.encoders, anew.encoders) if name == "encoder" else (back.members, anew.members)
    if name != "encoder":
        models = tuple(members[0].decoders for members in models)
    assert any(
        not np.array_equal(value, models[1][0].arrays()[part]) for part, value in models[0][0].arrays().items()
    ), "it did go on from the older one"
    again = kept(fit, tmp_path / "again", name, second, known, n_folds=2, init_from=older, **options)
    assert digest(again) == digest(new), "the same twice"


@pytest.mark.parametrize("n_labelled", [60, 24])
def test_nothing_that_is_held_out_was_ever_fitted_on(
    fit: Fit,
    make_subject: Make,
    know: Know,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    n_labelled: int,
    session: Callable[..., Any],
    kept: Callable[..., Any],
) -> None:
    """Three sessions, seen from outside: voxel 0 says which stimulus a response belongs to, models record what they get."""
    subject = make_subject(60, 2, repeats=3)
    subject.rois = {}
    names, of_trial = np.unique(subject.stimulus_id, return_inverse=True)
    subject.responses[:, 0] = of_trial
    encoded: list[set[int]] = []
    decoded: list[set[int]] = []

    def stimuli_in(responses: np.ndarray) -> set[int]:
        return set(responses[:, 0].round().astype(int).tolist())

    def ridge(stimuli: Any, rows: np.ndarray, responses: np.ndarray, **options: Any) -> Any:
        encoded.append(stimuli_in(responses))
        return fit_ridge(stimuli, rows, responses, **options)

    def decoder(options: Any, responses: np.ndarray, *rest: Any, **more: Any) -> Any:
        decoded.append(stimuli_in(responses))
        return fit_decoder_model(options, responses, *rest, **more)

    fit_decoder_model = cross_fitting.fit_decoder_model
    monkeypatch.setattr(encoder_fit, "fit_ridge", ridge)
    monkeypatch.setattr(cross_fitting, "fit_decoder_model", decoder)
    saw_encoder: list[set[int]] = [set(), set(), set()]
    saw_decoder: list[set[int]] = [set(), set(), set()]
    older = None
    held: dict[str, int] = {}
    # the last session shows stimuli of the first again, which the second did not
    for number, shown in enumerate([range(36), range(24, 60), [*range(12), *range(50, 60)]]):
        encoded.clear()
        decoded.clear()
        known = know(subject, n_labelled)
        if number == 1:
            known = Labels(known.classes, know(subject).of_stimulus, "all")
        folder = kept(
            fit, tmp_path / str(number), "brain", session(subject, shown, number), known,
            n_folds=3, init_from=older, seed=number,
        )  # fmt: skip
        teacher, older = load_teacher(folder), folder
        # out of fold first, then the composed pair; the second encoder of a fold is scored only
        for k in range(3):
            saw_encoder[k] |= encoded[2 * k]
            saw_decoder[k] |= decoded[3 + k]
            own = {names.tolist().index(name) for name in teacher.stimulus_id[teacher.held == k].tolist()}
            assert own
            assert not own & (saw_encoder[k] | saw_decoder[k] | encoded[2 * k + 1] | decoded[k])
            assert not saw_encoder[k] & saw_decoder[k], "disjoint over all sessions"
        now = dict(zip(teacher.stimulus_id.tolist(), teacher.held.tolist(), strict=True))
        assert all(now[name] == held[name] for name in now if name in held)
        held |= now
        assert {name: fold for name, (fold, _) in teacher.fitted_on().items()} == held


def test_an_encoder_alone_keeps_its_folds_too(
    fit: Fit, make_subject: Make, tmp_path: Path, session: Callable[..., Any], kept: Callable[..., Any]
) -> None:
    """A stimulus of both sessions, poisoned in both: the encoder of its fold never finds out."""
    subject = make_subject(40, 2, repeats=2)
    first, second = session(subject, range(30)), session(subject, range(10, 40), 1)
    kept(fit, tmp_path / "older", "encoder", first, n_folds=3)
    before = fit("encoder", second, n_folds=3, init_from=tmp_path / "older", seed=1)
    for part in (first, second):
        part.responses[part.stimulus_id == "s015"] = 1e3
    kept(fit, tmp_path / "older", "encoder", first, n_folds=3)
    after = fit("encoder", second, n_folds=3, init_from=tmp_path / "older", seed=1)
    own = before.held[before.stimulus_id == "s015"][0]
    same = [
        np.array_equal(a.coefficients, b.coefficients) for a, b in zip(before.encoders, after.encoders, strict=True)
    ]
    assert same == [k == own for k in range(3)]


def test_stimuli_whose_labels_only_the_older_teacher_had_are_answered_by_their_own_fold(
    fit: Fit, make_subject: Make, know: Know, tmp_path: Path, session: Callable[..., Any], kept: Callable[..., Any]
) -> None:
    """Labels differ between seeds: one that the older decoders learned must not come back as a soft label."""
    subject = make_subject(40, 2, repeats=2)
    first, second = session(subject, range(30)), session(subject, range(40), 1)
    older = kept(fit, tmp_path / "older", "decoder", first, know(subject, 30), n_folds=3)
    known = know(subject)
    last = {name: place for name, place in known.of_stimulus.items() if name >= "s020"}
    teacher = fit("decoder", second, known._replace(of_stimulus=last), n_folds=3, init_from=older)
    _, _, fold = teacher.soft_labels(teacher.stimulus_id, np.zeros(40), "cpu")
    np.testing.assert_array_equal(fold, teacher.held)
    rows = teacher.members[0].measured
    for stimulus in range(20):
        trial = second.responses[second.stimulus_id == teacher.stimulus_id[stimulus]][:, ~subject.rois["nuisance"]]
        own = teacher.members[0].decoders[teacher.held[stimulus]].predict(trial)
        np.testing.assert_allclose(rows[stimulus], own[0], atol=1e-5)


def test_stimuli_of_older_sessions_are_predicted_by_the_fold_that_held_them_out(
    fit: Fit, make_subject: Make, know: Know, tmp_path: Path, session: Callable[..., Any], kept: Callable[..., Any]
) -> None:
    subject = make_subject(48, 2, repeats=2)
    first, second = session(subject, range(30)), session(subject, range(30, 44), 1)
    older = load_teacher(kept(fit, tmp_path / "older", "brain", first, know(subject), n_folds=2))
    folder = kept(fit, tmp_path / "new", "brain", second, know(subject), n_folds=2, init_from=tmp_path / "older")
    teacher = load_teacher(folder)
    ids = np.unique(subject.stimulus_id)
    place = {name: row for row, name in enumerate(subject.image_id.tolist())}
    images = subject.images[[place[name] for name in ids.tolist()]]
    rows, source, fold = teacher.soft_labels(ids, images, "cpu")
    assert source.tolist() == ["predicted"] * 30 + ["measured"] * 14 + ["predicted"] * 4
    np.testing.assert_array_equal(fold[:30], older.held)
    assert fold[44:].tolist() == [UNSEEN] * 4
    inputs = teacher.reader.extract(images)
    for k in range(2):
        mine = np.flatnonzero(older.held == k)
        own = teacher.members[0].decoders[k].predict(teacher.encoders[k].predict(inputs[mine])[:, :26])
        own = own / teacher.temperature["predicted"]
        own -= np.log(np.exp(own).sum(1, keepdims=True))
        np.testing.assert_allclose(rows[mine], own, atol=1e-4)
    predicted, _, fold = teacher.voxels(ids, images, "cpu", measured=True)
    np.testing.assert_array_equal(fold[:30], older.held)
    for row in (0, 13, 29):
        own = teacher.encoders[older.held[row]].predict(inputs[[row]])[0]
        np.testing.assert_allclose(predicted[row], own, atol=1e-4)


def test_continuing_helps_where_new_data_are_few(
    fit: Fit, make_subject: Make, know: Know, tmp_path: Path, session: Callable[..., Any], kept: Callable[..., Any]
) -> None:
    right: dict[str, list[float]] = {"anew": [], "continued": []}
    r: dict[str, list[float]] = {"anew": [], "continued": []}
    for seed in range(6):
        subject = make_subject(180, 3, signal=0.6, repeats=2, seed=seed)
        known = know(subject)
        older = kept(fit, tmp_path / f"older{seed}", "brain", session(subject, range(80)), known, n_folds=2)
        few, test = session(subject, range(80, 92), 1), session(subject, range(92, 180), 1)
        place = {name: row for row, name in enumerate(subject.image_id.tolist())}
        images = subject.images[[place[name] for name in test.stimulus_id.tolist()]]
        for name, init in (("anew", None), ("continued", older)):
            teacher = fit("brain", few, known, n_folds=2, init_from=init, seed=seed)
            inputs = teacher.reader.extract(images)
            said = np.array(teacher.classes)[teacher.decode(inputs).argmax(1)]
            right[name].append(float((said == test.label).mean()))
            predicted = np.mean([encoder.predict(inputs) for encoder in teacher.encoders], 0)
            r[name].append(float(np.median(correlate(predicted, test.responses[:, :26]))))
    assert np.mean(right["continued"]) > np.mean(right["anew"]) + 0.02
    assert np.mean(r["continued"]) > np.mean(r["anew"]) + 0.05


@pytest.mark.parametrize(
    ("name", "options"), [("decoder", NETWORK), ("encoder", FINETUNE), ("brain", FINETUNE | NETWORK)]
)
def test_networks_go_on_with_another_subject(
    fit: Fit,
    make_subject: Make,
    know: Know,
    tmp_path: Path,
    name: str,
    options: dict[str, Any],
    enlarged: Callable[..., Any],
    kept: Callable[..., Any],
) -> None:
    one, other = (enlarged(make_subject(24, 2, voxels=n, seed=n)) for n in (30, 44))
    other.stimulus_id, other.image_id = (np.char.replace(ids, "s", "t") for ids in (other.stimulus_id, other.image_id))
    older = kept(fit, tmp_path / "older", name, one, know(one), n_folds=2, **options)
    new = kept(fit, tmp_path / "new", name, other, know(other), n_folds=2, init_from=older, **options)
    teacher = load_teacher(new)
    rows, _, _ = teacher.voxels(other.image_id, other.images, "cpu", measured=name == "decoder")
    assert rows.shape == (24, 40)
    assert set(teacher.before) == set(one.stimulus_id.tolist())


def test_noise_stays_at_chance_over_sessions(
    fit: Fit, make_subject: Make, know: Know, tmp_path: Path, session: Callable[..., Any], kept: Callable[..., Any]
) -> None:
    """Responses that carry nothing, in two sessions of mostly the same pictures: out of fold, nothing is found."""
    measured, composed, median, pictures = [], [], [], []
    for draw in range(20):
        subject = make_subject(60, 2, voxels=40, signal=0.0, repeats=2, seed=draw)
        first, second = session(subject, range(45)), session(subject, range(15, 60), 1)
        # the same noise, shown twice: what an older model has learned by heart, it would know again
        copied = {name: row for name, row in zip(first.stimulus_id.tolist(), first.responses, strict=True)}
        for trial, name in enumerate(second.stimulus_id.tolist()):
            second.responses[trial] = copied.get(name, second.responses[trial])
        known = know(subject)
        folder = kept(fit, tmp_path / str(draw), "brain", first, known, n_folds=3, seed=draw)
        teacher = fit("brain", second, known, n_folds=3, seed=draw + 100, init_from=folder)
        measured.append(teacher.scores["decoder"]["accuracy"])
        composed.append(teacher.scores["composed"]["accuracy"])
        median.append(teacher.scores["encoder"]["r_median"])
        place = {name: row for row, name in enumerate(subject.image_id.tolist())}
        old = [name for name in sorted(copied) if name not in set(second.stimulus_id.tolist())]
        rows, _, _ = teacher.soft_labels(np.array(old), subject.images[[place[name] for name in old]], "cpu")
        truth = [known.of_stimulus[name] for name in old]
        pictures.append(float((rows.argmax(1) == truth).mean()))
    for found in (measured, composed, pictures):
        assert abs(np.mean(found) - 0.5) < 2 * np.std(found, ddof=1) / np.sqrt(20) + 0.02
    assert abs(np.mean(median)) < 2 * np.std(median, ddof=1) / np.sqrt(20) + 0.02

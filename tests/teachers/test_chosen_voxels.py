"""Voxels that differ most between classes, chosen where nothing that is held out can be seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.teachers.artifact import load_teacher
from braindistill.teachers.brain_teacher import BrainTeacher
from braindistill.teachers.chosen_voxels import ChosenVoxels, choose_voxels, widen
from braindistill.teachers.cross_fitting import Labels
from braindistill.teachers.decoder import fit_decoder_model
from braindistill.teachers.linear_decoder import LinearDecoder
from braindistill.teachers.options import DecoderOptions

Fit = Callable[..., BrainTeacher]
Make = Callable[..., Responses]
Know = Callable[..., Labels]
TINY: dict[str, dict[str, Any]] = {
    "mlp": {"width": 2, "epochs": 2, "lr": [0.01]},
    "resnet1d": {"width": 2, "epochs": 1, "lr": [0.01]},
    "prototype": {},
}


@pytest.mark.parametrize("count", [1, 7, 39])
def test_voxels_are_those_of_the_largest_f(count: int) -> None:
    from sklearn.feature_selection import f_classif

    rng = np.random.default_rng(count)
    labels = rng.choice([0, 1, 5], 31, p=[0.7, 0.2, 0.1])  # unbalanced, and classes without trials between
    responses = (rng.normal(size=(31, 40)) + 50 + rng.normal(0, 1, (6, 40))[labels]).astype(np.float32)
    best = np.argsort(-f_classif(responses.astype(float), labels)[0])[:count]
    np.testing.assert_array_equal(choose_voxels(responses, labels, count), np.sort(best))


def test_a_voxel_that_tells_classes_apart_without_fail_comes_first_and_a_constant_one_last() -> None:
    labels = np.arange(37) % 3
    responses = np.random.default_rng(0).normal(size=(37, 6)).astype(np.float32)
    responses[:, 2], responses[:, 4] = labels, 0.1
    assert choose_voxels(responses, labels, 1).tolist() == [2]
    assert choose_voxels(responses, labels, 5).tolist() == [0, 1, 2, 3, 5]
    for everything in (None, 6, 7):
        assert choose_voxels(responses, labels, everything).tolist() == list(range(6))


@pytest.mark.parametrize("kind", ["lda", "logistic", "ridge"])
def test_a_linear_decoder_stays_linear(kind: Any) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    responses = (rng.normal(size=(40, 20)) + labels[:, None] * (np.arange(20) < 5)).astype(np.float32)
    index = choose_voxels(responses, labels, 6)
    narrow = fit_decoder_model(DecoderOptions(kind), responses[:, index], labels, 2)
    wide = widen(narrow, index, 20)
    assert isinstance(wide, LinearDecoder)
    np.testing.assert_allclose(wide.predict(responses), narrow.predict(responses[:, index]), atol=1e-6)
    assert np.flatnonzero(np.abs(wide.weights).sum(1)).tolist() == index.tolist()
    assert widen(wide, np.arange(20), 20) is wide
    assert wide.describe()["chosen"] == 6


@pytest.mark.parametrize("kind", sorted(TINY))
@pytest.mark.parametrize("name", ["decoder", "brain"])
def test_other_decoders_are_wrapped_saved_and_loaded(
    fit: Fit, make_subject: Make, know: Know, tmp_path: Path, kind: str, name: str
) -> None:
    subject = make_subject(32, 2)
    options = {"decoder": kind, "top_voxels": 5, "n_folds": 2, **TINY[kind]}
    teacher = fit(name, subject, know(subject), **options)
    (member,) = teacher.members
    assert all(isinstance(decoder, ChosenVoxels) and len(decoder.index) == 5 for decoder in member.decoders)
    teacher.save(tmp_path)
    back = load_teacher(tmp_path)
    trials = np.random.default_rng(0).normal(size=(7, 26)).astype(np.float32)
    for old, new in zip(member.decoders, back.members[0].decoders, strict=True):
        np.testing.assert_array_equal(old.predict(trials), new.predict(trials))
        others = np.setdiff1d(np.arange(26), old.index)
        changed = trials.copy()
        changed[:, others] += 100
        np.testing.assert_array_equal(old.predict(changed), old.predict(trials))
    ids, images = subject.image_id, subject.images
    for one, other in zip(teacher.soft_labels(ids, images, "cpu"), back.soft_labels(ids, images, "cpu"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_linear_teacher_of_chosen_voxels_comes_back(fit: Fit, make_subject: Make, know: Know, tmp_path: Path) -> None:
    subject = make_subject(32, 2)
    teacher = fit("brain", subject, know(subject), top_voxels=4, n_folds=2)
    teacher.save(tmp_path)
    back = load_teacher(tmp_path)
    assert isinstance(back.members[0].decoders[0], LinearDecoder)
    inputs = teacher.reader.extract(subject.images)
    np.testing.assert_array_equal(back.decode(inputs), teacher.decode(inputs))
    for decoder in back.members[0].decoders:
        assert np.abs(decoder.weights).any(1).sum() == 4


@pytest.mark.parametrize("kind", ["lda", "prototype"])
def test_held_trials_have_no_part_in_the_choice(fit: Fit, make_subject: Make, know: Know, kind: str) -> None:
    subject = make_subject(40, 2, signal=0.0, repeats=2)
    known = know(subject)
    options = {"decoder": kind, "top_voxels": 3, "n_folds": 4}
    before = fit("decoder", subject, known, **options)
    fold = dict(zip(before.stimulus_id.tolist(), before.held.tolist(), strict=True))
    held = np.array([fold[name] == 1 for name in subject.stimulus_id.tolist()])
    # in the held trials the last voxels tell the classes apart as nothing else does
    subject.responses[np.ix_(held, np.arange(20, 26))] += np.where(subject.label[held] == "a", 50, -50)[:, None]
    after = fit("decoder", subject, known, **options)

    def chosen(teacher: BrainTeacher, k: int) -> set[int]:
        decoder = teacher.members[0].decoders[k]
        return set((decoder.index if kind == "prototype" else np.flatnonzero(decoder.weights.any(1))).tolist())

    assert chosen(after, 1) == chosen(before, 1)
    for k in (0, 2, 3):
        assert chosen(after, k) <= set(range(20, 26)), "while folds that train on them choose what was planted"


def test_chance_stays_chance_whatever_is_chosen(fit: Fit, make_subject: Make, know: Know) -> None:
    """Chosen on all trials, the best 3 of 200 noise voxels would decode what is held out."""
    scores = []
    for draw in range(20):
        subject = make_subject(40, 2, voxels=200, signal=0.0, seed=draw)
        teacher = fit("decoder", subject, know(subject), top_voxels=3, seed=draw)
        scores.append(teacher.scores["decoder"]["accuracy"])
    assert abs(np.mean(scores) - 0.5) < 2 * np.std(scores, ddof=1) / np.sqrt(20) + 0.02


@pytest.mark.parametrize("kind", ["lda", "ridge", "prototype"])
@pytest.mark.parametrize("both", [True, False])
def test_decoders_of_chosen_voxels_are_not_continued(
    fit: Fit, make_subject: Make, know: Know, tmp_path: Path, kind: str, both: bool
) -> None:
    subject = make_subject(32, 2)
    fit("decoder", subject, know(subject), decoder=kind, top_voxels=4, n_folds=2).save(tmp_path)
    again = {"decoder": kind, "n_folds": 2, "init_from": tmp_path} | ({"top_voxels": 4} if both else {})
    with pytest.raises(UserError, match=r"init_from: with teacher\.top_voxels each decoder chooses its own"):
        fit("decoder", subject, know(subject), **again)

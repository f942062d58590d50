"""What a teacher can not go on from: one clear line each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.teachers.brain_teacher import BrainTeacher
from braindistill.teachers.controls import RandomTeacher
from braindistill.teachers.cross_fitting import Labels

Fit = Callable[..., BrainTeacher]
Make = Callable[..., Responses]
Know = Callable[..., Labels]
FINETUNE = {"encoder": "finetune", "image_size": None, "encoder_epochs": 1}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("decoder", {"decoder": "lda"}, r"reads 26 voxels, these data have 40: only teacher\.decoder=resnet1d"),
        ("decoder", {"decoder": "ridge"}, r"reads 26 voxels, these data have 40: only teacher\.decoder=resnet1d"),
        ("decoder", {"decoder": "prototype"}, r"reads 26 voxels, these data have 40"),
        ("encoder", {}, "answers for 26 voxels; here there are 36 and 40"),
    ],
)
def test_linear_models_need_the_same_voxels(
    fit: Fit,
    make_subject: Make,
    know: Know,
    tmp_path: Path,
    name: str,
    options: dict[str, Any],
    message: str,
    kept: Callable[..., Any],
) -> None:
    one, other = make_subject(24, 2, voxels=30), make_subject(24, 2, voxels=44)
    older = kept(fit, tmp_path, name, one, know(one), n_folds=2, **options)
    with pytest.raises(UserError, match=message) as error:
        fit(name, other, know(other), n_folds=2, init_from=older, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ("encoder", ("decoder", {}), "a teacher=encoder, and this is teacher=decoder"),
        ("brain", ("encoder", {}), "a teacher=brain, and this is teacher=encoder"),
        ("encoder", ("encoder", {"features": "gabor"}), r"kind=pixels, this one with kind=gabor; .*teacher\.features"),
        ("encoder", ("encoder", {"encoder": "finetune"}), "the older encoder is ridge, and this one is to be finetune"),
        ("brain", ("brain", {"decoder": "ridge"}), r"older decoder is lda.*ridge; give teacher\.decoder=lda"),
        ("brain", ("brain", {"n_folds": 3}), r"it has 2 fold\(s\), this one 3.*give teacher\.n_folds=2"),
        ("brain", ("brain", {"roi": "each"}), "decoders of all voxels together, this one of left; give the same"),
        ("encoder", ("encoder", {"roi": "left"}), "answers for 26 voxels; here there are 36 and 15"),
    ],
)
def test_what_can_not_be_continued_is_one_clear_line(
    fit: Fit,
    make_subject: Make,
    know: Know,
    tmp_path: Path,
    before: str,
    now: tuple[str, dict],
    message: str,
    session: Callable[..., Any],
    kept: Callable[..., Any],
) -> None:
    subject = make_subject(24, 2, repeats=2)
    older = kept(fit, tmp_path, before, session(subject, range(24)), know(subject), n_folds=2)
    name, options = now
    with pytest.raises(UserError, match=message) as error:
        fit(name, session(subject, range(24), 1), know(subject), **{"n_folds": 2, "init_from": older} | options)
    assert "\n" not in str(error.value)
    assert "teacher.init_from" in str(error.value) or "to continue from" in str(error.value)


def test_a_network_is_not_continued_by_a_ridge(
    fit: Fit, make_subject: Make, tmp_path: Path, enlarged: Callable[..., Any], kept: Callable[..., Any]
) -> None:
    subject = enlarged(make_subject(24, 2))
    older = kept(fit, tmp_path, "encoder", subject, n_folds=2, **FINETUNE)
    with pytest.raises(UserError, match="the older encoder is finetune, and this one is to be ridge"):
        fit("encoder", subject, n_folds=2, init_from=older)


def test_classes_must_be_the_same_and_not_just_as_many(
    fit: Fit, make_subject: Make, know: Know, tmp_path: Path, session: Callable[..., Any], kept: Callable[..., Any]
) -> None:
    subject = make_subject(24, 2, repeats=2)
    older = kept(fit, tmp_path, "decoder", session(subject, range(24)), know(subject), n_folds=2)
    second = session(subject, range(24), 1)
    with pytest.raises(UserError, match="it tells the classes a, b apart, this one is to tell a, c"):
        fit("decoder", second, know(subject)._replace(classes=["a", "c"]), n_folds=2, init_from=older)


def test_leaks_of_the_older_teacher_are_not_inherited(
    fit: Fit, make_subject: Make, know: Know, tmp_path: Path, session: Callable[..., Any], kept: Callable[..., Any]
) -> None:
    subject = make_subject(40, 2, repeats=2)
    first, second = session(subject, range(20)), session(subject, range(20, 40), 1)
    shared = kept(fit, tmp_path / "shared", "brain", first, know(subject), n_folds=2, disjoint=False)
    with pytest.raises(UserError, match=r"share stimuli \(teacher\.disjoint=false\)"):
        fit("brain", second, know(subject), n_folds=2, init_from=shared)
    marked = fit("brain", second, know(subject), n_folds=2, init_from=shared, disjoint=False)
    assert "THE SAME stimuli" in marked.scores["composed"]["scheme"]
    in_sample = kept(fit, tmp_path / "in_sample", "decoder", first, know(subject), original_protocol=True)
    with pytest.raises(UserError, match=r"it has 1 fold\(s\), this one 5.*continue one that was cross-fitted"):
        fit("decoder", second, know(subject), init_from=in_sample)


@pytest.mark.parametrize("older_by_run", [True, False])
def test_folds_by_run_do_not_hold_older_stimuli_out(
    fit: Fit,
    make_subject: Make,
    know: Know,
    tmp_path: Path,
    older_by_run: bool,
    session: Callable[..., Any],
    kept: Callable[..., Any],
) -> None:
    subject = make_subject(24, 2, repeats=2, runs=4)
    known = know(subject)
    double = dataclasses.replace(subject)  # both showings of every stimulus, so that they lie in several runs
    schemes = ("run", "stimulus") if older_by_run else ("stimulus", "run")
    older = kept(fit, tmp_path, "decoder", double, known, folds=schemes[0], n_folds=4)
    message = "had folds by run, and .* of its stimuli occur again" if older_by_run else "folds are by run here"
    with pytest.raises(UserError, match=message):
        fit("decoder", session(subject, range(24)), known, folds=schemes[1], n_folds=4, init_from=older)
    new = make_subject(24, 2, repeats=2, runs=4, seed=1)
    new.stimulus_id, new.image_id = (np.char.replace(ids, "s", "t") for ids in (new.stimulus_id, new.image_id))
    teacher = fit("decoder", new, know(new), folds=schemes[1], n_folds=4, init_from=older)
    assert {held for held, _ in teacher.before.values()} == {-2}, "no fold holds them out from now on"


def test_other_teachers_are_not_continued(fit: Fit, make_subject: Make, tmp_path: Path) -> None:
    RandomTeacher(0).save(tmp_path)
    with pytest.raises(UserError, match="a teacher=random, and this is teacher=encoder"):
        fit("encoder", make_subject(24, 2), n_folds=2, init_from=tmp_path)
    with pytest.raises(UserError, match=r"holds no teacher \(teacher\.json is missing\)"):
        fit("encoder", make_subject(24, 2), n_folds=2, init_from=tmp_path / "nowhere")

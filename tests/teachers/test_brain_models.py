"""Brain teachers of every kind of encoder and decoder: fitted, kept, and asked for voxels and soft labels."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.teachers.answer import UNSEEN
from braindistill.teachers.artifact import load_teacher
from braindistill.teachers.brain_teacher import BrainTeacher
from braindistill.teachers.calibration import log_softmax
from braindistill.teachers.cross_fitting import Labels
from braindistill.teachers.encoder import Ridge

Fit = Callable[..., BrainTeacher]
Make = Callable[..., Responses]
Know = Callable[..., Labels]
NETWORK = {"features": "network", "network": "small_cnn", "layers": ["2", "6"], "image_size": None, "pool": 2}
TINY = {"width": 2, "epochs": 2, "lr": [0.01]}
MODELS: dict[str, dict[str, Any]] = {
    "banded": NETWORK | {"encoder": "banded"},
    "projected": NETWORK | {"encoder": "banded", "project": 20},
    "finetune": {"encoder": "finetune", "image_size": None, "encoder_epochs": 2},
    "pooled": {"encoder": "finetune", "readout": "pooled", "image_size": None, "encoder_epochs": 1},
    "prototype": {"decoder": "prototype"},
    "mlp": {"decoder": "mlp"} | TINY,
    "resnet1d": {"decoder": "resnet1d", "channels": "roi"} | TINY,
}


@pytest.fixture
def subject(make_subject: Make) -> Responses:
    """Pictures of 12 × 12, big enough for a network."""
    made = make_subject(36, 2, repeats=2)
    return dataclasses.replace(made, images=made.images.repeat(2, 2).repeat(2, 3))


def asked(subject: Responses) -> tuple[np.ndarray, np.ndarray]:
    """Ids and pictures: all 36 stimuli, and 5 that were never shown."""
    new = np.random.default_rng(1).integers(0, 256, (5, 1, 12, 12)).astype(np.uint8)
    ids = np.concatenate([subject.image_id, [f"new-{row}" for row in range(5)]])
    return ids, np.concatenate([subject.images, new])


@pytest.mark.parametrize("model", sorted(MODELS))
def test_every_model_is_fitted_kept_and_says_the_same(
    fit: Fit, subject: Responses, know: Know, tmp_path: Path, model: str
) -> None:
    known = know(subject, 30, "student")
    digests = []
    for attempt in ("one", "two"):
        (tmp_path / attempt).mkdir()
        teacher = fit("brain", subject, known, n_folds=2, seed=3, **MODELS[model])
        teacher.save(tmp_path / attempt)
        digests.append(
            {path.name: hashlib.sha256(path.read_bytes()).digest() for path in (tmp_path / attempt).iterdir()}
        )
    assert digests[0] == digests[1], "the same bytes twice"
    back = load_teacher(tmp_path / "one")
    ids, images = asked(subject)
    answers = [teacher.soft_labels(ids, images, "cpu"), teacher.voxels(ids, images, "cpu", False)]
    again = [back.soft_labels(ids, images, "cpu"), back.voxels(ids, images, "cpu", False)]
    for old, new in zip(answers, again, strict=True):
        for one, other in zip(old, new, strict=True):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(np.exp(answers[0].rows).sum(1), 1, rtol=1e-5)
    inputs = teacher.reader.extract(images)
    (member,) = teacher.members
    spoken = [d.predict(e.predict(inputs)) for e, d in zip(teacher.encoders, member.decoders, strict=True)]
    np.testing.assert_allclose(teacher.decode(inputs), log_softmax(np.mean(spoken, 0)), atol=2e-4)
    assert {"encoder", "decoder", "composed", "roi"} <= set(teacher.scores)
    assert back.scores == teacher.scores
    assert np.isfinite(teacher.voxel_scores["r"]).all()


def test_a_layer_is_a_band_with_a_share_of_its_own(fit: Fit, subject: Responses) -> None:
    teacher = fit("encoder", subject, n_folds=2, **MODELS["banded"])
    (first, second) = teacher.reader.bands()
    assert (first[0], second[0]) == ("2", "6")
    for encoder in teacher.encoders:
        assert isinstance(encoder, Ridge)
        assert encoder.widths.tolist() == [first[1], second[1]]
        np.testing.assert_allclose(encoder.mixture.sum(0), 1, rtol=1e-5)


@pytest.mark.parametrize("name", ["encoder", "brain"])
@pytest.mark.parametrize("model", ["ridge", "finetune"])
def test_voxels_are_measured_or_predicted_by_the_fold_that_held_the_stimulus_out(
    fit: Fit, subject: Responses, know: Know, name: str, model: str
) -> None:
    teacher = fit(name, subject, know(subject), n_folds=3, **MODELS.get(model, {}))
    ids, images = asked(subject)
    inputs = teacher.reader.extract(images)
    rows, source, fold = teacher.voxels(ids, images, "cpu", measured=True)
    assert source.tolist() == ["measured"] * 36 + ["predicted"] * 5
    np.testing.assert_allclose(rows[:36], teacher.averaged[np.searchsorted(teacher.stimulus_id, ids[:36])])
    mean = np.mean([encoder.predict(inputs[36:]) for encoder in teacher.encoders], 0)
    np.testing.assert_allclose(rows[36:], mean, atol=1e-4)
    assert fold[36:].tolist() == [UNSEEN] * 5
    rows, source, fold = teacher.voxels(ids, images, "cpu", measured=False)
    assert set(source.tolist()) == {"predicted"}
    np.testing.assert_array_equal(fold[:36], teacher.held[np.searchsorted(teacher.stimulus_id, ids[:36])])
    for row in (0, 8, 35):
        own = teacher.encoders[fold[row]].predict(inputs[[row]])[0]
        np.testing.assert_allclose(rows[row], own, atol=1e-4)
    np.testing.assert_allclose(rows[36:], mean, atol=1e-4)
    alone, _, _ = teacher.voxels(ids[[8]], images[[8]], "cpu", measured=False)
    np.testing.assert_allclose(alone[0], rows[8], atol=1e-4)


@pytest.mark.parametrize("model", ["ridge", "finetune"])
def test_a_stimulus_own_response_has_no_part_in_its_prediction(
    fit: Fit, subject: Responses, know: Know, model: str
) -> None:
    options = {"n_folds": 3} | MODELS.get(model, {})
    ids, images = asked(subject)
    before = fit("encoder", subject, **options).voxels(ids, images, "cpu", measured=False)
    name = ids[4]
    subject.responses[subject.stimulus_id == name] = 1e3
    after = fit("encoder", subject, **options).voxels(ids, images, "cpu", measured=False)
    np.testing.assert_array_equal(after.fold, before.fold)
    same = (after.rows == before.rows).all(1)
    assert same[before.fold == before.fold[4]].all(), "its fold never saw it"
    assert not same[before.fold != before.fold[4]].any(), "all others did"


def test_without_folds_predictions_of_stimuli_are_in_sample(
    fit: Fit, subject: Responses, know: Know, tmp_path: Path
) -> None:
    ids, images = asked(subject)
    teacher = fit("encoder", subject, n_folds=1)
    _, source, _ = teacher.voxels(ids, images, "cpu", measured=False)
    assert source.tolist() == ["in_sample"] * 36 + ["predicted"] * 5
    _, source, _ = teacher.voxels(ids, images, "cpu", measured=True)
    assert source.tolist() == ["measured"] * 36 + ["predicted"] * 5
    decoder = fit("decoder", subject, know(subject), n_folds=2)
    assert decoder.voxels(ids[:36], images[:36], "cpu", measured=True).rows.shape == (36, 26)
    with pytest.raises(UserError, match=r"no encoder, and 5 of 41 images have no measured response .*new-0"):
        decoder.voxels(ids, images, "cpu", measured=True)


def test_the_original_protocol_is_in_sample_through_a_second_softmax(
    fit: Fit, subject: Responses, know: Know, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = know(subject)
    teacher = fit("decoder", subject, known, original_protocol=True, n_folds=5)
    assert "in sample" in capsys.readouterr().err
    assert len(teacher.members[0].decoders) == 1
    teacher.save(tmp_path)
    ids, images = subject.image_id, subject.images
    plain = fit("decoder", subject, known, n_folds=1)
    probabilities = np.exp(plain.soft_labels(ids, images, "cpu").rows.astype(float))
    for each in (teacher, load_teacher(tmp_path)):
        rows, source, _ = each.soft_labels(ids, images, "cpu")
        assert set(source.tolist()) == {"in_sample"}
        np.testing.assert_allclose(rows, log_softmax(probabilities / 0.1), atol=1e-4)
    assert "decoder" not in teacher.scores, "nothing was held out, so nothing is scored"
    assert teacher.scores["in_sample"]["accuracy"] > 0.9


def test_export_refuses_the_original_protocol_unless_it_is_asked_for(run, write, tmp_path) -> None:
    words = ["fmri=arrays", "images=arrays", write("fmri"), write("images"), "images.n_train=8", "images.n_pool=16"]
    words += ["teacher=decoder", "teacher.original_protocol=true"]
    refused = run("export", *words, "runtime.verbosity=0", cache=tmp_path / "cache")
    assert refused.code == 1
    assert "24 targets would be in sample" in refused.err
    assert "target.allow_in_sample=true" in refused.err
    ran = run("export", *words, "target.allow_in_sample=true", cache=tmp_path / "cache")
    assert ran.code == 0, ran.err

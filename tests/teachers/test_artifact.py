"""A teacher on disk answers as it did in memory, image by image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.teachers import fit_random
from braindistill.teachers.answer import UNSEEN
from braindistill.teachers.artifact import load_teacher
from braindistill.teachers.brain_teacher import BrainTeacher
from braindistill.teachers.calibration import log_softmax
from braindistill.teachers.controls import RandomTeacher
from braindistill.teachers.cross_fitting import Labels

Fit = Callable[..., BrainTeacher]
Make = Callable[..., Responses]
Know = Callable[..., Labels]


@pytest.fixture
def pictures(make_subject: Make) -> tuple[np.ndarray, np.ndarray]:
    """Ids and pictures: the subject's 40 stimuli, and 10 that were never shown."""
    subject = make_subject(40, 2, repeats=2)
    new = np.random.default_rng(1).integers(0, 256, (10, 1, 6, 6)).astype(np.uint8)
    ids = np.concatenate([subject.image_id, [f"new-{row}" for row in range(10)]])
    return ids, np.concatenate([subject.images, new])


@pytest.mark.parametrize("features", ["pixels", "gabor"])
@pytest.mark.parametrize("name", ["brain", "features"])
def test_a_teacher_comes_back_and_says_the_same(
    fit: Fit, make_subject: Make, know: Know, tmp_path: Path, pictures: tuple, name: str, features: str
) -> None:
    subject = make_subject(40, 2, repeats=2)
    teacher = fit(name, subject, know(subject, 30, "student"), n_folds=3, features=features, seed=7)
    teacher.save(tmp_path)
    back = load_teacher(tmp_path)
    assert isinstance(back, BrainTeacher)
    for one, other in zip(teacher.soft_labels(*pictures, "cpu"), back.soft_labels(*pictures, "cpu"), strict=True):
        np.testing.assert_array_equal(one, other)
    labelled = [f"s{row:03d}" for row in range(30)]
    assert (back.name, back.classes, back.labelled) == (name, ["a", "b"], labelled)
    assert back.scores == teacher.scores
    assert back.reader == teacher.reader
    assert back.voxel_scores.keys() == teacher.voxel_scores.keys()
    for key, values in teacher.voxel_scores.items():
        np.testing.assert_array_equal(back.voxel_scores[key], values)
    assert back.roles.tolist() == teacher.roles.tolist()
    np.testing.assert_array_equal(back.averaged, teacher.averaged)


def test_an_image_is_answered_alone_and_in_any_company(
    fit: Fit, make_subject: Make, know: Know, pictures: tuple
) -> None:
    subject = make_subject(40, 2, repeats=2)
    teacher = fit("brain", subject, know(subject), n_folds=3)
    ids, images = pictures
    rows, source, fold = teacher.soft_labels(ids, images, "cpu")
    assert source.tolist() == ["measured"] * 40 + ["predicted"] * 10
    assert fold[:40].tolist() == teacher.held[np.searchsorted(teacher.stimulus_id, ids[:40])].tolist()
    assert fold[40:].tolist() == [UNSEEN] * 10
    order = np.random.default_rng(0).permutation(50)
    shuffled, moved, _ = teacher.soft_labels(ids[order], images[order], "cpu")
    np.testing.assert_allclose(shuffled, rows[order], atol=1e-5)
    assert moved.tolist() == source[order].tolist()
    for row in (0, 17, 45):
        alone, _, _ = teacher.soft_labels(ids[row : row + 1], images[row : row + 1], "cpu")
        np.testing.assert_allclose(alone[0], rows[row], atol=1e-5)
    np.testing.assert_allclose(np.exp(rows).sum(1), 1, rtol=1e-5)
    assert rows.dtype == np.float32


def test_measured_and_predicted_rows_have_their_own_temperature(
    fit: Fit, make_subject: Make, know: Know, pictures: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    from braindistill.teachers import brain_teacher

    subject = make_subject(40, 2)
    teacher = fit("brain", subject, know(subject), n_folds=3)
    teacher.temperature = {"measured": 2.0, "predicted": 0.5}
    ids, images = pictures
    rows, _, _ = teacher.soft_labels(ids, images, "cpu")
    place = teacher.stimulus_id.tolist().index(ids[3])
    np.testing.assert_allclose(rows[3], log_softmax(teacher.measured()[[place]] / 2)[0], atol=1e-6)
    predicted = log_softmax(teacher.decode(teacher.reader.extract(images[40:])) / 0.5)
    np.testing.assert_allclose(rows[40:], predicted, atol=1e-5)
    by_hand = np.mean(
        [
            decoder.predict(encoder.predict(teacher.reader.extract(images[40:])))
            for encoder, decoder in zip(teacher.encoders, teacher.members[0].decoders, strict=True)
        ],
        0,
    )
    np.testing.assert_allclose(predicted, log_softmax(log_softmax(by_hand) / 0.5), atol=1e-5)
    monkeypatch.setattr(brain_teacher, "_BATCH", 3)
    np.testing.assert_allclose(teacher.soft_labels(ids, images, "cpu")[0], rows, atol=1e-5)


def test_pictures_are_not_looked_at_where_there_are_responses(
    fit: Fit, make_subject: Make, know: Know, pictures: tuple
) -> None:
    subject = make_subject(40, 2, repeats=2)
    teacher = fit("brain", subject, know(subject), n_folds=3)
    ids, images = pictures
    rows, _, _ = teacher.soft_labels(ids[:40], images[:40], "cpu")
    np.testing.assert_array_equal(teacher.soft_labels(ids[:40], np.zeros_like(images[:40]), "cpu")[0], rows)


def test_a_decoder_alone_refuses_unseen_images_and_an_encoder_all(
    fit: Fit, make_subject: Make, know: Know, tmp_path: Path, pictures: tuple
) -> None:
    subject = make_subject(40, 2, repeats=2)
    ids, images = pictures
    fit("decoder", subject, know(subject)).save(tmp_path)
    decoder = load_teacher(tmp_path)
    assert decoder.soft_labels(ids[:40], images[:40], "cpu")[0].shape == (40, 2)
    with pytest.raises(UserError, match=r"teacher=decoder: 10 of 50 .* \(first: new-0\).*teacher=brain"):
        decoder.soft_labels(ids, images, "cpu")
    fit("encoder", subject).save(tmp_path)
    with pytest.raises(UserError, match="teacher=encoder has no decoder, so it gives no soft labels"):
        load_teacher(tmp_path).soft_labels(ids, images, "cpu")


def test_in_sample_rows_are_marked_after_loading_too(
    fit: Fit, make_subject: Make, know: Know, tmp_path: Path, pictures: tuple
) -> None:
    subject = make_subject(40, 2, repeats=2)
    fit("decoder", subject, know(subject, 10, "student"), n_folds=1).save(tmp_path)
    ids, images = pictures
    _, source, _ = load_teacher(tmp_path).soft_labels(ids[:40], images[:40], "cpu")
    assert [name == "in_sample" for name in source.tolist()] == (ids[:40] < "s010").tolist()
    assert (source == "measured").sum() == 30


def test_a_fitted_encoder_keeps_its_voxels(fit: Fit, make_subject: Make, tmp_path: Path) -> None:
    subject = make_subject(40, 2)
    teacher = fit("encoder", subject, n_folds=2, roi="left")
    teacher.save(tmp_path)
    back = load_teacher(tmp_path)
    inputs = teacher.reader.extract(subject.images)
    for old, new in zip(teacher.encoders, back.encoders, strict=True):
        np.testing.assert_array_equal(old.predict(inputs), new.predict(inputs))
        assert new.alphas.shape == (15,)


def test_the_noise_teacher_is_its_seed(tmp_path: Path, pictures: tuple) -> None:
    fit_random(seed=3).save(tmp_path)
    teacher = load_teacher(tmp_path)
    assert isinstance(teacher, RandomTeacher)
    teacher.classes = ["a", "b", "c"]
    ids, images = pictures
    rows, source, _ = teacher.soft_labels(ids, images, "cpu")
    assert rows.shape == (50, 3)
    assert set(source.tolist()) == {"random"}
    np.testing.assert_array_equal(teacher.soft_labels(ids[7:8], images[7:8], "cpu")[0][0], rows[7])
    assert not np.allclose(RandomTeacher(4, ["a", "b", "c"]).soft_labels(ids, images, "cpu")[0], rows)

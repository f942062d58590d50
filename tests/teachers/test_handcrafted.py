"""Logistic regression on handcrafted features, cross-fitted over the labelled images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.images import ImageSet, Split
from braindistill.runtime import Runtime
from braindistill.teachers.artifact import load_teacher
from braindistill.teachers.calibration import log_softmax
from braindistill.teachers.handcrafted import HandcraftedTeacher, fit_handcrafted

RUNTIME = Runtime(device="cpu", verbosity=0)


@pytest.fixture(scope="module")
def image_set() -> ImageSet:
    """Vertical and horizontal gratings, in two colours."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 4
    wave = 60 * np.sin(np.arange(16) * np.pi / 2)
    images = rng.normal(120, 25, (120, 3, 16, 16))
    images[labels % 2 == 0] += wave[:, None]
    images[labels % 2 == 1] += wave
    images[labels < 2, 0] += 60
    images = np.clip(images, 0, 255).astype(np.uint8)
    ids = np.array([f"i{row:03d}" for row in rng.permutation(120)])
    return ImageSet(images[:80], ids[:80], labels[:80], images[80:], ids[80:], labels[80:], ["a", "b", "c", "d"])


SPLIT = Split(labelled=np.arange(40), pool=np.arange(40, 80), val=np.arange(0))


def test_it_learns_held_out_images_are_not_seen_and_disk_changes_nothing(tmp_path: Path, image_set: ImageSet) -> None:
    teacher = fit_handcrafted(image_set, SPLIT, RUNTIME, n_folds=4)
    teacher.save(tmp_path)
    answer = teacher.soft_labels(image_set.train_ids, image_set.train_images, "cpu")
    back = load_teacher(tmp_path)
    assert isinstance(back, HandcraftedTeacher)
    again = back.soft_labels(image_set.train_ids, image_set.train_images, "cpu")
    np.testing.assert_allclose(again.rows, answer.rows, atol=1e-6)
    assert [reader.kind for reader in back.readers] == ["gabor", "hog", "colour"]
    assert sorted(set(answer.fold[:40].tolist())) == [0, 1, 2, 3]
    assert set(answer.fold[40:].tolist()) == {-1}
    assert set(answer.source.tolist()) == {"predicted"}
    score = teacher.scores["handcrafted"]
    assert score["accuracy"] == (answer.rows[:40].argmax(1) == image_set.train_labels[:40]).mean()
    assert score["accuracy"] > 0.9
    assert (answer.rows[40:].argmax(1) == image_set.train_labels[40:]).mean() > 0.9
    assert (score["n_images"], score["chance"], score["scheme"]) == (40, 0.25, "4 folds by image")
    order = np.random.default_rng(1).permutation(80)[:30]
    moved = teacher.soft_labels(image_set.train_ids[order], image_set.train_images[order], "cpu")
    np.testing.assert_allclose(moved.rows, answer.rows[order], atol=1e-4)


def test_a_held_out_image_is_answered_by_its_folds_decoder(image_set: ImageSet) -> None:
    teacher = fit_handcrafted(image_set, SPLIT, RUNTIME, n_folds=4)
    inputs = np.concatenate([reader.extract(image_set.train_images[:60]) for reader in teacher.readers], 1)
    rows = teacher.soft_labels(image_set.train_ids[:60], image_set.train_images[:60], "cpu").rows
    for row in range(0, 40, 7):
        said = teacher.decoders[teacher.held[row]].predict(inputs[row : row + 1])
        np.testing.assert_allclose(rows[row], log_softmax(said / teacher.temperature)[0], atol=1e-5)
    mean = log_softmax(np.mean([decoder.predict(inputs[40:]) for decoder in teacher.decoders], 0))
    np.testing.assert_allclose(rows[40:], log_softmax(mean / teacher.temperature), atol=1e-4)


def test_noise_labels_are_at_chance_out_of_fold(image_set: ImageSet) -> None:
    """Folds: in sample these many features would name every image."""
    rng = np.random.default_rng(0)
    found = []
    for seed in range(20):
        given = ImageSet(**{**vars(image_set), "train_labels": rng.permutation(image_set.train_labels)})
        found.append(fit_handcrafted(given, SPLIT, RUNTIME, cues="hog", seed=seed).scores["handcrafted"]["accuracy"])
    assert np.mean(found) < 0.25 + 2 * np.std(found) / np.sqrt(20) + 0.05


def test_each_kind_reads_what_it_says(image_set: ImageSet) -> None:
    accuracy = {
        kind: fit_handcrafted(image_set, SPLIT, RUNTIME, cues=kind).soft_labels(
            image_set.train_ids, image_set.train_images, "cpu"
        )
        for kind in ("gabor", "colour")
    }
    said = {kind: answer.rows.argmax(1) for kind, answer in accuracy.items()}
    labels = image_set.train_labels
    assert (said["gabor"] % 2 == labels % 2).mean() > 0.95
    assert (said["colour"] // 2 == labels // 2).mean() > 0.95
    assert (said["colour"] % 2 == labels % 2).mean() < 0.75


def test_it_says_what_it_cannot(image_set: ImageSet) -> None:
    with pytest.raises(UserError, match=r"teacher\.n_folds=1"):
        fit_handcrafted(image_set, SPLIT, RUNTIME, n_folds=1)
    few = Split(labelled=np.arange(2), pool=np.arange(2, 80), val=np.arange(0))
    with pytest.raises(UserError, match="without fold 1 there are labelled images of one class only"):
        fit_handcrafted(image_set, few, RUNTIME, n_folds=2, cues="colour")

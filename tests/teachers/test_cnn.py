"""Ordinary KD's teacher: the student's labels and loop, and weights of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from braindistill.images import ImageSet, Split
from braindistill.runtime import Runtime
from braindistill.students import load
from braindistill.students.fitting import fit_student
from braindistill.teachers.artifact import NetworkTeacher, load_teacher
from braindistill.teachers.cnn import fit_cnn

RUNTIME = Runtime(device="cpu", tensorboard=False, verbosity=0)
TRAINING = {"epochs": 15, "batch_size": 10}


@pytest.fixture
def image_set() -> ImageSet:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = rng.integers(0, 120, (60, 1, 8, 8)).astype(np.uint8)
    images[labels == 1, :, :4] += 100
    ids = np.array([f"image-{row:02d}" for row in range(60)])
    return ImageSet(images[:40], ids[:40], labels[:40], images[40:], ids[40:], labels[40:], ["a", "b"])


SPLIT = Split(labelled=np.arange(10), pool=np.arange(10, 30), val=np.arange(30, 40))


def test_it_is_trained_on_the_students_labels_and_no_others(tmp_path: Path, image_set: ImageSet) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    fit_cnn(image_set, SPLIT, TRAINING, tmp_path / "a", RUNTIME, width=4, seed=2)
    image_set.train_labels[10:30] = 1 - image_set.train_labels[10:30]
    fit_cnn(image_set, SPLIT, TRAINING, tmp_path / "b", RUNTIME, width=4, seed=2)
    first, second = load_teacher(tmp_path / "a"), load_teacher(tmp_path / "b")
    assert isinstance(first, NetworkTeacher)
    assert isinstance(second, NetworkTeacher)
    rows, source = first.soft_labels(image_set.train_ids, image_set.train_images, "cpu")
    np.testing.assert_array_equal(second.soft_labels(image_set.train_ids, image_set.train_images, "cpu")[0], rows)
    assert source.tolist() == ["in_sample"] * 10 + ["predicted"] * 30
    assert (first.classes, first.trained_on) == (["a", "b"], image_set.train_ids[:10].tolist())
    np.testing.assert_allclose(np.exp(rows).sum(1), 1, rtol=1e-5)
    alone, _ = first.soft_labels(image_set.train_ids[25:26], image_set.train_images[25:26], "cpu")
    np.testing.assert_allclose(alone[0], rows[25], atol=1e-4)
    said = first.soft_labels(image_set.test_ids, image_set.test_images, "cpu")[0].argmax(1)
    assert (said == image_set.test_labels).mean() > 0.9
    scores = json.loads((tmp_path / "a" / "scores.json").read_text())
    assert set(scores["network"]) == {"loss", "val_accuracy"}


def test_it_is_not_the_baseline_of_its_seed(tmp_path: Path, image_set: ImageSet) -> None:
    folders = [tmp_path / name for name in ("teacher", "student")]
    for folder in folders:
        folder.mkdir()
    fit_cnn(image_set, SPLIT, TRAINING, folders[0], RUNTIME, seed=0)
    fit_student(image_set, SPLIT, None, {"name": "small_cnn"}, {"name": "none"}, TRAINING, 0, folders[1], RUNTIME)
    states = [load(folder).network.state_dict() for folder in folders]
    assert states[0].keys() == states[1].keys()
    assert not torch.allclose(states[0]["0.weight"], states[1]["0.weight"])


def test_any_student_can_be_the_teacher(tmp_path: Path, image_set: ImageSet) -> None:
    options = {"epochs": 1, "batch_size": 10}
    fit_cnn(image_set, SPLIT, options, tmp_path, RUNTIME, network="small_cnn", width=6)
    assert json.loads((tmp_path / "student.json").read_text())["options"] == {"width": 6}
    assert json.loads((tmp_path / "teacher.json").read_text())["name"] == "cnn"

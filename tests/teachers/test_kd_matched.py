"""The degraded CNN is as often right, and as uncertain, as the brain teacher."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braindistill.errors import UserError
from braindistill.images import ImageSet, Split
from braindistill.metrics import entropy
from braindistill.runtime import Runtime
from braindistill.teachers.answer import Answer, unseen
from braindistill.teachers.artifact import load_teacher
from braindistill.teachers.calibration import log_softmax
from braindistill.teachers.kd_matched import expected_accuracy, find_noise, find_temperature, fit_kd_matched
from braindistill.teachers.network_teacher import NetworkTeacher, degrade
from braindistill.teachers.options import DecoderOptions, EncoderOptions, FeatureOptions, VoxelOptions

RUNTIME = Runtime(device="cpu", tensorboard=False, verbosity=0)
OPTIONS = (VoxelOptions(), FeatureOptions(), EncoderOptions(), DecoderOptions())
SPLIT = Split(labelled=np.arange(60), pool=np.arange(60, 120), val=np.arange(0))


@dataclass
class Brain:
    """What `fit_kd_matched` asks of a brain teacher."""

    accuracy: float | None
    classes: list[str] = field(default_factory=lambda: ["a", "b", "c"])
    name: str = "brain"

    @property
    def scores(self) -> dict[str, Any]:
        both = {"decoder": {"accuracy": 0.5}, "composed": {"accuracy": self.accuracy}}
        return {} if self.accuracy is None else both

    def soft_labels(self, image_id: np.ndarray, images: np.ndarray, device: str) -> Answer:
        number = np.array([int(name[1:]) for name in image_id.tolist()])
        return unseen(log_softmax(np.stack([np.sin(number), np.cos(number), 0 * number], 1)))


@pytest.fixture(scope="module")
def image_set() -> ImageSet:
    rng = np.random.default_rng(0)
    labels = np.arange(130) % 3
    images = rng.integers(0, 150, (130, 1, 8, 8)).astype(np.uint8)
    for value, rows in enumerate((slice(0, 3), slice(3, 6), slice(5, 8))):
        images[labels == value, :, rows] += 60
    ids = np.array([f"i{row:03d}" for row in range(130)])
    return ImageSet(images[:120], ids[:120], labels[:120], images[120:], ids[120:], labels[120:], ["a", "b", "c"])


def fit(images: ImageSet, brain: Any, folder: Path, seed: int = 0, **options: Any) -> NetworkTeacher:
    training = {"epochs": 8, "batch_size": 20}
    return fit_kd_matched(images, SPLIT, brain, training, folder, RUNTIME, *OPTIONS, n_folds=3, seed=seed, **options)


def test_accuracy_and_entropy_are_the_brain_teachers(tmp_path: Path, image_set: ImageSet) -> None:
    brain = Brain(0.6)
    teacher = fit(image_set, brain, tmp_path)
    record = teacher.scores["matched"]
    assert record["accuracy_of_network"] > 0.75
    assert not record["cnn_worse_than_brain"]
    answer = teacher.soft_labels(image_set.train_ids, image_set.train_images, "cpu")
    wanted = entropy(brain.soft_labels(image_set.train_ids, image_set.train_images, "cpu").rows)
    assert entropy(answer.rows) == pytest.approx(wanted, rel=0.01)
    assert record["entropy"] == pytest.approx(record["entropy_of_brain"], rel=0.01)
    # the expectation is over noise: the mean over many draws of the out-of-fold rows
    clean = NetworkTeacher("cnn", teacher.classes, teacher.networks, teacher.trained_on, teacher.held)
    rows = clean.soft_labels(image_set.train_ids[:60], image_set.train_images[:60], "cpu").rows
    draws = [degrade(rows, image_set.train_ids[:60], teacher.noise, 1.0, seed).argmax(1) for seed in range(100)]
    assert np.mean(np.array(draws) == image_set.train_labels[:60]) == pytest.approx(0.6, abs=0.02)
    assert record["accuracy_expected"] == pytest.approx(0.6, abs=1e-4)
    assert record["accuracy"] == (answer.rows[:60].argmax(1) == image_set.train_labels[:60]).mean()
    assert set(answer.source.tolist()) == {"predicted"}
    teacher.save(tmp_path)
    back = load_teacher(tmp_path).soft_labels(image_set.train_ids, image_set.train_images, "cpu")
    np.testing.assert_array_equal(back.rows, answer.rows)
    order = np.random.default_rng(0).permutation(120)[:30]
    moved = teacher.soft_labels(image_set.train_ids[order], image_set.train_images[order], "cpu")
    np.testing.assert_allclose(moved.rows, answer.rows[order], atol=1e-5)


def test_a_cnn_that_is_worse_gets_no_noise_and_a_warning(
    tmp_path: Path, image_set: ImageSet, capsys: pytest.CaptureFixture
) -> None:
    labels = np.random.default_rng(0).permutation(image_set.train_labels)
    hopeless = dataclasses.replace(image_set, train_labels=labels)
    teacher = fit(hopeless, Brain(0.9), tmp_path, cnn="small_cnn", cnn_width=4)
    assert teacher.noise == 0
    assert teacher.scores["matched"]["cnn_worse_than_brain"]
    assert "less than the brain teacher's 90.0%: no noise is added" in capsys.readouterr().err
    assert teacher.scores["matched"]["entropy"] == pytest.approx(
        teacher.scores["matched"]["entropy_of_brain"], rel=0.01
    )


def test_a_brain_teacher_that_cannot_be_matched_is_refused(tmp_path: Path, image_set: ImageSet) -> None:
    with pytest.raises(UserError, match=r"teacher=brain has no out-of-fold accuracy.*teacher\.n_folds=2"):
        fit(image_set, Brain(None), tmp_path)
    with pytest.raises(UserError, match=r"knows 2 classes and the student 3.*teacher\.labels=student"):
        fit(image_set, Brain(0.5, ["a", "b"]), tmp_path)


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 20), st.floats(0.05, 20), st.integers(0, 99))
def test_expected_accuracy_is_the_mean_over_noise(n_classes: int, noise: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, 40)
    rows = log_softmax(2 * rng.normal(size=(40, n_classes)) + 2 * np.eye(n_classes)[labels])
    drawn = rows + noise * rng.standard_normal((2000, 40, n_classes))
    found = expected_accuracy(rows, labels, noise)
    assert found == pytest.approx((drawn.argmax(2) == labels).mean(), abs=0.01)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.15, 0.95), st.floats(0.05, 2.2), st.integers(0, 99))
def test_noise_and_temperature_hit_what_is_asked_for(accuracy: float, uncertain: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, 200)
    rows = log_softmax(rng.normal(size=(200, 10)) + 6 * np.eye(10)[labels])
    noise = find_noise(rows, labels, accuracy)
    assert expected_accuracy(rows, labels, noise) == pytest.approx(accuracy, abs=1e-3)
    temperature = find_temperature(rows, uncertain)
    assert entropy(log_softmax(rows / temperature)) == pytest.approx(uncertain, rel=0.01)


def test_less_than_chance_is_as_near_as_noise_can_come(capsys: pytest.CaptureFixture) -> None:
    labels = np.arange(100) % 4
    rows = log_softmax(5 * np.eye(4)[labels])
    noise = find_noise(rows, labels, 0.1)
    assert expected_accuracy(rows, labels, noise) == pytest.approx(0.25, abs=0.01)
    assert "no noise brings the CNN's accuracy to 10.0%" in capsys.readouterr().err

"""What a student sees: its labels, its targets, and nothing of the pool's labels."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from braindistill.errors import UserError
from braindistill.images import ImageSet, Split
from braindistill.runtime import Runtime
from braindistill.students import fitting, load
from braindistill.students.fitting import fit_student
from braindistill.targets import SoftLabels

RUNTIME = Runtime(device="cpu", tensorboard=False, verbosity=0)
SMALL = {"name": "small_cnn", "width": 4}
KD = {"name": "kd", "temperature": 2.0, "label_weight": 1.0, "target_weight": 1.0}


@pytest.fixture
def image_set() -> ImageSet:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = rng.integers(0, 120, (60, 1, 8, 8)).astype(np.uint8)
    images[labels == 1, :, :4] += 100
    ids = np.array([f"image-{row:02d}" for row in range(60)])
    return ImageSet(images[:40], ids[:40], labels[:40], images[40:], ids[40:], labels[40:], ["a", "b"])


@pytest.fixture
def split() -> Split:
    rows = np.arange(40)
    return Split(labelled=rows[:10], pool=rows[10:30], val=rows[30:])


def soft_labels(image_set: ImageSet, rows: np.ndarray, seed: int = 0) -> SoftLabels:
    logits = torch.from_numpy(np.random.default_rng(seed).normal(size=(len(rows), 2)))
    return SoftLabels(image_set.train_ids[rows], logits.log_softmax(1).numpy().astype(np.float32), ["a", "b"])


def fit(
    folder: Path,
    image_set: ImageSet,
    split: Split,
    target: SoftLabels | None = None,
    method: dict[str, Any] | None = None,
    seed: int = 0,
    **training: Any,
) -> dict[str, Tensor]:
    folder.mkdir(exist_ok=True)
    options = {"epochs": 3, "batch_size": 10} | training
    fit_student(image_set, split, target, SMALL, method or {"name": "none"}, options, seed, folder, RUNTIME)
    return load(folder).network.state_dict()


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[key], other[key]) for key in one)


def test_a_student_learns_its_labels_and_comes_back(tmp_path: Path, image_set: ImageSet, split: Split) -> None:
    fit(tmp_path, image_set, split, epochs=30)
    student = load(tmp_path)
    with torch.no_grad():
        right = student(torch.from_numpy(image_set.test_images)).argmax(1).numpy() == image_set.test_labels
    assert right.mean() > 0.9
    assert (student.classes, student.description["options"]) == (["a", "b"], {"width": 4})
    history = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(history) == 30
    assert history[-1]["val_accuracy"] > 0.8, "validation images are scored"


def test_the_pools_labels_are_never_used(tmp_path: Path, image_set: ImageSet, split: Split) -> None:
    target = soft_labels(image_set, np.arange(30))
    for method in ({"name": "none"}, KD):
        before = fit(tmp_path / "a", image_set, split, target, method)
        changed = image_set.train_labels.copy()
        changed[split.pool] = 1 - changed[split.pool]
        other = dataclasses.replace(image_set, train_labels=changed)
        after = fit(tmp_path / "b", other, split, target, method)
        assert equal(before, after)
        changed[split.labelled[0]] = 1 - changed[split.labelled[0]]
        assert not equal(before, fit(tmp_path / "c", other, split, target, method)), "the labelled images' are"


def test_arms_of_a_seed_start_from_the_same_weights_and_normalisation(
    tmp_path: Path, image_set: ImageSet, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []

    def spy(network: nn.Module, data: Any, *rest: Any, **options: Any) -> list[dict[str, float]]:
        started.append(({key: value.clone() for key, value in network.state_dict().items()}, data))
        return []

    monkeypatch.setattr(fitting, "train", spy)
    target = soft_labels(image_set, np.arange(30))
    arms = [(None, {"name": "none"}, 0), (None, {"name": "label_smoothing"}, 0), (target, KD, 0), (target, KD, 1)]
    for place, (soft, method, seed) in enumerate(arms):
        fit(tmp_path / str(place), image_set, split, soft, method, seed)
    weights = [state for state, _ in started]
    assert equal(weights[0], weights[1])
    assert equal(weights[0], weights[2])
    assert not equal(weights[2], weights[3])
    sets = [data for _, data in started]
    assert {data.epoch_size for data in sets} == {30}, "every arm makes the same number of steps"
    assert {data.mean.item() for data in sets} == {sets[0].mean.item()}
    known = torch.from_numpy(image_set.train_images[:30]).double() / 255
    assert sets[0].mean.item() == pytest.approx(known.mean().item(), abs=1e-6)
    assert sets[0].std.item() == pytest.approx(known.std(correction=0).item(), abs=1e-6)
    assert [len(data.images) for data in sets] == [10, 10, 30, 30]
    assert sets[0].target is None
    assert sets[2].labels.tolist() == [0, 1] * 5 + [-1] * 20


def test_rows_of_a_target_are_joined_by_id(
    tmp_path: Path, image_set: ImageSet, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(fitting, "train", lambda network, data, *rest, **options: seen.append(data) or [])
    rows = np.array([25, 3, 12])  # an incomplete target in another order, with the classes turned round
    target = soft_labels(image_set, rows)
    target.classes = ["b", "a"]
    fit(tmp_path, image_set, split, target, KD)
    data = seen[0]
    used = np.concatenate([np.arange(10), [12, 25]])  # labelled images, and the pool's that have a target
    assert torch.equal(data.images, torch.from_numpy(image_set.train_images[used]))
    assert data.has_target.tolist() == [row in rows for row in used.tolist()]
    for place, row in enumerate(used.tolist()):
        if row in rows:
            wanted = target.log_probabilities[rows.tolist().index(row), ::-1]
            np.testing.assert_array_equal(data.target[place], wanted)
    assert data.labels.tolist() == [0, 1] * 5 + [-1, -1]
    assert data.epoch_size == 30


def test_a_target_teaches(tmp_path: Path, image_set: ImageSet, split: Split) -> None:
    """Soft labels that say the opposite of the labels, at a large weight, turn the student round."""
    opposite = np.log(np.where(image_set.train_labels[:30, None] == [0, 1], 0.05, 0.95)).astype(np.float32)
    target = SoftLabels(image_set.train_ids[:30], opposite, ["a", "b"])
    fit(tmp_path, image_set, split, target, KD | {"target_weight": 20.0, "label_weight": 0.1}, epochs=20, lr=0.02)
    with torch.no_grad():
        said = load(tmp_path)(torch.from_numpy(image_set.test_images)).argmax(1).numpy()
    assert (said == image_set.test_labels).mean() < 0.2


def test_a_zero_target_weight_is_no_target(tmp_path: Path, image_set: ImageSet, split: Split) -> None:
    alone = dataclasses.replace(split, pool=np.array([], int))
    plain = fit(tmp_path / "a", image_set, alone)
    target = soft_labels(image_set, np.arange(10))
    taught = fit(tmp_path / "b", image_set, alone, target, KD | {"target_weight": 0.0})
    assert equal(plain, taught), "same weights, order and augmentation"


def test_missing_targets_and_labels_are_refused(tmp_path: Path, image_set: ImageSet, split: Split) -> None:
    with pytest.raises(UserError, match=r"method=kd learns from a target; export one"):
        fit(tmp_path, image_set, split, None, KD)
    elsewhere = SoftLabels(np.array(["x"]), np.log(np.full((1, 2), 0.5, np.float32)), ["a", "b"])
    with pytest.raises(UserError, match="covers none of the training images"):
        fit(tmp_path, image_set, split, elsewhere, KD)
    three = SoftLabels(image_set.train_ids[:1], np.zeros((1, 3), np.float32), ["a", "b", "c"])
    with pytest.raises(UserError, match="the target's classes are a, b, c, the student's are a, b"):
        fit(tmp_path, image_set, split, three, KD)
    none = dataclasses.replace(split, labelled=np.array([], int))
    with pytest.raises(UserError, match=r"method=none learns from labels.*images\.n_train"):
        fit(tmp_path, image_set, none)
    assert not list(tmp_path.glob("student.*"))


def test_a_student_may_learn_from_targets_alone(tmp_path: Path, image_set: ImageSet, split: Split) -> None:
    none = dataclasses.replace(split, labelled=np.array([], int))
    right = np.log(np.where(image_set.train_labels[:30, None] == [0, 1], 0.9, 0.1)).astype(np.float32)
    fit(tmp_path, image_set, none, SoftLabels(image_set.train_ids[:30], right, ["a", "b"]), KD, epochs=30)
    with torch.no_grad():
        said = load(tmp_path)(torch.from_numpy(image_set.test_images)).argmax(1).numpy()
    assert (said == image_set.test_labels).mean() > 0.9

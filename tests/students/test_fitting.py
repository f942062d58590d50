"""What a student sees: its labels, its targets, and nothing of the pool's labels."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from braindistill.errors import UserError
from braindistill.images import ImageSet, Split
from braindistill.runtime import Runtime
from braindistill.students import fitting, load
from braindistill.students.fitting import fit_student
from braindistill.targets import Relations, SoftLabels, Voxels
from braindistill.training import Learner, Validation

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
    target: Any | None = None,
    method: dict[str, Any] | None = None,
    seed: int = 0,
    **training: Any,
) -> dict[str, Tensor]:
    learn(folder, image_set, split, target, method, seed, **training)
    return load(folder).network.state_dict()


def learn(
    folder: Path,
    image_set: ImageSet,
    split: Split,
    target: Any | None = None,
    method: dict[str, Any] | None = None,
    seed: int = 0,
    **training: Any,
) -> list[dict[str, float]]:
    """The history; ``target`` is the method's own, or one for each term of ``combined``."""
    folder.mkdir(exist_ok=True)
    own = method or {"name": "none"}
    targets = target if isinstance(target, dict) else {} if target is None else {own["name"]: target}
    options = {"epochs": 3, "batch_size": 10} | training
    return fit_student(image_set, split, targets, SMALL, own, options, seed, folder, RUNTIME)


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[Learner]:
    """Collects learners instead of training them."""
    seen: list[Learner] = []

    def note(learners: list[Learner], *_: Any) -> list[list[dict[str, float]]]:
        seen.extend(learners)
        return [[] for _ in learners]

    monkeypatch.setattr(fitting, "train", note)
    return seen


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
    tmp_path: Path, image_set: ImageSet, split: Split, prepared: list[Learner]
) -> None:
    target = soft_labels(image_set, np.arange(30))
    arms = [(None, {"name": "none"}, 0), (None, {"name": "label_smoothing"}, 0), (target, KD, 0), (target, KD, 1)]
    for place, (soft, method, seed) in enumerate(arms):
        fit(tmp_path / str(place), image_set, split, soft, method, seed)
    weights = [learner.network.state_dict() for learner in prepared]
    assert equal(weights[0], weights[1])
    assert equal(weights[0], weights[2])
    assert not equal(weights[2], weights[3])
    sets = [learner.data for learner in prepared]
    assert {data.epoch_size for data in sets} == {30}, "every arm makes the same number of steps"
    assert {data.mean.item() for data in sets} == {sets[0].mean.item()}
    known = torch.from_numpy(image_set.train_images[:30]).double() / 255
    assert sets[0].mean.item() == pytest.approx(known.mean().item(), abs=1e-6)
    assert sets[0].std.item() == pytest.approx(known.std(correction=0).item(), abs=1e-6)
    assert [len(data.images) for data in sets] == [10, 10, 30, 30]
    assert not sets[0].targets
    assert sets[2].labels.tolist() == [0, 1] * 5 + [-1] * 20
    assert not sets[2].has_target, "all have one, and so no step asks which"
    assert sets[2].log_targets == {"kd"}
    assert sets[0].names == image_set.train_ids[:10].tolist()


def test_rows_of_a_target_are_joined_by_id(
    tmp_path: Path, image_set: ImageSet, split: Split, prepared: list[Learner]
) -> None:
    rows = np.array([25, 3, 12])  # an incomplete target in another order, with the classes turned round
    target = soft_labels(image_set, rows)
    target.classes = ["b", "a"]
    fit(tmp_path, image_set, split, target, KD)
    data = prepared[0].data
    used = np.concatenate([np.arange(10), [12, 25]])  # labelled images, and the pool's that have a target
    assert torch.equal(data.images, torch.from_numpy(image_set.train_images[used]))
    assert data.has_target["kd"].tolist() == [row in rows for row in used.tolist()]
    for place, row in enumerate(used.tolist()):
        if row in rows:
            wanted = target.log_probabilities[rows.tolist().index(row), ::-1]
            np.testing.assert_array_equal(data.targets["kd"][place], wanted)
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


VOXELS = {"name": "voxels", "layer": None, "label_weight": 1.0, "target_weight": 1.0}
RDM = {"name": "rdm", "similarity": "correlation", "compare": "pearson", "layer": None, "label_weight": 0.0}


def voxels(image_set: ImageSet, rows: np.ndarray) -> Voxels:
    """Two voxels that say the class, one of them in other units, and one of noise that weighs nothing."""
    label = image_set.train_labels[rows]
    noise = np.random.default_rng(0).normal(size=len(rows))
    standard = np.stack([2.0 * label - 1, 1 - 2.0 * label, noise], 1).astype(np.float32)
    units = np.array([1, 100, 1], np.float32)
    return Voxels(image_set.train_ids[rows], standard, 5 * units, units, np.array([1, 1, 0], np.float32))


def test_voxels_are_joined_and_scaled_for_the_student(
    tmp_path: Path, image_set: ImageSet, split: Split, prepared: list[Learner]
) -> None:
    rows = np.arange(29, 4, -1)  # the first five labelled images have none
    target = voxels(image_set, rows)
    fit(tmp_path, image_set, split, target, VOXELS)
    network, data = prepared[0].network, prepared[0].data
    assert data.has_target["voxels"].tolist() == [False] * 5 + [True] * 25
    learnt = data.targets["voxels"][data.has_target["voxels"]].numpy()
    np.testing.assert_allclose(learnt.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(learnt.std(0), 1, atol=1e-5)
    np.testing.assert_array_equal(learnt[:, 0] > 0, image_set.train_labels[5:30] == 1)
    assert network.adapters["voxels"].head.out_features == 3


def test_voxels_shape_the_features(tmp_path: Path, image_set: ImageSet, split: Split) -> None:
    """With four labels only, which alone leave the classes mixed up, 30 images' voxels tell them apart."""
    target = voxels(image_set, np.arange(30))
    heavy = VOXELS | {"target_weight": 10.0}
    before = fit(tmp_path / "a", image_set, split, target, heavy, epochs=20, lr=0.01)
    assert set(before) == set(fit(tmp_path / "b", image_set, split)), "the head is not saved"
    assert equal(before, fit(tmp_path / "c", image_set, split, target, heavy, epochs=20, lr=0.01))
    student = load(tmp_path / "a")
    with torch.no_grad():
        images = torch.from_numpy(image_set.test_images)
        features = student.network[:-1]((images.float() / 255 - student.mean) / student.std).double()
    truth = torch.from_numpy(2.0 * image_set.test_labels - 1)[:, None]
    solved = torch.linalg.lstsq(features, truth).solution
    assert 1 - ((features @ solved - truth) ** 2).mean() > 0.9
    # a voxel of weight 0 changes nothing
    other = dataclasses.replace(target, rows=target.rows * np.array([1, 1, -3], np.float32))
    changed = fit(tmp_path / "d", image_set, split, other, heavy, epochs=2)
    assert equal(changed, fit(tmp_path / "e", image_set, split, target, heavy, epochs=2))


@pytest.mark.parametrize(("name", "at_most"), [("rkd", 0.6), ("similarity", 0.5), ("cka", 0.2)])
def test_a_geometry_of_voxels_shapes_the_features(
    tmp_path: Path, image_set: ImageSet, split: Split, name: str, at_most: float
) -> None:
    """Two groups that have nothing to do with the classes; no head stands between, and the loss falls to a fraction.

    `similarity` can't fall to 0: features behind a ReLU have no negative inner products, as opposite groups should.
    """
    rows = np.arange(30)
    target = voxels(image_set, rows)
    sign = np.where(np.random.default_rng(5).random(30) < 0.5, -1, 1)
    target = dataclasses.replace(target, rows=(sign[:, None] * [1, -1, 1]).astype(np.float32))
    method = {"name": name, "layer": None, "label_weight": 0.0, "target_weight": 100.0 if name == "similarity" else 1.0}
    lr = 0.1 if name == "cka" else 0.003
    history = learn(tmp_path / "a", image_set, split, target, method, epochs=30, lr=lr)
    assert history[-1]["loss"] < at_most * history[0]["loss"]
    assert set(load(tmp_path / "a").network.state_dict()) == set(fit(tmp_path / "b", image_set, split))


def test_a_geometry_of_voxels_is_weighted(
    tmp_path: Path, image_set: ImageSet, split: Split, prepared: list[Learner]
) -> None:
    """An inner product of two rows is the weighted one of two z-scored patterns."""
    target = dataclasses.replace(voxels(image_set, np.arange(30)), weight=np.array([4, 1, 0], np.float32))
    fit(tmp_path, image_set, split, target, {"name": "cka", "layer": None})
    assert prepared[0].network.adapters["cka"].head is None
    np.testing.assert_allclose(prepared[0].data.targets["cka"].numpy().std(0), [2, 1, 0], rtol=1e-5)


@pytest.mark.parametrize("form", ["patterns", "similarity"])
def test_relations_shape_the_features(tmp_path: Path, image_set: ImageSet, split: Split, form: str) -> None:
    """Two groups that have nothing to do with the classes, so that only the target can draw them apart."""
    rows = np.random.default_rng(0).permutation(30)
    sign = np.where(np.random.default_rng(5).random(30) < 0.5, -1, 1).astype(np.float16)
    parts = {"patterns": sign[:, None]} if form == "patterns" else {"similarity": sign[:, None] * sign}
    target = Relations(image_set.train_ids[rows], **parts)
    history = learn(tmp_path / "a", image_set, split, target, RDM, epochs=30, lr=0.05)
    assert history[0]["loss"] > 0.7
    assert history[-1]["loss"] < 0.2
    assert set(load(tmp_path / "a").network.state_dict()) == set(fit(tmp_path / "b", image_set, split))


def test_both_forms_of_relations_teach_the_same(tmp_path: Path, image_set: ImageSet, split: Split) -> None:
    rows = np.random.default_rng(0).permutation(30)[:20]
    patterns = np.random.default_rng(1).normal(size=(20, 4)).astype(np.float32)
    patterns /= np.linalg.norm(patterns, axis=1, keepdims=True)
    ids = image_set.train_ids[rows]
    one = fit(tmp_path / "a", image_set, split, Relations(ids, patterns), RDM, epochs=1)
    other = fit(tmp_path / "b", image_set, split, Relations(ids, None, patterns @ patterns.T), RDM, epochs=1)
    for key, value in one.items():
        torch.testing.assert_close(other[key], value, rtol=1e-4, atol=1e-5)
    mixed = Relations(ids[::-1], patterns)
    assert not equal(one, fit(tmp_path / "c", image_set, split, mixed, RDM, epochs=1)), (
        "it matters which image is which"
    )


def test_the_wrong_kind_of_target_is_refused(tmp_path: Path, image_set: ImageSet, split: Split) -> None:
    soft, responses = soft_labels(image_set, np.arange(30)), voxels(image_set, np.arange(30))
    for target, method, message in (
        (soft, VOXELS, "method=voxels learns from voxels, and the target holds soft_labels; take target=voxels"),
        (responses, KD, "method=kd learns from soft_labels, and the target holds voxels; take target=soft_labels"),
        (soft, RDM, "method=rdm learns from relations, and the target holds soft_labels; take target=relations"),
    ):
        with pytest.raises(UserError, match=message):
            fit(tmp_path, image_set, split, target, method)
    with pytest.raises(UserError, match=r"method\.layer=nowhere"):
        fit(tmp_path, image_set, split, responses, VOXELS | {"layer": "nowhere"})


def test_which_images_an_epoch_is_chosen_on(
    tmp_path: Path, image_set: ImageSet, split: Split, prepared: list[Learner]
) -> None:
    none = dataclasses.replace(split, val=np.array([], int))
    for part, select in ((split, "last"), (split, "validation"), (none, "last"), (split, "test"), (none, "test")):
        fit(tmp_path, image_set, part, select=select)
    seen: list[Validation | None] = [learner.validation for learner in prepared]
    assert seen[2] is None
    for held_out, images, labels in (
        (seen[0], image_set.train_images[30:], image_set.train_labels[30:]),
        (seen[1], image_set.train_images[30:], image_set.train_labels[30:]),
        (seen[3], image_set.test_images, image_set.test_labels),
        (seen[4], image_set.test_images, image_set.test_labels),
    ):
        assert held_out is not None
        assert torch.equal(held_out.images, torch.from_numpy(images))
        logits = torch.from_numpy(np.eye(2)[labels]).float()
        assert held_out.score(logits) == 1.0
        logits[:5] = logits[:5].flip(1)
        assert held_out.score(logits) == pytest.approx(1 - 5 / len(labels))
    assert [held_out.name for held_out in seen if held_out] == ["accuracy"] * 2 + ["test_accuracy"] * 2, (
        "never mistaken"
    )


def test_a_student_may_learn_from_targets_alone(tmp_path: Path, image_set: ImageSet, split: Split) -> None:
    none = dataclasses.replace(split, labelled=np.array([], int))
    right = np.log(np.where(image_set.train_labels[:30, None] == [0, 1], 0.9, 0.1)).astype(np.float32)
    fit(tmp_path, image_set, none, SoftLabels(image_set.train_ids[:30], right, ["a", "b"]), KD, epochs=30)
    with torch.no_grad():
        said = load(tmp_path)(torch.from_numpy(image_set.test_images)).argmax(1).numpy()
    assert (said == image_set.test_labels).mean() > 0.9

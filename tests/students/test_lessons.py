"""Targets of every kind in a training: joined, paired with layers, summed, in views; and what can't be."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from braindistill.errors import UserError
from braindistill.images import ImageSet, Split, draw_views
from braindistill.methods import attention_loss, kd_loss, mask_loss, published_weight
from braindistill.runtime import Runtime
from braindistill.students import lessons, load
from braindistill.students.fitting import StudentLearner, finish_student, fit_student, prepare_student
from braindistill.students.taps import Tapped
from braindistill.targets import Features, Masks, Relations, SoftLabels, ViewMaker, Voxels
from braindistill.training import Batch, TrainOptions, train

RUNTIME = Runtime(device="cpu", tensorboard=False, verbosity=0)
SMALL = {"name": "small_cnn", "width": 4}
LAYERS, SHAPES = ["early", "late", "fc:input"], [(3, 8, 8), (5, 4, 4), (6,)]


@pytest.fixture
def image_set() -> ImageSet:
    rng = np.random.default_rng(0)
    labels = np.arange(50) % 2
    images = rng.integers(0, 120, (50, 1, 8, 8)).astype(np.uint8)
    images[labels == 1, :, :4] += 100
    ids = np.array([f"image-{row:02d}" for row in range(50)])
    return ImageSet(images[:30], ids[:30], labels[:30], images[30:], ids[30:], labels[30:], ["a", "b"])


@pytest.fixture
def split() -> Split:
    rows = np.arange(30)
    return Split(labelled=rows[:10], pool=rows[10:], val=rows[:0])


def features(image_set: ImageSet, rows: np.ndarray, count: int = 0, **record: Any) -> Features:
    """Maps that are active in the upper half for one class and in the lower for the other, and vectors that say it."""
    label = image_set.train_labels[rows]
    parts = []
    for shape in SHAPES:
        maps = np.ones((len(rows), *shape))
        if len(shape) == 3:
            maps[label == 1, :, : shape[1] // 2] = 0.1
            maps[label == 0, :, shape[1] // 2 :] = 0.1
        else:
            maps *= 2.0 * label[:, None] - 1
        parts.append(maps.reshape(len(rows), -1))
    made = np.concatenate(parts, 1).astype(np.float16)
    if count:
        made = np.stack([made + number for number in range(count)], 1)
    return Features(image_set.train_ids[rows], made, list(LAYERS), list(SHAPES), record)


def soft_labels(image_set: ImageSet, rows: np.ndarray) -> SoftLabels:
    log_p = np.log(np.where(image_set.train_labels[rows, None] == [0, 1], 0.9, 0.1)).astype(np.float32)
    return SoftLabels(image_set.train_ids[rows], log_p, ["a", "b"])


def masks(image_set: ImageSet, rows: np.ndarray) -> Masks:
    maps = np.zeros((len(rows), 8, 8), np.float16)
    maps[:, 5:, 5:] = 1
    return Masks(image_set.train_ids[rows], maps)


def voxels(image_set: ImageSet, rows: np.ndarray) -> Voxels:
    said = np.random.default_rng(1).normal(size=(len(rows), 3)).astype(np.float32)
    return Voxels(
        image_set.train_ids[rows], said, np.zeros(3, np.float32), np.ones(3, np.float32), np.ones(3, np.float32)
    )


def prepare(
    image_set: ImageSet,
    split: Split,
    targets: dict[str, Any],
    method: dict[str, Any],
    folder: Path | None = None,
    **training: Any,
) -> StudentLearner:
    options = {"epochs": 2, "batch_size": 10} | training
    return prepare_student(image_set, split, targets, SMALL, method, options, 0, folder, RUNTIME)


def a_batch(learner: StudentLearner, rows: torch.Tensor, **more: Any) -> Batch:
    data = learner.data
    inputs = data.images[rows].float() / 255
    chosen = {name: known[rows] for name, known in data.targets.items()}
    has = {name: known[rows] for name, known in data.has_target.items()}
    return Batch(rows, inputs, data.labels[rows], chosen, has, 0, 0, **more)


ALL = np.arange(30)


@pytest.mark.parametrize("name", ["fitnet", "attention", "review", "crd", "rkd", "similarity", "cka"])
def test_every_method_on_features_learns_and_leaves_no_trace(
    tmp_path: Path, image_set: ImageSet, split: Split, name: str
) -> None:
    target = features(image_set, ALL)
    # no weight of a method: the published one, but for those that so small an example can't stand
    method = (
        {"name": name, "label_weight": 0.0, "negatives": 8} if name == "crd" else {"name": name, "label_weight": 0.0}
    )
    if name in ("fitnet", "similarity", "attention"):
        method["target_weight"] = {"fitnet": 1.0, "similarity": 20.0, "attention": 100.0}[name]
    training = {"epochs": 12, "batch_size": 10, "lr": 0.01}
    history = fit_student(image_set, split, {name: target}, SMALL, method, training, 0, tmp_path, RUNTIME)
    at_most = {"crd": 0.97, "review": 0.9}.get(name, 0.8)
    assert history[-1]["loss"] < at_most * history[0]["loss"]
    bare = prepare(image_set, split, {}, {"name": "none"}).network
    assert set(load(tmp_path).network.state_dict()) == set(bare.state_dict())
    again = fit_student(image_set, split, {name: target}, SMALL, method, training, 0, None, RUNTIME)
    assert [entry["loss"] for entry in again] == [entry["loss"] for entry in history]


def test_layers_of_the_target_reach_the_loss(image_set: ImageSet, split: Split) -> None:
    rows = np.arange(29, 4, -1)
    method = {"name": "attention", "layers": ["2", "9"], "teacher_layers": ["late", "early"]}
    learner = prepare(image_set, split, {"attention": features(image_set, rows)}, method)
    assert isinstance(learner.network, Tapped)
    assert learner.data.targets["attention"].dtype == torch.float16
    batch = a_batch(learner, torch.arange(3, 12))
    logits, found = learner.network(batch.inputs)
    loss = learner.loss((logits, found), batch)
    has = batch.has_target["attention"]
    assert has.tolist() == [False] * 2 + [True] * 7
    stored = features(image_set, np.arange(5, 12))
    late, early = (torch.from_numpy(stored.rows_for(stored.image_id, [number])[0]).float() for number in (1, 0))
    teacher = [late.view(7, 5, 4, 4), early.view(7, 3, 8, 8)]
    student = [part[has] for part in found["attention"]]
    expected = published_weight("attention") * attention_loss(student, teacher).item()
    assert loss["attention"].item() == pytest.approx(expected, rel=1e-5)


def test_one_layer_is_compared_as_vectors(image_set: ImageSet, split: Split) -> None:
    method = {"name": "rkd", "teacher_layer": "late"}
    rows = prepare(image_set, split, {"rkd": features(image_set, ALL)}, method).data.targets["rkd"]
    stored, _ = features(image_set, ALL).rows_for(image_set.train_ids, [1])
    np.testing.assert_allclose(rows, stored.reshape(30, 5, 16).mean(2, dtype=np.float32), rtol=1e-3)
    method = {"name": "similarity"}
    whole = prepare(image_set, split, {"similarity": features(image_set, ALL)}, method).data.targets["similarity"]
    np.testing.assert_array_equal(whole, stored)


def test_masks_move_with_their_images_and_draw_the_attention(image_set: ImageSet, split: Split) -> None:
    method = {"name": "mask", "label_weight": 0.0}
    learner = prepare(image_set, split, {"mask": masks(image_set, ALL)}, method, epochs=15, lr=0.02)
    assert learner.data.maps == {"mask"}
    assert learner.data.targets["mask"].shape == (30, 8, 8)
    batch = a_batch(learner, torch.arange(10))
    logits, found = learner.network.eval()(batch.inputs)
    expected = mask_loss(found["mask"], batch.targets["mask"]).item()
    assert learner.loss((logits, found), batch)["mask"].item() == pytest.approx(expected, rel=1e-6)
    assert found["mask"].shape[2:] == (4, 4)
    (history,) = train([learner], RUNTIME, TrainOptions(epochs=15, batch_size=10, lr=0.02, crop=1, flip=True))
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]


def test_terms_are_summed(tmp_path: Path, image_set: ImageSet, split: Split) -> None:
    terms = {
        "cnn": {"name": "kd", "temperature": 2.0, "target_weight": 3.0, "label_weight": 9.0},
        "brain": {"name": "voxels", "target_weight": 0.5, "target_end": 1},
        "pairs": {"name": "rdm", "target_weight": 2.0},
        "smooth": {"name": "label_smoothing", "smoothing": 0.2},
    }
    patterns = np.random.default_rng(2).normal(size=(30, 4)).astype(np.float32)
    targets = {
        "cnn": soft_labels(image_set, ALL[:25]),
        "brain": voxels(image_set, ALL[5:]),
        "pairs": Relations(image_set.train_ids, patterns),
    }
    method = {"name": "combined", "label_weight": 0.5, "terms": terms}
    learner = prepare(image_set, split, targets, method, tmp_path, epochs=2)
    assert learner.data.has_target.keys() == {"cnn", "brain"}
    assert learner.data.log_targets == {"cnn"}
    batch = a_batch(learner, torch.arange(20, 30))
    logits, found = learner.network(batch.inputs)
    loss = learner.loss((logits, found), batch)
    assert list(loss) == ["label", "cnn", "brain", "pairs"]
    expected = 3 * kd_loss(logits[:5], learner.data.targets["cnn"][20:25], temperature=2.0).item()
    assert loss["cnn"].item() == pytest.approx(expected, rel=1e-6)
    assert loss["label"].item() == 0, "none of these is labelled"
    later = learner.loss((logits, found), dataclasses.replace(batch, epoch=1))
    assert (loss["brain"].item() > 0, later["brain"].item()) == (True, 0)
    (history,) = train([learner], RUNTIME, TrainOptions(epochs=2, batch_size=10, lr=0.01))
    assert {f"loss_{name}" for name in loss} <= set(history[0])
    finish_student(learner)
    assert load(tmp_path).classes == ["a", "b"]


def test_a_method_alone_is_a_sum_of_one(image_set: ImageSet, split: Split) -> None:
    target = soft_labels(image_set, ALL)
    own = {"name": "kd", "temperature": 2.0, "target_weight": 3.0}
    alone = prepare(image_set, split, {"kd": target}, own | {"label_weight": 0.5})
    terms = {"name": "combined", "label_weight": 0.5, "terms": {"kd": own}}
    summed = prepare(image_set, split, {"kd": target}, terms)
    options = TrainOptions(epochs=2, batch_size=10)
    weights = []
    for learner in (alone, summed):
        train([learner], RUNTIME, options)
        weights.append(learner.student.state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


AUGMENTED = {"crop": 1, "flip": True}


@pytest.mark.parametrize("kind", ["soft_labels", "features"])
def test_views_are_those_that_the_target_is_of(image_set: ImageSet, split: Split, kind: str) -> None:
    record = ViewMaker(AUGMENTED, 0).record(3)
    rows = np.arange(29, 4, -1)
    if kind == "features":
        name, target = "cka", features(image_set, rows, 3, **record)
    else:
        log_p = np.log(np.random.default_rng(0).dirichlet([1, 1], (len(rows), 3))).astype(np.float32)
        name, target = "kd", SoftLabels(image_set.train_ids[rows], log_p, ["a", "b"], record)
    labelled = dataclasses.replace(split, labelled=ALL[:4], pool=ALL[4:])
    learner = prepare(image_set, labelled, {name: target}, {"name": name}, **AUGMENTED)
    data = learner.data
    assert data.viewed == {name}
    assert data.targets[name].shape[:2] == (29, 3)  # the image that has neither label nor target is left out
    known = np.concatenate([ALL[:4], ALL[5:]])
    drawn = draw_views(30, 8, 8, 3, 0, **AUGMENTED)
    assert len(data.views) == 3 * 29
    for view in range(3):
        own = data.views.take(view * 29 + torch.arange(29))
        wanted = drawn.take(view * 30 + torch.from_numpy(known))
        assert torch.equal(own.offset, wanted.offset)
        assert torch.equal(own.mirrored, wanted.mirrored)
    train([learner], RUNTIME, TrainOptions(epochs=1, batch_size=10, lr=0.01, **AUGMENTED))


def test_views_of_another_augmentation_are_refused(image_set: ImageSet, split: Split) -> None:
    target = features(image_set, ALL, 3, **ViewMaker(AUGMENTED, 0).record(3))
    for training, message in {
        "crop": r"the views of target cka were made with train=\{'crop': 1\}, and the student .* with \{'crop': 2\}",
        "seed": "the views of target cka were made with seed=1, and the student would be trained with 0",
    }.items():
        given = target
        if training == "seed":
            given = features(image_set, ALL, 3, **ViewMaker(AUGMENTED, 1).record(3))
        with pytest.raises(UserError, match=message):
            prepare(
                image_set,
                split,
                {"cka": given},
                {"name": "cka"},
                **AUGMENTED | ({"crop": 2} if training == "crop" else {}),
            )


def test_maps_of_unaugmented_images_are_warned_of(
    image_set: ImageSet, split: Split, capsys: pytest.CaptureFixture[str]
) -> None:
    target = features(image_set, ALL)
    prepare(image_set, split, {"cka": target}, {"name": "cka"})
    assert "warning" not in capsys.readouterr().err
    prepare(image_set, split, {"cka": target}, {"name": "cka"}, flip=True)
    assert "method=cka: images are augmented" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "target", "training", "message"),
    [
        ({"name": "cka"}, features, {"mixup": 0.2}, r"train\.mixup=0.2: method=cka learns from features, which two"),
        ({"name": "mask"}, masks, {"cutmix": 1.0}, r"train\.cutmix=1.0: method=mask learns from mask"),
        (
            {"name": "fitnet"},
            voxels,
            {},
            "method=fitnet learns from features, and the target holds voxels; take target=fea",
        ),
        ({"name": "crd"}, soft_labels, {}, "learns from features or voxels, and the target holds soft_labels"),
        ({"name": "cka"}, None, {}, r"learns from a target; export one \(teacher=…, target=features or voxels\)"),
        ({"name": "cka", "teacher_layer": "x"}, voxels, {}, "teacher_layer=x: the target holds voxels, which have no"),
        ({"name": "cka", "layer": "x"}, features, {}, r"method\.layer=x: the network has no such layer; known: 0, 1"),
        ({"name": "fitnet", "layers": ["x"]}, features, {}, r"method\.layers=x: the network has no such layer"),
        (
            {"name": "combined", "terms": {"a.b": {"name": "kd"}}},
            None,
            {},
            r"method\.terms\.a\.b: a term can't be called",
        ),
        (
            {"name": "combined", "terms": {"pop": {"name": "kd"}}},
            None,
            {},
            r"method\.terms\.pop: a term can't be called",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    image_set: ImageSet, split: Split, method: dict[str, Any], target: Any, training: dict[str, Any], message: str
) -> None:
    targets = {method["name"]: target(image_set, ALL)} if target else {}
    with pytest.raises(UserError, match=message):
        prepare(image_set, split, targets, method, **training)


def test_a_contrast_goes_on_where_it_was_broken_off(tmp_path: Path, image_set: ImageSet, split: Split) -> None:
    """Its memory is part of the checkpoint."""
    method, options = {"name": "crd", "negatives": 8}, TrainOptions(epochs=3, batch_size=10, lr=0.01)
    target = {"crd": features(image_set, ALL)}
    whole = prepare(image_set, split, target, method)
    train([whole], RUNTIME, options)
    runtime = dataclasses.replace(RUNTIME, checkpoint_seconds=0.0)
    for stop in (2, None):
        resumed = prepare(image_set, split, target, method, tmp_path)
        train([resumed], runtime, options, stop)
    for key, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[key]), key


@pytest.mark.parametrize("name", ["review", "similarity"])
@pytest.mark.parametrize("count", [0, 2])
def test_features_that_are_too_large_are_read_batch_by_batch(
    image_set: ImageSet, split: Split, name: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = ViewMaker(AUGMENTED, 0).record(count) if count else {}
    target = features(image_set, np.arange(29, 4, -1), count, **record)
    weights = []
    for most in (2e9, 0):
        monkeypatch.setattr(lessons, "_HELD", most)
        learner = prepare(image_set, split, {name: target}, {"name": name, "target_weight": 1.0}, **AUGMENTED)
        assert learner.data.targets[name].is_floating_point() == bool(most)
        train([learner], RUNTIME, TrainOptions(epochs=2, batch_size=10, lr=0.01, **AUGMENTED))
        weights.append(learner.network.state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])

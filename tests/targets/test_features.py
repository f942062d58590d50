"""Layers of a teacher's network, image by image."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from braindistill.errors import UserError
from braindistill.images import ImageSet, Split
from braindistill.students import Student
from braindistill.students.build import build
from braindistill.targets import Features, ViewMaker, export_features, load_target, see, split_layers
from braindistill.targets import features as module
from braindistill.teachers.network_teacher import NetworkTeacher


@pytest.fixture
def image_set() -> ImageSet:
    rng = np.random.default_rng(0)
    labels = np.arange(16) % 3
    images = rng.integers(0, 256, (16, 1, 8, 8)).astype(np.uint8)
    ids = np.array([f"image-{row:02d}" for row in range(16)])
    return ImageSet(images, ids, labels, images[:3], np.array(["t0", "t1", "t2"]), labels[:3], list("abc"))


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch, image_set: ImageSet) -> NetworkTeacher:
    description = {"name": "small_cnn", "options": {}, "classes": list("abc"), "image_shape": [1, 8, 8]}
    network = build("small_cnn", 3, (1, 8, 8), 5, width=4)
    opened = Student(network, description | {"mean": [0.4], "std": [0.2]}).eval()
    made = NetworkTeacher("cnn", list("abc"), [opened], image_set.train_ids[:4].tolist())
    monkeypatch.setattr(module, "load_teacher", lambda folder: made)
    return made


def export(image_set: ImageSet, split: Split, maker: ViewMaker | None = None, **options: Any) -> Features:
    return export_features(Path(), image_set, split, "cpu", maker, **options)


def forward(teacher: NetworkTeacher, images: np.ndarray, end: int) -> np.ndarray:
    with torch.no_grad():
        inputs = (torch.from_numpy(images).float() / 255 - 0.4) / 0.2
        return teacher.networks[0].network[:end](inputs).numpy()


def test_layers_lie_one_behind_the_other(teacher: NetworkTeacher, image_set: ImageSet, split: Split) -> None:
    target = export(image_set, split, layers=["9", "2", "12:input"])
    assert target.shapes == [(6, 4, 4), (4, 8, 8), (24,)]
    assert target.rows.dtype == np.float16
    assert target.image_id.tolist() == image_set.train_ids[:12].tolist()
    asked = np.array([3, 14, 0, 11])
    rows, found = target.rows_for(image_set.train_ids[asked])
    assert found.tolist() == [True, False, True, True]
    assert (rows[1] == 0).all()
    known = asked[found]
    for part, end in zip(split_layers(torch.from_numpy(rows[found]), target.shapes), (10, 3, 12), strict=True):
        wanted = forward(teacher, image_set.train_images[known], end)
        np.testing.assert_allclose(part.numpy(), wanted, rtol=1e-3, atol=1e-3)
    some, _ = target.rows_for(image_set.train_ids[asked], [2, 0])
    np.testing.assert_array_equal(some, np.concatenate([rows[:, -24:], rows[:, :96]], 1))
    assert target.source.tolist() == ["in_sample"] * 4 + ["predicted"] * 8


def test_by_default_the_last_layer_of_each_resolution(
    teacher: NetworkTeacher, image_set: ImageSet, split: Split
) -> None:
    assert export(image_set, split).layers == ["2", "9", "10", "12:input"]
    pooled = export(image_set, split, pool=2)
    assert pooled.shapes == [(4, 2, 2), (6, 2, 2), (6, 2, 2), (24,)]
    maps = forward(teacher, image_set.train_images[:12], 3).reshape(12, 4, 2, 4, 2, 4).mean((3, 5))
    np.testing.assert_allclose(pooled.rows[:, :16], maps.reshape(12, -1), rtol=1e-3, atol=1e-3)
    assert pooled.record["pool"] == 2


def test_it_comes_back_as_a_memory_map(
    teacher: NetworkTeacher, image_set: ImageSet, split: Split, tmp_path: Path
) -> None:
    maker = ViewMaker({"crop": 1, "flip": True, "lr": 1.0}, 4)
    target = export(image_set, split, maker, views=2, layers=["9"])
    target.save(tmp_path)
    again = load_target(tmp_path)
    assert isinstance(again, Features)
    assert isinstance(again.rows, np.memmap)
    np.testing.assert_array_equal(again.rows, target.rows)
    assert (again.layers, again.shapes, again.record) == (["9"], [(6, 4, 4)], target.record)
    assert again.record["views"] == {"count": 2, "augmentation": {"crop": 1, "flip": True}, "seed": 4}
    assert again.source.tolist() == target.source.tolist()
    assert json.loads((tmp_path / "target.json").read_text())["kind"] == "features"


def test_views_are_looked_at_as_the_student_will_see_them(
    teacher: NetworkTeacher, image_set: ImageSet, split: Split
) -> None:
    maker = ViewMaker({"crop": 2, "flip": True}, 4)
    moved = dataclasses.replace(split, labelled=np.array([9, 2]), pool=np.array([5]))
    target = export(image_set, moved, maker, views=3, layers=["9"])
    assert target.rows.shape == (3, 3, 96)
    moves = maker.draw(image_set.train_images, 3)
    for view in range(3):
        seen = see(image_set.train_images, np.array([9, 2, 5]), view, moves)
        wanted = forward(teacher, seen, 10).reshape(3, -1)
        np.testing.assert_allclose(target.rows[:, view], wanted, rtol=1e-3, atol=1e-3)
    with pytest.raises(UserError, match=r"target\.views=3: give the training's augmentation"):
        export(image_set, moved, views=3)


@pytest.mark.parametrize("control", ["shuffled_within", "shuffled_across"])
def test_a_control_deals_rows_to_other_images(
    teacher: NetworkTeacher, image_set: ImageSet, split: Split, control: str
) -> None:
    own = export(image_set, split, images="labelled", layers=["9"])
    dealt = export(image_set, split, images="labelled", layers=["9"], control=control, seed=1)
    origin = [int(np.flatnonzero((own.rows == row).all(1))[0]) for row in dealt.rows]
    assert sorted(origin) == list(range(6))
    assert all(one != other for one, other in enumerate(origin))
    if control == "shuffled_within":
        assert all(one % 3 == other % 3 for one, other in enumerate(origin))
    assert dealt.source.tolist() == own.source[origin].tolist()
    assert dealt.record["control"] == control


def test_large_targets_are_made_on_disk_and_say_so(
    teacher: NetworkTeacher, image_set: ImageSet, split: Split, monkeypatch: Any, capsys: Any
) -> None:
    small = export(image_set, split)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(module, "_LARGE", 1000)
    large = export(image_set, split)
    assert isinstance(large.rows, np.memmap)
    np.testing.assert_array_equal(large.rows, small.rows)
    assert "target=features: 0.0 GB on disk (12 × 400 half-precision numbers)" in capsys.readouterr().err


def test_what_half_precision_cannot_hold_is_cut(teacher: NetworkTeacher, image_set: ImageSet, split: Split) -> None:
    with torch.no_grad():
        teacher.networks[0].network[0].weight.mul_(1e9)
    target = export(image_set, split, layers=["0"])
    assert np.isfinite(target.rows).all()
    assert np.abs(target.rows).max() == 65504


def test_teachers_without_one_network(
    teacher: NetworkTeacher, image_set: ImageSet, split: Split, monkeypatch: Any
) -> None:
    with pytest.raises(UserError, match=r"target\.layers=layer1: the network has no such layer; known: 0, 1, 10"):
        export(image_set, split, layers=["layer1"])
    with pytest.raises(UserError, match=r"target\.pool=0"):
        export(image_set, split, pool=0)
    several = dataclasses.replace(teacher, name="kd_matched", networks=teacher.networks * 2)
    monkeypatch.setattr(module, "load_teacher", lambda folder: several)
    with pytest.raises(UserError, match=r"teacher=kd_matched has 2 networks.*teacher\.cross_fit=1"):
        export(image_set, split)

    class Brain:
        name = "brain"

    monkeypatch.setattr(module, "load_teacher", lambda folder: Brain())
    with pytest.raises(UserError, match=r"teacher=brain has no network whose layers .* or target=voxels"):
        export(image_set, split)

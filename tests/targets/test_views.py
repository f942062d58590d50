"""What a teacher says of an augmented view is what it says of that very picture."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.images import ImageSet, Split, move
from braindistill.runtime import Runtime
from braindistill.stages import export as stage
from braindistill.students.artifact import Student
from braindistill.students.build import build
from braindistill.targets import SoftLabels, ViewMaker
from braindistill.targets.soft_labels import export_soft_labels
from braindistill.teachers import FeatureOptions, extract_stimuli, fit_brain
from braindistill.teachers.brain_teacher import BrainTeacher
from braindistill.teachers.cross_fitting import Labels
from braindistill.teachers.network_teacher import NetworkTeacher

AUGMENTATION = {"crop": 1, "flip": True}
MAKER = ViewMaker(AUGMENTATION, 3)
ANY = Path("any")


def moved(image_set: ImageSet, views: int, maker: ViewMaker = MAKER) -> np.ndarray:
    """All training images in all views: views × images × C × H × W."""
    images = torch.from_numpy(image_set.train_images)
    moves = maker.draw(image_set.train_images, views)
    return move(images.repeat(views, 1, 1, 1), moves).view(views, *images.shape).contiguous().numpy()


@pytest.fixture
def pictures() -> tuple[ImageSet, Split]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 1, 8, 8)).astype(np.uint8)
    labels, ids = np.arange(30) % 3, np.array([f"image-{row:02d}" for row in range(30)])
    made = ImageSet(images[:24], ids[:24], labels[:24], images[24:], ids[24:], labels[24:], list("abc"))
    return made, Split(labelled=np.arange(6), pool=np.arange(8, 20), val=np.arange(20, 24))


def network() -> NetworkTeacher:
    description = {"name": "small_cnn", "options": {}, "classes": list("abc"), "image_shape": [1, 8, 8]}
    student = Student(build("small_cnn", 3, (1, 8, 8), 0), description | {"mean": [0.5], "std": [0.3]}).eval()
    student.network.eval()
    return NetworkTeacher("cnn", list("abc"), [student], trained_on=[f"image-{row:02d}" for row in range(6)])


def brain(image_set: ImageSet) -> BrainTeacher:
    """Fitted on the first twelve images."""
    rng = np.random.default_rng(1)
    shown, ids = image_set.train_images[:12], image_set.train_ids[:12]
    signal = shown.reshape(12, 64) / 128 @ rng.normal(size=(64, 9))
    responses = Responses(signal.astype(np.float32), ids, images=shown, image_id=ids)
    known = Labels(list("abc"), dict(zip(ids.tolist(), image_set.train_labels[:12].tolist(), strict=True)), "all")
    return fit_brain(responses, known, extract_stimuli(responses, FeatureOptions()), n_folds=2)


@pytest.mark.parametrize("images", ["labelled", "pool", "all"])
def test_rows_of_a_network_are_those_of_the_moved_images(
    pictures: tuple[ImageSet, Split], tmp_path: Path, images: Any
) -> None:
    image_set, split = pictures
    teacher = network()
    teacher.save(tmp_path)
    target = export_soft_labels(tmp_path, image_set, split, "cpu", MAKER, images=images, views=3)
    chosen = {"labelled": split.labelled, "pool": split.pool, "all": np.r_[split.labelled, split.pool]}[images]
    assert target.log_probabilities.shape == (len(chosen), 3, 3)
    assert target.views == 3
    for view, seen in enumerate(moved(image_set, 3)):
        answer = teacher.soft_labels(image_set.train_ids[chosen], seen[chosen], "cpu")
        np.testing.assert_array_equal(target.log_probabilities[:, view], answer.rows)
        assert target.source.tolist() == answer.source.tolist()
    assert not np.array_equal(target.log_probabilities[:, 0], target.log_probabilities[:, 1])
    whole = export_soft_labels(tmp_path, image_set, split, "cpu", MAKER, views=3)
    rows, found = whole.rows_for(target.image_id, list("abc"))
    assert found.all()
    np.testing.assert_allclose(
        rows, target.log_probabilities, atol=1e-5, err_msg="a subset has the views it has in all"
    )


def test_a_brain_says_the_same_of_what_it_measured(pictures: tuple[ImageSet, Split], tmp_path: Path) -> None:
    image_set, split = pictures
    teacher = brain(image_set)
    teacher.save(tmp_path)
    target = export_soft_labels(tmp_path, image_set, split, "cpu", MAKER, views=2)
    chosen = np.r_[split.labelled, split.pool]
    shown = chosen < 12
    assert target.source.tolist() == np.where(shown, "measured", "predicted").tolist()
    seen = moved(image_set, 2)
    for view in range(2):
        answer = teacher.soft_labels(image_set.train_ids[chosen], seen[view][chosen], "cpu")
        np.testing.assert_array_equal(target.log_probabilities[:, view], answer.rows)
    still = export_soft_labels(tmp_path, image_set, split, "cpu").log_probabilities
    np.testing.assert_array_equal(target.log_probabilities[shown, 1], still[shown])
    changed = (target.log_probabilities[~shown, 1] != still[~shown]).any(1)
    assert changed.mean() > 0.5


def test_a_target_with_views_comes_back(image_set: ImageSet, split: Split, teacher: Any, tmp_path: Path) -> None:
    target = export_soft_labels(ANY, image_set, split, "cpu", MAKER, views=4)
    assert teacher.asked == [12] * 4, "a view at a time"
    target.save(tmp_path)
    back = SoftLabels.load(tmp_path)
    assert back.views == 4
    record = json.loads((tmp_path / "target.json").read_text())
    assert record["views"] == {"count": 4, "augmentation": AUGMENTATION, "seed": 3}
    asked = np.array(["image-03", "other", "image-00"])
    rows, found = back.rows_for(asked, ["c", "a", "b"])
    assert rows.shape == (3, 4, 3)
    assert found.tolist() == [True, False, True]
    np.testing.assert_array_equal(rows[2, 1], target.log_probabilities[0, 1, [2, 0, 1]])
    assert not rows[1].any()
    assert record["n_images"] == 12
    right = target.log_probabilities.argmax(2) == image_set.train_labels[:12, None]
    assert record["accuracy_labelled"] == pytest.approx(right[:6].mean())
    assert record["accuracy_pool"] == pytest.approx(right[6:].mean())
    plain = export_soft_labels(ANY, image_set, split, "cpu")
    assert (plain.views, "views" in plain.record) == (0, False)


def test_what_is_kept_of_rows_is_kept_of_views(image_set: ImageSet, split: Split, teacher: Any, tmp_path: Path) -> None:
    def export(**options: Any) -> SoftLabels:
        return export_soft_labels(ANY, image_set, split, "cpu", MAKER, views=2, images="labelled", **options)

    whole = export().log_probabilities
    assert export(precision="float16").log_probabilities.dtype == np.float16
    top = export(top_k=2)
    assert (top.log_probabilities.shape, top.columns.shape, top.mass.shape) == ((6, 2, 2), (6, 2, 2), (6, 2))
    top.save(tmp_path)
    rows, _ = SoftLabels.load(tmp_path).rows_for(image_set.train_ids[:6], list("abc"))
    np.testing.assert_allclose(np.exp(rows), np.exp(whole), atol=2e-3)
    matched = export(control="random_matched", seed=5)
    truth = image_set.train_labels[:6]
    for view in range(2):
        own, other = whole[:, view], matched.log_probabilities[:, view]
        np.testing.assert_allclose(np.sort(other, 1), np.sort(own, 1), atol=1e-6)
        np.testing.assert_allclose(other[range(6), truth], own[range(6), truth], atol=1e-6)
    dealt = export(control="shuffled_across", seed=5).log_probabilities
    origin = [int(np.flatnonzero((whole == row).all((1, 2)))[0]) for row in dealt]
    assert sorted(origin) == list(range(6)), "whole images are dealt"
    assert origin != list(range(6))
    (tmp_path / "m.csv").write_text("a,x\nb,y\nc,x\n")
    renamed = dataclasses.replace(image_set, classes=["x", "y"], train_labels=image_set.train_labels % 2)
    mapped = export_soft_labels(
        ANY, renamed, split, "cpu", MAKER, views=2, images="labelled", mapping=tmp_path / "m.csv"
    )
    np.testing.assert_allclose(np.exp(mapped.log_probabilities[..., 1]), np.exp(whole[..., 1]), rtol=1e-4)


def test_views_that_make_no_sense_are_refused(image_set: ImageSet, split: Split, teacher: Any) -> None:
    for views, maker, message in (
        (-1, MAKER, r"target\.views=-1: must be at least 1, or 0"),
        (2, None, r"target\.views=2: give the training's augmentation and seed"),
        (2, ViewMaker({"crop": 0, "zoom": 1.0}, 0), r"target\.views=2: all views would be alike.* set train\.crop"),
        (2, ViewMaker({"crop": -1}, 0), r"train\.crop=-1"),
    ):
        with pytest.raises(UserError, match=message):
            export_soft_labels(ANY, image_set, split, "cpu", maker, views=views)
    assert not teacher.asked


def test_a_seed_and_an_augmentation_make_the_views(image_set: ImageSet) -> None:
    assert np.array_equal(moved(image_set, 2), moved(image_set, 2, ViewMaker(AUGMENTATION | {"epochs": 3}, 3)))
    assert not np.array_equal(moved(image_set, 2), moved(image_set, 2, ViewMaker(AUGMENTATION, 4)))
    rows = np.array([5, 0])
    images = torch.from_numpy(image_set.train_images[rows]).repeat(2, 1, 1, 1)
    own = move(images, MAKER.draw(image_set.train_images, 2, rows)).view(2, 2, 1, 4, 4)
    np.testing.assert_array_equal(own, moved(image_set, 2)[:, rows])


@pytest.mark.parametrize("views", [0, 2])
def test_the_stage_makes_the_views_of_its_training(
    image_set: ImageSet, split: Split, teacher: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, views: int
) -> None:
    monkeypatch.setattr(stage, "open_images", lambda folder, options, seed: (image_set, split))
    train = {"threads": 1} | (AUGMENTATION if views else {})
    config = {"target": {"name": "soft_labels", "views": views}, "images": {}, "train": train, "seed": 3}
    stage.run(config, {"images": ANY, "teacher": ANY}, tmp_path, Runtime(device="cpu"))
    expected = export_soft_labels(ANY, image_set, split, "cpu", MAKER if views else None, views=views)
    back = SoftLabels.load(tmp_path)
    np.testing.assert_array_equal(back.log_probabilities, expected.log_probabilities)
    assert back.record == expected.record

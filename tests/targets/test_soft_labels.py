"""Soft labels are keyed by image id, and say where each row came from."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braindistill.errors import UserError
from braindistill.images import ImageSet, Split
from braindistill.targets.soft_labels import SoftLabels, diagnose, export_soft_labels
from braindistill.teachers.answer import UNSEEN

ANY = Path("any")


def normalised(logits: np.ndarray) -> np.ndarray:
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def made(n: int, classes: str = "abc", seed: int = 0) -> SoftLabels:
    rows = normalised(np.random.default_rng(seed).normal(size=(n, len(classes))))
    return SoftLabels(np.array([f"image-{row:02d}" for row in range(n)]), rows, list(classes), {"teacher": "made"})


def export(image_set: ImageSet, split: Split, **options: Any) -> SoftLabels:
    return export_soft_labels(ANY, image_set, split, "cpu", **options)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 12),
    st.permutations("abc"),
    st.lists(st.integers(0, 15), max_size=20, unique=True),
    st.integers(0, 9),
)
def test_rows_are_joined_by_id_and_columns_by_class(n: int, order: list[str], asked: list[int], seed: int) -> None:
    target = made(n, seed=seed)
    rows, found = target.rows_for(np.array([f"image-{row:02d}" for row in asked], dtype=str), order)
    assert rows.dtype == np.float32
    assert rows.shape == (len(asked), 3)
    for place, row in enumerate(asked):
        assert found[place] == (row < n)
        wanted = [target.log_probabilities[row]["abc".index(name)] for name in order] if row < n else [0, 0, 0]
        np.testing.assert_array_equal(rows[place], wanted)


def test_other_classes_are_refused() -> None:
    with pytest.raises(UserError, match=r"the target's classes are a, b, c, the student's are a, b: .*images\.classes"):
        made(3).rows_for(np.array(["image-00"]), ["a", "b"])
    many = SoftLabels(np.array(["x"]), np.zeros((1, 9)), list("abcdefghi"))
    with pytest.raises(UserError, match=r"are a, b, c, d, e, … \(9\), the .*target\.mapping=FILE"):
        many.rows_for(np.array(["x"]), ["a"])


def test_a_target_comes_back(tmp_path: Path) -> None:
    target = made(5)
    target.save(tmp_path)
    back = SoftLabels.load(tmp_path)
    np.testing.assert_array_equal(back.log_probabilities, target.log_probabilities)
    assert isinstance(back.log_probabilities, np.memmap)
    assert (back.image_id.tolist(), back.classes, back.record, back.source, back.fold) == (
        target.image_id.tolist(),
        ["a", "b", "c"],
        {"teacher": "made"},
        None,
        None,
    )
    asked = np.array(["image-03", "other", "image-00"])
    for one, other in zip(back.rows_for(asked, ["b", "a", "c"]), target.rows_for(asked, ["b", "a", "c"]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_every_row_says_where_it_came_from(image_set: ImageSet, split: Split, teacher: Any, tmp_path: Path) -> None:
    export(image_set, split).save(tmp_path)
    target = SoftLabels.load(tmp_path)
    assert target.image_id.tolist() == image_set.train_ids[:12].tolist()
    assert target.source.tolist() == ["measured"] * 9 + ["predicted"] * 3
    assert target.fold.tolist() == [0, 1, 2] * 3 + [UNSEEN] * 3
    assert target.record["sources"] == {"measured": 9, "predicted": 3}
    assert target.record["folds"] == {"-1": 3, "0": 3, "1": 3, "2": 3}
    assert (target.record["n_images"], target.record["teacher"], target.record["control"]) == (12, "brain", None)
    rows = teacher.soft_labels(image_set.train_ids[:12], image_set.train_images[:12], "cpu").rows
    np.testing.assert_array_equal(target.log_probabilities, rows)
    truth = image_set.train_labels[:12]
    assert target.record["accuracy_labelled"] == (rows.argmax(1) == truth)[:6].mean()
    assert target.record["accuracy_pool"] == (rows.argmax(1) == truth)[6:].mean()
    entropy = -(np.exp(rows.astype(float)) * rows).sum(1).mean()
    assert target.record["entropy"] == pytest.approx(entropy)


@pytest.mark.parametrize(("images", "rows"), [("labelled", range(6)), ("pool", range(6, 12)), ("all", range(12))])
def test_which_images_get_a_target(image_set: ImageSet, split: Split, teacher: Any, images: str, rows: range) -> None:
    target = export(image_set, split, images=images)
    assert target.image_id.tolist() == image_set.train_ids[list(rows)].tolist()
    assert teacher.asked == [len(rows)], "no other image is looked at"


def test_half_precision_costs_a_thousandth(image_set: ImageSet, split: Split, teacher: Any) -> None:
    single, half = export(image_set, split), export(image_set, split, precision="float16")
    assert single.log_probabilities.dtype == np.float32
    assert half.log_probabilities.dtype == np.float16
    error = np.abs(half.log_probabilities.astype(float) - single.log_probabilities)
    assert (error <= 2**-11 * np.abs(single.log_probabilities) + 1e-7).all()
    assert np.abs(np.exp(half.log_probabilities.astype(float)).sum(1) - 1).max() < 2e-3


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 300), st.integers(1, 299), st.floats(0.1, 30), st.integers(0, 99))
def test_top_k_keeps_the_largest_and_their_mass(n_classes: int, k: int, spread: float, seed: int) -> None:
    k = min(k, n_classes - 1)
    rows = normalised(np.random.default_rng(seed).normal(0, spread, (4, n_classes)))
    target = SoftLabels(np.array(list("abcd")), rows, [str(name) for name in range(n_classes)])
    soft_labels_keep_top(target, k)
    assert target.columns.dtype == (np.uint8 if n_classes <= 256 else np.uint16)
    back, found = target.rows_for(np.array(list("dcba")), target.classes)
    back, exact = np.exp(back[::-1].astype(float)), np.exp(rows.astype(float))
    assert found.all()
    np.testing.assert_allclose(back.sum(1), 1, atol=1e-5)
    order = np.argsort(-exact, axis=1, kind="stable")
    kept = np.take_along_axis(exact, order[:, :k], axis=1)
    np.testing.assert_allclose(target.mass, kept.sum(1), atol=1e-6)
    # half precision of a logarithm: at most 2⁻¹¹ of it, and the kept mass is exact
    np.testing.assert_allclose(np.take_along_axis(back, order[:, :k], axis=1), kept, rtol=0.06, atol=1e-6)
    others = np.take_along_axis(back, order[:, k:], axis=1)
    np.testing.assert_allclose(
        others, np.repeat((1 - kept.sum(1, keepdims=True)) / (n_classes - k), n_classes - k, 1), atol=1e-6
    )


def soft_labels_keep_top(target: SoftLabels, k: int) -> None:
    from braindistill.targets.soft_labels import _keep_top

    _keep_top(target, k)


def test_a_hundred_classes_cost_less_than_64_bytes_an_image(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n = 5000
    rows = normalised(rng.normal(0, 3, (n, 100)))
    ids = np.array(
        [f"n{rng.integers(10**8):08d}/n{rng.integers(10**8):08d}_{rng.integers(10**5)}.JPEG" for _ in range(n)]
    )
    source, fold = np.where(rng.random(n) < 0.3, "measured", "predicted"), rng.integers(-1, 5, n).astype(np.int16)
    target = SoftLabels(ids, rows, [f"class-{number}" for number in range(100)], {}, source, fold)
    soft_labels_keep_top(target, 10)
    target.save(tmp_path)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 64 * n
    back = SoftLabels.load(tmp_path)
    some = rng.permutation(n)[:50]
    np.testing.assert_array_equal(
        back.rows_for(ids[some], back.classes)[0], target.rows_for(ids[some], back.classes)[0]
    )
    assert (back.source[some] == source[some]).all()
    assert (back.fold[some] == fold[some]).all()


def test_top_k_on_export(image_set: ImageSet, split: Split, teacher: Any) -> None:
    whole, target = export(image_set, split), export(image_set, split, top_k=2)
    assert target.log_probabilities.dtype == np.float16
    assert target.record["top_k"]["k"] == 2
    mass = np.exp(np.sort(whole.log_probabilities, 1)[:, 1:].astype(float)).sum(1)
    assert target.record["top_k"]["mass_mean"] == pytest.approx(mass.mean(), abs=1e-6)
    # with one class left over, nothing is lost but precision
    rows, _ = target.rows_for(whole.image_id, list("abc"))
    np.testing.assert_allclose(np.exp(rows), np.exp(whole.log_probabilities), atol=2e-3)
    for wrong in (0, 3):
        with pytest.raises(UserError, match=f"target.top_k={wrong}: must be from 1 to 2, there being 3 classes"):
            export(image_set, split, top_k=wrong)


def test_in_sample_targets_need_to_be_allowed(image_set: ImageSet, split: Split, teacher: Any) -> None:
    teacher.shown_source = "in_sample"
    with pytest.raises(UserError, match=r"9 targets would be in sample \(first: image-00\).*allow_in_sample=true"):
        export(image_set, split)
    assert export(image_set, split, allow_in_sample=True).record["sources"] == {"in_sample": 9, "predicted": 3}
    assert (
        export(image_set, dataclasses.replace(split, labelled=np.arange(9, 12), pool=np.arange(0))).source.tolist()
        == ["predicted"] * 3
    )
    for name in ("cnn", "self", "kd_matched"):
        teacher.name = name
        assert export(image_set, split).record["sources"]["in_sample"] == 9, "as ordinary KD has it"


def test_a_teacher_without_decoder_says_what_to_take(image_set: ImageSet, split: Split, teacher: Any) -> None:
    teacher.classes, teacher.name = [], "encoder"
    with pytest.raises(
        UserError, match=r"teacher=encoder .* gives no soft labels; take target=voxels, relations or mask"
    ):
        export(image_set, split)
    teacher.name = "random"
    assert export(image_set, split).classes == ["a", "b", "c"], "noise has any classes"


def test_random_matched_keeps_to_labelled_images(image_set: ImageSet, split: Split, teacher: Any) -> None:
    options = {"control": "random_matched", "seed": 5}
    for images in ("all", "pool"):
        with pytest.raises(UserError, match=r"the pool must not reveal; take target\.images=labelled"):
            export(image_set, split, images=images, **options)
    assert not teacher.asked, "refused before the teacher works"
    target = export(image_set, split, images="labelled", **options)
    rows = export(image_set, split, images="labelled").log_probabilities
    np.testing.assert_allclose(np.sort(target.log_probabilities, 1), np.sort(rows, 1), atol=1e-6)
    truth = image_set.train_labels[:6]
    np.testing.assert_allclose(target.log_probabilities[range(6), truth], rows[range(6), truth], atol=1e-6)
    assert not np.allclose(target.log_probabilities, rows)
    assert target.record["control"] == "random_matched"
    other = export(image_set, split, images="labelled", control="random_matched", seed=6)
    assert not np.array_equal(target.log_probabilities, other.log_probabilities)
    without_pool = dataclasses.replace(split, pool=np.array([], int))
    assert export(image_set, without_pool, **options).record["n_images"] == 6
    turned = dataclasses.replace(image_set, classes=["c", "b", "a"], train_labels=2 - image_set.train_labels)
    again = export(turned, split, images="labelled", **options)
    assert again.classes == ["c", "b", "a"]
    rows, _ = again.rows_for(image_set.train_ids[:6], ["a", "b", "c"])
    np.testing.assert_allclose(rows[range(6), truth], target.log_probabilities[range(6), truth], atol=1e-6)


def test_a_teacher_of_other_classes_is_refused(image_set: ImageSet, split: Split, teacher: Any) -> None:
    other = dataclasses.replace(image_set, classes=["a", "b", "d"])
    for control in (None, "random_matched"):
        with pytest.raises(
            UserError, match=r"the target's classes are a, b, c, the student's are a, b, d: .*mapping=FILE"
        ):
            export(other, split, images="labelled", control=control)


def test_a_mapping_brings_the_students_classes(image_set: ImageSet, split: Split, teacher: Any, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("fmri,student,weight\na,x,1\nb,y,3\nb,x,1\n")
    other = dataclasses.replace(image_set, classes=["x", "y"], train_labels=image_set.train_labels % 2)
    target = export(other, split, mapping=tmp_path / "m.csv")
    assert target.classes == ["x", "y"]
    a, b, c = np.exp(export(image_set, split).log_probabilities.astype(float)).T
    np.testing.assert_allclose(np.exp(target.log_probabilities[:, 0]), (a + b / 4) / (a + b), rtol=1e-4)
    assert target.record["mapping"]["dropped_classes"] == ["c"]
    assert target.record["mapping"]["dropped_mass"]["mean"] == pytest.approx(c.mean(), abs=1e-6)


def test_diagnostics_skip_what_cannot_be_known(image_set: ImageSet, split: Split) -> None:
    image_set.train_labels[6:12] = -1
    found = diagnose(made(4), image_set, split)
    assert found["accuracy_pool"] is None
    right = made(4).log_probabilities.argmax(1) == image_set.train_labels[:4]
    assert found["accuracy_labelled"] == right.mean(), "images without a target are not counted"
    uniform = SoftLabels(image_set.train_ids[:2], np.full((2, 3), -np.log(3)), list("abc"))
    assert diagnose(uniform, image_set, split)["entropy"] == pytest.approx(np.log(3))
    certain = SoftLabels(image_set.train_ids[:1], np.array([[0.0, -np.inf, -np.inf]]), list("abc"))
    assert diagnose(certain, image_set, split)["entropy"] == pytest.approx(0)
    empty = SoftLabels(image_set.train_ids[:0], np.zeros((0, 3)), list("abc"))
    assert diagnose(empty, image_set, split)["entropy"] is None

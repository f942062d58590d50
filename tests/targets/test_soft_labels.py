"""Soft labels are keyed by image id, and say where each row came from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.images import ImageSet, Split
from braindistill.stages.train_teacher import all_labels
from braindistill.targets.soft_labels import SoftLabels, chosen_images, diagnose, export_soft_labels
from braindistill.teachers.artifact import load_teacher
from braindistill.teachers.brain import fit_brain, fit_decoder, fit_encoder, fit_random_matched
from braindistill.teachers.cnn import fit_cnn, fit_random
from braindistill.teachers.cross_fitting import Labels
from braindistill.teachers.decoder import log_softmax


def made(n: int, classes: str = "abc", seed: int = 0) -> SoftLabels:
    rows = log_softmax(np.random.default_rng(seed).normal(size=(n, len(classes))))
    return SoftLabels(np.array([f"image-{row:02d}" for row in range(n)]), rows, list(classes), {"teacher": "made"})


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
    with pytest.raises(UserError, match=r"are a, b, c, d, e, … \(9\), the"):
        many.rows_for(np.array(["x"]), ["a"])


def test_a_target_comes_back(tmp_path: Path) -> None:
    target = made(5)
    target.save(tmp_path)
    back = SoftLabels.load(tmp_path)
    np.testing.assert_array_equal(back.log_probabilities, target.log_probabilities)
    assert (back.image_id.tolist(), back.classes, back.record) == (
        target.image_id.tolist(),
        ["a", "b", "c"],
        {"teacher": "made"},
    )
    asked = np.array(["image-03", "other", "image-00"])
    for one, other in zip(back.rows_for(asked, ["b", "a", "c"]), target.rows_for(asked, ["b", "a", "c"]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_export_answers_stimuli_by_measured_and_others_by_predicted_responses(
    image_set: ImageSet, split: Split, subject: Responses, tmp_path: Path
) -> None:
    teacher = fit_brain(subject, all_labels(subject), "cpu", n_folds=3)
    teacher.save(tmp_path)
    target = export_soft_labels(tmp_path, image_set, split, "cpu")
    assert target.image_id.tolist() == image_set.train_ids[:12].tolist()
    assert target.record["sources"] == {"measured": 9, "predicted": 3}
    assert target.record["n_images"] == 12
    assert target.record["teacher"] == "brain"
    assert target.record["temperature"] == teacher.temperature
    rows, _ = teacher.soft_labels(image_set.train_ids[:12], image_set.train_images[:12], "cpu")
    np.testing.assert_array_equal(target.log_probabilities, rows)
    truth = image_set.train_labels[:12]
    assert target.record["accuracy_labelled"] == (rows.argmax(1) == truth)[:6].mean()
    assert target.record["accuracy_pool"] == (rows.argmax(1) == truth)[6:].mean()
    entropy = -(np.exp(rows.astype(float)) * rows).sum(1).mean()
    assert target.record["entropy"] == pytest.approx(entropy)


def test_a_row_does_not_depend_on_the_other_images(
    image_set: ImageSet, split: Split, subject: Responses, tmp_path: Path
) -> None:
    teachers = {"brain": tmp_path / "brain", "random": tmp_path / "random"}
    for folder in teachers.values():
        folder.mkdir()
    fit_brain(subject, all_labels(subject), "cpu", n_folds=3).save(teachers["brain"])
    fit_random(teachers["random"], seed=1)
    order = np.random.default_rng(0).permutation(16)
    shuffled = dataclasses.replace(
        image_set,
        train_images=image_set.train_images[order],
        train_ids=image_set.train_ids[order],
        train_labels=image_set.train_labels[order],
    )
    place = np.argsort(order)
    moved = Split(labelled=place[split.labelled[::-1]], pool=place[split.pool[:4]], val=place[split.val])
    for name, folder in teachers.items():
        target = export_soft_labels(folder, image_set, split, "cpu")
        other = export_soft_labels(folder, shuffled, moved, "cpu")
        rows, found = target.rows_for(other.image_id, image_set.classes)
        assert found.all()
        np.testing.assert_allclose(other.log_probabilities, rows, atol=1e-5)
        teacher = load_teacher(folder)
        teacher.classes = image_set.classes
        for row in (0, 4, 11):
            alone, _ = teacher.soft_labels(
                image_set.train_ids[row : row + 1], image_set.train_images[row : row + 1], "cpu"
            )
            np.testing.assert_allclose(target.log_probabilities[row], alone[0], atol=1e-5, err_msg=name)


@pytest.mark.parametrize(("images", "rows"), [("labelled", range(6)), ("pool", range(6, 12)), ("all", range(12))])
def test_which_images_get_a_target(image_set: ImageSet, split: Split, tmp_path: Path, images: str, rows: range) -> None:
    fit_random(tmp_path)
    target = export_soft_labels(tmp_path, image_set, split, "cpu", images=images)  # type: ignore[arg-type]
    assert target.image_id.tolist() == image_set.train_ids[list(rows)].tolist()
    assert chosen_images(split, images).tolist() == list(rows)
    assert target.classes == ["a", "b", "c"]


def test_half_precision_costs_a_thousandth(
    image_set: ImageSet, split: Split, subject: Responses, tmp_path: Path
) -> None:
    fit_brain(subject, all_labels(subject), "cpu", n_folds=3).save(tmp_path)
    single = export_soft_labels(tmp_path, image_set, split, "cpu")
    half = export_soft_labels(tmp_path, image_set, split, "cpu", precision="float16")
    assert single.log_probabilities.dtype == np.float32
    assert half.log_probabilities.dtype == np.float16
    error = np.abs(half.log_probabilities.astype(float) - single.log_probabilities)
    assert (error <= 2**-11 * np.abs(single.log_probabilities) + 1e-7).all()
    assert np.abs(np.exp(half.log_probabilities.astype(float)).sum(1) - 1).max() < 2e-3


def test_in_sample_targets_need_to_be_allowed(
    image_set: ImageSet, split: Split, subject: Responses, tmp_path: Path
) -> None:
    given = dict(zip(image_set.train_ids[:6].tolist(), image_set.train_labels[:6].tolist(), strict=True))
    fit_brain(subject, Labels(list("abc"), given, "student"), "cpu", n_folds=1).save(tmp_path)
    with pytest.raises(UserError, match=r"6 targets would be in sample \(first: image-00\).*target\.allow_in_sample"):
        export_soft_labels(tmp_path, image_set, split, "cpu")
    target = export_soft_labels(tmp_path, image_set, split, "cpu", allow_in_sample=True)
    assert target.record["sources"] == {"in_sample": 6, "measured": 3, "predicted": 3}
    pool = export_soft_labels(tmp_path, image_set, split, "cpu", images="pool")
    assert pool.record["sources"] == {"measured": 3, "predicted": 3}


def test_a_cnn_teacher_speaks_in_sample_as_ordinary_kd_has_it(tmp_path: Path) -> None:
    from braindistill.runtime import Runtime

    images = np.random.default_rng(0).integers(0, 256, (12, 1, 8, 8)).astype(np.uint8)
    ids, labels = np.array([f"i{row}" for row in range(12)]), np.arange(12) % 2
    image_set = ImageSet(images[:10], ids[:10], labels[:10], images[10:], ids[10:], labels[10:], ["a", "b"])
    split = Split(labelled=np.arange(4), pool=np.arange(4, 10), val=np.array([], int))
    runtime = Runtime(device="cpu", tensorboard=False, verbosity=0)
    fit_cnn(image_set, split, {"epochs": 1}, tmp_path, runtime)
    target = export_soft_labels(tmp_path, image_set, split, "cpu")
    assert target.record["sources"] == {"in_sample": 4, "predicted": 6}
    assert target.record["temperature"] is None


def test_teachers_that_cannot_answer_say_so(
    image_set: ImageSet, split: Split, subject: Responses, tmp_path: Path
) -> None:
    fit_encoder(subject, None, "cpu", n_folds=2).save(tmp_path)
    with pytest.raises(UserError, match="gives no soft labels"):
        export_soft_labels(tmp_path, image_set, split, "cpu")
    fit_decoder(subject, all_labels(subject), "cpu", n_folds=3).save(tmp_path)
    with pytest.raises(UserError, match=r"3 of 12 images were never shown in the scanner \(first: image-09\)"):
        export_soft_labels(tmp_path, image_set, split, "cpu")
    assert export_soft_labels(tmp_path, image_set, split, "cpu", images="labelled").record["n_images"] == 6


def test_random_matched_keeps_to_labelled_images(
    image_set: ImageSet, split: Split, subject: Responses, tmp_path: Path
) -> None:
    teacher = fit_random_matched(subject, all_labels(subject), "cpu", n_folds=3, seed=5)
    teacher.save(tmp_path)
    with pytest.raises(UserError, match=r"the pool must not reveal; take target\.images=labelled"):
        export_soft_labels(tmp_path, image_set, split, "cpu")
    target = export_soft_labels(tmp_path, image_set, split, "cpu", images="labelled")
    rows, _ = teacher.soft_labels(image_set.train_ids[:6], image_set.train_images[:6], "cpu")
    np.testing.assert_allclose(np.sort(target.log_probabilities, 1), np.sort(rows, 1), atol=1e-6)
    truth = image_set.train_labels[:6]
    np.testing.assert_allclose(target.log_probabilities[range(6), truth], rows[range(6), truth], atol=1e-6)
    assert not np.allclose(target.log_probabilities, rows)
    without_pool = dataclasses.replace(split, pool=np.array([], int))
    assert export_soft_labels(tmp_path, image_set, without_pool, "cpu").record["n_images"] == 6
    turned = dataclasses.replace(image_set, classes=["c", "b", "a"], train_labels=2 - image_set.train_labels)
    again = export_soft_labels(tmp_path, turned, split, "cpu", images="labelled")
    assert again.classes == ["c", "b", "a"]
    rows, _ = again.rows_for(image_set.train_ids[:6], ["a", "b", "c"])
    np.testing.assert_allclose(rows[range(6), truth], target.log_probabilities[range(6), truth], atol=1e-6)


@pytest.mark.parametrize("fit", [fit_brain, fit_random_matched])
def test_a_teacher_of_other_classes_is_refused(
    image_set: ImageSet, split: Split, subject: Responses, tmp_path: Path, fit: object
) -> None:
    fit(subject, all_labels(subject), "cpu", n_folds=3).save(tmp_path)  # type: ignore[operator]
    other = dataclasses.replace(image_set, classes=["a", "b", "d"])
    with pytest.raises(UserError, match="the target's classes are a, b, c, the student's are a, b, d"):
        export_soft_labels(tmp_path, other, split, "cpu", images="labelled")


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

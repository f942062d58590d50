"""The fMRI data set's own pictures as the student's images."""

from __future__ import annotations

import json

import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.images.assembly import Stimuli
from braindistill.images.image_set import ImageSet
from braindistill.images.stimuli import load_stimuli


def shown(labels: list[str], seed: int = 0) -> Stimuli:
    """Pictures in a random order; a picture's first pixel says which it is."""
    order = np.random.default_rng(seed).permutation(len(labels))
    pictures = np.zeros((len(labels), 1, 4, 4), np.uint8)
    pictures[:, 0, 0, 0] = np.arange(len(labels))
    ids = np.array([f"s{row:02d}" for row in range(len(labels))])
    return Stimuli(pictures[order], ids[order], np.array(labels)[order])


LABELS = [*"abc" * 5, "a", "b", "", ""]


@pytest.mark.parametrize("test_per_class", [1, 3])
def test_every_class_gives_as_many_test_pictures(test_per_class: int) -> None:
    images = load_stimuli(shown(LABELS), test_per_class=test_per_class)
    assert images.classes == ["a", "b", "c"]
    assert np.bincount(images.test_labels).tolist() == [test_per_class] * 3
    assert len(images.train_ids) + len(images.test_ids) == len(LABELS)
    assert not set(images.train_ids.tolist()) & set(images.test_ids.tolist())
    for ids, labels, pictures in (
        (images.train_ids, images.train_labels, images.train_images),
        (images.test_ids, images.test_labels, images.test_images),
    ):
        for name, label, picture in zip(ids.tolist(), labels.tolist(), pictures, strict=True):
            assert picture[0, 0, 0] == int(name[1:])
            assert (images.classes[label] if label >= 0 else "") == LABELS[int(name[1:])]
    assert images.train_ids[images.train_labels < 0].tolist() == ["s17", "s18"], (
        "unlabelled ones join the training images"
    )


def test_test_pictures_do_not_depend_on_the_order_of_the_data() -> None:
    first = load_stimuli(shown(LABELS), test_per_class=2)
    for seed in range(1, 4):
        again = load_stimuli(shown(LABELS, seed), test_per_class=2)
        assert again.test_ids.tolist() == first.test_ids.tolist()
        np.testing.assert_array_equal(again.train_images, first.train_images)


@pytest.mark.parametrize(
    ("labels", "number", "message"),
    [
        (["", "", ""], 1, r"the stimuli have 0 class\(es\).*fmri\.labels=TABLE"),
        (["a", "a", ""], 1, r"the stimuli have 1 class\(es\)"),
        (["a", "a", "b"], 1, r"test_per_class=1: class b has 1 picture\(s\)"),
        ([*"aabb"], 2, r"test_per_class=2: class a has 2 picture\(s\)"),
        ([*"aabb"], 0, r"test_per_class=0: class a has 2 picture\(s\)"),
    ],
)
def test_too_few_are_one_clear_line(labels: list[str], number: int, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        load_stimuli(shown(labels), test_per_class=number)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("labels", ["all", "student"])
def test_no_teacher_sees_a_test_picture(run, write, tmp_path, labels) -> None:
    """All labels of the data go to the teacher, and yet the responses to the student's test pictures do not."""
    test = []
    for seed in ("0", "1"):
        words = ["fmri=arrays", write("fmri"), "images=stimuli", "images.test_per_class=3", f"seed={seed}"]
        words += [
            "teacher=decoder",
            f"teacher.labels={labels}",
            "teacher.n_folds=2",
            "student.width=4",
            "train.epochs=1",
            "train.batch_size=18",
        ]
        ran = run("distill", *words, cache=tmp_path / f"cache{seed}")
        assert ran.code == 0, ran.err
        (images,) = (tmp_path / f"cache{seed}" / "images").glob("*/image_set.npz")
        (teacher,) = (tmp_path / f"cache{seed}" / "train-teacher").glob("*/teacher.json")
        ids = ImageSet.load(images.parent).test_ids.tolist()
        record = json.loads(teacher.read_text())
        assert len(ids) == 6
        assert len(record["stimulus_id"]) == 18
        assert not set(ids) & {*record["stimulus_id"], *record["labelled"]}
        test.append(ids)
    assert test[0] == test[1], "the same test pictures for all seeds"


def test_nor_may_a_teacher_that_is_continued_have_seen_one(run, write, tmp_path) -> None:
    words = ["fmri=arrays", write("fmri"), "teacher=decoder", "teacher.n_folds=2", "runtime.verbosity=0"]
    others = ["images=arrays", write("images")]
    assert run("train-teacher", *words, *others, cache=tmp_path / "cache").code == 0
    (older,) = (tmp_path / "cache" / "train-teacher").glob("*/teacher.json")
    ran = run("train-teacher", *words, "images=stimuli", f"teacher.init_from={older.parent}", cache=tmp_path / "cache")
    assert ran.code == 1
    assert "it was fitted on 2 of the student's test or validation images (first: picture-" in ran.err
    assert (
        run("train-teacher", *words, *others, f"teacher.init_from={older.parent}", cache=tmp_path / "cache").code == 0
    )

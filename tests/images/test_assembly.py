from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braindistill.errors import UserError
from braindistill.images.assembly import Stimuli, assemble, check_overlap, split
from braindistill.images.digits import load_digits
from braindistill.images.image_set import ImageSet


def make(train_labels, test_labels=(0, 1, 2), shape=(1, 4, 4), classes=("a", "b", "c")) -> ImageSet:
    rng = np.random.default_rng(0)
    n, m = len(train_labels), len(test_labels)
    return ImageSet(
        train_images=rng.integers(0, 256, (n, *shape), dtype=np.uint8),
        train_ids=np.array([f"train-{row}" for row in range(n)], dtype=str),
        train_labels=np.array(train_labels, dtype=np.int64),
        test_images=rng.integers(0, 256, (m, *shape), dtype=np.uint8),
        test_ids=np.array([f"test-{row}" for row in range(m)], dtype=str),
        test_labels=np.array(test_labels, dtype=np.int64),
        classes=list(classes),
    )


def shown(ids, labels, shape=(1, 4, 4), value=9) -> Stimuli:
    return Stimuli(np.full((len(ids), *shape), value, np.uint8), np.array(ids, dtype=str), np.array(labels, dtype=str))


@pytest.fixture
def said(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr("braindistill.images.assembly.say", lines.append)
    monkeypatch.setattr("braindistill.images.assembly.warn", lines.append)
    return lines


# assemble


def test_without_options_nothing_changes():
    images = make([0, 1, 2, -1])
    assembled = assemble(images, None)
    np.testing.assert_array_equal(assembled.train_images, images.train_images)
    assert assembled.classes == images.classes


def test_classes_are_renumbered_in_the_order_given_and_unlabelled_images_stay():
    images = make([0, 1, 2, -1, 2])
    assembled = assemble(images, None, classes=["c", "a"])
    assert assembled.classes == ["c", "a"]
    assert assembled.train_ids.tolist() == ["train-0", "train-2", "train-3", "train-4"]
    assert assembled.train_labels.tolist() == [1, 0, -1, 0]
    assert assembled.test_ids.tolist() == ["test-0", "test-2"]
    np.testing.assert_array_equal(assembled.train_images, images.train_images[[0, 2, 3, 4]])
    numbered = make([0, 1, 2], classes=("1", "2", "3"))
    assert assemble(numbered, None, classes=[3]).train_ids.tolist() == ["train-2"]


@pytest.mark.parametrize(
    ("classes", "message"), [(["a", "x"], "no class 'x'; known: a, b, c"), (["a", "a"], "once"), ([], "once")]
)
def test_impossible_classes(classes, message):
    with pytest.raises(UserError, match=message):
        assemble(make([0, 1, 2]), None, classes=classes)


def test_n_test_keeps_the_first_of_each_class_and_moves_the_rest(said):
    images = make([], test_labels=[0, 0, 0, 0, 1, 1, 1, 2, 2])
    assembled = assemble(images, None, n_test=5)
    assert assembled.test_ids.tolist() == ["test-0", "test-1", "test-4", "test-5", "test-7"]
    assert assembled.train_ids.tolist() == ["test-2", "test-3", "test-6", "test-8"]
    assert assembled.train_labels.tolist() == [0, 0, 1, 2]
    np.testing.assert_array_equal(assembled.train_images, images.test_images[[2, 3, 6, 8]])
    assert len(said) == 1
    for n_test in (0, 10):
        with pytest.raises(UserError, match="from 1 to 9"):
            assemble(images, None, n_test=n_test)


def test_stimuli_join_and_known_ids_are_not_duplicated(said):
    images = make([0, -1, 2])
    assembled = assemble(images, shown(["s1", "train-1", "s2", "test-0"], ["b", "b", "", "a"]), stimuli=True)
    assert assembled.train_ids.tolist() == ["train-0", "train-1", "train-2", "s1", "s2"]
    assert assembled.train_labels.tolist() == [0, 1, 2, 1, -1]
    assert (assembled.train_images[3:] == 9).all()
    assert images.train_labels.tolist() == [0, -1, 2]
    assert said == []


def test_stimuli_of_other_shape_are_fitted_and_it_is_said(said):
    assembled = assemble(make([0, 1, 2]), shown(["s"], ["a"], (3, 8, 8)), stimuli=True)
    assert assembled.train_images.shape == (4, 1, 4, 4)
    assert (assembled.train_images[-1] == 9).all()
    assert len(said) == 1
    colour = assemble(make([0, 1, 2], shape=(3, 4, 4)), shown(["s"], ["a"], (1, 2, 2)), stimuli=True)
    assert (colour.train_images[-1] == 9).all()


def test_channels_keep_their_order_when_resized(said):
    stimuli = Stimuli(
        np.arange(3, dtype=np.uint8).reshape(1, 3, 1, 1) + np.zeros((1, 3, 8, 8), np.uint8),
        np.array(["s"]),
        np.array(["a"]),
    )
    joined = assemble(make([0, 1, 2], shape=(3, 4, 4)), stimuli, stimuli=True).train_images[-1]
    assert [np.unique(channel).tolist() for channel in joined] == [[0], [1], [2]]


def test_stimuli_of_dropped_classes_are_dropped():
    assembled = assemble(make([0, 1, 2]), shown(["s1", "s2"], ["a", "b"]), stimuli=True, classes=["b", "c"])
    assert assembled.train_ids.tolist() == ["train-1", "train-2", "s2"]


def test_impossible_stimuli():
    with pytest.raises(UserError, match=r"labels that are no class of the images: bat, x \(2 in all\)"):
        assemble(make([0, 1, 2]), shown(["s1", "s2"], ["x", "bat"]), stimuli=True)
    with pytest.raises(UserError, match="train-0 is 'b' as a stimulus and 'a' as a training image"):
        assemble(make([0, 1, 2]), shown(["train-0"], ["b"]), stimuli=True)
    with pytest.raises(UserError, match="holds no pictures"):
        assemble(make([0, 1, 2]), None, stimuli=True)


# overlap


def test_overlap_by_id_and_by_pixels(said):
    images = make([0, 1, 2], test_labels=[0] * 8)
    assert check_overlap(images, ["train-0", "other"], images.train_images) == []
    with pytest.raises(UserError, match="1 test images were shown to the subject: test-3; remove"):
        check_overlap(images, {"test-3"}, None)
    with pytest.raises(UserError, match=r"6 test images .*: test-0, test-1, test-2, test-3, test-4 …;"):
        check_overlap(images, ["test-0"], images.test_images[:6])
    assert said == []
    assert check_overlap(images, ["test-0"], images.test_images[[5]], allow_overlap=True) == ["test-0", "test-5"]
    assert len(said) == 1


def test_overlap_is_seen_across_channels(said):
    images = make([0, 1, 2])
    in_colour = np.repeat(images.test_images[[1]], 3, axis=1)
    with pytest.raises(UserError, match="test-1"):
        check_overlap(images, [], in_colour)


def test_duplicates_of_training_images_are_only_warned_about(said):
    images = make([0, 1, 2])
    images.test_images[0] = images.train_images[2]
    assert check_overlap(images, [], None) == []
    assert said == ["1 of 3 test images equal a training image pixel for pixel"]


# split

budgets = st.fixed_dictionaries(
    {"n_train": st.none() | st.integers(0, 18), "n_pool": st.integers(0, 10), "n_val": st.integers(0, 9)}
)


def tall_set(rng: np.random.Generator) -> tuple[ImageSet, list[str]]:
    """Nine labelled images of each of three classes, four of each shown, and 20 unlabelled ones, half of them shown."""
    images = make(rng.permutation([0] * 9 + [1] * 9 + [2] * 9 + [-1] * 20))
    stimuli: list[str] = []
    for label, count in ((0, 4), (1, 4), (2, 4), (-1, 10)):
        stimuli += images.train_ids[images.train_labels == label][:count].tolist()
    return images, stimuli


@settings(max_examples=60, deadline=None)
@given(budget=budgets, seed=st.integers(0, 1000))
def test_split_invariants(budget, seed):
    images, stimuli = tall_set(np.random.default_rng(seed))
    drawn = split(images, stimuli, seed, **budget)
    labels, was_shown = images.train_labels, np.isin(images.train_ids, stimuli)
    everything = np.concatenate([drawn.labelled, drawn.pool, drawn.val])
    assert len(set(everything)) == len(everything)
    assert len(drawn.val) == budget["n_val"]
    assert len(drawn.pool) == budget["n_pool"]
    assert len(drawn.labelled) == (27 - budget["n_val"] if budget["n_train"] is None else budget["n_train"])
    assert (labels[drawn.labelled] >= 0).all()
    assert (labels[drawn.val] >= 0).all()
    for part in (drawn.labelled, drawn.val):
        counts = np.bincount(labels[part], minlength=3)
        assert counts.max() - counts.min() <= 1
        assert (np.diff(part) > 0).all()
    for label in range(3):  # stimuli first: another image is taken only when no stimulus of the class is left
        mine = drawn.labelled[labels[drawn.labelled] == label]
        free = (labels == label) & was_shown & ~np.isin(np.arange(len(labels)), np.concatenate([mine, drawn.val]))
        assert was_shown[mine].all() or not free.any()
    free = was_shown & ~np.isin(np.arange(len(labels)), everything)
    assert was_shown[drawn.pool].all() or not free.any()
    assert not was_shown[drawn.val].any()  # nine or fewer: there are five others in each class
    again = split(images, set(stimuli), seed, **budget)
    for field in ("labelled", "pool", "val"):
        np.testing.assert_array_equal(getattr(again, field), getattr(drawn, field))
        assert getattr(drawn, field).dtype == np.int64


@settings(max_examples=30, deadline=None)
@given(small=st.integers(0, 20), large=st.integers(0, 20), n_val=st.integers(0, 7), seed=st.integers(0, 99))
def test_more_labels_contain_fewer(small, large, n_val, seed):
    images, stimuli = tall_set(np.random.default_rng(5))
    small, large = sorted((small, large))
    few, many = (split(images, stimuli, seed, n_train=count, n_val=n_val) for count in (small, large))
    assert set(few.labelled) <= set(many.labelled)
    np.testing.assert_array_equal(few.val, many.val)


def test_seeds_draw_differently_and_every_class_gets_a_remainder():
    images, stimuli = tall_set(np.random.default_rng(5))
    draws = [split(images, stimuli, seed, n_train=4, n_pool=5) for seed in range(30)]
    assert len({tuple(draw.labelled) for draw in draws}) > 20
    extra = {int(np.bincount(images.train_labels[draw.labelled]).argmax()) for draw in draws}
    assert extra == {0, 1, 2}


def test_the_demonstrations_budget():
    images = load_digits()
    drawn = split(images, images.train_ids, 0, n_train=40, n_pool=360)
    assert np.bincount(images.train_labels[drawn.labelled]).tolist() == [4] * 10
    assert len(np.union1d(drawn.labelled, drawn.pool)) == 400


def test_matched_labels_add_every_labelled_stimulus():
    images, stimuli = tall_set(np.random.default_rng(5))
    plain = split(images, stimuli, 3, n_train=15, n_val=3)
    matched = split(images, stimuli, 3, n_train=15, n_val=3, labels_matched=True)
    labelled_stimuli = np.flatnonzero(np.isin(images.train_ids, stimuli) & (images.train_labels >= 0))
    np.testing.assert_array_equal(matched.labelled, np.union1d(plain.labelled, labelled_stimuli))
    with pytest.raises(UserError, match=r"set images.stimuli=true too"):
        split(images, [], 3, n_train=15, labels_matched=True)


def test_validation_says_when_it_takes_stimuli(said):
    images, stimuli = tall_set(np.random.default_rng(5))
    split(images, stimuli, 0, n_val=18)
    assert said == ["images.n_val=18: 3 validation images were shown to the subject; too few weren't"]


def test_impossible_budgets():
    images, stimuli = tall_set(np.random.default_rng(5))
    for options, message in (
        ({"n_train": 28}, "images.n_train=28: only 27 labelled training images are left"),
        ({"n_train": 26, "n_val": 2}, "images.n_train=26: only 25"),
        ({"n_val": 28}, "images.n_val=28: only 27"),
        ({"n_train": 7, "n_pool": 41}, "images.n_pool=41: only 40 of 47 .* after 7 labelled and 0 for validation"),
        ({"n_train": -1}, "must not be negative"),
    ):
        with pytest.raises(UserError, match=message):
            split(images, stimuli, 0, **options)
    with pytest.raises(UserError, match="class without training images: b"):
        split(make([0, 2, 2]), [], 0)
    with pytest.raises(UserError, match="one class has only 1 labelled images left; take at most 3"):
        split(make([0] * 5 + [1] + [2] * 5), [], 0, n_train=8)

"""Each control lacks one thing, and keeps all others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.teachers.artifact import load_teacher
from braindistill.teachers.calibration import log_softmax
from braindistill.teachers.controls import (
    RandomTeacher,
    control_responses,
    derangement,
    fit_random,
    permute_other_classes,
    random_soft_labels,
    shuffle_across,
    shuffle_pairing,
    shuffle_within,
)
from braindistill.teachers.options import VoxelOptions

Make = Callable[..., Responses]


@given(st.integers(2, 12), st.integers(0, 50))
def test_a_derangement_has_no_fixed_point(n: int, seed: int) -> None:
    order = derangement(n, np.random.default_rng(seed))
    assert sorted(order) == list(range(n))
    assert (order != np.arange(n)).all()


def test_derangements_are_uniform() -> None:
    rng = np.random.default_rng(0)
    counts = np.unique([derangement(4, rng) for _ in range(1800)], axis=0, return_counts=True)[1]
    assert len(counts) == 9
    assert abs(counts - 200).max() < 60


def test_shuffling_deals_responses_to_other_images_and_keeps_everything_else(make_subject: Make) -> None:
    subject = make_subject(20, 2, repeats=3)
    shuffled = shuffle_pairing(subject, 1)
    np.testing.assert_array_equal(shuffled.responses, subject.responses)
    assert (shuffled.stimulus_id != subject.stimulus_id).all(), "no response stays with its image"
    pairs = set(zip(subject.stimulus_id.tolist(), shuffled.stimulus_id.tolist(), strict=True))
    assert len(pairs) == 20, "repeats stay together"
    assert len({new for _, new in pairs}) == 20
    label_of = dict(zip(subject.stimulus_id.tolist(), subject.label.tolist(), strict=True))
    assert [label_of[name] for name in shuffled.stimulus_id.tolist()] == shuffled.label.tolist(), "labels stay"
    assert shuffled.image_id is subject.image_id
    shuffled.check()
    assert not np.array_equal(shuffle_pairing(subject, 2).stimulus_id, shuffled.stimulus_id)
    assert np.array_equal(shuffle_pairing(subject, 1).stimulus_id, shuffled.stimulus_id)


def test_who_gets_whose_responses_does_not_depend_on_the_order_of_trials(make_subject: Make) -> None:
    subject = make_subject(20, 2, repeats=2)
    order = np.random.default_rng(0).permutation(40)
    moved = dataclasses.replace(
        subject,
        responses=subject.responses[order],
        stimulus_id=subject.stimulus_id[order],
        label=subject.label[order],
    )
    np.testing.assert_array_equal(shuffle_pairing(moved, 3).stimulus_id, shuffle_pairing(subject, 3).stimulus_id[order])


def test_unlabelled_stimuli_take_part_in_the_shuffle(make_subject: Make) -> None:
    subject = make_subject(20, 2)
    subject.label[subject.stimulus_id < "s010"] = ""
    shuffled = shuffle_pairing(subject, 0)
    assert ((shuffled.label == "") == (shuffled.stimulus_id < "s010")).all()
    assert shuffle_pairing(dataclasses.replace(subject, label=None), 0).label is None


def test_blocks_without_pictures_are_shuffled_by_trial(make_subject: Make) -> None:
    """Dealing a category's blocks to another category as a whole would only rename the classes."""
    subject = make_subject(4, 4, repeats=8, runs=2, pictures=False)
    shuffled = shuffle_pairing(subject, 0)
    assert shuffled.stimulus_id is subject.stimulus_id
    assert shuffled.label is subject.label
    assert not np.array_equal(shuffled.responses, subject.responses)
    assert sorted(map(tuple, shuffled.responses.tolist())) == sorted(map(tuple, subject.responses.tolist()))


def chosen(control: str | None, roi: str | list[str], nuisance: str = "nuisance") -> VoxelOptions:
    return VoxelOptions(roi=roi, nuisance=nuisance, control=control)  # type: ignore[arg-type]


def test_nuisance_takes_as_many_voxels_from_outside(make_subject: Make, capsys: pytest.CaptureFixture) -> None:
    subject = make_subject(10, 2, voxels=40)
    subject.rois = {"V1": np.arange(40) < 7, "elsewhere": np.arange(40) >= 20}
    found = control_responses(subject, chosen("nuisance", "V1", "elsewhere"), 0)
    assert found.responses.shape == (10, 7)
    columns = [np.flatnonzero((subject.responses == column[:, None]).all(0)).item() for column in found.responses.T]
    assert min(columns) >= 20
    assert columns == sorted(set(columns))
    other = control_responses(subject, chosen("nuisance", "V1", "elsewhere"), 1)
    assert not np.array_equal(other.responses, found.responses)
    assert capsys.readouterr().err == ""
    all_of_them = control_responses(subject, chosen("nuisance", "all", "elsewhere"), 0)
    assert all_of_them.responses.shape == (10, 20)
    subject.rois["V1"][:] = np.arange(40) < 15
    subject.rois["elsewhere"] = np.arange(40) >= 36
    assert control_responses(subject, chosen("nuisance", "V1", "elsewhere"), 0).responses.shape == (10, 4)
    assert "only 4 voxels outside visual cortex for 15" in capsys.readouterr().err


def test_a_missing_mask_and_an_unknown_control_are_named(make_subject: Make) -> None:
    subject = make_subject(10, 2)
    with pytest.raises(UserError, match=r"no mask named 'nuisence'.*teacher\.nuisance.*nuisance"):
        control_responses(subject, chosen("nuisance", "left", "nuisence"), 0)
    with pytest.raises(UserError, match=r"teacher\.control=shuffled: .*shuffled_fmri"):
        control_responses(subject, chosen("shuffled", "all"), 0)
    with pytest.raises(UserError, match=r"ROI 'V9' is not in this data set.*left"):
        control_responses(subject, chosen(None, "V9"), 0)
    subject.rois = {"nuisance": subject.rois["nuisance"]}
    with pytest.raises(UserError, match=r"teacher\.roi=each: the data have no ROI masks"):
        control_responses(subject, chosen(None, "each"), 0)


def test_without_a_control_the_roi_is_all_that_changes(make_subject: Make) -> None:
    subject = make_subject(10, 2)
    for roi, nuisance, columns in (
        ("left", "nuisance", np.arange(15)),
        (["left"], "nuisance", np.arange(15)),
        ("each", "nuisance", np.arange(15)),
        ("-left", "nuisance", np.arange(15, 26)),
        ("all", "nuisance", np.arange(26)),
        ("all", "", np.arange(30)),
    ):
        found = control_responses(subject, chosen(None, roi, nuisance), 0)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found.responses, subject.responses[:, columns])


IDS = np.array([f"image-{row}" for row in range(50)])


def test_random_rows_depend_on_the_id_and_the_seed_alone() -> None:
    rows = random_soft_labels(IDS, 10, 0)
    order = np.random.default_rng(0).permutation(50)[:20]
    np.testing.assert_array_equal(random_soft_labels(IDS[order], 10, 0), rows[order])
    assert not np.allclose(random_soft_labels(IDS, 10, 1), rows)
    assert len(np.unique(rows, axis=0)) == 50
    np.testing.assert_allclose(np.exp(rows).sum(1), 1, rtol=1e-5)


def test_random_rows_are_the_originals_softmax_of_noise_over_a_hundredth() -> None:
    rows = random_soft_labels(np.array([f"{row}" for row in range(3000)]), 2, 0)
    # log-odds are 100 (u − v), triangular on ± 100
    odds = rows[:, 0] - rows[:, 1]
    assert abs(odds).max() <= 100
    assert odds.mean() == pytest.approx(0, abs=3)
    assert odds.std() == pytest.approx(100 / np.sqrt(6), rel=0.05)
    assert (np.exp(rows.max(1)) > 0.99).mean() > 0.85, "nearly one-hot"


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 8), st.integers(0, 100))
def test_random_matched_keeps_values_and_the_true_class(n_classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = log_softmax(rng.normal(size=(50, n_classes)))
    labels = rng.integers(0, n_classes, 50)
    permuted = permute_other_classes(rows, labels, IDS, seed)
    np.testing.assert_array_equal(np.sort(permuted, 1), np.sort(rows, 1))
    every = np.arange(50)
    np.testing.assert_array_equal(permuted[every, labels], rows[every, labels])
    if n_classes == 2:
        np.testing.assert_array_equal(permuted, rows)
    else:
        assert not np.array_equal(permuted, rows)
        assert not np.array_equal(permute_other_classes(rows, labels, IDS, seed + 1), permuted)
    order = rng.permutation(50)[:30]
    np.testing.assert_array_equal(permute_other_classes(rows[order], labels[order], IDS[order], seed), permuted[order])


def test_random_matched_permutes_uniformly() -> None:
    ids = np.array([f"{row}" for row in range(1200)])
    rows = np.tile(np.array([[-4.0, -3.0, -2.0, -1.0]], np.float32), (1200, 1))
    permuted = permute_other_classes(rows, np.full(1200, 1), ids, 0)
    kinds, counts = np.unique(permuted, axis=0, return_counts=True)
    assert len(kinds) == 6
    assert (kinds[:, 1] == -3).all()
    assert abs(counts - 200).max() < 60


def test_the_noise_teacher_is_its_seed(tmp_path: Path) -> None:
    fit_random(seed=3).save(tmp_path)
    teacher = load_teacher(tmp_path)
    assert isinstance(teacher, RandomTeacher)
    teacher.classes = ["a", "b", "c"]
    answer = teacher.soft_labels(IDS, np.zeros((50, 1, 2, 2), np.uint8), "cpu")
    np.testing.assert_array_equal(answer.rows, random_soft_labels(IDS, 3, 3))
    assert set(answer.source.tolist()) == {"random"}
    assert set(answer.fold.tolist()) == {-1}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(2, 7), min_size=1, max_size=6), st.integers(0, 1000), st.integers(0, 1000))
def test_shuffled_within_keeps_class_means_and_no_fixed_point(sizes: list[int], seed: int, order_seed: int) -> None:
    rng = np.random.default_rng(order_seed)
    labels = np.repeat(np.arange(len(sizes)) * 3, sizes)
    order = rng.permutation(len(labels))
    ids = np.array([f"image-{row}" for row in range(len(labels))])
    index = shuffle_within(labels, ids, seed)
    assert sorted(index) == list(range(len(labels)))
    assert (index != np.arange(len(labels))).all()
    np.testing.assert_array_equal(labels[index], labels)
    rows = rng.normal(size=(len(labels), 4))
    for value in np.unique(labels):
        mine = labels == value
        np.testing.assert_allclose(rows[index][mine].mean(0), rows[mine].mean(0), atol=1e-12)
    moved = shuffle_within(labels[order], ids[order], seed)
    np.testing.assert_array_equal(ids[order][moved], ids[index][order])
    np.testing.assert_array_equal(shuffle_within(labels, ids, seed), index)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 30), st.integers(0, 1000))
def test_shuffled_across_is_a_derangement_that_depends_on_ids_alone(n: int, seed: int) -> None:
    ids = IDS[np.random.default_rng(seed).permutation(50)[:n]]
    index = shuffle_across(ids, seed)
    assert sorted(index) == list(range(n))
    assert (index != np.arange(n)).all()
    order = np.random.default_rng(seed + 1).permutation(n)
    np.testing.assert_array_equal(ids[order][shuffle_across(ids[order], seed)], ids[index][order])


def test_shuffles_are_redrawn_with_the_seed_and_want_a_partner() -> None:
    labels = np.arange(50) % 2
    assert not np.array_equal(shuffle_within(labels, IDS, 0), shuffle_within(labels, IDS, 1))
    assert not np.array_equal(shuffle_across(IDS, 0), shuffle_across(IDS, 1))
    labels[7] = 5
    with pytest.raises(UserError, match=r"class 5 has a single image \(image-7\).*images\.n_train"):
        shuffle_within(labels, IDS, 0)
    with pytest.raises(UserError, match="a single image"):
        shuffle_across(IDS[:1], 0)

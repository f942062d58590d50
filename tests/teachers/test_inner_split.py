"""What is held out inside: whole groups, a fifth of each class, and never a class's last trials."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braindistill.teachers.inner_split import inner_groups, inner_split


def test_runs_that_hold_every_class_are_held_out_whole() -> None:
    labels, runs = np.arange(88) % 8, np.repeat(np.arange(11), 8)
    held = inner_split(labels, runs, 0)
    assert held is not None
    assert held.sum() == 16, "two of eleven runs"
    assert len(np.unique(runs[held])) == 2
    assert not set(runs[held]) & set(runs[~held])


def test_each_class_sends_a_fifth_of_its_stimuli() -> None:
    stimuli = np.repeat(np.arange(150), 2)  # 15 of each of ten classes, two repeats
    labels = stimuli % 10
    held = inner_split(labels, stimuli.astype(str), 0)
    assert held is not None
    assert np.bincount(labels[held]).tolist() == [6] * 10
    assert not set(stimuli[held]) & set(stimuli[~held])


def test_a_class_of_two_stimuli_is_scored_too_and_one_of_one_never_leaves() -> None:
    labels = np.array([0] * 10 + [1] * 2 + [2])
    for seed in range(10):
        held = inner_split(labels, np.arange(13), seed)
        assert held is not None
        assert np.bincount(labels[held], minlength=3).tolist() == [2, 1, 0]


def test_seeds_differ_and_repeat() -> None:
    labels = np.arange(60) % 3
    splits = [inner_split(labels, None, seed) for seed in (0, 0, 1)]
    assert np.array_equal(splits[0], splits[1])
    assert not np.array_equal(splits[0], splits[2])


@pytest.mark.parametrize("groups", [np.zeros(8, int), np.arange(8) % 2])
def test_there_is_none_where_each_class_lies_in_one_group(groups: np.ndarray) -> None:
    labels = np.arange(8) % 2
    assert inner_split(labels, groups, 0) is None
    assert inner_groups(labels, groups).tolist() == list(range(8)), "then single trials are left out"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), min_size=2, max_size=60), st.integers(0, 5))
def test_training_keeps_every_class_and_groups_stay_whole(pairs: list[tuple[int, int]], seed: int) -> None:
    labels, groups = np.array(pairs).T
    held = inner_split(labels, groups, seed)
    if held is not None:
        assert held.any()
        assert set(labels[~held]) == set(labels)
        assert not set(groups[held]) & set(groups[~held])
    numbers = inner_groups(labels, groups)
    if len(np.unique(numbers)) < len(labels):
        assert (np.unique(groups, return_inverse=True)[1] == numbers).all()
        for label in np.unique(labels):
            assert len(np.unique(numbers[labels == label])) > 1

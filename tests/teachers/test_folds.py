"""Folds partition trials, roles partition a fold's stimuli, and nothing depends on the order of trials."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.teachers.folds import make_folds, split_roles, stimuli_of


def subject(stimulus_id: list[str], run: list[str] | None = None, pictures: bool = True) -> Responses:
    names = np.unique(stimulus_id)
    return Responses(
        np.zeros((len(stimulus_id), 1), np.float32),
        np.array(stimulus_id),
        run=None if run is None else np.array(run),
        images=np.zeros((len(names), 1, 2, 2), np.uint8) if pictures else None,
        image_id=names if pictures else None,
    )


@st.composite
def labelled_trials(draw: st.DrawFn) -> tuple[Responses, np.ndarray]:
    n = draw(st.integers(4, 30))
    trials = draw(st.lists(st.integers(0, n - 1), min_size=0, max_size=40)) + list(range(n))
    classes = np.array(draw(st.lists(st.integers(-1, 3), min_size=n, max_size=n)))
    classes[:2] = 0  # so that not every class is a single stimulus
    return subject([f"s{place:02d}" for place in draw(st.permutations(trials))]), classes


@settings(max_examples=50, deadline=None)
@given(labelled_trials(), st.integers(2, 4), st.integers(0, 5))
def test_folds_by_stimulus_are_balanced_partitions(
    drawn: tuple[Responses, np.ndarray], n_folds: int, seed: int
) -> None:
    responses, classes = drawn
    fold = make_folds(responses, classes, "auto", n_folds, seed)
    names, of_trial = stimuli_of(responses)
    assert (fold.scheme, fold.number) == ("stimulus", n_folds)
    assert fold.of_trial.shape == of_trial.shape
    table = np.zeros((len(names), n_folds), bool)
    table[of_trial, fold.of_trial] = True
    assert (table.sum(1) == 1).all(), "a stimulus' trials share a fold"
    for value in np.unique(classes):
        counts = table[classes == value].sum(0)
        assert counts.max() - counts.min() <= 1, "each fold has its share of every class"
    assert np.ptp(table.sum(0)) <= 1
    assert fold.sentence() == f"{n_folds} folds by stimulus"


@settings(max_examples=30, deadline=None)
@given(labelled_trials(), st.integers(0, 5))
def test_folds_do_not_depend_on_the_order_of_trials(drawn: tuple[Responses, np.ndarray], seed: int) -> None:
    responses, classes = drawn
    order = np.random.default_rng(seed).permutation(len(responses.stimulus_id))
    shuffled = Responses(responses.responses, responses.stimulus_id[order], images=responses.images)
    first, second = (make_folds(each, classes, "auto", 3, seed) for each in (responses, shuffled))
    assert np.array_equal(first.of_trial[order], second.of_trial)


def test_another_seed_makes_other_folds() -> None:
    responses, classes = subject([f"s{place}" for place in range(20)]), np.arange(20) % 2
    drawn = {tuple(make_folds(responses, classes, "auto", 4, seed).of_trial) for seed in range(5)}
    assert len(drawn) == 5
    assert tuple(make_folds(responses, classes, "auto", 4, 2).of_trial) in drawn


def test_auto_goes_by_run_where_a_class_is_a_single_stimulus() -> None:
    blocks = subject(["face", "house", "face", "house"], ["2", "2", "10", "10"])
    fold = make_folds(blocks, np.array([0, 1]), "auto", 5, 0)
    assert (fold.scheme, fold.number, fold.sentence()) == ("run", 2, "leave-one-run-out")
    assert fold.of_trial.tolist() == [1, 1, 0, 0]  # whatever the names of the runs are
    unlabelled_too = make_folds(blocks, np.array([0, -1]), "auto", 5, 0)
    assert unlabelled_too.scheme == "run"


def test_auto_goes_by_run_without_pictures_and_by_stimulus_with_them() -> None:
    trials, run = ["a", "b", "c", "d"] * 2, ["1"] * 4 + ["2"] * 4
    classes = np.array([0, 0, 1, 1])
    assert make_folds(subject(trials, run, pictures=False), classes, "auto", 2, 0).scheme == "run"
    assert make_folds(subject(trials, run), classes, "auto", 2, 0).scheme == "stimulus"
    assert make_folds(subject(trials, run), classes, "run", 2, 0).scheme == "run"
    assert make_folds(subject(trials, None, pictures=False), classes, "auto", 2, 0).scheme == "stimulus"
    assert make_folds(subject(trials, ["1"] * 8, pictures=False), classes, "auto", 2, 0).scheme == "stimulus"
    assert make_folds(subject(trials, run, pictures=False), classes, "stimulus", 2, 0).scheme == "stimulus"


def test_one_fold_holds_nothing_out() -> None:
    fold = make_folds(subject(["a", "b"], ["1", "2"]), np.array([0, 1]), "run", 1, 0)
    assert (fold.scheme, fold.of_trial.tolist(), fold.number) == ("none", [0, 0], 1)


@pytest.mark.parametrize(
    ("scheme", "n_folds", "run", "message"),
    [
        ("stimulus", 5, None, "n_folds=5: there are only 4 stimuli"),
        ("stimulus", 0, None, "n_folds=0"),
        ("run", 5, None, r"folds=run, but the data name 0 run\(s\)"),
        ("run", 5, ["1"] * 4, r"but the data name 1 run\(s\): at least 2"),
    ],
)
def test_impossible_folds_are_refused(scheme: str, n_folds: int, run: list[str] | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_folds(subject(["a", "b", "c", "d"], run), np.array([0, 0, 1, 1]), scheme, n_folds, 0)


def test_folds_by_stimulus_need_two_of_each_class() -> None:
    trials = subject(["a", "b", "c", "d", "e"])
    message = r"teacher\.folds=stimulus: class 1 has a single labelled stimulus \(d\).* \(1 such classes\)"
    classes = np.array([0, 0, 0, 1, -1])
    with pytest.raises(UserError, match=message):
        make_folds(trials, classes, "stimulus", 2, 0)
    trials.label = np.array(["face"] * 3 + ["house", ""])
    with pytest.raises(UserError, match="class 'house' has"):
        make_folds(trials, classes, "stimulus", 2, 0)
    for harmless in ([0, 0, 1, 1, -1], [-1] * 5):
        assert make_folds(trials, np.array(harmless), "stimulus", 2, 0).scheme == "stimulus"
    # a teacher that is continued learned the class from others
    assert make_folds(trials, classes, "stimulus", 2, 0, {"a": 0}).number == 2


def test_lone_stimuli_without_runs_are_refused() -> None:
    with pytest.raises(UserError, match="each class is a single stimulus, so folds must be by run"):
        make_folds(subject(["a", "b"]), np.array([0, 1]), "auto", 2, 0)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(-1, 2), min_size=4, max_size=40), st.integers(0, 3), st.integers(0, 3), st.floats(0.3, 1.0))
def test_roles_are_disjoint_and_cover_the_rest(values: list[int], seed: int, fold: int, share: float) -> None:
    classes = np.array(values)
    rest = np.flatnonzero(np.random.default_rng(seed).random(len(classes)) < share)
    encoder, decoder = split_roles(rest, classes, seed, fold)
    assert sorted([*encoder, *decoder]) == rest.tolist()
    unlabelled = rest[classes[rest] < 0]
    assert set(unlabelled) <= set(encoder), "the decoder can't use them"
    assert len(encoder) == max(len(unlabelled), len(rest) // 2)
    if len(unlabelled) >= len(rest) // 2:
        assert set(encoder) == set(unlabelled), "labels are left to the decoder where the encoder has enough"
    again = split_roles(rest, classes, seed, fold)
    assert np.array_equal(again[0], encoder)
    assert np.array_equal(again[1], decoder)


def test_classes_give_equal_shares_to_the_encoder() -> None:
    classes = np.repeat([0, 1, 2, 3], [16, 8, 2, 1])
    encoder, decoder = split_roles(np.arange(27), classes, 0, 0)
    assert np.bincount(classes[encoder]).tolist() == [8, 4, 1]
    assert np.bincount(classes[decoder]).tolist() == [8, 4, 1, 1], "a class with one stimulus stays with the decoder"
    assert len({tuple(split_roles(np.arange(27), classes, seed, 0)[0]) for seed in range(4)}) == 4
    assert len({tuple(split_roles(np.arange(27), classes, 0, fold)[0]) for fold in range(4)}) == 4

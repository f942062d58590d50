"""Few-shot curves from stored predictions."""

from __future__ import annotations

import numpy as np
import pytest

from braindistill.statistics import two_way_interval
from braindistill.verdict import collect

LABELS = np.array([0, 1, 0, 1])


@pytest.fixture
def inputs(tmp_path):
    """Predictions that are right on so many of four images, by number of labels, arm and seed."""
    found = {"images": tmp_path, "prediction/kd/0": tmp_path}
    right = {(10, "kd"): (2, 3), (50, "kd"): (4, 4), (10, "a/b"): (0, 1), (50, "a/b"): (2, 2)}
    for (number, arm), counts in right.items():
        for seed, count in enumerate(counts):
            said = np.where(np.arange(4) < count, LABELS, 1 - LABELS)
            name = f"curve/{number}/{arm}/{seed}"
            (folder := tmp_path / name).mkdir(parents=True)
            np.save(folder / "log_probabilities.npy", np.log(np.eye(2)[said] * 0.8 + 0.1))
            found[name] = folder
    return found


def test_by_arm_then_by_number_with_the_two_way_interval(inputs):
    curves = collect({"eval": {"seeds": [0, 1]}, "arms": {"kd": {}, "a/b": {}}}, inputs, LABELS)
    assert [(row["arm"], row["n_train"]) for row in curves] == [("kd", 10), ("kd", 50), ("a/b", 10), ("a/b", 50)]
    assert [row["accuracy"]["per_seed"] for row in curves] == [[0.5, 0.75], [1, 1], [0, 0.25], [0.5, 0.5]]
    first = two_way_interval([[1, 1, 0, 0], [1, 1, 1, 0]])
    assert curves[0]["accuracy"]["mean"] == first.estimate == 0.625
    assert (curves[0]["accuracy"]["ci_low"], curves[0]["accuracy"]["ci_high"]) == (first.low, first.high)


def test_one_seed_has_no_interval(inputs):
    (row, _) = collect({"eval": {"seeds": [1]}, "arms": {"kd": {}}}, inputs, LABELS)
    assert row["accuracy"] == {"mean": 0.75, "ci_low": None, "ci_high": None, "per_seed": [0.75]}


def test_an_arm_without_all_its_seeds_is_left_out_at_that_number(inputs):
    del inputs["curve/10/kd/1"]
    curves = collect({"eval": {"seeds": [0, 1]}, "arms": {"kd": {}}}, inputs, LABELS)
    assert [row["n_train"] for row in curves] == [50]


def test_none_were_asked_for(inputs):
    assert collect({"eval": {"seeds": [0]}, "arms": {"kd": {}}}, {"images": inputs["images"]}, LABELS) == []

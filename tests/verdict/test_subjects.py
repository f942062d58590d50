"""Several subjects' results as one."""

from __future__ import annotations

import numpy as np
import pytest

from braindistill.verdict import pool_subjects, stack_subjects


def entry(**changes):
    known = {"n_seeds": 2, "labels": 8, "overrides": ["a=1"], "marks": [], "keys": {"targets": ["k"]}, "nll": 0.5}
    return known | {"teacher": None, "measures": {}} | changes


def value(mean: float) -> dict:
    return {"mean": mean, "ci_low": mean - 1, "ci_high": mean + 1, "per_seed": [mean, mean]}


def test_numbers_are_means_and_values_get_an_interval_over_subjects():
    measures = [
        {"brier": value(x), "robustness": {"fog": [value(x), value(2 * x)]}, "curve": [0.1, x]} for x in (1.0, 2.0, 6.0)
    ]
    pooled = pool_subjects({str(i): entry(nll=i, measures=own) for i, own in enumerate(measures)})
    assert (pooled["nll"], pooled["n_subjects"], pooled["n_seeds"]) == (1.0, 3, 2)
    brier = pooled["measures"]["brier"]
    assert brier["per_subject"] == [1, 2, 6]
    assert brier["mean"] == 3
    half = 4.302653 * np.std([1, 2, 6], ddof=1) / np.sqrt(3)
    assert (brier["ci_low"], brier["ci_high"]) == pytest.approx((3 - half, 3 + half))
    assert "per_seed" not in brier
    assert pooled["measures"]["robustness"]["fog"][1]["mean"] == 6
    assert pooled["measures"]["curve"] == pytest.approx([0.1, 3])


def test_what_differs_is_joined():
    pooled = pool_subjects(
        {
            "1": entry(
                marks=["odd"], keys={"targets": ["a"]}, labels=8, teacher={"scores": {"scheme": "runs", "n": 2}}
            ),
            "2": entry(
                marks=["odd", "new"], keys={"targets": ["b"]}, labels=9, teacher={"scores": {"scheme": "runs", "n": 4}}
            ),
        }
    )
    assert pooled["marks"] == ["odd", "new"]
    assert pooled["keys"] == {"targets": ["a", "b"]}
    assert pooled["labels"] == 9
    assert pooled["teacher"]["scores"] == {"scheme": "runs", "n": 3}


def test_an_arm_that_all_subjects_share_is_the_same_for_each():
    tables = {"brain": [np.zeros((2, 4)), np.ones((2, 4))], "baseline": [np.eye(2, 4)]}
    stacked = stack_subjects(tables, 2)
    assert stacked["brain"].shape == stacked["baseline"].shape == (2, 2, 4)
    assert (stacked["baseline"][1] == np.eye(2, 4)).all()
    assert (stacked["brain"][1] == 1).all()

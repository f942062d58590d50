"""Measures beside accuracy, arm against arm."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from braindistill.metrics.calibration import brier, nll
from braindistill.statistics import compare
from braindistill.verdict import compare_measures, losses_of


def value(*each: float) -> dict:
    return {"mean": float(np.mean(each)), "ci_low": 0, "ci_high": 0, "per_seed": list(each)}


def said(seed: int, n_seeds: int = 4, sharp: float = 1.0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = sharp * rng.normal(size=(n_seeds, 30, 3))
    return list(scores - np.log(np.exp(scores).sum(2, keepdims=True)))


LABELS = np.arange(30) % 3
CLAIMS = [{"arm": "brain", "components": [{"a": "brain", "b": "kd"}]}]


def test_losses_are_the_metrics_of_each_image():
    tables = said(0)
    losses = losses_of(tables, LABELS)
    for seed, rows in enumerate(tables):
        assert losses["nll"][seed].mean() == pytest.approx(nll(rows, LABELS))
        assert losses["brier"][seed].mean() == pytest.approx(brier(np.exp(rows), LABELS))


def test_images_are_crossed_with_seeds_where_each_has_a_loss_and_seeds_are_paired_elsewhere():
    losses = {"nll": {"brain": losses_of(said(1), LABELS)["nll"], "kd": losses_of(said(2, sharp=4), LABELS)["nll"]}}
    ece = {"brain": (0.01, 0.02, 0.03, 0.03), "kd": (0.11, 0.10, 0.12, 0.14)}
    arms = {name: {"measures": {"nll": value(1, 1, 1, 1), "ece": value(*ece[name])}} for name in ece}
    by_measure = {row["measure"]: row for row in compare_measures(arms, losses, CLAIMS)}
    oracle = compare(losses["nll"]["brain"], losses["nll"]["kd"])
    assert (by_measure["nll"]["ci_low"], by_measure["nll"]["p"]) == (oracle.low, oracle.p)
    paired = stats.ttest_rel(ece["brain"], ece["kd"])
    assert by_measure["ece"]["p"] == pytest.approx(paired.pvalue)
    assert by_measure["ece"]["difference"] == pytest.approx(-0.095)
    assert by_measure["ece"]["better"] is True, "less miscalibrated"
    assert by_measure["ece"]["p_adjusted"] >= by_measure["ece"]["p"]


@pytest.mark.parametrize(("gain", "better"), [(0.2, True), (-0.2, False), (0.0, None)])
def test_more_is_better_for_what_is_right_under_corruption(gain, better):
    level = np.array([0.50, 0.52, 0.49, 0.51])
    measured = {"brain": level + gain + [0.01, -0.01, 0.01, -0.01], "kd": level}
    arms = {
        name: {"measures": {"robustness": {"mean": value(*own), "pgd": {"0.02": value(*own)}, "fog": [value(*own)]}}}
        for name, own in measured.items()
    }
    rows = compare_measures(arms, {}, CLAIMS)
    assert [(row["measure"], row["better"]) for row in rows] == [
        ("robustness/mean", better),
        ("robustness/pgd/0.02", better),
    ]


def test_what_is_not_known_of_both_is_left_out():
    arms = {
        "brain": {"measures": {"ece": value(0.1, 0.2), "brain_score": {"V1": {"r": value(0.1, 0.3), "rsa": None}}}},
        "kd": {"measures": {"ece": value(0.1), "brain_score": {"V1": {"r": value(0.0, 0.1), "rsa": None}}}},
    }
    assert [row["measure"] for row in compare_measures(arms, {}, CLAIMS)] == ["brain_score/V1/r"]
    assert compare_measures({"brain": arms["brain"]}, {}, CLAIMS) == []
    one = {name: {"measures": {"ece": value(0.1)}} for name in arms}
    assert compare_measures(one, {}, CLAIMS) == [], "one seed gives no interval"


def test_subjects_are_the_replicates_where_there_are_several():
    each = {"mean": 0, "ci_low": 0, "ci_high": 0}
    arms = {
        "brain": {"measures": {"ece": each | {"per_subject": [0.1, 0.2, 0.3]}}},
        "kd": {"measures": {"ece": each | {"per_subject": [0.2, 0.3, 0.5]}}},
    }
    (row,) = compare_measures(arms, {}, CLAIMS)
    assert row["p"] == pytest.approx(stats.ttest_1samp([-0.1, -0.1, -0.2], 0).pvalue)

"""Who makes a claim, and what it must beat."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from braindistill.verdict import is_brain, is_claimed, make_claims


def described(teacher: str, control: str | None = None, **more: Any) -> dict[str, Any]:
    target = {"name": "soft_labels", "images": "labelled", "control": control} if teacher else {}
    return {
        "teacher": {"name": teacher} if teacher else {},
        "target": target,
        "images": {"n_pool": 0},
        "train": {"select": "last"},
        **more,
    }


ARMS = {
    "baseline": described(""),
    "label_smoothing": described(""),
    "human": described("human"),
    "random_matched": described("human", "random_matched"),
    "shuffled_within": described("human", "shuffled_within"),
}


def correct(**accuracy: float) -> dict[str, np.ndarray]:
    """Ten seeds × 400 images; the same images are the easy ones for everybody."""
    order = np.random.default_rng(0).random(400)
    seeds = np.random.default_rng(1).normal(0, 0.005, (10, 1))
    return {name: order < share + seeds for name, share in accuracy.items()}


@pytest.mark.parametrize(("smoothing", "holds"), [(0.60, True), (0.80, False)])
def test_peoples_labels_must_beat_smoothing_and_their_own_controls(smoothing: float, holds: bool) -> None:
    found = correct(baseline=0.5, label_smoothing=smoothing, human=0.75, random_matched=0.55, shuffled_within=0.55)
    results = {name: {"labels": 2000} for name in ARMS}
    (claim,) = make_claims(ARMS, results, found, {}, 10)
    assert claim["arm"] == "human"
    assert claim["holds"] is holds
    assert [part["b"] for part in claim["components"]] == ["label_smoothing", "random_matched", "shuffled_within"]


def test_a_missing_control_leaves_it_undecided() -> None:
    found = correct(baseline=0.5, label_smoothing=0.6, human=0.75, shuffled_within=0.55)
    (claim,) = make_claims(ARMS, {name: {"labels": 2000} for name in ARMS}, found, {}, 10)
    assert claim["holds"] is None
    assert "random_matched is missing" in claim["reason"]


def test_people_are_no_brain_and_their_controls_make_no_claim() -> None:
    assert is_claimed(ARMS["human"])
    assert not is_brain(ARMS["human"])
    assert not any(is_claimed(ARMS[name]) for name in ARMS if name != "human")
    assert not is_claimed(ARMS["human"] | {"exploratory": True})

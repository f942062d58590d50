"""A results dict as eval writes it: 12 arms of a demo-like experiment, drawn from the crossed model."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest

from braindistill import statistics

ACCURACY = {
    "baseline": 0.845,
    "label_smoothing": 0.864,
    "labels_matched": 0.958,
    "self_kd": 0.851,
    "kd": 0.867,
    "features": 0.862,
    "random_readout": 0.858,
    "brain": 0.927,
    "brain_early": 0.871,
    "shuffled_fmri": 0.764,
    "nuisance": 0.774,
}
REQUIRED = ["label_smoothing", "kd", "features", "shuffled_fmri"]


def make_results(n_seeds: int = 10, n_test: int = 697) -> dict[str, Any]:
    generator = np.random.default_rng(3)
    ease, luck = generator.normal(0, 1, (1, n_test)), generator.normal(0, 0.12, (n_seeds, 1))
    correct = {}
    for name, accuracy in ACCURACY.items():
        noise = 0.6 * generator.normal(size=(n_seeds, n_test)) + 0.1 * generator.normal(size=(n_seeds, 1))
        score = ease + luck + noise
        correct[name] = score < np.quantile(score, accuracy)

    arms = {name: make_arm(name, values, generator) for name, values in correct.items()}
    pairs = [(name, "baseline") for name in correct if name != "baseline"]
    pairs += [
        (brain, name) for brain in ("brain", "brain_early") for name in correct if name not in ("baseline", brain)
    ]
    comparisons = []
    for a, b in pairs:
        found, difference = statistics.compare(correct[a], correct[b]), correct[a] * 1.0 - correct[b]
        low, high = statistics.crossed_bootstrap(difference, n=200)
        row = {"a": a, "b": b, "difference": found.estimate, "ci_low": found.low, "ci_high": found.high, "p": found.p}
        row["sign_flip_p"] = statistics.sign_flip_p(difference.mean(axis=1))
        comparisons.append(row | {"bootstrap_low": low, "bootstrap_high": high})
    for row, adjusted in zip(comparisons, statistics.holm([row["p"] for row in comparisons]), strict=True):
        row["p_adjusted"] = adjusted
    results = {
        "experiment": "demo",
        "command": "braindistill eval experiment=demo",
        "created": "2025-06-01T12:00:00+00:00",
        "n_seeds": n_seeds,
        "n_test": n_test,
        "classes": [str(digit) for digit in range(10)],
        "n_train": 40,
        "n_pool": 360,
        "n_val": 40,
        "chance": 0.1,
        "arms": arms,
        "comparisons": comparisons,
        "claims": [statistics.claim(arm, correct, REQUIRED, {}) for arm in ("brain", "brain_early")],
        "not_run": {
            "shuffled_within": "targets are on unlabelled images",
            "human": "the data set has no human soft labels",
        },
        "failed": {"kd_matched": "the CNN teacher's loss became NaN at step 120 (train.lr=3.0)"},
        "warnings": ["images.allow_overlap=true: 3 stimuli are also test images <checked by pixel hash>"],
        "encoder_r": {
            "brain": generator.beta(5, 5, 1200).round(4).tolist(),
            "brain_early": (generator.beta(2, 4, 800) - 0.1).round(4).tolist(),
        },
        "versions": {"braindistill": "0.1.0", "python": "3.11.7", "torch": "2.6.0", "numpy": "2.1.0"},
    }
    return json.loads(json.dumps(results, allow_nan=False))


def make_arm(name: str, correct: np.ndarray, generator: np.random.Generator) -> dict[str, Any]:
    interval = statistics.two_way_interval(correct)
    keys = {
        stage: [f"{generator.integers(16**12):012x}" for _ in correct] for stage in ("students", "targets", "teachers")
    }
    teacher = None
    if name not in ("baseline", "label_smoothing"):
        scores: dict[str, Any] = {}
        if name.startswith("brain"):
            scores = {
                "decoder": {"accuracy": 0.61, "n_trials": 80, "chance": 0.1, "scheme": "5 folds over stimuli"},
                "encoder": {
                    "r_median": 0.5,
                    "r_p95": 0.74,
                    "r_max": 0.81,
                    "n_voxels": 1200,
                    "scheme": "5 folds over stimuli",
                },
                "composed": {"accuracy": 0.88, "scheme": "held stimuli"},
                "roi": {
                    "early": {"r_median": 0.31, "accuracy": 0.42},
                    "category": {"r_median": 0.55, "accuracy": 0.63},
                },
            }
        teacher = {
            "accuracy_pool": round(float(correct.mean()) - 0.03, 3),
            "accuracy_labelled": 0.91 if name.startswith("brain") else None,
            "entropy": 0.83,
            "temperature": 1.7 if name.startswith("brain") else None,
            "scores": scores,
        }
    return {
        "n_seeds": len(correct),
        "accuracy": {
            "mean": interval.estimate,
            "ci_low": interval.low,
            "ci_high": interval.high,
            "per_seed": correct.mean(axis=1).tolist(),
        },
        "nll": 0.52,
        "ece": 0.041,
        "balanced_accuracy": interval.estimate - 0.002,
        "overrides": [f"teacher={name}", "target=soft_labels", "method=kd", "method.temperature=4.0"],
        "labels": 400 if name == "labels_matched" else 40,
        "marks": ["in-sample targets on 40 labelled images"] if name == "random_readout" else [],
        "teacher": teacher,
        "keys": keys,
    }


_RESULTS = make_results()


@pytest.fixture
def results() -> dict[str, Any]:
    """A complete run; every test gets its own copy."""
    return copy.deepcopy(_RESULTS)


@pytest.fixture
def partial() -> dict[str, Any]:
    """A run in which only one brain arm of one seed finished."""
    found = copy.deepcopy(_RESULTS)
    arm = found["arms"]["brain"]
    arm.update(
        n_seeds=1, accuracy={"mean": 0.9, "ci_low": None, "ci_high": None, "per_seed": [0.9]}, nll=None, teacher=None
    )
    kept = ("experiment", "command", "n_seeds", "failed")
    return {key: found[key] for key in kept} | {"arms": {"brain": arm}}

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


def add_everything(results: dict[str, Any]) -> dict[str, Any]:
    """Fill in every part that an evaluation may have, with made-up numbers."""
    rng = np.random.default_rng(8)

    def value(mean: float, spread: float = 0.01) -> dict[str, Any]:
        seeds = (mean + spread * rng.normal(size=10)).round(5)
        half = 2.26 * float(seeds.std(ddof=1)) / 10**0.5
        centre = float(seeds.mean())
        return {"mean": centre, "ci_low": centre - half, "ci_high": centre + half, "per_seed": seeds.tolist()}

    arms = results["arms"]
    for roi, gain in {"V1": -0.06, "V4": -0.02, "IT": -0.005}.items():
        for name, accuracy in ((f"brain@{roi}", 0.927 + gain), (f"brain@-{roi}", 0.925 + 0.3 * gain)):
            arms[name] = copy.deepcopy(arms["brain_early"])
            arms[name]["accuracy"] = value(accuracy)
            arms[name]["teacher"]["accuracy_pool"] = accuracy - 0.05
        pair = {"a": "brain", "b": f"brain@-{roi}", "difference": -gain, "ci_low": -gain - 0.01, "p": 0.02}
        results["comparisons"].append(pair | {"ci_high": -gain + 0.01, "p_adjusted": 0.1})
    del arms["brain_early"]  # twelve arms and more are too many to tell apart; a page must still hold them
    for number, arm in enumerate(arms.values()):
        good = arm["accuracy"]["mean"]
        confidence = np.linspace(0.25, 0.99, 15)
        arm["measures"] = {
            "top5": value(0.99, 0.002),
            "brier": value(1.2 * (1 - good)),
            "nll": value(3.4 * (1 - good), 0.03),
            "ece": value(0.04 + 0.01 * (number % 4), 0.004),
            "reliability": {
                "confidence": confidence.tolist(),
                "accuracy": (confidence - 0.1 * rng.random(15)).clip(0).tolist(),
                "share": [1 / 15] * 15,
            },
            "severity": {key: value(0.5 * (1 - good)) for key in ("mild", "severe", "lca_height")},
            "selective": {
                key: value(mean, 0.1 * mean)
                for key, mean in zip(
                    ("threshold", "precision", "coverage", "severe", "mild", "aurc"),
                    (0.8, 0.98, 0.7, 0.006, 0.01, 0.02),
                    strict=True,
                )
            },
            "human": {
                key: value(mean, 0.05)
                for key, mean in zip(
                    ("cross_entropy", "kl", "entropy_correlation", "top1_agreement"),
                    (0.9, 0.4, 0.45, good),
                    strict=True,
                )
            },
            "robustness": {
                "clean": value(good),
                "corruptions": {
                    kind: [value(good - 0.06 * step - 0.02 * place) for step in range(1, 6)]
                    for place, kind in enumerate(("gaussian_noise", "motion_blur", "fog", "pixelate"))
                },
                "families": {
                    family: [value(good - 0.06 * step - 0.02 * place) for step in range(1, 6)]
                    for place, family in enumerate(("noise", "blur", "weather", "digital"))
                },
                "mean": value(good - 0.2),
                "fgsm": {"0.0078": value(good - 0.2), "0.0157": value(good - 0.4)},
                "pgd": {"0.0078": value(good - 0.25), "0.0157": value(good - 0.55)},
            },
            "brain_score": {
                roi: {
                    "r": value(0.3 - 0.05 * place),
                    "normalised_r": value(0.5 - 0.05 * place) if roi != "IT" else None,
                    "rsa": value(0.2 + 0.03 * place),
                    "rsa_ceiling": [0.4, 0.55] if roi == "V1" else None,
                    "untrained_r": value(0.15),
                }
                for place, roi in enumerate(("V1", "V4", "IT"))
            },
        }
        arm["training"] = {
            "epoch": list(range(1, 31)),
            "loss": (2.3 * np.exp(-np.arange(30) / 8) + 0.05 * number + 0.02 * rng.random(30)).tolist(),
            "val_accuracy": (good * (1 - np.exp(-np.arange(1, 31) / 5))).tolist(),
        }
    few = [arm for arm in arms if not arm.startswith("brain@")]
    results["curves"] = [
        {"arm": arm, "n_train": count, "accuracy": value(arms[arm]["accuracy"]["mean"] - 0.5 / count**0.5)}
        for arm in few
        for count in (10, 20, 50)
    ]
    results["rois"] = {
        "of": "brain",
        "single": {roi: f"brain@{roi}" for roi in ("V1", "V4", "IT")},
        "without": {roi: f"brain@-{roi}" for roi in ("V1", "V4", "IT")},
        "n_voxels": {"V1": 320, "V4": 280, "IT": 640},
    }
    chosen = {"chosen": ["method.temperature=4"], "val_accuracy": 0.9, "tried": [[["method.temperature=1"], 0.88]] * 4}
    ranges = {"method.temperature": [1, 4], "train.lr": [0.05, 0.1]}
    results["tuning"] = {"trials": 4, "ranges": ranges, "arms": {"kd": chosen, "brain": chosen}}
    sentence = "with this spread, 23 seeds would separate 0.5 points"
    results["power"] = {
        "brain": {arm: {"seeds_for_half_a_point": 23, "sentence": sentence} for arm in ("kd", "features")}
    }
    results["equivalence"] = [{"a": "kd", "b": "features", "margin": 0.01, "p": 0.03, "equivalent": True}]
    results["explain"] = {
        "contributions": {
            f"class {number}": {
                roi: {"gradient_input": value(weight, 0.1), "shapley": value(weight, 0.08)}
                for roi, weight in (("V1", 0.2), ("V4", 0.5), ("IT", 1.3), ("rest", -0.1))
            }
            for number in range(10)
        },
        "decoder_cam": {
            roi: value(share) | {"uniform": 1 / 3} for roi, share in {"V1": 0.2, "V4": 0.3, "IT": 0.5}.items()
        },
        "saliency": {"images": 6, "file": "saliency.npz"},
        "mask_overlap": {
            arm: value(share) | {"permuted": value(0.3)}
            for arm, share in {"baseline": 0.31, "kd": 0.33, "brain": 0.42}.items()
        },
    }
    results["skipped_measures"] = {}
    claim = next(claim for claim in results["claims"] if claim["arm"] == "brain")
    results["subjects"] = {subject: {"claims": [claim | {"holds": subject != "S3"}]} for subject in ("S1", "S2", "S3")}
    arms["brain"] |= {"n_subjects": 3}
    arms["brain"]["accuracy"]["per_subject"] = [0.93, 0.94, 0.91]
    results["respects"] = [
        {"measure": "nll", "a": "brain", "b": "kd", "difference": -0.2, "ci_low": -0.3, "ci_high": -0.1}
        | {"p": 0.001, "p_adjusted": 0.01, "better": True}
    ]
    stages = {"prepare": 1, "images": 1, "train-teacher": 70, "export": 70, "distill": 120, "predict": 120, "eval": 1}
    results["steps"] = [
        {"stage": stage, "title": f"{stage} {number}", "state": "run" if number % 3 else "reused", "seconds": 1.5}
        for stage, count in stages.items()
        for number in range(count)
    ]
    results["steps"][100]["state"] = "failed"
    results["steps"].append({"stage": "predict", "title": "predictions of the failed one", "state": "skipped"})
    return json.loads(json.dumps(results, allow_nan=False))


_EVERYTHING = add_everything(copy.deepcopy(_RESULTS))


@pytest.fixture
def everything() -> dict[str, Any]:
    """A run with every part that there can be."""
    return copy.deepcopy(_EVERYTHING)


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn on a canvas but not saved, which takes most of a report's time."""
    from matplotlib.figure import Figure as Canvas

    def sketch(figure: Any, kinds: Any = ("svg",)) -> dict[str, bytes]:
        figure.draw(Canvas(figsize=(figure.width, figure.height), layout="constrained"))
        return dict.fromkeys(kinds, b"<svg/>")

    monkeypatch.setattr("braindistill.report.html.rendered", sketch)

"""eval: arms × seeds from stored predictions: the table, the measures, the claim, and the page that shows them."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from braindistill.cache.provenance import versions
from braindistill.images import ImageSet, open_images
from braindistill.images.assembly import SPLIT
from braindistill.metrics import balanced_accuracy
from braindistill.report.html import write_report
from braindistill.report.table import write_csv
from braindistill.runtime import Runtime
from braindistill.statistics import two_way_interval
from braindistill.verdict import (
    Measures,
    calibration,
    collect,
    compare_arms,
    describe_arm,
    estimate_power,
    find_equivalent,
    is_brain,
    make_claims,
    mean_of,
    read_encoder_r,
    read_held_out,
    read_predictions,
    read_training,
    warn_of,
)

__all__ = ["evaluate", "is_brain", "plan_arms", "run"]  # the planner asks here what a brain arm is

#: parts of the results that others made and the evaluation only shows
_PASSED_ON = ("tuning", "rois", "explain")


def plan_arms(  # read as config schema, never called
    *,
    arms: list[str] = [],  # noqa: B006
    seeds: int | list[int] = 10,
    definitions: dict[str, list[str]] = {},  # noqa: B006
    measures: list[
        Literal[
            "calibration",
            "severity",
            "selective",
            "human",
            "robustness",
            "attacks",
            "brain_score",
        ]
    ] = ["calibration"],  # noqa: B006
    corruptions: list[str] | None = None,
    epsilons: list[float] = [0.0078, 0.0157],  # noqa: B006
    hierarchy: Path | None = None,
    people: Path | None = None,
    n_train: list[int] = [],  # noqa: B006
    rois: list[str] = [],  # noqa: B006
    match_voxels: bool = False,
    tune: dict[str, list[int | float | bool | str | None]] = {},  # noqa: B006
    tune_seeds: int = 2,
    margin: float = 0.01,
    explain: bool = False,
) -> None:
    """The options of ``eval``, read by ``config.py``; `pipeline` expands them.

    Parameters
    ----------
    arms : names to run, in table order
    seeds : how many (from ``seed`` on), or which; every arm is trained with each
    definitions : name → the overrides that make the arm
    measures : what is measured beside accuracy
    corruptions : names of those that ``robustness`` shows; None: all fifteen
    epsilons : largest changes of a pixel that ``attacks`` may make, in units of the range [0, 1]
    hierarchy : a table of superclasses (`read_hierarchy`); None: the built-in one where the classes are CIFAR's
    people : a table of people's answers to test images (`fit_human` says how), for ``human``
    n_train : label budgets of the few-shot curve
    rois : ROIs that get an arm of their own, and one without them; ``each`` stands for all
    match_voxels : the arm of a single ROI keeps as many voxels as the smallest ROI has
    tune : option → values that are tried on validation images, the same number for every arm
    tune_seeds : seeds that a trial's validation accuracy is the mean of: the first of ``seeds``
    margin : differences of accuracy inside ± margin count as none, for the test of equivalence
    explain : look into teachers and students: contributions of ROIs, saliency
    """


def run(config: dict[str, Any], inputs: dict[str, Path], out: Path, runtime: Runtime) -> None:
    """Write ``results.json``, ``results.csv`` and ``report.html``."""
    evaluate(config, inputs, out, {}, config["command"])


def evaluate(
    config: dict[str, Any], inputs: dict[str, Path], out: Path, failed: dict[str, str], command: str = ""
) -> dict[str, Any]:
    """Compare the arms whose predictions are among ``inputs``.

    Parameters
    ----------
    config : options of ``eval``, the ``arms`` as configured, those ``not_run`` with the reason, and in ``eval_context`` what
        else is known and only shown: ``tuning``, ``rois``, ``skipped_measures``
    inputs : ``images``, ``prediction|target|teacher|measure/ARM/SEED``, ``curve/N/ARM/SEED`` and ``explain`` → folders
    out : where results and report go
    failed : arm → why it has no result: the report then says so

    Raises
    ------
    UserError
        Arms have other test images than the evaluation; a student has diverged; a table that a measure needs is unfit.
    """
    options, context = config["eval"], config.get("eval_context") or {}
    seeds = options["seeds"]
    image_set = ImageSet.load(inputs["images"])
    labels = np.asarray(image_set.test_labels)
    measures = Measures(options, image_set)
    arms: dict[str, Any] = {}
    correct: dict[str, np.ndarray] = {}
    encoder_r: dict[str, list[float]] = {}
    warnings: list[str] = []
    for name, described in config["arms"].items():
        if name in failed:
            continue
        folders = {part: _folders(inputs, part, name, seeds) for part in ("prediction", "target", "teacher", "measure")}
        said = read_predictions(name, folders["prediction"], image_set)
        correct[name] = np.stack([rows.argmax(1) == labels for rows in said])
        _, split = open_images(inputs["images"], {key: described["images"][key] for key in SPLIT}, seeds[0])
        draws = folders["teacher"]
        calibrated = calibration(said, labels)
        held_out = read_held_out(folders["prediction"])
        arms[name] = {
            "n_seeds": len(seeds),
            "accuracy": _accuracy(correct[name]),
            "balanced_accuracy": mean_of([balanced_accuracy(rows, labels) for rows in said]),
            "nll": calibrated["nll"]["mean"],
            "ece": calibrated["ece"]["mean"],
            "overrides": described["overrides"],
            **describe_arm(described, folders["target"], draws[0] if draws else None, image_set, split),
            "keys": {
                f"{part}s": [folder.name for folder in folders[part]] for part in ("prediction", "target", "teacher")
            },
            "measures": measures.of_arm(name, said, calibrated, held_out, folders["measure"]),
        }
        training = read_training(folders["prediction"])
        arms[name] |= {"training": training} if training else {}
        r = read_encoder_r(draws[0] if draws else None)
        encoder_r |= {name: r} if r is not None else {}
        if 0 < len(set(draws)) < len(seeds):
            warnings.append(
                f"{name}: {len(seeds)} seeds share {len(set(draws))} draw(s) of the teacher, which makes false positives; "
                "redraw it for every seed (teacher.seed=${seed})"
            )
    missing = {**config["not_run"], **failed}
    claims = make_claims(config["arms"], arms, correct, missing, len(image_set.classes), context.get("tuning"))
    comparisons = compare_arms(config["arms"], correct, claims)
    explained, unexplained = _explanations(inputs, out)
    images: dict[str, Any] = next((described["images"] for described in config["arms"].values()), {})
    results = {
        "arms": arms,
        "comparisons": comparisons,
        "claims": claims,
        "power": estimate_power(claims, correct),
        "equivalence": find_equivalent(config["arms"], correct, options.get("margin", 0.01)),
        "curves": collect(config, inputs, labels),
        "skipped_measures": measures.skipped | unexplained | context.get("skipped_measures", {}),
        **{part: found for part, found in (context | explained).items() if found and part in _PASSED_ON},
        "not_run": config["not_run"],
        "failed": failed,
        "warnings": warnings + warn_of(config["arms"], arms, comparisons, len(seeds)) + measures.notes,
        "n_seeds": len(seeds),
        "n_test": len(labels),
        **{key: images.get(key) for key in ("n_train", "n_pool", "n_val")},
        "classes": list(image_set.classes),
        "chance": float(np.bincount(labels).max() / len(labels)),
        "encoder_r": encoder_r,
        "experiment": next((word[11:] for word in command.split() if word.startswith("experiment=")), ""),
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }
    (out / "results.json").write_text(json.dumps(results, indent=1, allow_nan=False))
    write_csv(results, out / "results.csv")
    write_report(results, out / "report.html")
    return results


def _folders(inputs: dict[str, Path], part: str, name: str, seeds: list[int]) -> list[Path]:
    return [inputs[f"{part}/{name}/{seed}"] for seed in seeds if f"{part}/{name}/{seed}" in inputs]


def _accuracy(hits: np.ndarray) -> dict[str, Any]:
    mean = two_way_interval(hits)
    per_seed = [float(row.mean()) for row in hits]
    return {"mean": mean.estimate, "ci_low": mean.low, "ci_high": mean.high, "per_seed": per_seed}


def _explanations(inputs: dict[str, Path], out: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """What ``explain`` found, its pictures copied beside the results, and what it had to skip with the reason."""
    folder = inputs.get("explain")
    if folder is None:
        return {}, {}
    found = json.loads((folder / "explain.json").read_text())
    skipped = {f"explain: {part}": why for part, why in found.pop("skipped", {}).items()}
    if (folder / "saliency.npz").exists():
        shutil.copyfile(folder / "saliency.npz", out / "saliency.npz")
    return {"explain": found}, skipped

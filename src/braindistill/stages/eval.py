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
from braindistill.runtime import BEGAN, Runtime
from braindistill.verdict import (
    Measures,
    accuracy_of,
    calibration,
    collect,
    compare_arms,
    compare_measures,
    describe_arm,
    estimate_power,
    find_equivalent,
    is_brain,
    losses_of,
    make_claims,
    mean_of,
    pool_subjects,
    read_encoder_r,
    read_held_out,
    read_predictions,
    read_rdms,
    read_training,
    stack_subjects,
    warn_of,
)

__all__ = ["evaluate", "is_brain", "plan_arms", "run"]  # the planner asks here what a brain arm is

#: parts of the results that others made and the evaluation only shows
_PASSED_ON = ("tuning", "rois", "explain", "steps")
#: what is read of an arm
_PARTS = ("prediction", "target", "teacher", "measure")


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
    subjects: list[int | str] = [],  # noqa: B006
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
    subjects : values of ``fmri.subject``, or of ``fmri.path``, ``fmri.root`` or ``fmri.seed`` where the reader has no such
        option; every arm that depends on them is made for each
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
        else is known and only shown: ``tuning``, ``rois``, ``skipped_measures``, ``steps`` that could not be taken
    inputs : ``images``, ``prediction|target|teacher|measure/ARM/SEED``, ``curve/N/ARM/SEED`` and ``explain`` → folders; of
        an arm with several subjects ``…/ARM/SUBJECT/SEED``, and ``images/SUBJECT``
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
    subjects = list(dict.fromkeys(name for arm in config["arms"].values() for name in arm.get("subjects", [])))
    arms: dict[str, Any] = {}
    tables: dict[str, list[np.ndarray]] = {}
    losses: dict[str, dict[str, list[np.ndarray]]] = {"nll": {}, "brier": {}}
    encoder_r: dict[str, list[float]] = {}
    warnings: list[str] = []
    for name, described in config["arms"].items():
        if name in failed:
            continue
        found: dict[str, dict[str, Any]] = {}
        tables[name] = []
        for subject in described.get("subjects") or [""]:
            folders = {part: _folders(inputs, f"{part}/{name}", subject, seeds) for part in _PARTS}
            said = read_predictions(name, folders["prediction"], image_set)
            tables[name].append(np.stack([rows.argmax(1) == labels for rows in said]))
            for measure, table in losses_of(said, labels).items():
                losses[measure].setdefault(name, []).append(table)
            pictures = inputs[f"images/{subject}" if subject else "images"]
            found[subject] = _describe(name, described, folders, said, labels, pictures, seeds, measures)
            draws = folders["teacher"]
            encoder_r.setdefault(name, []).extend(read_encoder_r(draws[0] if draws else None) or [])
            if 0 < len(set(draws)) < len(seeds):
                warnings.append(
                    f"{name}: {len(seeds)} seeds share {len(set(draws))} draw(s) of the teacher, which makes false "
                    "positives; redraw it for every seed (teacher.seed=${seed})"
                )
        arms[name] = found[""] if "" in found else pool_subjects(found)
        arms[name]["accuracy"] = accuracy_of(np.stack(tables[name]) if "" not in found else tables[name][0])
    correct = stack_subjects(tables, len(subjects))
    missing = {**config["not_run"], **failed}
    alike = [name for name in tables if subjects and not config["arms"][name].get("subjects")]
    if alike and "brain_score" in options.get("measures", []):
        warnings.append(
            f"brain_score of {', '.join(alike)}: against the responses that fmri names, not those of each subject"
        )

    def claims_of(answers: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        return make_claims(config["arms"], arms, answers, missing, len(image_set.classes), context.get("tuning"))

    claims = claims_of(correct)
    comparisons = compare_arms(config["arms"], correct, claims)
    explained, unexplained = _explanations(inputs, out)
    images: dict[str, Any] = next((described["images"] for described in config["arms"].values()), {})
    results = {
        "arms": arms,
        "comparisons": comparisons,
        "claims": claims,
        "subjects": {
            subject: {"claims": claims_of({name: own[place] for name, own in correct.items()})}
            for place, subject in enumerate(subjects)
        },
        "respects": compare_measures(
            arms, {measure: stack_subjects(own, len(subjects)) for measure, own in losses.items()}, claims
        ),
        "power": estimate_power(claims, correct),
        "equivalence": find_equivalent(config["arms"], correct, options.get("margin", 0.01)),
        "curves": collect(config, inputs, labels),
        "skipped_measures": measures.skipped | unexplained | context.get("skipped_measures", {}),
        **{part: found for part, found in (context | explained).items() if found and part in _PASSED_ON},
        "not_run": config["not_run"],
        "failed": failed,
        "warnings": list(
            dict.fromkeys(
                [
                    *context.get("warnings", []),
                    *warnings,
                    *warn_of(config["arms"], arms, comparisons, len(seeds)),
                    *measures.notes,
                ]
            )
        ),
        "n_seeds": len(seeds),
        "n_test": len(labels),
        **{key: images.get(key) for key in ("n_train", "n_pool", "n_val")},
        "classes": list(image_set.classes),
        "chance": float(np.bincount(labels).max() / len(labels)),
        "encoder_r": {name: r for name, r in encoder_r.items() if r},
        "experiment": next((word[11:] for word in command.split() if word.startswith("experiment=")), ""),
        "command": command,
        "began": BEGAN.isoformat(timespec="seconds"),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }
    place_of = {name: "/".join([name, *config["arms"][name].get("subjects", [])[:1]]) for name in arms}
    first = {name: f"measure/{place}/{seeds[0]}" for name, place in place_of.items()}
    rdms = read_rdms({name: inputs[place] for name, place in first.items() if place in inputs})
    if rdms:
        np.savez(out / "rdms.npz", **rdms)  # type: ignore[arg-type]
    (out / "results.json").write_text(json.dumps(results, indent=1, allow_nan=False))
    write_csv(results, out / "results.csv")
    write_report(results, out / "report.html")
    return results


def _describe(
    name: str,
    described: dict[str, Any],
    folders: dict[str, list[Path]],
    said: list[np.ndarray],
    labels: np.ndarray,
    pictures: Path,
    seeds: list[int],
    measures: Measures,
) -> dict[str, Any]:
    """An arm of one subject, or of none, as the results hold it, but for its accuracy.

    Parameters
    ----------
    folders : of ``prediction target teacher measure``, one a seed each, or none
    said : log-probabilities of the test images, one table a seed
    pictures : artifact of the images, with the subject's stimuli
    """
    image_set, split = open_images(pictures, {key: described["images"][key] for key in SPLIT}, seeds[0])
    calibrated = calibration(said, labels)
    training = read_training(folders["prediction"])
    return {
        "n_seeds": len(seeds),
        "accuracy": None,
        "balanced_accuracy": mean_of([balanced_accuracy(rows, labels) for rows in said]),
        "nll": calibrated["nll"]["mean"],
        "ece": calibrated["ece"]["mean"],
        "overrides": described["overrides"],
        **describe_arm(described, folders["target"], next(iter(folders["teacher"]), None), image_set, split),
        "keys": {f"{part}s": [folder.name for folder in folders[part]] for part in _PARTS},
        "measures": measures.of_arm(name, said, calibrated, read_held_out(folders["prediction"]), folders["measure"]),
        **({"training": training} if training else {}),
    }


def _folders(inputs: dict[str, Path], place: str, subject: str, seeds: list[int]) -> list[Path]:
    names = ["/".join(filter(None, [place, subject, str(seed)])) for seed in seeds]
    return [inputs[name] for name in names if name in inputs]


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

"""eval: arms × seeds from stored predictions: the table, the claim, and the page that shows them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from braindistill.cache.provenance import versions
from braindistill.images import ImageSet, open_images
from braindistill.images.assembly import SPLIT
from braindistill.metrics.accuracy import balanced_accuracy
from braindistill.metrics.calibration import ece, nll
from braindistill.report.html import write_report
from braindistill.report.table import write_csv
from braindistill.runtime import Runtime
from braindistill.statistics import claim, compare, crossed_bootstrap, holm, sign_flip_p, two_way_interval

#: what the brain must beat before it is said to have helped, whatever the design
REQUIRED = ("label_smoothing", "kd")
#: teachers that are a brain
_BRAINS = ("brain", "decoder", "encoder")
#: teachers that are in sample on the labelled images because ordinary KD is
_NETWORKS = ("cnn", "self")


def plan_arms(
    *,
    arms: list[str] = [],  # noqa: B006 (read as config schema, never called)
    seeds: int | list[int] = 10,
    definitions: dict[str, list[str]] = {},  # noqa: B006
) -> None:
    """The options of ``eval``, read by ``config.py``; `pipeline` expands them.

    Parameters
    ----------
    arms : names to run, in table order
    seeds : how many (from ``seed`` on), or which; every arm is trained with each
    definitions : name → the overrides that make the arm
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
    config : ``eval.seeds``, the ``arms`` as configured and those ``not_run`` with the reason
    inputs : ``images`` and ``prediction|target|teacher/ARM/SEED`` → folders
    out : where results and report go
    failed : arm → why it has no result: the report then says so
    """
    seeds = config["eval"]["seeds"]
    image_set = ImageSet.load(inputs["images"])
    labels = np.asarray(image_set.test_labels)
    arms: dict[str, Any] = {}
    correct: dict[str, np.ndarray] = {}
    encoder_r: dict[str, list[float]] = {}
    warnings: list[str] = []
    for name, described in config["arms"].items():
        if name in failed:
            continue
        predictions = [_read(inputs[f"prediction/{name}/{seed}"]) for seed in seeds]
        hits = np.stack([rows.argmax(1) == labels for rows in predictions])
        correct[name] = hits
        mean = two_way_interval(hits.astype(float))
        _, split = open_images(inputs["images"], _split_options(described), seeds[0])
        teacher, marks, extra_labels = _teacher_part(name, described, inputs, seeds, image_set, split, encoder_r)
        overlap = described["student"].get("overlap") or "not declared"
        if described["student"].get("init") == "pretrained":
            marks.append(f"the student started from pretrained weights; overlap with the test classes: {overlap}")
        if described["train"]["select"] == "test":
            marks.append("UNSOUND: epoch chosen on the test images (train.select=test)")
        if described["images"]["allow_overlap"]:
            marks.append("stimuli among the test images were allowed (images.allow_overlap=true)")
        arms[name] = {
            "n_seeds": len(seeds),
            "accuracy": {
                "mean": mean.estimate,
                "ci_low": mean.low,
                "ci_high": mean.high,
                "per_seed": [float(row.mean()) for row in hits],
            },
            "balanced_accuracy": _mean([balanced_accuracy(rows, labels) for rows in predictions]),
            "nll": _mean([nll(rows, labels) for rows in predictions]),
            "ece": _mean([ece(np.exp(rows), labels) for rows in predictions]),
            "overrides": described["overrides"],
            "labels": len(split.labelled) + len(split.val) + extra_labels,
            "marks": marks,
            "teacher": teacher,
            "keys": {
                kind: [inputs[f"{part}/{name}/{seed}"].name for seed in seeds if f"{part}/{name}/{seed}" in inputs]
                for kind, part in (("predictions", "prediction"), ("targets", "target"), ("teachers", "teacher"))
            },
        }
        draws = {folder for part, folder in inputs.items() if part.startswith(f"teacher/{name}/")}
        if 0 < len(draws) < len(seeds):
            warnings.append(
                f"{name}: {len(seeds)} seeds share {len(draws)} draw(s) of the teacher, which makes false positives; "
                "redraw it for every seed (teacher.seed=${seed})"
            )
    claims = _claims(config, arms, correct, {**config["not_run"], **failed}, len(image_set.classes))
    comparisons = _comparisons(config["arms"], correct, claims)
    any_arm = next(iter(config["arms"].values()), None)
    results = {
        "arms": arms,
        "comparisons": comparisons,
        "claims": claims,
        "not_run": config["not_run"],
        "failed": failed,
        "warnings": warnings + _budget_warnings(arms) + _leak_warnings(config["arms"], comparisons),
        "n_seeds": len(seeds),
        "n_test": len(labels),
        "n_train": any_arm["images"]["n_train"] if any_arm else None,
        "n_pool": any_arm["images"]["n_pool"] if any_arm else None,
        "n_val": any_arm["images"]["n_val"] if any_arm else None,
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


def is_brain(described: dict[str, Any]) -> bool:
    """Is this an arm for which the claim can be made?"""
    teacher, target = described["teacher"], described["target"]
    sound = not teacher.get("original_protocol") and described["train"]["select"] != "test"
    return teacher.get("name") in _BRAINS and not teacher.get("control") and not target.get("control") and sound


def _claims(
    config: dict[str, Any],
    arms: dict[str, Any],
    correct: dict[str, np.ndarray],
    missing: dict[str, str],
    n_classes: int,
) -> list[dict[str, Any]]:
    found = []
    for name, described in config["arms"].items():
        if not is_brain(described):
            continue
        controls = _where_they_apply(name, described, arms, n_classes)
        required = [*REQUIRED, *(_of_its_kind(control, described, config["arms"]) for control in controls)]
        reasons = {arm: missing.get(arm, "not among eval.arms") for arm in [name, *required] if arm not in correct}
        found.append(claim(name, correct, required, reasons))
    return found


def _where_they_apply(name: str, described: dict[str, Any], arms: dict[str, Any], n_classes: int) -> list[str]:
    """Controls that the claim needs under this design: leaving one out leaves it undecided."""
    # voxels and relations are read from the pictures' features by no decoder: random readouts are their features control
    soft = described["target"]["name"] == "soft_labels"
    needed = ["features" if soft else "random_readout", "shuffled_fmri"]
    if soft and described["teacher"].get("pretrained"):
        needed.append("random_readout")
    budgets = {arm["labels"] for other, arm in arms.items() if other != "labels_matched"}
    if name in arms and arms[name]["labels"] > min(budgets):
        needed.append("labels_matched")
    labelled_only = described["target"]["images"] == "labelled" or not described["images"]["n_pool"]
    if labelled_only:
        needed += ["random_matched", "shuffled_within"] if soft and n_classes > 2 else ["shuffled_within"]
    return needed


def _of_its_kind(control: str, described: dict[str, Any], arms: dict[str, Any]) -> str:
    """The control arm that differs from a brain arm in one thing only: ``shuffled_fmri``, or ``shuffled_fmri_relations``
    where the arm of that name has another kind of target than the brain arm's relations."""
    kind = described["target"]["name"]
    if control in ("labels_matched", "features") or control not in arms:
        return control
    return control if arms[control]["target"].get("name") == kind else f"{control}_{kind}"


def _comparisons(
    arms: dict[str, Any], correct: dict[str, np.ndarray], claims: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Arms against the baseline, brain arms against every other, controls against label smoothing; Holm over all."""
    pairs = [(name, "baseline") for name in correct if name != "baseline" and "baseline" in correct]
    brains = [made["arm"] for made in claims if made["arm"] in correct]
    pairs += [(brain, other) for brain in brains for other in correct if other not in (brain, "baseline")]
    if "label_smoothing" in correct:
        pairs += [(name, "label_smoothing") for name in correct if arms[name]["teacher"].get("control")]
    rows: list[dict[str, Any]] = []
    for a, b in pairs:
        difference = correct[a].astype(float) - correct[b].astype(float)
        interval = compare(correct[a], correct[b])
        low, high = crossed_bootstrap(difference)
        rows.append(
            {
                "a": a,
                "b": b,
                "difference": interval.estimate,
                "ci_low": interval.low,
                "ci_high": interval.high,
                "p": interval.p,
                "sign_flip_p": sign_flip_p(difference.mean(1)),
                "bootstrap_low": low,
                "bootstrap_high": high,
            }
        )
    for row, adjusted in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_adjusted"] = adjusted
    return rows


def _teacher_part(
    name: str,
    described: dict[str, Any],
    inputs: dict[str, Path],
    seeds: list[int],
    image_set: ImageSet,
    split: Any,
    encoder_r: dict[str, list[float]],
) -> tuple[dict[str, Any] | None, list[str], int]:
    """What stood behind an arm's targets: diagnostics, marks for the table, and labels beyond the student's."""
    if f"target/{name}/{seeds[0]}" not in inputs:
        return None, [], 0
    records = [json.loads((inputs[f"target/{name}/{seed}"] / "target.json").read_text()) for seed in seeds]
    teacher = described["teacher"]
    scores, extra = {}, 0
    folder = inputs.get(f"teacher/{name}/{seeds[0]}")
    if folder is not None:
        scores = json.loads((folder / "scores.json").read_text())
        if (folder / "voxel_scores.npz").exists():
            with np.load(folder / "voxel_scores.npz", allow_pickle=False) as stored:
                encoder_r[name] = stored["r"].astype(float).tolist()
    marks = []
    in_sample = records[0]["sources"].get("in_sample", 0)
    if in_sample:
        usual = ", as ordinary KD has it" if teacher["name"] in _NETWORKS else ""
        marks.append(f"in-sample targets on {in_sample} labelled images{usual}")
    if teacher["pretrained"]:
        marks.append("read by a pretrained network (teacher.weights): its images and labels are behind the targets")
    if teacher.get("original_protocol"):
        marks.append("UNSOUND: the protocol of 2021 (in-sample soft labels, softmax twice at 0.1)")
    if teacher.get("disjoint") is False:
        marks.append("encoder and decoder share stimuli (teacher.disjoint=false): labels leak around the brain")
    if teacher.get("labels") == "all":
        record = json.loads((folder / "teacher.json").read_text()) if folder else {}
        known = set(image_set.train_ids[split.labelled].tolist())
        extra = len(set(record.get("labelled", [])) - known)
    part = {
        "accuracy_pool": _mean([record.get("accuracy_pool") for record in records]),
        "accuracy_labelled": _mean([record.get("accuracy_labelled") for record in records]),
        "entropy": _mean([record.get("entropy") for record in records]),
        "temperature": _mean([(record.get("temperature") or {}).get("measured") for record in records]),
        "scores": scores,
    }
    return part, marks, extra


def _budget_warnings(arms: dict[str, Any]) -> list[str]:
    counts = {name: arm["labels"] for name, arm in arms.items()}
    if len(set(counts.values())) < 2:
        return []
    fewest = min(counts.values())
    more = ", ".join(f"{name} {count}" for name, count in counts.items() if count > fewest)
    return [f"unequal label budgets: {fewest} labels, but {more}; labels_matched is the arm to beat"]


def _leak_warnings(arms: dict[str, Any], comparisons: list[dict[str, Any]]) -> list[str]:
    """A control whose responses can know nothing should not beat a method that asks no teacher; where it does, say so."""
    return [
        f"the control {row['a']} beats label_smoothing by {100 * row['difference']:.1f} points: its targets regularise "
        "better than smoothing does, or labels reach the student around the responses"
        for row in comparisons
        if row["b"] == "label_smoothing" and arms[row["a"]]["teacher"].get("control") and (row["ci_low"] or 0) > 0
    ]


def _mean(values: list[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _read(folder: Path) -> np.ndarray:
    return np.load(folder / "log_probabilities.npy", allow_pickle=False)


def _split_options(described: dict[str, Any]) -> dict[str, Any]:
    return {key: described["images"][key] for key in SPLIT}

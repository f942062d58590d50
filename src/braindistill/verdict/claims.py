"""Which arms are held against which, what that says about the brain, and what must be warned about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from braindistill.statistics import (
    claim,
    compare,
    holm,
    percentiles,
    power_hint,
    power_sentence,
    resampled_means,
    sign_flip_p,
    tost,
)

#: what the brain must beat before it is said to have helped, whatever the design
REQUIRED = ("label_smoothing", "kd")
#: teachers that are a brain
_BRAINS = ("brain", "decoder", "encoder")

Correct = Mapping[str, np.ndarray]
Rows = list[dict[str, Any]]


def is_brain(described: Mapping[str, Any]) -> bool:
    """Is this an arm for which the claim is made? Not one that is there to be looked at, such as a ROI's."""
    teacher, target = described["teacher"], described["target"]
    sound = not teacher.get("original_protocol") and described["train"]["select"] != "test"
    if described.get("exploratory"):
        return False
    return teacher.get("name") in _BRAINS and not teacher.get("control") and not target.get("control") and sound


def is_claimed(described: Mapping[str, Any]) -> bool:
    """Is this an arm that is said to help or not: a brain, or people (``teacher=human``)?"""
    people = described["teacher"].get("name") == "human" and not described["target"].get("control")
    return is_brain(described) or (
        people and described["train"]["select"] != "test" and not described.get("exploratory")
    )


def make_claims(
    described: Mapping[str, Any],
    arms: Mapping[str, Any],
    correct: Correct,
    missing: Mapping[str, str],
    n_classes: int,
    tuning: Mapping[str, Any] | None = None,
) -> Rows:
    """The claim of every arm that makes one, withheld where arms that it is about had other budgets of labels or of tuning.

    Parameters
    ----------
    described : name → options of every arm that was asked for
    arms : results of those that have some, with their ``labels``
    correct : the same arms' correct answers (seeds × images, or subjects × seeds × images)
    missing : name → why an arm has none
    tuning : what was tried for each arm, as the results hold it
    """
    found = []
    for name, options in described.items():
        if not is_claimed(options):
            continue
        controls = _where_they_apply(name, options, arms, n_classes)
        # people look at pictures without an encoder, and are no network: what remains is their labels' softness
        general = REQUIRED if is_brain(options) else REQUIRED[:1]
        required = [*general, *(_of_its_kind(control, options, described) for control in controls)]
        reasons = {arm: missing.get(arm, "not among eval.arms") for arm in [name, *required] if arm not in correct}
        made = claim(name, correct, required, reasons)
        unequal = _unequal([name, *required], arms, tuning)
        if not is_brain(options) and options["images"]["n_pool"] and options["target"]["images"] != "labelled":
            unequal.append("people's answers about the pool are labels that no other arm has (target.images=labelled)")
        found.append(_withhold(made, unequal) if unequal else made)
    return found


def _unequal(names: Sequence[str], arms: Mapping[str, Any], tuning: Mapping[str, Any] | None) -> list[str]:
    """What these arms did not have in equal measure, as half sentences."""
    found = []
    labels = {name: arms[name]["labels"] for name in names if name in arms and name != "labels_matched"}
    if len(set(labels.values())) > 1 and "labels_matched" not in arms:
        found.append(f"label budgets differ ({_listed(labels)}), and there is no result of labels_matched")
    if tuning:
        tried = {name: len((tuning["arms"].get(name) or {}).get("tried", [])) for name in names if name in arms}
        if len(set(tried.values())) > 1:
            found.append(f"tuning budgets differ (trials: {_listed(tried)})")
    return found


def _withhold(made: dict[str, Any], why: Sequence[str]) -> dict[str, Any]:
    said = str(made["reason"]).removeprefix("cannot be decided: ")
    more = f"; {said}" if made["holds"] is None else ""
    return made | {"holds": None, "p": None, "reason": f"cannot be decided: {'; '.join(why)}{more}"}


def _listed(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in numbers.items())


def _where_they_apply(name: str, described: Mapping[str, Any], arms: Mapping[str, Any], n_classes: int) -> list[str]:
    """Controls that the claim needs under this design: leaving one out leaves it undecided."""
    # voxels and relations are read from the pictures' features by no decoder: random readouts are their features control
    soft = described["target"]["name"] == "soft_labels"
    needed = ["features" if soft else "random_readout", "shuffled_fmri"] if is_brain(described) else []
    if soft and described["teacher"].get("pretrained"):
        needed.append("random_readout")
    budgets = {arm["labels"] for other, arm in arms.items() if other != "labels_matched"}
    if name in arms and arms[name]["labels"] > min(budgets):
        needed.append("labels_matched")
    labelled_only = described["target"]["images"] == "labelled" or not described["images"]["n_pool"]
    if labelled_only:
        needed += ["random_matched", "shuffled_within"] if soft and n_classes > 2 else ["shuffled_within"]
    return needed


def _of_its_kind(control: str, described: Mapping[str, Any], arms: Mapping[str, Any]) -> str:
    """The control arm that differs from a brain arm in one thing only: ``shuffled_fmri``, or ``shuffled_fmri_relations``
    where the arm of that name has another kind of target than the brain arm's relations."""
    kind = described["target"]["name"]
    if control in ("labels_matched", "features") or control not in arms:
        return control
    return control if arms[control]["target"].get("name") == kind else f"{control}_{kind}"


def compare_arms(described: Mapping[str, Any], correct: Correct, claims: Rows) -> Rows:
    """Arms against the baseline, brain arms against every other, controls against label smoothing; Holm over all."""
    pairs = [(name, "baseline") for name in correct if name != "baseline" and "baseline" in correct]
    brains = [made["arm"] for made in claims if made["arm"] in correct]
    pairs += [
        (brain, other)
        for brain in brains
        for other in correct
        # of the arms that are there to be looked at, those of this brain arm's ROIs
        if other not in (brain, "baseline")
        and (not described[other].get("exploratory") or other.startswith(f"{brain}@"))
    ]
    if "label_smoothing" in correct:
        apart = (name for name in correct if name != "label_smoothing")
        pairs += [
            (name, "label_smoothing")
            for name in apart
            if described[name]["teacher"].get("control") or described[name].get("exploratory")
        ]
    resampled = dict(zip(correct, resampled_means(list(correct.values())), strict=True)) if pairs else {}
    rows: Rows = []
    for a, b in pairs:
        interval = compare(correct[a], correct[b])
        replicates = _replicates(correct[a].astype(float) - correct[b])
        several = len(replicates) > 1
        low, high = percentiles(resampled[a] - resampled[b]) if several else (None, None)
        rows.append(
            {
                "a": a,
                "b": b,
                "difference": interval.estimate,
                "ci_low": interval.low,
                "ci_high": interval.high,
                "p": interval.p,
                "sign_flip_p": sign_flip_p(replicates) if several else None,
                "bootstrap_low": low,
                "bootstrap_high": high,
            }
        )
    for row, adjusted in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_adjusted"] = adjusted
    return rows


def _replicates(differences: np.ndarray) -> np.ndarray:
    """A mean difference a seed; a subject, where there are several and they differ."""
    if differences.ndim == 3 and (differences == differences[0]).all():
        differences = differences[0]
    return differences.reshape(len(differences), -1).mean(1)


def estimate_power(claims: Rows, correct: Correct, effect: float = 0.005) -> dict[str, dict[str, Any]]:
    """Brain arm → component of its claim → seeds that would separate half a point, as a number and in words."""
    found: dict[str, dict[str, Any]] = {}
    for part in (part for made in claims for part in made["components"]):
        difference = correct[part["a"]].astype(float) - correct[part["b"]]
        found.setdefault(part["a"], {})[part["b"]] = {
            "seeds_for_half_a_point": power_hint(difference, effect),
            "sentence": power_sentence(difference, effect),
        }
    return found


def find_equivalent(described: Mapping[str, Any], correct: Correct, margin: float) -> Rows:
    """Two one-sided tests of every arm with a claim against each without: is the difference inside ± ``margin``?"""
    claimed = [name for name in correct if is_claimed(described[name])]
    others = [name for name in correct if name not in claimed and not described[name].get("exploratory")]
    found = []
    for a in claimed:
        for b in others:
            p = tost(compare(correct[a], correct[b]), margin)
            found.append({"a": a, "b": b, "margin": margin, "p": p, "equivalent": None if p is None else p < 0.05})
    return found


def warn_of(described: Mapping[str, Any], arms: Mapping[str, Any], comparisons: Rows, n_seeds: int) -> list[str]:
    """Sentences about one seed, unequal numbers of labels, and a control that knows too much."""
    found = []
    if n_seeds == 1 and arms:
        found.append("one seed gives no interval and no p: ask for 10 (eval.seeds=10)")
    counts = {name: arm["labels"] for name, arm in arms.items()}
    if len(set(counts.values())) > 1:
        fewest = min(counts.values())
        more = _listed({name: count for name, count in counts.items() if count > fewest})
        found.append(f"unequal label budgets: {fewest} labels, but {more}; labels_matched is the arm to beat")
    # a control whose responses can know nothing should not beat a method that asks no teacher
    return found + [
        f"the control {row['a']} beats label_smoothing by {100 * row['difference']:.1f} points: its targets regularise "
        "better than smoothing does, or labels reach the student around the responses"
        for row in comparisons
        if row["b"] == "label_smoothing" and described[row["a"]]["teacher"].get("control") and (row["ci_low"] or 0) > 0
    ]

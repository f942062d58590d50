"""Reads ``results.json`` into what a table or a page shows, whatever parts of it a failed run left out."""

from __future__ import annotations

from typing import Any

from braindistill.report.parts import Results
from braindistill.statistics import points

Value = Any  # {"mean", "ci_low", "ci_high", "per_seed" or "per_subject"}, a bare number, or None
#: what a claim says of itself
HOLDS = {True: "holds", False: "does not hold", None: "undecided"}

# what each arm rules out, or is there for: the words of the protocol
PURPOSE = {
    "baseline": "labels only: what the same student reaches without any teacher",
    "label_smoothing": "that any softening of the labels would do",
    "labels_matched": "that the help is only labels: the baseline trained on the decoder's labelled stimuli too",
    "self_kd": "that distilling a network into itself would do, without a teacher",
    "kd": "that any teacher would do: a CNN teacher trained on the same labels",
    "kd_matched": "the same, with a CNN teacher as inaccurate and as uncertain as the brain teacher",
    "features": "that the images alone carry it: the encoder's own image features (or pixels) → the same decoder, "
    "folds, labels and pool; a feature extractor is not being distilled through the brain",
    "random_readout": "the same, for voxel and relational targets: voxels replaced by random linear readouts of the "
    "features, with spectrum and ceiling matched",
    "shuffled_fmri": "that pairing does not matter: responses permuted over images before the teacher is fitted",
    "nuisance": "that any response will do: voxels outside visual cortex, the same count",
    "random_matched": "regularisation by noise with the right answers (on labelled images only)",
    "random": "the original project's noise teacher, softmax(u / 0.01), kept for history: nearly one-hot wrong labels",
    "shuffled_within": "that class means suffice: targets permuted inside a class; the claim is about single images",
    "shuffled_across": "that the targets' statistics alone suffice: targets permuted over all images",
    "handcrafted": "that any non-deep prediction would do: Gabor, HOG and colour features",
    "human": "a comparison with soft labels from people",
}


def is_brain(arm: str) -> bool:
    """Whether an arm's name is that of a brain arm: ``brain``, ``brain_voxels``, ``brain@V1``, ``brain+kd``."""
    return arm == "brain" or arm.startswith(("brain_", "brain@", "brain+"))


def against(results: Results, a: str, b: str) -> dict[str, Any] | None:
    """The comparison a − b, turned round where the results hold b − a; None where there is neither."""
    for found in results.get("comparisons") or []:
        if (found.get("a"), found.get("b")) == (a, b):
            return dict(found)
        if (found.get("a"), found.get("b")) == (b, a):
            turned = dict(found, a=a, b=b)
            for low, high in (("ci_low", "ci_high"), ("bootstrap_low", "bootstrap_high"), ("difference", "difference")):
                turned[low], turned[high] = _minus(found.get(high)), _minus(found.get(low))
            return turned
    return None


def verdict(claim: dict[str, Any]) -> tuple[str, str]:
    """A claim in two parts: what is decided ("brain helped: the claim holds") and the sentence that says why."""
    holds, reason = claim.get("holds"), str(claim.get("reason") or "no reason was recorded")
    words = {True: "the claim holds", False: "the claim does not hold", None: "the claim cannot be decided"}
    why = reason.removeprefix("does not hold: ").removeprefix("cannot be decided: ")
    if claim.get("p") is not None:
        value = p_text(claim["p"])
        why += f" (p {value})" if value.startswith("<") else f" (p = {value})"
    return f"“{claim.get('arm', '?')} helped”: {words[holds]}", why


def alone(results: Results, arm: str) -> dict[str, dict[str, Any]]:
    """Subject → the claim of an arm with that subject's answers only; {} where there are not several."""
    return {
        subject: claim
        for subject, entry in (results.get("subjects") or {}).items()
        for claim in entry.get("claims") or []
        if claim.get("arm") == arm
    }


def told_alone(results: Results, arm: str) -> str:
    """``alone, the claim holds in 4 of 5 subjects (not in S3)``; '' where there are not several."""
    each = alone(results, arm)
    if not each:
        return ""
    others = [f"{subject} {HOLDS[claim.get('holds')]}" for subject, claim in each.items() if not claim.get("holds")]
    but = f" ({', '.join(others)})" if others else ""
    return f"alone, the claim holds in {len(each) - len(others)} of {len(each)} subjects{but}"


def gaps(results: Results) -> list[str]:
    """What is missing from the results, in sentences; empty for a complete run."""
    arms, found = results.get("arms") or {}, []
    if not arms:
        found.append("No arm has finished, so there is nothing to compare.")
    found += [f"The arm {name} failed: {reason}" for name, reason in (results.get("failed") or {}).items()]
    if arms and not results.get("comparisons"):
        found.append("No two arms were compared" + (": only one arm has finished." if len(arms) == 1 else "."))
    if not results.get("claims"):
        why = "" if any(map(is_brain, arms)) else ": no brain arm has finished"
        found.append(f"No claim was tested{why}.")
    for name, arm in arms.items():
        wanted, have = results.get("n_seeds"), arm.get("n_seeds")
        if wanted and have and have < wanted:
            found.append(f"The arm {name} has {have} of {wanted} seeds.")
    return found


def notes(results: Results) -> list[str]:
    """What must be read beside the table of arms: marks of arms, and unequal numbers of labels."""
    arms = results.get("arms") or {}
    found = [f"{name}: {mark}" for name, arm in arms.items() for mark in arm.get("marks") or []]
    if len({arm["labels"] for arm in arms.values() if arm.get("labels") is not None}) > 1:
        beat = "labels_matched is the arm to beat" if "labels_matched" in arms else "there is no labels_matched arm"
        found.append(f"the arms did not see the same number of labels: {beat}")
    return found


def percent(value: float | None, digits: int = 1) -> str:
    """A share as a percentage without its sign, e.g. ``84.5``."""
    return "–" if value is None else f"{100 * value:.{digits}f}"


def percent_interval(accuracy: dict[str, Any] | None) -> str:
    """``84.5 [82.0, 87.0]``; the t interval is cut at 0 and 100 for display."""
    accuracy = accuracy or {}
    low, high = accuracy.get("ci_low"), accuracy.get("ci_high")
    ends = "" if low is None or high is None else f" [{percent(max(low, 0.0))}, {percent(min(high, 1.0))}]"
    return percent(accuracy.get("mean")) + ends


def points_interval(comparison: dict[str, Any]) -> str:
    """``+4.1 [+2.0, +6.2]``, in points; ``–`` where nothing was compared."""
    if comparison.get("difference") is None:
        return "–"
    low, high = comparison.get("ci_low"), comparison.get("ci_high")
    return points(comparison["difference"]) + ("" if low is None else f" [{points(low)}, {points(high)}]")


def value_of(found: Value) -> dict[str, Any]:
    """A measured value as a dict, where it may be a bare number or absent; {} where there is none."""
    if isinstance(found, dict):
        return found
    return {} if found is None else {"mean": found}


def as_share(found: Value) -> dict[str, Any]:
    """A value between 0 and 1 for display: the ends of a t interval may lie beyond, and are cut."""
    known = value_of(found)
    ends = {key: min(max(known[key], 0.0), 1.0) for key in ("ci_low", "ci_high") if known.get(key) is not None}
    return known | ends


def interval_text(found: Value, scale: float = 1.0, digits: int | None = None) -> str:
    """``0.041 [0.035, 0.048]``, or with ``scale=100`` as a percentage ``84.5 [82.0, 87.0]``; not cut at any end."""
    known = value_of(found)
    digits = (1 if scale == 100 else 3) if digits is None else digits
    mean, low, high = (known.get(key) for key in ("mean", "ci_low", "ci_high"))
    if mean is None:
        return "–"
    ends = "" if low is None or high is None else f" [{_fixed(scale * low, digits)}, {_fixed(scale * high, digits)}]"
    return _fixed(scale * mean, digits) + ends


def by_decision(claim: dict[str, Any]) -> dict[str, Any] | None:
    """The component that decides a claim: the one with the largest p (a difference ≤ 0 counting as 1), then the lowest."""
    parts = [part for part in claim.get("components") or [] if part.get("difference") is not None]

    def weakness(part: dict[str, Any]) -> tuple[float, float]:
        p = 1.0 if part["difference"] <= 0 or part.get("p") is None else part["p"]
        return -p, part["difference"] if part.get("ci_low") is None else part["ci_low"]

    return min(parts, key=weakness, default=None)


def number(value: Any, digits: int = 3) -> str:
    """A plain number, ``–`` where there is none."""
    if value is None or isinstance(value, str | bool):
        return "–" if value is None else str(value)
    return f"{value:.{digits}f}".replace("-", "−") if isinstance(value, float) else str(value)


def p_text(value: float | None) -> str:
    """A p value with three or four decimals, never ``0.000``."""
    if value is None:
        return "–"
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}" if value < 0.01 else f"{value:.3f}"


def _fixed(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def _minus(value: float | None) -> float | None:
    return None if value is None else -value

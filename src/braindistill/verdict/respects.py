"""In what respect an arm is better: its measures beside accuracy against those of its controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from braindistill.statistics import across_subjects, compare, holm

#: measures that are compared, in the order of the table, by where an arm's ``measures`` hold them: is less better?
_LESS_IS_BETTER = {
    "nll": True,
    "brier": True,
    "ece": True,
    "top5": False,
    "selective/precision": False,
    "selective/aurc": True,
    "severity/severe": True,
    "severity/lca_height": True,
    "human/cross_entropy": True,
    "human/top1_agreement": False,
    "robustness/mean": False,
    "robustness/fgsm": False,
    "robustness/pgd": False,
    "brain_score/r": False,
    "brain_score/rsa": False,
}


def losses_of(said: Sequence[np.ndarray], labels: np.ndarray) -> dict[str, np.ndarray]:
    """NLL and Brier score of every answer (seeds × images).

    Parameters
    ----------
    said : log-probabilities (images × classes), one table a seed
    """
    rows = np.arange(len(labels))
    nll = np.stack([-table[rows, labels] for table in said]).astype(np.float64)
    brier = [(np.exp(table.astype(np.float64)) ** 2).sum(1) for table in said]
    return {"nll": nll, "brier": np.stack(brier) - 2 * np.exp(-nll) + 1}


def compare_measures(
    arms: Mapping[str, Any], losses: Mapping[str, Mapping[str, np.ndarray]], claims: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Every measure of each arm with a claim against the baseline and the claim's controls, p adjusted by Holm over all.

    NLL and Brier score are known for every image: their intervals are those of accuracy, over seeds, images and subjects.
    Other measures have a number a seed (a subject, where there are several): a paired t over these.

    Parameters
    ----------
    arms : results of each arm, with its ``measures``
    losses : ``nll`` and ``brier`` → arm → table, all of one shape

    Returns
    -------
    list of dict
        ``measure a b difference ci_low ci_high p p_adjusted``, and ``better``: true or false where the adjusted p is below
        0.05, else None.
    """
    found: list[dict[str, Any]] = []
    for made in claims:
        others = dict.fromkeys(["baseline", *(part["b"] for part in made["components"])])
        for other in others:
            pair = made["arm"], other
            if pair[0] in arms and other in arms:
                found += [row for row in _rows(*pair, arms, losses) if row["ci_low"] is not None]
    for row, adjusted in zip(found, holm([row["p"] for row in found]), strict=True):
        row["p_adjusted"] = adjusted
        less = row["difference"] < 0
        apart = adjusted is not None and adjusted < 0.05
        row["better"] = bool(less == _LESS_IS_BETTER[_kind(row["measure"])]) if apart else None
    order = list(_LESS_IS_BETTER)
    return sorted(found, key=lambda row: order.index(_kind(row["measure"])))


def _rows(
    a: str, b: str, arms: Mapping[str, Any], losses: Mapping[str, Mapping[str, np.ndarray]]
) -> list[dict[str, Any]]:
    known = {name: _leaves(arms[name].get("measures") or {}) for name in (a, b)}
    rows = []
    for measure in known[a]:
        if measure in losses:
            interval = compare(losses[measure][a], losses[measure][b])
        elif len(known[a][measure]) == len(known[b].get(measure, [])):
            interval = across_subjects(np.subtract(known[a][measure], known[b][measure]))
        else:
            continue
        ends = {"difference": interval.estimate, "ci_low": interval.low, "ci_high": interval.high, "p": interval.p}
        rows.append({"measure": measure, "a": a, "b": b} | ends)
    return rows


def _leaves(measures: Mapping[str, Any]) -> dict[str, list[float]]:
    """``robustness/pgd/0.0157`` → a number a seed, or a subject, of the measures that are compared; whole ones only."""
    found: dict[str, list[float]] = {}

    def visit(place: str, value: Any) -> None:
        if not isinstance(value, dict):
            return
        each = value.get("per_subject") or value.get("per_seed")
        if each is None:
            for key, part in value.items():
                visit(f"{place}/{key}" if place else key, part)
        elif _kind(place) in _LESS_IS_BETTER and None not in each:
            found[place] = each

    visit("", measures)
    return found


def _kind(measure: str) -> str:
    """``robustness/pgd/0.0157`` → ``robustness/pgd``; ``brain_score/V1/r`` → ``brain_score/r``."""
    parts = measure.split("/")
    return "/".join([parts[0], parts[-1] if parts[0] == "brain_score" else parts[1]]) if len(parts) > 1 else measure

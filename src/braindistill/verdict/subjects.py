"""Several subjects' numbers as one: their mean, with an interval over subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from braindistill.verdict.values import over_seeds


def pool_subjects(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One arm's results from those of its subjects.

    Numbers become their mean; values with an interval (``mean``, ``ci_low``, ``ci_high``) get one over subjects, with
    ``per_subject`` in the place of ``per_seed``; marks and keys are joined; what has to be equal is the first's.

    Parameters
    ----------
    entries : subject → the arm's results, as for a single subject but for ``accuracy``
    """
    parts = list(entries.values())
    pooled = {key: _pool([part[key] for part in parts]) for key in parts[0] if all(key in part for part in parts)}
    marks = dict.fromkeys(mark for part in parts for mark in part["marks"])
    return pooled | {
        "n_seeds": parts[0]["n_seeds"],
        "n_subjects": len(parts),
        "labels": max(part["labels"] for part in parts),
        "overrides": parts[0]["overrides"],
        "marks": list(marks),
        "keys": {kind: [key for part in parts for key in part["keys"][kind]] for kind in parts[0]["keys"]},
    }


def stack_subjects(tables: Mapping[str, Sequence[np.ndarray]], n_subjects: int) -> dict[str, np.ndarray]:
    """Arm → subjects × seeds × images, the same for every subject where an arm has a single table; without subjects that
    table, seeds × images."""
    if not n_subjects:
        return {name: own[0] for name, own in tables.items()}
    return {
        name: np.stack(own) if len(own) > 1 else np.broadcast_to(own[0], (n_subjects, *own[0].shape))
        for name, own in tables.items()
    }


def _pool(values: Sequence[Any]) -> Any:
    """Mean at every leaf of nested dicts and lists, one a subject; a value with its interval has it over subjects."""
    first = values[0]
    if any(value is None for value in values):
        return None
    if isinstance(first, dict) and "per_seed" in first:
        found = over_seeds([value["mean"] for value in values])
        return {"mean": found["mean"], "ci_low": found["ci_low"], "ci_high": found["ci_high"]} | {
            "per_subject": found["per_seed"]
        }
    if isinstance(first, dict):
        return {key: _pool([value[key] for value in values]) for key in first if all(key in value for value in values)}
    if isinstance(first, list):
        return [_pool(items) for items in zip(*values, strict=False)]
    if isinstance(first, bool | str):
        return first
    return float(np.mean(values))

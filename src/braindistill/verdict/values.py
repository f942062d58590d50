"""Numbers a seed → a mean with its interval, in whatever nesting they come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from braindistill.statistics import across_subjects, crossed_interval

#: ranges of the data, not measures of a student: kept as they are, averaged over seeds
_RANGES = ("rsa_ceiling",)


def accuracy_of(hits: np.ndarray) -> dict[str, Any]:
    """Mean and interval of correct answers, seeds × images or subjects × seeds × images."""
    mean = crossed_interval(hits)
    per_seed = [float(row.mean()) for row in np.moveaxis(hits, -2, 0)]
    several = {"per_subject": [float(own.mean()) for own in hits]} if hits.ndim == 3 else {}
    return {"mean": mean.estimate, "ci_low": mean.low, "ci_high": mean.high, "per_seed": per_seed} | several


def over_seeds(per_seed: Sequence[float | None]) -> dict[str, Any]:
    """Mean and t interval over seeds; bounds are None where fewer than two are known, the mean where none is.

    Returns
    -------
    dict
        ``mean``, ``ci_low``, ``ci_high``, ``per_seed`` (None where a seed has no value).
    """
    known = [float(value) for value in per_seed if value is not None]
    shown = {"per_seed": [None if value is None else float(value) for value in per_seed]}
    if not known:
        return {"mean": None, "ci_low": None, "ci_high": None} | shown
    found = across_subjects(known)  # seeds are replicates just as subjects are: one number each, a one-sample t
    return {"mean": found.estimate, "ci_low": found.low, "ci_high": found.high} | shown


def nested_over_seeds(parts: Sequence[Any]) -> Any:
    """`over_seeds` at every leaf of equally nested dicts and lists, one a seed."""
    first = parts[0]
    if isinstance(first, dict):
        return {
            key: _range(parts, key) if key in _RANGES else nested_over_seeds([part[key] for part in parts])
            for key in first
        }
    if isinstance(first, list):
        return [nested_over_seeds(list(items)) for items in zip(*parts, strict=True)]
    return over_seeds(parts)


def _range(parts: Sequence[dict[str, Any]], key: str) -> list[float] | None:
    known = [part[key] for part in parts if part[key] is not None]
    return [sum(ends) / len(known) for ends in zip(*known, strict=True)] if known else None

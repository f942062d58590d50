"""The claim that an arm helped, and what several p values are worth together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from braindistill.statistics.intervals import Interval, compare
from braindistill.statistics.sign_flips import cannot_decide, fewest_seeds


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's (1979) step-down adjusted p values, in the order given; None stays None and is not counted."""
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * float(p)))
        adjusted[index] = highest
    return adjusted


def points(difference: float | None) -> str:
    """A difference of accuracies as signed percentage points: ``+4.1``; a small one never rounds to zero."""
    if difference is None:
        return "?"
    value = 100 * difference
    digits = f"{value:+.1f}" if abs(value) >= 0.05 else (f"{value:+.1g}" if value else "0.0")
    return digits.replace("-", "−")


def claim(
    arm: str, correct: Mapping[str, ArrayLike], required: Sequence[str], missing: Mapping[str, str]
) -> dict[str, Any]:
    """Decide "this arm helped": an intersection–union test, the arm beats *each* required control.

    Parameters
    ----------
    arm
        The brain arm.
    correct
        Arm → correct answers (seeds × images, or subjects × seeds × images), paired over arms.
    required
        The controls to beat.
    missing
        Arm → why it has no result; a required arm that is in neither ``correct`` nor ``missing`` was "not run".

    Returns
    -------
    dict
        ``arm``; ``holds``: true where every component's interval lies above zero, false where one does not, None where
        that cannot be decided: too few seeds, or subjects, to reach 0.05 by sign flips, or a required arm missing (unless another
        component's interval lies below zero already); ``p``: the largest component p, a difference ≤ 0 counting as 1,
        None where undecided; ``components``: ``a b difference ci_low ci_high p`` each; ``reason``: one sentence.
    """
    required = list(dict.fromkeys(required))
    parts = {name: compare(correct[arm], correct[name]) for name in required if {arm, name} <= correct.keys()}
    components = [
        {"a": arm, "b": name, "difference": part.estimate, "ci_low": part.low, "ci_high": part.high, "p": part.p}
        for name, part in parts.items()
    ]

    def verdict(holds: bool | None, p: float | None, reason: str) -> dict[str, Any]:
        return {"arm": arm, "holds": holds, "p": p, "components": components, "reason": reason}

    number, *between, images = np.shape(correct[arm]) if arm in correct else (fewest_seeds(), 2)
    few = cannot_decide(number, unit="subject" if between else "seed")
    obstacles = [few] if few else []
    if images < 2:
        obstacles.append("one test image gives no interval")
    if 1 in between:
        obstacles.append("one seed gives no interval")
    for name in (arm, *required):
        if name not in correct:
            obstacles.append(f"the arm {name} is missing ({missing.get(name, 'not run')})")
    if not required:
        obstacles.append("no control to beat was named")
    lost = not few and any(part.high is not None and part.high < 0 for part in parts.values())
    if obstacles and not lost:
        return verdict(None, None, "cannot be decided: " + "; ".join(obstacles))

    # weakest evidence first: largest p, then the interval that reaches lowest
    order = sorted(parts, key=lambda name: (-_claim_p(parts[name]), parts[name].low or 0.0))
    weakest = parts[order[0]]
    size = f"{points(weakest.estimate)} points [{points(weakest.low)}, {points(weakest.high)}]"
    failed = [name for name in order if (parts[name].low or 0.0) <= 0]
    if failed:
        others = f"; nor does it beat {', '.join(failed[1:])}" if failed[1:] else ""
        return verdict(False, _claim_p(weakest), f"does not hold: {arm} − {order[0]} is {size}{others}")
    beaten = f"each of {', '.join(parts)}; the tightest is {order[0]}" if len(parts) > 1 else order[0]
    return verdict(True, _claim_p(weakest), f"{arm} beats {beaten}: {size}")


def _claim_p(part: Interval) -> float:
    """A component's p inside the claim: an effect in the wrong direction is no evidence at all."""
    return 1.0 if part.estimate <= 0 or part.p is None else part.p

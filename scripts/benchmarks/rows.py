"""Comparisons as rows of a table: sides that take turns, medians, and what was asked for."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Row:
    """A line of the table.

    Attributes
    ----------
    what : is measured
    ours : in ``unit``
    instead : what a user would pick, or the least that is possible
    theirs : the same of that, or None
    ratio : of ours and theirs, in the direction that ``asked`` names
    asked : ``≥ 2`` or ``≤ 1.03`` of the ratio, ``≤ 3 s`` of ours, or nothing
    spread : smallest and largest ratio of a turn
    """

    what: str
    ours: float
    unit: str
    instead: str = ""
    theirs: float | None = None
    ratio: float | None = None
    asked: str = ""
    spread: tuple[float, float] | None = None
    met: bool | None = field(init=False)

    def __post_init__(self) -> None:
        self.met = None
        if self.asked:
            sign, limit, *unit = self.asked.split()
            value = self.ours if unit else self.ratio
            assert value is not None
            self.met = value >= float(limit) if sign == "≥" else value <= float(limit)


def timed(call: Callable[[], Any]) -> Callable[[], float]:
    """The call, giving the seconds it took."""

    def run() -> float:
        started = time.perf_counter()
        call()
        return time.perf_counter() - started

    return run


def take_turns(repeats: int, sides: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Call each side in turn, ``repeats`` times after a warm-up, every other time in reverse → what each gave."""
    given: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, call in list(sides.items())[:: -1 if turn % 2 else 1]:
            value = call()
            if turn:
                given[name].append(value)
    return given


def compare(
    what: str,
    given: Mapping[str, list[float]],
    ours: str,
    theirs: str,
    asked: str = "",
    *,
    gain: bool = False,
    per: float = 1,
) -> Row:
    """A row about the seconds of two sides that took turns.

    The ratio is ours / theirs, or theirs / ours for a gain, which is what ``≥`` asks for. ``per`` divides the seconds, say
    by the steps of a turn.
    """
    pairs = list(zip(given[ours], given[theirs], strict=True))
    gain = gain or asked.startswith("≥")
    ratios = [other / own if gain else own / other for own, other in pairs]
    own, other = (statistics.median(given[name]) / per for name in (ours, theirs))
    ratio, spread = statistics.median(ratios), (min(ratios), max(ratios))
    return Row(what, own, "s", theirs, other, ratio, asked, spread)


def table(rows: Sequence[Row]) -> str:
    """The rows in aligned columns."""
    lines = [("what", "ours", "instead", "theirs", "ratio", "asked", "")]
    for row in rows:
        theirs = "" if row.theirs is None else f"{_number(row.theirs)} {row.unit}"
        ratio = "" if row.ratio is None else f"{row.ratio:.3g}"
        met = {None: "", True: "met", False: "MISSED"}[row.met]
        lines.append((row.what, f"{_number(row.ours)} {row.unit}", row.instead, theirs, ratio, row.asked, met))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"

"""Where the numbers are from: steps, commands, keys and versions."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable
from typing import Any

from braindistill.report.parts import Figure, Findings, Grid
from braindistill.report.reading import number
from braindistill.report.style import GREY, STATES
from braindistill.report.upstream import FLOW

_WORDS = {
    "prepare": "responses and stimuli",
    "images": "the student's pictures",
    "features": "features of the stimuli",
    "train-teacher": "teachers",
    "export": "targets",
    "distill": "students",
    "predict": "predictions",
    "measure": "measures of students",
    "eval": "this evaluation",
}


def step_figures(found: Findings) -> Iterable[Figure]:
    """The way from data to verdict: a box a stage, with how many of its artifacts were run, reused, skipped or failed."""
    counts = _counts(found)
    if not counts:
        return
    stages = list(counts)

    def draw(canvas: Any) -> None:
        axes = canvas.add_subplot()
        axes.set_axis_off()
        axes.set_xlim(0, 10)
        axes.set_ylim(len(stages) - 0.35, -0.55)
        for row, stage in enumerate(stages):
            total, left = sum(counts[stage].values()), 0.3
            for state, count in counts[stage].items():
                width = 9.4 * count / total
                axes.barh(
                    row + 0.16, width, 0.14, left, color=STATES.get(state, GREY), edgecolor="white", linewidth=0.5
                )
                left += width
            axes.text(0.3, row - 0.1, f"{stage}: {_WORDS.get(stage, '')}".rstrip(": "), fontsize=9)
            told = " · ".join(f"{count} {state}" for state, count in counts[stage].items())
            axes.text(9.7, row - 0.1, told, ha="right", fontsize=8.5)
            axes.add_patch(_frame(row))
            if row:
                axes.annotate(
                    "",
                    (5, row - 0.36),
                    (5, row - 0.66),
                    arrowprops={"arrowstyle": "-|>", "color": GREY, "linewidth": 1},
                )

    caption = "Steps from the data to this page. Bars show the share of artifacts in each state."
    told = "; ".join(f"{s}: " + ", ".join(f"{n} {state}" for state, n in c.items()) for s, c in counts.items())
    data: list[list[Any]] = [
        ["stage", "state", "artifacts"],
        *([s, state, n] for s, c in counts.items() for state, n in c.items()),
    ]
    yield Figure("steps", caption, f"Flow of steps. {told}.", draw, data, 0.25 + 0.62 * len(stages))


def step_tables(found: Findings) -> Iterable[Grid]:
    """States and seconds by stage, and the steps that failed or were skipped by name."""
    seconds: Counter[str] = Counter()
    for step in found.upstream.steps:
        seconds[str(step.get("stage"))] += step.get("seconds") or 0
    rows = []
    for stage, states in _counts(found).items():
        told = ", ".join(f"{count} {state}" for state, count in states.items())
        rows.append([stage, told, f"{seconds[stage]:.1f}" if seconds[stage] else "–"])
    yield Grid(["stage", "artifacts", "seconds in all"], rows, (0, 1))
    odd = [step for step in found.upstream.steps if step.get("state") in ("failed", "skipped")]
    told_rows = [[str(step.get("stage")), str(step.get("title")), str(step.get("state"))] for step in odd]
    yield Grid(["stage", "step", "state"], told_rows, (0, 1, 2), "Failed or skipped")


def provenance_tables(found: Findings) -> Iterable[Grid]:
    """What made these numbers."""
    results = found.results
    plain = {key: value for key, value in results.items() if isinstance(value, str | int | float | bool)}
    if results.get("classes"):
        names = list(map(str, results["classes"]))
        plain["classes"] = f"{len(names)}: {', '.join(names[:20])}" + (", …" if len(names) > 20 else "")
    yield Grid(["field", "value"], [[key, number(value)] for key, value in plain.items()], (0, 1), "Run")
    overrides = [[name, " ".join(arm.get("overrides") or []) or "none"] for name, arm in found.arms.items()]
    yield Grid(["arm", "overrides"], overrides, (0, 1), "Overrides of each arm")
    yield Grid(["arm", "what", "command"], list(_commands(found)), (0, 1, 2), "Commands that rebuild each row")
    versions = [[name, str(version)] for name, version in (results.get("versions") or {}).items()]
    yield Grid(["package", "version"], versions, (0, 1), "Versions")
    keys = [
        [name, stage, " ".join(dict.fromkeys(str(key)[:12] for key in kept))]
        for name, arm in found.arms.items()
        for stage, kept in (arm.get("keys") or {}).items()
        if kept
    ]
    yield Grid(["arm", "kind", "keys, one a seed"], keys, (0, 1, 2), "Keys of artifacts")


def _commands(found: Findings) -> Iterable[list[str]]:
    words = shlex.split(str(found.results.get("command") or ""))
    kept = [word for word in words if not word.startswith(("eval.arms=", "eval.rois="))]
    rois = found.results.get("rois") or {}
    of_rois = {*(rois.get("single") or {}).values(), *(rois.get("without") or {}).values()}
    for arm in found.arms:
        if words and arm in of_rois:  # eval.rois makes it, beside the arm that it is of
            asked = [word for word in words if word.startswith("eval.rois=")]
            yield [arm, "the row", shlex.join([*kept, *asked, f"eval.arms=[{rois['of']}]"])]
        elif words:
            yield [arm, "the row", shlex.join([*kept, *(["eval.rois=[]"] if rois else []), f"eval.arms=[{arm}]"])]
        if student := found.upstream.commands.get(arm, {}).get("distill"):
            yield [arm, "its first student", student]


def _counts(found: Findings) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {}
    for step in found.upstream.steps:
        counts.setdefault(str(step.get("stage")), Counter())[str(step.get("state"))] += 1
    places = {stage: place for place, stage in enumerate(FLOW)}
    return {
        stage: Counter({state: counts[stage][state] for state in [*STATES, *counts[stage]] if counts[stage][state]})
        for stage in sorted(counts, key=lambda stage: places.get(stage, len(places)))
    }


def _frame(row: int) -> Any:
    from matplotlib.patches import FancyBboxPatch

    style = "round,pad=0,rounding_size=0.08"
    return FancyBboxPatch((0.05, row - 0.34), 9.9, 0.66, style, fill=False, edgecolor=GREY, linewidth=0.7)

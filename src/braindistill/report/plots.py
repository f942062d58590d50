"""The kinds of picture that several sections share: rows of dots with intervals, lines, bars and grids of numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from braindistill.report.parts import Figure
from braindistill.report.reading import Value, as_share, interval_text, value_of
from braindistill.report.style import GREY, INK, RULE, colour, lay_rows, line_style, mark_interval, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


@dataclass(frozen=True)
class Dots:
    """A panel of rows: a value with its interval each; ``others`` are drawn hollow, ``line`` is a vertical reference."""

    title: str
    values: Mapping[str, Value]
    scale: float = 1.0
    others: Mapping[str, Value] = field(default_factory=dict)
    line: float | None = None
    band: tuple[float, float] | None = None


def draw_dots(
    name: str, caption: str, panels: Sequence[Dots], ink: Callable[[str], str] = colour, seeds: bool = False
) -> Figure:
    """Panels side by side, two in a row, with the same rows; dots of single seeds, or subjects, below each mean where ``seeds``."""
    rows = list(dict.fromkeys(row for panel in panels for row in [*panel.values, *panel.others]))
    columns = min(2, len(panels))
    height = -(-len(panels) // columns) * (0.62 + 0.27 * max(2, len(rows)))

    def draw(canvas: Canvas) -> None:
        grid = canvas.subplots(-(-len(panels) // columns), columns, squeeze=False, sharey=True)
        for axes, panel in zip(grid.flat, panels, strict=False):
            for place, row in enumerate(rows):
                value = value_of(panel.values.get(row))
                each = value.get("per_subject") or value.get("per_seed") or []
                if seeds and each:
                    shift = np.linspace(-0.12, 0.12, len(each)) if len(each) > 1 else np.zeros(1)
                    points = panel.scale * np.array([np.nan if x is None else x for x in each], dtype=float)
                    axes.plot(points, place + 0.14 + shift, "o", color=ink(row), alpha=0.4, markersize=2.6, mew=0)
                above = place - (0.2 if seeds and each else 0)
                mark_interval(
                    axes, place + 0.22, value_of(panel.others.get(row)), ink(row), scale=panel.scale, filled=False
                )
                mark_interval(axes, above, value_of(panel.values.get(row)), ink(row), scale=panel.scale)
            if panel.band:
                axes.axvspan(*(panel.scale * end for end in panel.band), color=RULE, zorder=0)
            if panel.line is not None:
                axes.axvline(panel.scale * panel.line, color=GREY, linestyle=":", linewidth=0.9)
            axes.set_xlabel(panel.title)
            axes.locator_params(axis="x", nbins=5 if columns == 1 else 3)  # numbers may be as long as −0.125
            lay_rows(axes, rows)
        for axes in list(grid.flat)[len(panels) :]:
            axes.set_axis_off()

    alt = f"{caption.split('. ')[0].rstrip('.')}. " + " ".join(
        f"{panel.title}: "
        + "; ".join(f"{row} {interval_text(found, panel.scale)}" for row, found in panel.values.items())
        + "."
        for panel in panels
    )
    data = [["panel", "row", "kind", "mean", "ci_low", "ci_high"]]
    for panel in panels:
        for kind, values in (("value", panel.values), ("reference", panel.others)):
            data += [[panel.title, row, kind, *_numbers(found)] for row, found in values.items()]
    return Figure(name, caption, alt, draw, data, height)


@dataclass(frozen=True)
class Lines:
    """A panel of lines: arm → x, mean, and where they are known the interval's ends."""

    title: str
    series: Mapping[str, Sequence[tuple[float, Value]]]
    scale: float = 1.0


def draw_lines(
    name: str,
    caption: str,
    panels: Sequence[Lines],
    across: str,
    up: str,
    *,
    columns: int = 2,
    ticks: Sequence[float] | None = None,
    logarithmic: bool = False,
    bands: bool = True,
) -> Figure:
    """Panels of lines with one legend below them; the interval is a bar at each point."""
    arms = list(dict.fromkeys(arm for panel in panels for arm in panel.series))
    columns = min(columns, len(panels))
    down = -(-len(panels) // columns)
    height = down * (2.5 if columns == 1 else 2.0) + 0.35 + 0.2 * -(-len(arms) // 3)

    def draw(canvas: Canvas) -> None:
        grid = canvas.subplots(down, columns, squeeze=False, sharex=True, sharey=columns > 1)
        handles: dict[str, Any] = {}
        for axes, panel in zip(grid.flat, panels, strict=False):
            for arm, points in panel.series.items():
                handles.setdefault(arm, _draw_line(axes, arm, arms, points, panel.scale, bands))
            axes.set_title(panel.title, loc="left")
            axes.grid(color=RULE, linewidth=0.6)
            axes.set_axisbelow(True)
            if logarithmic:
                axes.set_xscale("log")
                axes.minorticks_off()
            if not ticks and not logarithmic:
                axes.locator_params(axis="x", integer=True)
            if ticks:
                axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
        for axes in list(grid.flat)[len(panels) :]:
            axes.set_axis_off()
        for axes in grid[-1]:
            axes.set_xlabel(across)
        if up:
            for axes in grid[:, 0]:
                axes.set_ylabel(up)
        names = [shorten(arm) for arm in handles]
        canvas.legend(
            list(handles.values()),
            names,
            loc="outside lower center",
            ncols=3,
            frameon=False,
            fontsize=8.5,
            handlelength=2.4,
        )

    alt = f"{caption.split('. ')[0].rstrip('.')}. " + " ".join(
        f"{panel.title}: "
        + "; ".join(
            f"{arm} from {interval_text(points[0][1], panel.scale)} at {points[0][0]:g} to "
            f"{interval_text(points[-1][1], panel.scale)} at {points[-1][0]:g}"
            for arm, points in panel.series.items()
            if points
        )
        + "."
        for panel in panels
    )
    data: list[list[Any]] = [["panel", "arm", across, "mean", "ci_low", "ci_high"]]
    for panel in panels:
        data += [[panel.title, arm, x, *_numbers(y)] for arm, points in panel.series.items() for x, y in points]
    return Figure(name, caption, alt, draw, data, height)


def draw_heat(
    name: str, caption: str, rows: Sequence[str], columns: Sequence[str], values: np.ndarray, unit: str
) -> Figure:
    """A grid of signed numbers, blue below zero and red above it, with a bar that says how much; NaN is left white."""
    rows, columns = list(rows), list(columns)
    most = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 1.0

    def draw(canvas: Canvas) -> None:
        axes = canvas.add_subplot()
        image = axes.imshow(values, cmap="RdBu_r", vmin=-(most or 1), vmax=most or 1, aspect="auto")
        axes.set_xticks(range(len(columns)), [shorten(column, 14) for column in columns], rotation=40, ha="right")
        axes.set_yticks(range(len(rows)), [shorten(row) for row in rows])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        if len(rows) * len(columns) <= 80:
            for row, column in np.ndindex(values.shape):
                if np.isfinite(values[row, column]):
                    ink = "white" if abs(values[row, column]) > 0.6 * most else INK
                    axes.text(
                        column,
                        row,
                        f"{values[row, column]:.2g}".replace("-", "−"),
                        ha="center",
                        va="center",
                        color=ink,
                        fontsize=7.5,
                    )
        canvas.colorbar(image, ax=axes, shrink=0.8, label=unit)

    best = [
        f"{row} most by {columns[int(np.nanargmax(line))]}"
        for row, line in zip(rows, values, strict=True)
        if np.isfinite(line).any()
    ]
    alt = f"{caption.split('. ')[0].rstrip('.')}. " + "; ".join(best) + "."
    data: list[list[Any]] = [
        ["", *columns],
        *([row, *map(float, line)] for row, line in zip(rows, values, strict=True)),
    ]
    return Figure(name, caption, alt, draw, data, 1.1 + 0.26 * max(3, len(rows)))


def _draw_line(
    axes: Axes, arm: str, arms: Sequence[str], points: Sequence[tuple[float, Value]], scale: float, bands: bool
) -> Any:
    cut = as_share if scale == 100 else value_of
    known = [(x, cut(y)) for x, y in points if value_of(y).get("mean") is not None]
    style = line_style(arm, arms) | {"markevery": max(1, len(known) // 6)}
    style |= {"marker": style.get("marker") or "o", "markersize": 3.5} if len(known) == 1 else {}
    (line,) = axes.plot([x for x, _ in known], [scale * y["mean"] for _, y in known], **style)
    if bands:
        for x, y in known:
            if y.get("ci_low") is not None and y.get("ci_high") is not None:
                axes.plot(
                    [x, x], [scale * y["ci_low"], scale * y["ci_high"]], color=style["color"], linewidth=0.9, alpha=0.6
                )
    return line


def _numbers(found: Value) -> list[Any]:
    known = value_of(found)
    return [known.get("mean"), known.get("ci_low"), known.get("ci_high")]

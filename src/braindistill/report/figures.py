"""The report's pictures, as SVG text: horizontal, narrow enough for a phone, one fixed colour an arm.

Drawn with `matplotlib.figure.Figure`, never pyplot, so that no global figure state is touched.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from braindistill.report.reading import Results, is_brain, percent_interval, points_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GREY = "#222222", "#777777"
# Paul Tol's "muted" scheme, and Okabe and Ito's vermilion for the brain; names stand beside every mark as well
COLOURS = {
    "baseline": "#555555",
    "label_smoothing": "#88CCEE",
    "labels_matched": "#882255",
    "kd": "#332288",
    "features": "#117733",
    "random_readout": "#44AA99",
    "brain": "#D55E00",
    "shuffled_fmri": "#AA4499",
    "nuisance": "#999933",
    "self_kd": "#6699CC",
    "random_matched": "#CC6677",
    "shuffled_within": "#DDCC77",
}
SPARE = ("#E69F00", "#A6761D", "#8C3B00", "#F28E5C", "#0072B2", "#56B4E9")  # any other arm, by its name
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.7,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "path",
    "svg.hashsalt": "braindistill",  # equal results give equal bytes
}


def colour(arm: str) -> str:
    """The colour of an arm: always the same, in every figure and every run."""
    if arm in COLOURS:
        return COLOURS[arm]
    return SPARE[hashlib.sha256(arm.encode()).digest()[0] % len(SPARE)]


def draw_accuracy(results: Results) -> tuple[str, str]:
    """Test accuracy of every arm: a dot a seed, the mean and its interval. Returns (SVG, alternative text)."""
    arms = {name: arm.get("accuracy") or {} for name, arm in (results.get("arms") or {}).items()}

    def draw(axes: Axes) -> None:
        for row, (name, accuracy) in enumerate(arms.items()):
            seeds = 100 * np.asarray(accuracy.get("per_seed") or [], dtype=float)
            shift = np.linspace(-0.16, 0.16, len(seeds)) if len(seeds) > 1 else np.zeros(len(seeds))
            axes.plot(seeds, row + 0.12 + shift, "o", color=colour(name), alpha=0.45, markersize=3, markeredgewidth=0)
            _mark(axes, row - 0.2, accuracy.get("mean"), accuracy.get("ci_low"), accuracy.get("ci_high"), colour(name))
        if results.get("chance") is not None and axes.get_xlim()[0] < 100 * results["chance"]:
            axes.axvline(100 * results["chance"], color=GREY, linestyle=":", linewidth=0.8)
        axes.set_xlabel("test accuracy, %")

    alt = "Test accuracy in percent with 95 % intervals. " + "; ".join(
        f"{name} {percent_interval(accuracy)}" for name, accuracy in arms.items()
    )
    return _rows(list(arms), draw), alt


def draw_differences(components: list[dict[str, Any]]) -> tuple[str, str]:
    """A forest plot of comparisons a − b that share one a; those with ``claimed`` set are filled.

    Returns (SVG, alternative text).
    """

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=INK, linewidth=0.8)
        for row, found in enumerate(components):
            ends = found.get("ci_low"), found.get("ci_high")
            _mark(axes, row, found.get("difference"), *ends, colour(found["b"]), filled=bool(found.get("claimed")))
        axes.set_xlabel(f"{components[0]['a']} − control, points of accuracy")

    alt = f"Differences of accuracy, {components[0]['a']} minus each control, in points with 95 % intervals. "
    alt += "; ".join(f"{found['b']} {points_interval(found)}" for found in components)
    return _rows([f"− {found['b']}" for found in components], draw), alt


def draw_encoder(encoder_r: dict[str, list[float]]) -> tuple[str, str]:
    """Histograms of out-of-fold voxel correlations, one row a brain arm. Returns (SVG, alternative text)."""
    values = {name: np.asarray(r, dtype=float) for name, r in encoder_r.items()}
    values = {name: r[np.isfinite(r)] for name, r in values.items()}
    ends = [bound for r in values.values() if r.size for bound in (r.min(), r.max())] or [0.0, 1.0]
    edges = np.linspace(min(0.0, *ends), max(0.1, *ends), 41)
    summary = {n: f"{r.size} voxels, median " + (f"{np.median(r):.2f}" if r.size else "–") for n, r in values.items()}

    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(values), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (name, r) in zip(grid, values.items(), strict=True):
            axes.hist(r, bins=edges, color=colour(name), alpha=0.75, histtype="stepfilled")
            axes.axvline(0, color=INK, linewidth=0.8)
            axes.set_title(f"{name}: {summary[name]}", loc="left", fontsize=9.5)
            axes.set_ylabel("voxels")
            axes.spines[["top", "right"]].set_visible(False)
        grid[-1].set_xlabel("out-of-fold correlation r of predicted and measured response")

    alt = "Histograms of voxel correlations. " + "; ".join(f"{name}: {text}" for name, text in summary.items())
    return _svg(0.55 + 0.95 * len(values), draw), alt


def forests(results: Results) -> list[list[dict[str, Any]]]:
    """The comparisons of every brain arm with its controls: the claim's (``claimed`` set), then the others made."""
    arms = results.get("arms") or {}
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for claim in results.get("claims") or []:
        for part in claim.get("components") or []:
            found.setdefault(part["a"], {})[part["b"]] = dict(part, claimed=True)
    for part in results.get("comparisons") or []:
        if is_brain(part["a"]) and part["a"] in arms and not is_brain(part["b"]):
            found.setdefault(part["a"], {}).setdefault(part["b"], part)
    return [list(parts.values()) for parts in found.values() if parts]


def _mark(
    axes: Axes, row: float, mean: float | None, low: float | None, high: float | None, ink: str, filled: bool = True
) -> None:
    if mean is None:
        return
    if low is not None and high is not None:
        axes.plot([100 * low, 100 * high], [row, row], color=ink, linewidth=1.6, solid_capstyle="butt")
    inside, rim = (ink, "white") if filled else ("white", ink)
    axes.plot([100 * mean], [row], "D", color=inside, markersize=4.5, markeredgecolor=rim, markeredgewidth=0.8)


def _rows(names: list[str], draw_on: Callable[[Axes], None]) -> str:
    """One horizontal line a name, first on top."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        draw_on(axes)
        axes.set_yticks(range(len(names)), [name if len(name) < 26 else f"{name[:12]}…{name[-12:]}" for name in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)

    return _svg(0.55 + 0.29 * max(1, len(names)), draw)


def _svg(height: float, draw: Callable[[Figure], None]) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.8, height), layout="constrained")
        draw(figure)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()

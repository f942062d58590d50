"""How every picture of the report looks: one fixed colour an arm, letters that a phone and a printer can show.

Drawn with `matplotlib.figure.Figure`, never pyplot, so that no global figure state is touched.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from braindistill.report.parts import Figure
from braindistill.report.reading import is_brain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, GREY, RULE = "#222222", "#777777", "#dddddd"
WIDTH = 4.8  # inches: letters of 9 points are then as large as a phone's text
# Paul Tol's "muted" scheme, and Okabe and Ito's vermilion for the brain; names, dashes and marks stand beside colours
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
SPARE = ("#E69F00", "#A6761D", "#0072B2", "#56B4E9", "#7B7BB5", "#5B8C5A")  # any other arm, by its name
STATES = {"run": "#0072B2", "reused": "#88CCEE", "finished": "#0072B2", "skipped": "#cccccc", "failed": "#B2182B"}
_DASHES = ("-", "--", ":", "-.")
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "path",
    "svg.hashsalt": "braindistill",  # equal results give equal bytes
    "pdf.fonttype": 3,  # in half the time of 42
}
_DATELESS: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def colour(arm: str) -> str:
    """The colour of an arm: always the same, in every figure and every run; brain arms share the strongest one."""
    if arm in COLOURS:
        return COLOURS[arm]
    if is_brain(arm):
        return COLOURS["brain"]
    return SPARE[hashlib.sha256(arm.encode()).digest()[0] % len(SPARE)]


def line_style(arm: str, arms: Sequence[str]) -> dict[str, Any]:
    """Colour, dashes and mark of an arm's line; arms of one colour are told apart by dashes and marks."""
    alike = [name for name in arms if colour(name) == colour(arm)]
    place = alike.index(arm)
    strong = arm == "brain"
    return {
        "color": colour(arm),
        "linestyle": _DASHES[place % len(_DASHES)],
        "marker": _MARKS[place % len(_MARKS)] if is_brain(arm) else "",
        "markersize": 4,
        "linewidth": 2.0 if strong else 1.3,
        "zorder": 3 if strong else 2,
    }


def rendered(figure: Figure, kinds: Iterable[str] = ("svg",)) -> dict[str, bytes]:
    """Draw a figure once and save it in each format (``svg``, ``pdf``); the same figure gives the same bytes."""
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    found = {}
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=(figure.width, figure.height), layout="constrained")
        figure.draw(canvas)
        for kind in kinds:
            with io.BytesIO() as file:
                canvas.savefig(file, format=kind, metadata=_DATELESS[kind])
                found[kind] = file.getvalue()
            canvas.set_layout_engine("none")  # places are found: the next format has them too
    return found


def lay_rows(axes: Axes, names: Sequence[str], room: int = 22) -> None:
    """Make the vertical axis a list of names from the top down, with a light grid behind the marks."""
    axes.set_yticks(range(len(names)), [shorten(name, room) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)


def mark_interval(
    axes: Axes,
    row: float,
    found: dict[str, Any],
    ink: str,
    *,
    scale: float = 100,
    filled: bool = True,
    size: float = 4.5,
) -> None:
    """A diamond at the mean and a line over the 95 % interval; nothing where there is no mean."""
    if found.get("mean") is None:
        return
    low, high = found.get("ci_low"), found.get("ci_high")
    if low is not None and high is not None:
        axes.plot([scale * low, scale * high], [row, row], color=ink, linewidth=1.6, solid_capstyle="butt")
    inside, rim = (ink, "white") if filled else ("white", ink)
    axes.plot([scale * found["mean"]], [row], "D", color=inside, markersize=size, mec=rim, mew=0.8)


def shorten(name: str, room: int = 22) -> str:
    """Cut the middle of a name that is too long: ends tell arms apart."""
    tail = (room - 1) // 2
    return name if len(name) <= room else f"{name[: room - 1 - tail]}…{name[len(name) - tail :]}"

"""Arm against arm: the forest plot, what the seeds could have shown, and what is as good as equal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from braindistill.report.parts import Figure, Findings, Grid, Results
from braindistill.report.plots import Lines, draw_lines
from braindistill.report.reading import (
    against,
    interval_text,
    is_brain,
    number,
    p_text,
    percent,
    percent_interval,
    points_interval,
)
from braindistill.report.style import INK, colour, lay_rows, mark_interval
from braindistill.statistics import points

_WORDS = {"nll": "NLL, nats", "brier": "Brier score", "ece": "ECE", "top5": "top-5 accuracy"}
MOST = 6  # forest plots on one page; the table always holds all


def forests(results: Results) -> list[list[dict[str, Any]]]:
    """The comparisons of a brain arm with its controls: the claim's (``claimed`` set), then the others made.

    Of the arms about which a claim was made; of every brain arm where none was.
    """
    claimed = {claim.get("arm") for claim in results.get("claims") or []}
    arms = claimed or set(results.get("arms") or {})
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for claim in results.get("claims") or []:
        for part in claim.get("components") or []:
            found.setdefault(part["a"], {})[part["b"]] = dict(part, claimed=True)
    for part in _of_accuracy(results):
        if is_brain(part["a"]) and part["a"] in arms and not is_brain(part["b"]):
            found.setdefault(part["a"], {}).setdefault(part["b"], part)
    return [list(parts.values()) for parts in found.values() if parts]


def draw_forest(name: str, parts: list[dict[str, Any]], caption: str, labels: list[str] | None = None) -> Figure:
    """Differences with their intervals, a row each; those with ``claimed`` set are filled."""
    labels = labels or [f"− {part['b']}" for part in parts]

    def draw(canvas: Any) -> None:
        axes = canvas.add_subplot()
        axes.axvline(0, color=INK, linewidth=0.8)
        for row, part in enumerate(parts):
            value = {"mean": part.get("difference"), "ci_low": part.get("ci_low"), "ci_high": part.get("ci_high")}
            mark_interval(axes, row, value, colour(part["b"]), filled=bool(part.get("claimed")), size=5)
        axes.set_xlabel("points of accuracy")
        lay_rows(axes, labels, 30)

    alt = (
        caption.split(". ")[0]
        + ". "
        + "; ".join(f"{label} {points_interval(part)}" for label, part in zip(labels, parts, strict=True))
    )
    keys = ("a", "b", "difference", "ci_low", "ci_high", "p")
    data: list[list[Any]] = [
        [*keys, "claimed"],
        *([*(part.get(key) for key in keys), bool(part.get("claimed"))] for part in parts),
    ]
    return Figure(name, caption, alt, draw, data, 0.6 + 0.3 * max(2, len(parts)))


def difference_figures(found: Findings) -> Iterable[Figure]:
    """A forest plot a brain arm."""
    for parts in forests(found.results)[:MOST]:
        arm = parts[0]["a"]
        caption = (
            f"Accuracy of {arm} minus that of each control, in points, with 95 % intervals. Filled: the controls that the "
            "claim names; all of them must lie wholly to the right of zero."
        )
        yield draw_forest(f"differences_{arm}", parts, caption)


def difference_tables(found: Findings) -> Iterable[Grid]:
    """Every comparison that was made, with its checks."""
    rows = [
        [
            f"{row.get('a')} − {row.get('b')}",
            points_interval(row),
            p_text(row.get("p")),
            p_text(row.get("p_adjusted")),
            p_text(row.get("sign_flip_p")),
            f"{points(row['bootstrap_low'])}, {points(row['bootstrap_high'])}"
            if row.get("bootstrap_low") is not None
            else "–",
        ]
        for row in _of_accuracy(found.results)
    ]
    yield Grid(["a − b", "points [95 %]", "p", "p (Holm)", "p (sign flips)", "bootstrap 95 %"], rows)


def difference_lines(found: Findings) -> Iterable[str]:
    """What the picture leaves out."""
    count = len(forests(found.results))
    if count > MOST:
        yield f"Pictures of the first {MOST} of {count} brain arms; the table holds all."


def power_tables(found: Findings) -> Iterable[Grid]:
    """Seeds that would do, and pairs that are equal to within the margin."""
    rows = [
        [
            f"{arm} − {other}",
            points_interval(against(found.results, arm, other) or {}),
            number(entry.get("seeds_for_half_a_point")),
            str(entry.get("sentence") or "–"),
        ]
        for arm, others in (found.results.get("power") or {}).items()
        for other, entry in others.items()
    ]
    unit = "subjects" if found.results.get("subjects") else "seeds"
    heading = ["a − b", "found, points [95 %]", f"{unit} for 0.5 points", "in words"]
    yield Grid(heading, rows, (0, 3), f"What more {unit} would show")
    pairs = [
        [
            f"{row.get('a')} and {row.get('b')}",
            f"± {percent(row.get('margin'))} points",
            p_text(row.get("p")),
            {True: "equivalent", False: "not shown", None: "–"}[row.get("equivalent")],
        ]
        for row in found.results.get("equivalence") or []
    ]
    yield Grid(["arms", "margin", "p (TOST)", "equivalence"], pairs, (0, 3), "Equivalence")


def respect_tables(found: Findings) -> Iterable[Grid]:
    """What else an arm with a claim is better or worse in than its controls: a table an arm, a column a control."""
    rows = found.results.get("respects") or []
    for arm in dict.fromkeys(row["a"] for row in rows):
        own = {(row["measure"], row["b"]): row for row in rows if row["a"] == arm}
        others = list(dict.fromkeys(other for _, other in own))
        cells = [
            [
                _WORDS.get(measure, measure.replace("/", " ").replace("_", " ")),
                *(_respect(own.get((measure, other))) for other in others),
            ]
            for measure in dict.fromkeys(measure for measure, _ in own)
        ]
        yield Grid(["measure", *(f"− {other}" for other in others)], cells, (0,), arm)


def _respect(row: dict[str, Any] | None) -> str:
    if row is None:
        return "–"
    interval = interval_text({"mean": row["difference"], "ci_low": row["ci_low"], "ci_high": row["ci_high"]})
    return {True: "✓ ", False: "✗ ", None: ""}[row.get("better")] + interval


def curve_figures(found: Findings) -> Iterable[Figure]:
    """Accuracy against the number of labels."""
    series: dict[str, list[tuple[float, Any]]] = {}
    for row in found.results.get("curves") or []:
        series.setdefault(row["arm"], []).append((row["n_train"], row.get("accuracy")))
    series = {arm: sorted(points, key=lambda point: point[0]) for arm, points in series.items()}
    counts = sorted({x for line in series.values() for x, _ in line})
    if len(counts) < 2:  # a point is no curve: the table has it
        return
    yield draw_lines(
        "few_shot",
        "Test accuracy against the number of labelled training images. Bars: 95 % intervals, two-way over seeds and "
        "test images. Brain arms are drawn thicker, with marks.",
        [Lines("", series, 100)],
        "labelled training images",
        "test accuracy, %",
        ticks=counts,
        logarithmic=len(counts) > 2 and counts[-1] > 4 * counts[0] > 0,
    )


def curve_tables(found: Findings) -> Iterable[Grid]:
    """The same in numbers, a row an arm."""
    cells = {
        (row["arm"], row["n_train"]): percent_interval(row.get("accuracy")) for row in found.results.get("curves") or []
    }
    counts = sorted({count for _, count in cells})
    arms = list(dict.fromkeys(arm for arm, _ in cells))
    rows = [[arm, *(cells.get((arm, count), "–") for count in counts)] for arm in arms]
    yield Grid(["arm", *(f"{count} labels" for count in counts)], rows)


def _of_accuracy(results: Results) -> list[dict[str, Any]]:
    return [row for row in results.get("comparisons") or [] if row.get("measure", "accuracy") == "accuracy"]

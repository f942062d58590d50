"""Beyond accuracy: calibration, precision at a chosen confidence, severity of errors, robustness, agreement with people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from braindistill.report.parts import Figure, Findings, Grid
from braindistill.report.plots import Dots, Lines, draw_dots, draw_lines
from braindistill.report.reading import Value, as_share, interval_text, value_of
from braindistill.report.style import GREY, RULE, colour, shorten

_HEADINGS = {
    "aurc": "AURC",
    "lca_height": "LCA height, mean over mistakes",
    "cross_entropy": "cross-entropy, nats",
    "kl": "KL, nats",
    "entropy_correlation": "correlation of entropies",
    "top1_agreement": "same first choice, %",
}
#: shares as `severity` and `selective` give them, and what they are shares of
_SEVERITY = {"severe": "severe, % of mistakes", "mild": "mild, % of mistakes"}
_SELECTIVE = {
    "precision": "right, % of accepted",
    "coverage": "accepted, % of images",
    "severe": "severe, % of accepted",
    "mild": "mild, % of accepted",
}


def calibration_figures(found: Findings) -> Iterable[Figure]:
    """A small reliability curve for every arm."""
    curves = found.measured("reliability")
    if not curves:
        return
    columns = 3
    rows = -(-len(curves) // columns)
    errors = _measure(found, "ece")

    def draw(canvas: Any) -> None:
        grid = canvas.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes, (arm, curve) in zip(grid.flat, curves.items(), strict=False):
            axes.plot([0, 100], [0, 100], color=GREY, linestyle=":", linewidth=0.9)
            x, y = ([100 * value for value in curve.get(key) or []] for key in ("confidence", "accuracy"))
            axes.plot(x, y, color=colour(arm), marker="o", markersize=2.8, linewidth=1.5)
            axes.set_title(shorten(arm, 16), loc="left", fontsize=8.5)
            mean = value_of(errors.get(arm)).get("mean")
            if mean is not None:
                axes.text(0.97, 0.05, f"ECE {mean:.3f}", transform=axes.transAxes, ha="right", fontsize=7.5)
            axes.grid(color=RULE, linewidth=0.5)
            axes.set_xticks([0, 50, 100])
            axes.set_yticks([0, 50, 100])
        for axes in list(grid.flat)[len(curves) :]:
            axes.set_axis_off()
        canvas.supxlabel("confidence, %", fontsize=9.5)
        canvas.supylabel("accuracy, %", fontsize=9.5)

    caption = (
        "Reliability of each arm: accuracy of the answers in bins of equal size, against their mean confidence; pooled over "
        "seeds. Below the dotted diagonal the student is surer than it should be, above it less sure."
    )
    alt = "Reliability curves. " + "; ".join(f"{arm} ECE {interval_text(errors.get(arm))}" for arm in curves)
    data: list[list[Any]] = [["arm", "confidence", "accuracy", "share"]]
    for arm, curve in curves.items():
        share = curve.get("share") or [None] * len(curve.get("confidence") or [])
        data += [
            [arm, *row] for row in zip(curve.get("confidence") or [], curve.get("accuracy") or [], share, strict=False)
        ]
    yield Figure("calibration", caption, alt, draw, data, 0.5 + 1.45 * rows)


def calibration_tables(found: Findings) -> Iterable[Grid]:
    """NLL, Brier score and ECE."""
    columns = {"NLL, nats": "nll", "Brier": "brier", "ECE": "ece"}
    values = {heading: _measure(found, key) for heading, key in columns.items()}
    values = {heading: measured for heading, measured in values.items() if measured}
    rows = [[arm, *(interval_text(measured.get(arm)) for measured in values.values())] for arm in found.arms]
    yield Grid(["arm", *values], rows if values else [])


def selective_figures(found: Findings) -> Iterable[Figure]:
    """Precision among accepted answers, and how many are accepted."""
    panels = _panels(found, "selective", _SELECTIVE, 100)
    if panels:
        caption = (
            "Answers above a confidence that was chosen on validation images. Of the accepted answers, shares that are right, "
            "severe mistakes and mild ones, which add up to 100 %; of all test images, the share that is answered."
        )
        yield draw_dots("selective", caption, panels)


def selective_tables(found: Findings) -> Iterable[Grid]:
    """The same in numbers, with the thresholds."""
    columns = {"threshold": 1, **dict.fromkeys(_SELECTIVE, 100), "aurc": 1}
    yield _table(found, "selective", columns, _SELECTIVE)


def severity_figures(found: Findings) -> Iterable[Figure]:
    """How bad the mistakes are."""
    panels = _panels(found, "severity", _SEVERITY, 100)
    panels += _panels(found, "severity", {"lca_height": "LCA height, mean"}, 1)
    if panels:
        caption = (
            "Severity of mistakes: shares of the mistakes, not of all images, so a student may make fewer that are worse. Mild: "
            "the answer is another class of the same group; severe: of another group; together 100 %. LCA height: of the "
            "lowest common ancestor in the class hierarchy, mean over mistakes."
        )
        yield draw_dots("severity", caption, panels)


def severity_tables(found: Findings) -> Iterable[Grid]:
    """The same in numbers."""
    yield _table(found, "severity", {**dict.fromkeys(_SEVERITY, 100), "lca_height": 1}, _SEVERITY)


def human_figures(found: Findings) -> Iterable[Figure]:
    """Agreement of each student with what people say."""
    words = {
        "cross_entropy": "cross-entropy, nats",
        "kl": "KL from people, nats",
        "entropy_correlation": "correlation of entropies",
    }
    panels = _panels(found, "human", words, 1) + _panels(
        found, "human", {"top1_agreement": "same first choice, %"}, 100
    )
    if panels:
        caption = (
            "Agreement with people's label distributions. Low cross-entropy and KL, and a high correlation of entropies "
            "(unsure about the same pictures), mean agreement."
        )
        yield draw_dots("human", caption, panels)


def human_tables(found: Findings) -> Iterable[Grid]:
    """The same in numbers."""
    yield _table(found, "human", {"cross_entropy": 1, "kl": 1, "entropy_correlation": 1, "top1_agreement": 100})


def robustness_figures(found: Findings) -> Iterable[Figure]:
    """Accuracy by severity of corruption, a panel a family, and under attacks by their size."""
    measured = {arm: entry for arm, entry in found.measured("robustness").items() if arm in found.main_arms}
    families = list(dict.fromkeys(name for entry in measured.values() for name in entry.get("families") or {}))
    panels = []
    for family in families:
        series = {
            arm: _by_severity(entry, family)
            for arm, entry in measured.items()
            if (entry.get("families") or {}).get(family)
        }
        panels.append(Lines(family, series, 100))
    if panels:
        caption = (
            "Accuracy on corrupted test images, by family and severity; 0 is the clean image. Mean over the corruptions of "
            "the family."
        )
        yield draw_lines("robustness", caption, panels, "severity", "test accuracy, %", ticks=range(6), bands=False)
    attacks = []
    for attack in ("fgsm", "pgd"):
        series = {arm: _by_size(entry, attack) for arm, entry in measured.items() if entry.get(attack)}
        if series:
            attacks.append(Lines(attack.upper(), series, 100))
    if attacks:
        sizes = sorted({x for panel in attacks for points in panel.series.values() for x, _ in points})
        caption = "Accuracy under attack by the size ε of the change, in grey levels of 255; 0 is the clean image."
        yield draw_lines("attacks", caption, attacks, "ε × 255", "test accuracy, %", ticks=sizes)


def robustness_tables(found: Findings) -> Iterable[Grid]:
    """Clean, each family's mean over severities, and attacks."""
    measured = found.measured("robustness")
    families = list(dict.fromkeys(name for entry in measured.values() for name in entry.get("families") or {}))
    sizes = {
        (attack, size): None
        for entry in measured.values()
        for attack in ("fgsm", "pgd")
        for size in entry.get(attack) or {}
    }
    rows = []
    for arm, entry in measured.items():
        cells = [_told(entry.get("clean"), 100), _told(entry.get("mean"), 100)]
        cells += [_mean_over((entry.get("families") or {}).get(family)) for family in families]
        cells += [_told((entry.get(attack) or {}).get(size), 100) for attack, size in sizes]
        rows.append([arm, *cells])
    attacks = [f"{attack.upper()} ε {255 * float(size):.2g}/255" for attack, size in sizes]
    yield Grid(["arm", "clean %", "corrupted %", *(f"{family} %" for family in families), *attacks], rows)
    names = list(dict.fromkeys(name for entry in measured.values() for name in entry.get("corruptions") or {}))
    each = [
        [name, *(_mean_over((entry.get("corruptions") or {}).get(name)) for entry in measured.values())]
        for name in names
    ]
    yield Grid(["corruption", *measured], each, (0,), "Accuracy on each corruption, %, mean over severities")


def _measure(found: Findings, key: str) -> dict[str, Value]:
    """Arm → value, from the measures or, in results of older evaluations, from the arm itself."""
    measured = found.measured(key)
    older = {arm: entry[key] for arm, entry in found.arms.items() if entry.get(key) is not None}
    return {arm: measured.get(arm, older.get(arm)) for arm in found.arms if arm in measured or arm in older}


def _panels(found: Findings, measure: str, words: dict[str, str], scale: float) -> list[Dots]:
    panels = []
    for key, title in words.items():
        values = {
            arm: as_share(entry[key]) if scale == 100 else entry[key]
            for arm, entry in found.measured(measure).items()
            if value_of(entry.get(key)).get("mean") is not None
        }
        if values:
            panels.append(Dots(title, values, scale))
    return panels


def _table(found: Findings, measure: str, columns: dict[str, int], shares: Mapping[str, str] | None = None) -> Grid:
    measured = found.measured(measure)
    known = {
        key: scale
        for key, scale in columns.items()
        if any(value_of(entry.get(key)).get("mean") is not None for entry in measured.values())
    }
    words = _HEADINGS | dict(shares or {})
    heading = [words.get(key, key + (" %" if scale == 100 else "")) for key, scale in known.items()]
    rows = [[arm, *(_told(entry.get(key), scale) for key, scale in known.items())] for arm, entry in measured.items()]
    return Grid(["arm", *heading], rows)


def _told(found: Value, scale: float) -> str:
    return interval_text(as_share(found) if scale == 100 else found, scale)


def _by_severity(entry: dict[str, Any], family: str) -> list[tuple[float, Value]]:
    clean = [(0.0, entry["clean"])] if value_of(entry.get("clean")) else []
    return [*clean, *((float(step), value) for step, value in enumerate(entry["families"][family], start=1))]


def _by_size(entry: dict[str, Any], attack: str) -> list[tuple[float, Value]]:
    start = entry.get("attacked") or entry.get("clean")  # of the same images, where not all were attacked
    clean = [(0.0, start)] if value_of(start) else []
    return [*clean, *sorted((round(255 * float(size), 1), value) for size, value in entry[attack].items())]


def _mean_over(values: list[Value] | None) -> str:
    means = [value_of(value).get("mean") for value in values or []]
    known = [float(mean) for mean in means if mean is not None]
    return interval_text(sum(known) / len(known), 100) if known else "–"

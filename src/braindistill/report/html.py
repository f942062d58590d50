"""The report: one standalone HTML page, declared as a list of sections; it needs no network and no script."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from braindistill.report.figures import draw_accuracy, draw_differences, draw_encoder, forests
from braindistill.report.reading import (
    PURPOSE,
    Results,
    gaps,
    is_brain,
    notes,
    number,
    p_text,
    percent,
    points_interval,
    verdict,
)
from braindistill.report.table import arm_rows, write_text
from braindistill.statistics import points

MOST_PICTURES = 10  # keeps a page of many ROI arms under a megabyte; the tables always hold them all


@dataclass(frozen=True)
class Picture:
    """An image as a data URI, with its alternative text."""

    source: str
    alt: str


@dataclass(frozen=True)
class Grid:
    """A table: heading, rows of cells, and the columns that hold running text (left-aligned and wrapped)."""

    heading: list[str]
    rows: list[list[str]]
    text: tuple[int, ...] = (0,)
    name: str = ""


@dataclass(frozen=True)
class Section:
    """One part of the page; an empty one (no picture, no rows, no lines) is left out."""

    title: str
    caption: str = ""
    pictures: list[Picture] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def write_report(results: Results, path: Path) -> None:
    """Write ``results.json``'s content as one standalone HTML page; a partial result says what is missing.

    Parameters
    ----------
    results
        As ``eval`` writes it; every key may be absent.
    path
        The HTML file; written whole or not at all.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("braindistill", "report")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("page.html.j2")
    verdicts = [
        {"class": {True: "yes", False: "no", None: "open"}[claim.get("holds")], "head": head, "why": why}
        for claim in results.get("claims") or []
        for head, why in [verdict(claim)]
    ]
    parts = [part for part in sections(results) if part.pictures or part.lines or any(grid.rows for grid in part.grids)]
    text = page.render(
        title=results.get("experiment") or "experiment",
        subtitle=_subtitle(results),
        verdicts=verdicts,
        incomplete=bool(gaps(results)),
        sections=parts,
    )
    write_text(Path(path), text)


def sections(results: Results) -> list[Section]:
    """The parts of the page in reading order."""
    return [
        Section("Warnings", lines=[str(text) for text in results.get("warnings") or []]),
        _accuracy(results),
        _differences(results),
        _purposes(results),
        _teachers(results),
        _provenance(results),
        Section("What is missing", lines=gaps(results)),
    ]


def _accuracy(results: Results) -> Section:
    arms = results.get("arms") or {}
    rows = arm_rows(results)
    extra = ["balanced %", "NLL, nats", "ECE"]
    for row, arm in zip(rows[1:], arms.values(), strict=True):
        row += [percent(arm.get("balanced_accuracy")), number(arm.get("nll")), number(arm.get("ece"))]
    return Section(
        "Accuracy of the arms",
        "Each dot is one seed, each diamond the mean over seeds and test images; the line is its 95 % interval, which "
        "counts seeds and test images as random (two-way, crossed). Arms are paired by seed, so the differences below "
        "are sharper than the overlap of these intervals suggests. Teacher accuracy is a diagnostic: it is read on the "
        "pool, with labels that no arm was trained on.",
        [_picture(draw_accuracy(results))] if arms else [],
        [Grid(rows[0] + extra, rows[1:])],
        notes(results),
    )


def _differences(results: Results) -> Section:
    pictured = forests(results)
    caption = (
        "Accuracy of the brain arm minus that of each control, paired by seed and test image; line: 95 % interval. "
        "Filled diamonds are the controls that the claim names: it holds when each of them lies wholly to the right of "
        "zero. Being above the baseline alone is not called help. Holm's p is for reading the table as a whole; sign "
        "flips of the seeds and the crossed bootstrap are checks beside the t interval."
    )
    if len(pictured) > MOST_PICTURES:
        caption += f" Pictures of the first {MOST_PICTURES} of {len(pictured)} brain arms; the table holds all."
    rows = [
        [
            f"{row.get('a')} − {row.get('b')}",
            points_interval(row),
            p_text(row.get("p")),
            p_text(row.get("p_adjusted")),
            p_text(row.get("sign_flip_p")),
            f"{points(row['bootstrap_low'])}, {points(row['bootstrap_high'])}" if _has(row, "bootstrap_low") else "–",
        ]
        for row in results.get("comparisons") or []
    ]
    heading = ["a − b", "points [95 %]", "p", "p (Holm)", "p (sign flips)", "bootstrap 95 %"]
    pictures = [_picture(draw_differences(parts)) for parts in pictured[:MOST_PICTURES]]
    return Section("Differences", caption, pictures, [Grid(heading, rows)])


def _purposes(results: Results) -> Section:
    states = {name: "ran" for name in results.get("arms") or {}}
    for key, word in (("not_run", "not run"), ("failed", "failed")):
        states |= {name: f"{word}: {reason}" for name, reason in (results.get(key) or {}).items()}
    rows = []
    for name, state in states.items():
        purpose = PURPOSE.get(name, "the brain is what is tested here" if is_brain(name) else "–")
        rows.append([name, purpose, state])
    caption = "A control that scores as well as the brain explains the brain's effect away."
    return Section(
        "What each arm rules out",
        caption,
        grids=[Grid(["arm", "rules out, or is there for", "state"], rows, (0, 1, 2))],
    )


def _teachers(results: Results) -> Section:
    heading = ["arm", "pool %", "labelled %", "entropy, nats", "temperature"]
    heading += [
        "decoder % (chance)",
        "voxel r: median",
        "95th pct.",
        "max",
        "voxels",
        "composed %",
    ]
    rows, schemes, regions = [], [], []
    for name, arm in (results.get("arms") or {}).items():
        if not (teacher := arm.get("teacher")):
            continue
        scores = teacher.get("scores") or {}
        decoder, encoder, composed = (scores.get(part) or {} for part in ("decoder", "encoder", "composed"))
        chance = f" ({percent(decoder['chance'])})" if _has(decoder, "chance") else ""
        row = [name, percent(teacher.get("accuracy_pool")), percent(teacher.get("accuracy_labelled"))]
        row += [number(teacher.get("entropy")), number(teacher.get("temperature"), 2)]
        row += [percent(decoder.get("accuracy")) + chance]
        row += [number(encoder.get(key)) for key in ("r_median", "r_p95", "r_max", "n_voxels")]
        row += [percent(composed.get("accuracy"))]
        rows.append(row)
        schemes.append([name, _schemes(scores), _others(scores)])
        for region, parts in (scores.get("roi") or {}).items():
            regions.append((name, region, _flat(parts)))
    columns = list(dict.fromkeys(key for *_, parts in regions for key in parts))
    cells = [[name, region, *(number(parts.get(key)) for key in columns)] for name, region, parts in regions]
    encoder_r = dict(list((results.get("encoder_r") or {}).items())[:MOST_PICTURES])
    return Section(
        "Teachers and encoding scores",
        "Scores of decoder, encoder and both composed are out of fold (the scheme says how), from the first seed's "
        "teacher. The voxel correlations are raw: they are not divided by the noise ceiling.",
        [_picture(draw_encoder(encoder_r))] if encoder_r else [],
        [
            Grid(heading, rows, (0,), "Teachers"),
            Grid(["arm", "what was held out", "other scores"], schemes, (0, 1, 2), "How they were scored"),
            Grid(["arm", "ROI", *columns], cells, (0, 1), "Scores by region of interest"),
        ],
    )


def _provenance(results: Results) -> Section:
    plain = {key: value for key, value in results.items() if isinstance(value, str | int | float | bool)}
    if results.get("classes"):
        plain["classes"] = f"{len(results['classes'])}: {', '.join(map(str, results['classes'][:20]))}" + (
            ", …" if len(results["classes"]) > 20 else ""
        )
    arms = results.get("arms") or {}
    overrides = [[name, " ".join(arm.get("overrides") or []) or "none"] for name, arm in arms.items()]
    keys = [
        [name, stage, " ".join(dict.fromkeys(str(key)[:12] for key in found))]
        for name, arm in arms.items()
        for stage, found in (arm.get("keys") or {}).items()
        if found
    ]
    versions = [[name, str(version)] for name, version in (results.get("versions") or {}).items()]
    return Section(
        "Provenance",
        "What made these numbers: the command, every arm's overrides, versions, and the keys of the cached artifacts.",
        grids=[
            Grid(["field", "value"], [[key, number(value)] for key, value in plain.items()], (0, 1), "Run"),
            Grid(["arm", "overrides"], overrides, (0, 1), "Overrides of each arm"),
            Grid(["package", "version"], versions, (0, 1), "Versions"),
            Grid(["arm", "stage", "keys, one a seed"], keys, (0, 1, 2), "Keys of artifacts"),
        ],
    )


def _subtitle(results: Results) -> str:
    words = [("n_seeds", "seeds"), ("n_test", "test images"), ("n_train", "labelled training images")]
    words += [("n_pool", "unlabelled"), ("n_val", "for validation")]
    counts = [f"{results[key]} {word}" for key, word in words if _has(results, key)]
    counts += [f"{len(results['classes'])} classes"] if results.get("classes") else []
    counts += [str(results["created"])] if results.get("created") else []
    return " · ".join(counts)


def _picture(drawn: tuple[str, str]) -> Picture:
    svg, alt = drawn
    return Picture("data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode(), alt)


KNOWN = {
    "decoder": {"accuracy", "chance"},
    "encoder": {"r_median", "r_p95", "r_max", "n_voxels"},
    "composed": {"accuracy"},
}


def _others(scores: dict[str, Any]) -> str:
    """The scores that have no column of their own: nothing that a teacher measured is dropped."""
    found: Iterable[str] = (
        f"{part} {key} {number(value)}"
        for part, known in KNOWN.items()
        for key, value in (scores.get(part) or {}).items()
        if key not in known and isinstance(value, int | float)
    )
    return ", ".join(found) or "–"


def _schemes(scores: dict[str, Any]) -> str:
    found = (str((scores.get(part) or {}).get("scheme") or "") for part in KNOWN)
    return "; ".join(dict.fromkeys(filter(None, found))) or "–"


def _flat(parts: dict[str, Any]) -> dict[str, Any]:
    """One level of nesting opened: ``{"decoder": {"accuracy": 0.6}}`` → ``{"decoder accuracy": 0.6}``."""
    flat: dict[str, Any] = {}
    for key, value in parts.items():
        flat |= {f"{key} {inner}": entry for inner, entry in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _has(found: dict[str, Any], key: str) -> bool:
    return found.get(key) is not None

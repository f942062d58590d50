"""Several evaluations (subjects, say, or experiments) on one page, with a table of their claims."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from braindistill.report.contents import SECTIONS
from braindistill.report.html import Page, write_page
from braindistill.report.parts import Box, Figure, Findings, Grid, Section
from braindistill.report.plots import Dots, draw_dots
from braindistill.report.reading import (
    HOLDS,
    by_decision,
    gaps,
    p_text,
    percent_interval,
    points_interval,
    value_of,
    verdict,
)
from braindistill.report.sections.differences import draw_forest
from braindistill.report.style import COLOURS
from braindistill.statistics import across_subjects

_EACH = ("Warnings", "Did the brain help?", "Arms", "Differences", "Regions of the brain")


def write_merged(evaluations: Mapping[str, Findings], path: Path) -> None:
    """Write one page of several evaluations; the full report of each is a page of its own.

    Parameters
    ----------
    evaluations : name (e.g. ``digits69 3f2a``) → what was found
    """
    page = Page(f"{len(evaluations)} evaluations: did the brain help?", " · ".join(evaluations))
    for section in (
        Section(
            "Claims",
            "The verdict of each evaluation, and the component that decided it.",
            boxes=lambda _: _boxes(evaluations),
            figure=lambda _: _forest(evaluations),
            table=lambda _: _claims(evaluations),
        ),
        Section(
            "Arms of all evaluations",
            "Test accuracy in %, with two-way intervals inside each evaluation.",
            table=lambda _: _arms(evaluations),
        ),
        Section(
            "Evaluations as replicates",
            "Where the evaluations are of different subjects, these are what can be said about subjects in general: one "
            "difference a subject, a t interval over subjects. Where they are not, leave this table out.",
            table=lambda _: _replicates(evaluations),
        ),
        Section(
            "Regions over evaluations",
            "Each ROI alone; a small dot an evaluation.",
            figure=lambda _: _rois(evaluations),
        ),
    ):
        page.add(section, Findings({}))
    for name, found in evaluations.items():
        for section in SECTIONS:
            if section.title in _EACH:
                page.add(section, found, name)
        page.missing += [f"{name}: {text}" for text in gaps(found.results)]
    page.absent = []  # the evaluations' own pages say what they lack
    write_page(page, path)


def merged_claims(evaluations: Mapping[str, Findings]) -> Grid:
    """The table of claims: one row a brain arm and evaluation."""
    rows = []
    for name, found in evaluations.items():
        for claim in found.results.get("claims") or []:
            part = by_decision(claim) or {}
            holds = HOLDS[claim.get("holds")]
            seeds = str(found.results.get("n_seeds") or "–")
            rows.append(
                [
                    name,
                    str(claim.get("arm")),
                    holds,
                    str(part.get("b") or "–"),
                    points_interval(part),
                    p_text(claim.get("p")),
                    seeds,
                ]
            )
    heading = ["evaluation", "brain arm", "“brain helped”", "decided by", "points [95 %]", "p", "seeds"]
    return Grid(heading, rows, (0, 1, 2, 3))


def _claims(evaluations: Mapping[str, Findings]) -> Iterable[Grid]:
    yield merged_claims(evaluations)


def _boxes(evaluations: Mapping[str, Findings]) -> Iterable[Box]:
    for name, found in evaluations.items():
        for claim in found.results.get("claims") or []:
            head, why = verdict(claim)
            yield Box({True: "yes", False: "no", None: "open"}[claim.get("holds")], f"{name}: {head}", why)


def _forest(evaluations: Mapping[str, Findings]) -> Iterable[Figure]:
    parts, labels = [], []
    for name, found in evaluations.items():
        for claim in found.results.get("claims") or []:
            if part := by_decision(claim):
                parts.append(dict(part, claimed=claim.get("holds") is not None))
                labels.append(
                    f"{name}: − {part['b']}" if part["a"] == "brain" else f"{name}: {part['a']} − {part['b']}"
                )
    if parts:
        caption = (
            "The component that decides each claim, in points of accuracy, with its 95 % interval. Hollow: undecided."
        )
        yield draw_forest("claims", parts, caption, labels)


def _arms(evaluations: Mapping[str, Findings]) -> Iterable[Grid]:
    arms = list(dict.fromkeys(arm for found in evaluations.values() for arm in found.arms))
    rows = [
        [arm, *(percent_interval((found.arms.get(arm) or {}).get("accuracy")) for found in evaluations.values())]
        for arm in arms
    ]
    yield Grid(["arm", *evaluations], rows)


def _replicates(evaluations: Mapping[str, Findings]) -> Iterable[Grid]:
    found: dict[tuple[str, str], list[float]] = {}
    for entry in evaluations.values():
        for row in entry.results.get("comparisons") or []:
            if row.get("difference") is not None and row.get("measure", "accuracy") == "accuracy":
                found.setdefault((row["a"], row["b"]), []).append(row["difference"])
    rows = []
    for (a, b), values in found.items():
        if len(values) > 1:
            mean = across_subjects(values)
            interval = {"difference": mean.estimate, "ci_low": mean.low, "ci_high": mean.high}
            rows.append([f"{a} − {b}", str(len(values)), points_interval(interval), p_text(mean.p)])
    yield Grid(["a − b", "evaluations", "points [95 %]", "p"], rows)


def _rois(evaluations: Mapping[str, Findings]) -> Iterable[Figure]:
    values: dict[str, list[float]] = {}
    for found in evaluations.values():
        for roi, arm in ((found.results.get("rois") or {}).get("single") or {}).items():
            mean = value_of((found.arms.get(arm) or {}).get("accuracy")).get("mean")
            if mean is not None:
                values.setdefault(roi, []).append(mean)
    several: dict[str, dict[str, Any]] = {}
    for roi, means in values.items():
        if len(means) > 1:
            interval = across_subjects(means)
            several[roi] = {
                "mean": interval.estimate,
                "ci_low": interval.low,
                "ci_high": interval.high,
                "per_seed": means,
            }
    if several:
        caption = "Students taught by one ROI alone. Small dots: evaluations; diamond: their mean with a 95 % interval over them."
        panel = Dots("one ROI alone: accuracy, %", several, 100)
        yield draw_dots("rois_over_evaluations", caption, [panel], lambda _: COLOURS["brain"], seeds=True)

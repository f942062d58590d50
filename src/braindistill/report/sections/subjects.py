"""Several subjects: what is true of each, beside what is said of all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from braindistill.report.parts import Figure, Findings, Grid
from braindistill.report.plots import Dots, draw_dots
from braindistill.report.reading import HOLDS, alone, p_text, percent, points_interval, value_of
from braindistill.report.style import COLOURS


def subject_figures(found: Findings) -> Iterable[Figure]:
    """Each component of each claim over subjects, a dot a subject."""
    for claim in found.results.get("claims") or []:
        each = alone(found.results, claim["arm"])
        values: dict[str, Any] = {}
        for part in claim.get("components") or []:
            of = [_component(own, part["b"]).get("difference") for own in each.values()]
            ends = {key: part.get(key) for key in ("ci_low", "ci_high")}
            values[f"− {part['b']}"] = {"mean": part.get("difference"), "per_subject": of} | ends
        if each and values:
            caption = (
                f"Accuracy of {claim['arm']} minus that of each control over {len(each)} subjects. Small dots: single "
                "subjects, means over seeds; diamond: all, with the 95 % interval of crossed subjects, seeds and test images."
            )
            panel = Dots("points of accuracy", values, 100, line=0.0)
            yield draw_dots(f"subjects_{claim['arm']}", caption, [panel], lambda _: COLOURS["brain"], seeds=True)


def subject_tables(found: Findings) -> Iterable[Grid]:
    """The claim in each subject alone."""
    for claim in found.results.get("claims") or []:
        each = alone(found.results, claim["arm"])
        others = [part["b"] for part in claim.get("components") or []]
        accuracy = value_of((found.arms.get(claim["arm"]) or {}).get("accuracy")).get("per_subject") or [None] * len(
            each
        )
        rows = [
            [
                subject,
                percent(own_accuracy),
                *(points_interval(_component(own, other)) for other in others),
                p_text(own.get("p")),
                HOLDS[own.get("holds")],
            ]
            for (subject, own), own_accuracy in zip(each.items(), accuracy, strict=False)
        ]
        heading = ["subject", f"{claim['arm']} %", *(f"− {other}" for other in others), "p", "the claim, alone"]
        yield Grid(
            heading, rows, (0, len(heading) - 1), f"{claim['arm']} in each subject, points [95 %] over seeds and images"
        )


def _component(claim: dict[str, Any], other: str) -> dict[str, Any]:
    return next((part for part in claim.get("components") or [] if part["b"] == other), {})

"""The plain-text table that ``braindistill eval`` prints, and the same as CSV."""

from __future__ import annotations

import csv
import io
import os
import textwrap
from pathlib import Path
from typing import Any

from braindistill.report.reading import (
    Results,
    against,
    gaps,
    notes,
    number,
    p_text,
    percent,
    percent_interval,
    points_interval,
    told_alone,
    verdict,
)

WIDTH = 120


def render(results: Results) -> str:
    """The arms as an aligned plain-text table, at most 120 columns wide; then what was not run, warnings and claims.

    Parameters
    ----------
    results
        The content of ``results.json``; a partial one is rendered as far as it goes.
    """
    rows = arm_rows(results)
    heading = rows[0]
    others = sum(max(len(row[column]) for row in rows) + 2 for column in range(1, len(heading)))
    room = max(8, min(WIDTH - others, max(len(row[0]) for row in rows)))
    rows = [[_shorten(row[0], room), *row[1:]] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heading))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    lines.insert(1, "─" * len(lines[0]))
    if not results.get("arms"):
        lines = []

    lines += [_wrap(f"note: {text}") for text in notes(results)]
    lines += [_wrap(f"not run: {name} — {reason}") for name, reason in (results.get("not_run") or {}).items()]
    lines += [_wrap(f"warning: {text}") for text in results.get("warnings") or []]
    lines += [_wrap(f"missing: {text}") for text in gaps(results)]
    for claim in results.get("claims") or []:
        lines += [_wrap(" — ".join(verdict(claim)))]
        lines += [_wrap(f"  {said}") for said in [told_alone(results, claim["arm"])] if said]
    return "\n".join(lines)


def write_csv(results: Results, path: Path) -> None:
    """Write one row an arm, those not run and failed included; accuracies in [0, 1], empty where there is no value."""
    sheet = io.StringIO()
    writer = csv.DictWriter(sheet, fieldnames=list(_record(results, "")), lineterminator="\n")
    writer.writeheader()
    for name in dict.fromkeys([*_part(results, "arms"), *_part(results, "not_run"), *_part(results, "failed")]):
        writer.writerow(_record(results, name))
    write_text(path, sheet.getvalue())


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: beside its place first, then renamed."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def arm_rows(results: Results) -> list[list[str]]:
    """The table of arms as cells, the heading first. p is Holm's where the comparisons have been adjusted."""
    arms = _part(results, "arms")
    versus = {name: against(results, name, "baseline") or {} for name in arms}
    compared = [row for row in versus.values() if row.get("p") is not None]
    holm = bool(compared) and all(row.get("p_adjusted") is not None for row in compared)
    p_name = "p (Holm)" if holm else "p"
    part = "labelled" if results.get("n_pool") == 0 else "pool"  # the images that targets are about
    several = any(arm.get("n_subjects") for arm in arms.values())
    rows = [
        [
            "arm",
            *(["subjects"] if several else []),
            "seeds",
            "labels",
            "accuracy % [95 %]",
            "− baseline, points",
            p_name,
            f"teacher % ({part})",
        ]
    ]
    for name, arm in arms.items():
        counts = [number(arm.get(key)) for key in (["n_subjects"] if several else []) + ["n_seeds", "labels"]]
        teacher = percent((arm.get("teacher") or {}).get(f"accuracy_{part}"))
        p = p_text(versus[name].get("p_adjusted" if holm else "p"))
        rows.append([name, *counts, percent_interval(arm.get("accuracy")), points_interval(versus[name]), p, teacher])
    return rows


def _record(results: Results, name: str) -> dict[str, Any]:
    arm = _part(results, "arms").get(name) or {}
    accuracy, teacher = arm.get("accuracy") or {}, arm.get("teacher") or {}
    versus = against(results, name, "baseline") or {}
    reason = _part(results, "failed").get(name) or _part(results, "not_run").get(name)
    status = "ran" if arm else "failed" if name in _part(results, "failed") else "not run"
    return {
        "arm": name,
        "status": status,
        "n_subjects": arm.get("n_subjects"),
        "n_seeds": arm.get("n_seeds"),
        "labels": arm.get("labels"),
        "accuracy": accuracy.get("mean"),
        "accuracy_ci_low": accuracy.get("ci_low"),
        "accuracy_ci_high": accuracy.get("ci_high"),
        "balanced_accuracy": arm.get("balanced_accuracy"),
        "nll": arm.get("nll"),
        "ece": arm.get("ece"),
        "minus_baseline": versus.get("difference"),
        "minus_baseline_ci_low": versus.get("ci_low"),
        "minus_baseline_ci_high": versus.get("ci_high"),
        "minus_baseline_p": versus.get("p"),
        "minus_baseline_p_adjusted": versus.get("p_adjusted"),
        "teacher_accuracy_pool": teacher.get("accuracy_pool"),
        "teacher_accuracy_labelled": teacher.get("accuracy_labelled"),
        "teacher_entropy": teacher.get("entropy"),
        "teacher_temperature": teacher.get("temperature"),
        "marks": "; ".join(arm.get("marks") or []),
        "overrides": " ".join(arm.get("overrides") or []),
        "reason": reason,
    }


def _part(results: Results, key: str) -> dict[str, Any]:
    return results.get(key) or {}


def _shorten(name: str, room: int) -> str:
    """Cut the middle of a name that is too long: ends tell arms apart."""
    tail = (room - 1) // 2
    return name if len(name) <= room else f"{name[: room - 1 - tail]}…{name[len(name) - tail :]}"


def _wrap(text: str) -> str:
    return "\n".join(textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False))

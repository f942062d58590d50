"""What comes first: warnings, the claims, the arms, and what each control rules out."""

from __future__ import annotations

from collections.abc import Iterable

from braindistill.report.parts import Box, Figure, Findings, Grid
from braindistill.report.plots import Dots, draw_dots
from braindistill.report.reading import (
    PURPOSE,
    as_share,
    by_decision,
    is_brain,
    notes,
    number,
    p_text,
    percent,
    points_interval,
    told_alone,
    value_of,
    verdict,
)
from braindistill.report.style import colour
from braindistill.report.table import arm_rows


def warning_boxes(found: Findings) -> Iterable[Box]:
    """Everything that makes a number of this page less than it seems."""
    for text in found.results.get("warnings") or []:
        yield Box("warning", str(text))
    for arm, reason in (found.results.get("failed") or {}).items():
        yield Box("warning", f"The arm {arm} failed", str(reason))


def claim_boxes(found: Findings) -> Iterable[Box]:
    """The verdict on each brain arm, with the component that decided it."""
    claims = found.results.get("claims") or []
    for claim in claims:
        head, why = verdict(claim)
        part = by_decision(claim)
        kind = {True: "yes", False: "no", None: "open"}[claim.get("holds")]
        if part:
            pair = f"{part['a']} − {part['b']}"
            decided = (
                f"Decided by {pair}."
                if claim.get("holds") is not None
                else f"Weakest: {pair}, {points_interval(part)} points."
            )
            why = f"{why.rstrip('.')}. {decided}"
        if said := told_alone(found.results, claim["arm"]):
            why = f"{why.rstrip('.')}. {said[0].upper()}{said[1:]}."
        yield Box(kind, head, why)
    if not claims:
        yield Box("open", "No claim was tested", "See what is missing, at the end of this page.")


def claim_tables(found: Findings) -> Iterable[Grid]:
    """Each component of each claim."""
    rows = []
    for claim in found.results.get("claims") or []:
        for part in claim.get("components") or []:
            low, high = part.get("ci_low"), part.get("ci_high")
            beaten = (
                "–" if low is None or high is None else "yes" if low > 0 else "no, it is worse" if high < 0 else "no"
            )
            if beaten == "yes" and claim.get("holds") is None:
                beaten = "yes, but the claim is undecided"
            rows.append([part.get("a", "?"), part.get("b", "?"), points_interval(part), p_text(part.get("p")), beaten])
    yield Grid(["arm", "control", "points [95 %]", "p", "beaten"], rows, (0, 1, 4), "Components of the claim")


def arm_figures(found: Findings) -> Iterable[Figure]:
    """Test accuracy of every arm."""
    values = {arm: as_share(entry["accuracy"]) for arm, entry in found.arms.items() if value_of(entry.get("accuracy"))}
    if values:
        several = bool(found.results.get("subjects"))
        caption = (
            f"Test accuracy of every arm. Small dots: single {'subjects or seeds' if several else 'seeds'}; diamond: mean; "
            f"line: its 95 % interval over {'subjects, ' if several else ''}seeds and test images."
        )
        chance = found.results.get("chance")
        if chance is not None and min(value_of(value).get("mean") or 0 for value in values.values()) < chance + 0.15:
            caption += " Dotted: the share of the most frequent class."
        else:  # far away, it would only press the arms together
            chance = None
        panel = Dots("test accuracy, %", values, 100, line=chance)
        yield draw_dots("accuracy", caption, [panel], colour, seeds=True)


def arm_tables(found: Findings) -> Iterable[Grid]:
    """The table of arms, with what was measured of all of them."""
    rows = arm_rows(found.results)
    extra = [("balanced %", "balanced_accuracy", percent), ("top-5 %", "top5", percent)]
    for heading, key, text in extra:
        cells = [
            text(value_of(entry.get(key) or (entry.get("measures") or {}).get(key)).get("mean"))
            for entry in found.arms.values()
        ]
        if any(cell != "–" for cell in cells):
            rows = [[*row, cell] for row, cell in zip(rows, [heading, *cells], strict=True)]
    yield Grid(rows[0], rows[1:])


def arm_lines(found: Findings) -> Iterable[str]:
    """What must be read beside the table."""
    return notes(found.results)


def purpose_tables(found: Findings) -> Iterable[Grid]:
    """What each arm is there for, and whether it ran."""
    states = dict.fromkeys(found.arms, "ran")
    for key, word in (("not_run", "not run"), ("failed", "failed")):
        states |= {name: f"{word}: {reason}" for name, reason in (found.results.get(key) or {}).items()}
    rows = [[name, purpose_of(name), state] for name, state in states.items()]
    yield Grid(["arm", "rules out, or is there for", "state"], rows, (0, 1, 2))


def purpose_of(arm: str) -> str:
    """The words of the protocol; an arm like ``shuffled_fmri_relations`` has those of ``shuffled_fmri``."""
    if arm in PURPOSE:
        return PURPOSE[arm]
    whole, at, roi = arm.partition("@")
    if is_brain(arm) and at:
        return f"what {roi} alone is worth" if roi[:1] != "-" else f"what {whole} is worth without {roi[1:]}"
    if is_brain(arm):
        return "the brain is what is tested here"
    alike = [name for name in PURPOSE if arm.startswith(f"{name}_")]
    return f"{PURPOSE[max(alike, key=len)]} (for another target)" if alike else "–"


def tuning_tables(found: Findings) -> Iterable[Grid]:
    """What was tried for each arm, and what was chosen."""
    tuning = found.results.get("tuning") or {}
    rows = []
    for arm, entry in (tuning.get("arms") or {}).items():
        chosen = " ".join(map(str, entry.get("chosen") or [])) or "as configured"
        tried = len(entry.get("tried") or [])
        rows.append(
            [
                arm,
                chosen,
                percent(value_of(entry.get("val_accuracy")).get("mean")),
                number(tried or tuning.get("trials")),
            ]
        )
    yield Grid(["arm", "chosen", "validation %", "tried"], rows, (0, 1), "Settings chosen on validation images")
    ranges = [[option, ", ".join(map(str, values))] for option, values in (tuning.get("ranges") or {}).items()]
    yield Grid(["option", "values tried, the same for every arm"], ranges, (0, 1), "Ranges")

"""What stood behind the targets: scores of decoders and encoders."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from braindistill.report.parts import Findings, Grid
from braindistill.report.reading import number, percent

#: scores that have a column of their own
_KNOWN = {
    "decoder": {"accuracy", "chance"},
    "encoder": {"r_median", "r_p95", "r_max", "n_voxels"},
    "composed": {"accuracy"},
}


def teacher_tables(found: Findings) -> Iterable[Grid]:
    """Every score of every teacher; nothing that was measured is dropped."""
    heading = ["arm", "pool %", "labelled %", "entropy, nats", "temperature", "decoder % (chance)"]
    heading += ["voxel r: median", "95th pct.", "max", "voxels", "composed %"]
    rows, schemes, regions = [], [], []
    for name, arm in found.arms.items():
        if not (teacher := arm.get("teacher")):
            continue
        scores = teacher.get("scores") or {}
        decoder, encoder, composed = (scores.get(part) or {} for part in _KNOWN)
        chance = f" ({percent(decoder['chance'])})" if decoder.get("chance") is not None else ""
        row = [name, percent(teacher.get("accuracy_pool")), percent(teacher.get("accuracy_labelled"))]
        row += [number(teacher.get("entropy")), number(teacher.get("temperature"), 2)]
        row += [percent(decoder.get("accuracy")) + chance]
        row += [number(encoder.get(key)) for key in ("r_median", "r_p95", "r_max", "n_voxels")]
        rows.append([*row, percent(composed.get("accuracy"))])
        schemes.append([name, _schemes(scores), _others(scores)])
        for region, parts in (scores.get("roi") or {}).items():
            regions.append((name, region, _flat(parts)))
    columns = list(dict.fromkeys(key for *_, parts in regions for key in parts))
    cells = [[name, region, *(number(parts.get(key)) for key in columns)] for name, region, parts in regions]
    yield Grid(heading, rows, (0,), "Teachers")
    yield Grid(["arm", "what was held out", "other scores"], schemes, (0, 1, 2), "How they were scored")
    yield Grid(["arm", "ROI", *(column.replace("_", " ") for column in columns)], cells, (0, 1), "Scores by ROI")


def _others(scores: dict[str, Any]) -> str:
    """The scores that have no column of their own."""
    found = (
        f"{part} {key} {number(value)}"
        for part, known in _KNOWN.items()
        for key, value in (scores.get(part) or {}).items()
        if key not in known and isinstance(value, int | float)
    )
    return ", ".join(found) or "–"


def _schemes(scores: dict[str, Any]) -> str:
    found = (str((scores.get(part) or {}).get("scheme") or "") for part in _KNOWN)
    return "; ".join(dict.fromkeys(filter(None, found))) or "–"


def _flat(parts: dict[str, Any]) -> dict[str, Any]:
    """One level of nesting opened, single numbers only: ``{"decoder": {"accuracy": 0.6}}`` → ``{"decoder accuracy": 0.6}``."""
    flat: dict[str, Any] = {}
    for key, value in parts.items():
        flat |= {f"{key} {inner}": entry for inner, entry in value.items()} if isinstance(value, dict) else {key: value}
    return {key: value for key, value in flat.items() if isinstance(value, int | float)}

"""Why a step has to run: what separates it from the nearest artifact that is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from braindistill.cache.durable import locked
from braindistill.cache.inventory import finished
from braindistill.cache.manifest import Damaged, read_manifest
from braindistill.cache.step import SHORT, Step
from braindistill.errors import UserError

_ABSENT = "(absent)"


def why(root: Path, step: Step) -> str:
    """Name the fields in which a step differs from the nearest finished artifact of its stage (see ``Cache.why``)."""
    folder, reasons = root / step.stage, []
    if (folder / f".{step.key[:SHORT]}.partial").exists():
        with locked(folder / f".{step.key[:SHORT]}.lock") as free:
            reasons.append("its last run was stopped" if free else "another process is building it")
    elif any(folder.glob(f"{step.key[:SHORT]}.damaged-*")):
        reasons.append("the last one was damaged")
    others = [manifest for path in finished(root, step.stage) if (manifest := _manifest(path))]
    if not others:
        return ", ".join(reasons) or "first of its kind"
    newest_first = sorted(others, key=lambda manifest: str(manifest.get("created")), reverse=True)
    nearest = min(newest_first, key=lambda manifest: len(_differences(step, manifest["document"])))
    reasons += _explain(root, step, nearest["document"])
    rest = f", and {len(reasons) - 4} more" if len(reasons) > 4 else ""
    return (", ".join(reasons[:4]) + rest) or "already built"


def _explain(root: Path, step: Step, old: dict[str, Any]) -> list[str]:
    lines = []
    for field, before, now in _differences(step, old):
        part, _, name = field.partition(".")
        if part == "inputs":
            lines += _explain_input(root, step, name, before)
        elif part == "files":
            lines.append(f"contents of {name} {_short(before, 8)} → {_short(now, 8)}")
        else:
            lines.append(f"{name if part == 'config' else 'code version'} {_short(before)} → {_short(now)}")
    return lines


def _explain_input(root: Path, step: Step, name: str, before: str) -> list[str]:
    """What differs upstream, if the artifact that was used then is still there to compare with."""
    upstream = step.inputs.get(name)
    if upstream is None:
        return [f"no {name} any more"]
    old = _manifest(root / upstream.stage / before[:SHORT])
    deeper = _explain(root, upstream, old["document"]) if old else []
    return [f"{name}: {line}" for line in deeper] or [f"another {name}"]


def _differences(step: Step, old: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    before, now = _flatten(old), _flatten(step.document)
    pairs = [(name, before.get(name, _ABSENT), now.get(name, _ABSENT)) for name in sorted(before | now)]
    return [(name, old_value, value) for name, old_value, value in pairs if old_value != value]


def _flatten(value: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, item in value.items():
        flat |= _flatten(item, f"{above}{name}.") if isinstance(item, dict) else {f"{above}{name}": item}
    return flat


def _short(value: Any, limit: int = 40) -> str:
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else f"{text[:limit]}…"


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        return read_manifest(folder)
    except (Damaged, UserError):
        return None

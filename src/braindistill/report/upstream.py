"""Reads the manifests behind an evaluation: the options and commands of every arm, and the steps that were taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from braindistill.cache.step import SHORT
from braindistill.report.parts import Findings, Results, Upstream

#: kind of key in ``results["arms"][ARM]["keys"]`` → the stage it is of
_STAGES = {"predictions": "predict", "targets": "export", "teachers": "train-teacher", "measures": "measure"}
#: in the order of work
FLOW = ("prepare", "images", "features", "train-teacher", "export", "distill", "predict", "measure", "explain", "eval")
#: name of an input in a manifest → the stage that made it
_INPUTS = {"responses": "prepare", "images": "images", "features": "features", "teacher": "train-teacher"} | {
    "student": "distill",
    "target": "export",
    "brain": "train-teacher",
}


def gather(results: Results, folder: Path | None) -> Findings:
    """Put the results together with what lies beside them and behind them.

    Parameters
    ----------
    folder : of the evaluation; the manifests are looked for in the cache that it is part of
    """
    root = folder.parent.parent if folder is not None else None
    if root is None or not (root / "predict").is_dir():
        return Findings(results, folder, Upstream(steps=list(results.get("steps") or [])))
    seen: dict[str, dict[str, Any]] = {}
    settings: dict[str, dict[str, dict[str, Any]]] = {}
    commands: dict[str, dict[str, str]] = {}
    folders: dict[str, dict[str, Path]] = {}
    for arm, entry in (results.get("arms") or {}).items():
        settings[arm], commands[arm], folders[arm] = {}, {}, {}
        for kind, keys in (entry.get("keys") or {}).items():
            for place, key in enumerate(keys or []):
                for stage, name, manifest in _walk(root, _STAGES.get(kind, kind), str(key)[:SHORT], seen):
                    if place == 0 and stage not in settings[arm]:
                        settings[arm][stage] = (manifest.get("document") or {}).get("config") or {}
                        commands[arm][stage] = str(manifest.get("command") or "")
                        folders[arm][stage] = root / name
    steps = _steps(seen, str(results.get("began") or "")) + list(results.get("steps") or [])
    return Findings(results, folder, Upstream(settings, commands, folders, steps))


def _walk(root: Path, stage: str, key: str, seen: dict[str, dict[str, Any]]) -> list[tuple[str, str, dict[str, Any]]]:
    """An artifact and all behind it: stage, ``stage/key`` and manifest; each file is read once."""
    found: list[tuple[str, str, dict[str, Any]]] = []
    pending = [(stage, key)]
    met: set[str] = set()
    while pending:
        at, key = pending.pop(0)
        name = f"{at}/{key}"
        if name in met:
            continue
        met.add(name)
        if name not in seen:
            seen[name] = _read(root / name)
        if not seen[name]:
            continue
        found.append((at, name, seen[name]))
        for use, other in ((seen[name].get("document") or {}).get("inputs") or {}).items():
            if made_by := _INPUTS.get(use.split("/")[0]):
                pending.append((made_by, str(other)[:SHORT]))
    return found


def _read(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # gone since, or of a cache that holds only the evaluation
        return {}
    return found if isinstance(found, dict) else {}


def _steps(seen: dict[str, dict[str, Any]], began: str) -> list[dict[str, Any]]:
    """What manifests know of steps: how long they took, and whether that was since the evaluation was begun."""
    return [
        {
            "stage": name.split("/")[0],
            "title": manifest.get("title", ""),
            "state": "finished" if not began else "run" if str(manifest.get("created")) >= began else "reused",
            "seconds": manifest.get("seconds"),
        }
        for name, manifest in seen.items()
        if manifest
    ]

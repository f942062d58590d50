"""The working folder of a run that builds an artifact, and who that is."""

from __future__ import annotations

import os
import platform
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from braindistill.cache.manifest import CHECKPOINT
from braindistill.cache.step import Step


def strip(partial: Path) -> bool:
    """Remove everything but a checkpoint, and the folder too where there is none; whether there is one."""
    kept = False
    for path in partial.iterdir() if partial.exists() else ():
        if path.is_dir() and not path.is_symlink():
            if path.name == CHECKPOINT and any(path.iterdir()):
                kept = True
            else:
                shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    if not kept:
        shutil.rmtree(partial, ignore_errors=True)
    return kept


def describe_owner(step: Step) -> dict[str, Any]:
    """Who builds a step, for those who wait for it."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    who = {"host": platform.node(), "pid": os.getpid(), "since": since}
    return who | {"key": step.key, "title": step.title, "digest": step.digest}

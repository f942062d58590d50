"""What ``braindistill cache`` does: list, show, verify and clean the artifacts."""

from __future__ import annotations

import json
from pathlib import Path

from braindistill.cache import Cache, Entry
from braindistill.errors import UserError, nearest
from braindistill.runtime import progress

#: action → the words that may follow it
ACTIONS = {"ls": (), "show": ("KEY",), "verify": (), "gc": ("--older-than DAYS", "--dry-run")}


def inspect_cache(root: Path, action: list[str]) -> int:
    """Carry out ``ls``, ``show KEY``, ``verify`` or ``gc [--older-than DAYS] [--dry-run]``; returns the exit code.

    Raises
    ------
    UserError
        Another action, or a word that it doesn't take: nothing is removed on a mistyped command.
    """
    name, rest = (action[0] if action else ""), action[1:]
    if name not in ACTIONS:
        raise UserError(
            f"cache {name}: expected one of ls, show KEY, verify, gc; {nearest(name, ACTIONS)}".replace(" :", ":")
        )
    if not root.is_dir():
        print(f"{root.absolute()}: no artifacts yet")
        return 0
    cache = Cache(root)
    if name == "gc":
        return _gc(cache, *_gc_options(rest))
    if len(rest) != len(ACTIONS[name]):
        raise UserError(
            f"cache {name} takes {' and '.join(ACTIONS[name]) or 'nothing more'}; found {' '.join(rest) or 'nothing'}"
        )
    if name == "show":
        print(json.dumps(cache.manifest(cache.find(rest[0])), indent=1))
        return 0
    if name == "verify":
        problems = cache.verify(lambda paths: progress(paths, "verify"))
        whole = sum(entry.state == "ok" for entry in cache.entries())
        print("\n".join(problems) if problems else f"{whole} artifacts, all whole")
        return 1 if problems else 0
    for entry in sorted(cache.entries(), key=lambda entry: (entry.stage, entry.created)):
        print(f"{entry.stage:14}{entry.key12:14}{_size(entry):>12}  {entry.created:20.19}{entry.state:12}{entry.title}")
    return 0


def _gc(cache: Cache, days: float | None, dry_run: bool) -> int:
    removed = cache.gc(days, dry_run=dry_run)
    folders = [entry for entry in removed if entry.state != "left over"]
    for entry in folders:
        print(f"{'would remove' if dry_run else 'removed'} {entry.stage}/{entry.key12} ({entry.state}, {_size(entry)})")
    freed = f"{sum(entry.bytes for entry in removed) / 1e6:.2f} MB"
    print(f"{len(folders)} folders and {len(removed) - len(folders)} lock files of past runs, {freed}")
    return 0


def _gc_options(words: list[str]) -> tuple[float | None, bool]:
    days, dry_run, rest = None, False, iter(words)
    for word in rest:
        if word == "--dry-run":
            dry_run = True
            continue
        if word != "--older-than":
            raise UserError(
                f"cache gc {word}: expected {' or '.join(ACTIONS['gc'])}; {nearest(word, ['--older-than', '--dry-run'])}"
            )
        try:
            days = float(next(rest, ""))
        except ValueError:
            days = -1.0
        if not days >= 0:
            raise UserError("cache gc --older-than DAYS: give a number of days, e.g. --older-than 30")
    return days, dry_run


def _size(entry: Entry) -> str:
    return f"{entry.bytes / 1e6:.2f} MB"

"""What a cache holds: listing, finding, verifying, and clearing away what nobody can use."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from braindistill.cache.durable import locked, read_json
from braindistill.cache.manifest import Damaged, check, faults, read_manifest
from braindistill.cache.step import SHORT
from braindistill.errors import UserError

# The only names that are ever listed or removed: the key, and what is left over from building it.
_OURS = re.compile(
    rf"(?P<finished>[0-9a-f]{{{SHORT}}})|(?P<aside>[0-9a-f]{{{SHORT}}})\.damaged-\d+"
    rf"|(?P<incomplete>[0-9a-f]{{{SHORT}}})\.incomplete"  # the report of an evaluation of which some arms failed
    rf"|\.(?P<partial>[0-9a-f]{{{SHORT}}})\.partial|\.(?P<lock>[0-9a-f]{{{SHORT}}})\.lock"
    rf"|\.(?P<owner>[0-9a-f]{{{SHORT}}})\.owner\.json(\.[0-9a-f]+\.tmp)?"
)


@dataclass(frozen=True)
class Entry:
    """One folder (or left-over file) of a cache.

    ``state`` is ``ok``, ``unfinished``, ``damaged``, ``unknown`` (written by another version) or ``left over``
    (lock and owner files, which only ``gc`` lists). ``created`` is ISO 8601 in UTC, ``seconds`` the build's duration.
    """

    stage: str
    key12: str
    title: str
    bytes: int
    created: str
    seconds: float
    state: str
    path: Path


def entries(root: Path) -> list[Entry]:
    """Everything in a cache but lock and owner files, newest first."""
    listed = [entry for found in _scan(root) for entry in _describe(*found)]
    listed = [entry for entry in listed if entry.state != "left over"]
    return sorted(listed, key=lambda entry: entry.created, reverse=True)


def finished(root: Path, stage: str = "") -> list[Path]:
    """Folders that bear a finished artifact's name, of one stage or of all."""
    return [path for at, _, kind, path in _scan(root) if kind == "finished" and stage in ("", at)]


def mark_used(folder: Path) -> None:
    """Set an artifact's time of last use, which ``gc`` goes by."""
    with contextlib.suppress(OSError):  # somebody else's cache may be read-only
        os.utime(folder)


def find(root: Path, key_prefix: str) -> Path:
    """The finished artifact whose key begins with these digits (see ``Cache.find``)."""
    stage, _, digits = key_prefix.strip().strip("/").rpartition("/")
    folders = [folder for folder in finished(root, stage) if digits and folder.name.startswith(digits[:SHORT])]
    if len(folders) == 1:
        folder = folders[0]
        try:
            manifest = read_manifest(folder)
            check(folder, manifest)
        except Damaged as fault:
            raise UserError(f"{folder} is damaged: {fault}; build it again") from fault
        if manifest["key"].startswith(digits):
            mark_used(folder)
            return folder
    if len(folders) > 1:
        raise UserError(f"key {key_prefix}: {len(folders)} artifacts begin so ({_names(folders)}); give more digits")
    latest = sorted(finished(root), key=lambda folder: folder.stat().st_mtime, reverse=True)
    raise UserError(
        f"key {key_prefix}: no such artifact in {root}; last used: {_names(latest)} (`braindistill cache ls`)"
    )


def verify(root: Path, progress: Callable[[Iterable[Path]], Iterable[Path]] = lambda items: items) -> list[str]:
    """Read every file of every finished artifact; one line a problem (see ``Cache.verify``)."""
    problems = []
    for folder in progress(finished(root)):
        try:
            manifest = read_manifest(folder)
            found = list(faults(folder, manifest))
            if not manifest["key"].startswith(folder.name):
                found.append(f"holds the key {manifest['key']}")
        except (Damaged, UserError) as error:
            found = [str(error)]
        problems += [f"{folder.parent.name}/{folder.name}: {fault}" for fault in found]
    return problems


def collect(root: Path, older_than_days: float | None, dry_run: bool) -> list[Entry]:
    """Remove what is left over from stopped runs, set aside, or long unused (see ``Cache.gc``)."""
    groups: dict[tuple[str, str], list[tuple[str, str, str, Path]]] = {}
    for found in _scan(root):
        groups.setdefault(found[:2], []).append(found)
    removed = []
    for (stage, key12), group in groups.items():
        lock = root / stage / f".{key12}.lock"
        useless = [entry for found in group for entry in _describe(*found) if _is_useless(entry, older_than_days)]
        if not useless:
            continue
        if dry_run and not lock.exists():  # a listing makes no files
            removed += useless
            continue
        with locked(lock) as free:
            if free and dry_run:
                removed += useless
            elif free:
                removed += [entry for entry in useless if entry.path == lock or _remove(entry, older_than_days)]
                with contextlib.suppress(PermissionError):  # Windows keeps a file that is open
                    lock.unlink()  # once, and last: from here on another process can make a new one and build
    return removed


def _is_useless(entry: Entry, older_than_days: float | None) -> bool:
    if entry.path.name == entry.key12:  # where a finished artifact belongs
        if entry.state == "ok" and older_than_days is not None:
            return time.time() - entry.path.stat().st_mtime > older_than_days * 86400
        return entry.state == "damaged" and (entry.path / "manifest.json").exists()
    return True


def _remove(entry: Entry, older_than_days: float | None) -> bool:
    """Remove what is still useless now that nobody can build it; whether it was."""
    path = entry.path
    again = list(_describe(entry.stage, entry.key12, _kind(path.name)[0], path))
    if not again or not _is_useless(again[0], older_than_days):
        return False
    if path.is_file():
        path.unlink()
        return True
    if path.name == entry.key12:  # killed halfway, this must not look finished
        partial = path.with_name(f".{entry.key12}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        path = path.rename(partial)
    shutil.rmtree(path, ignore_errors=True)
    return True


def _scan(root: Path) -> Iterator[tuple[str, str, str, Path]]:
    """Stage, first digits, kind and path of everything below the root that bears one of our names."""
    for stage in sorted(
        path for path in root.iterdir() if path.is_dir() and re.fullmatch("[a-z][a-z0-9-]*", path.name)
    ):
        for path in sorted(stage.iterdir()):
            kind, key12 = _kind(path.name)
            if kind and path.is_dir() == (kind not in ("lock", "owner")):
                yield stage.name, key12, kind, path


def _kind(name: str) -> tuple[str, str]:
    match = _OURS.fullmatch(name)
    return next(((kind, key12) for kind, key12 in match.groupdict().items() if key12), ("", "")) if match else ("", "")


def _describe(stage: str, key12: str, kind: str, path: Path) -> Iterator[Entry]:
    """The entry of what ``_scan`` found; none if a run has moved or removed it since."""
    with contextlib.suppress(FileNotFoundError):
        yield _entry(stage, key12, kind, path)


def _entry(stage: str, key12: str, kind: str, path: Path) -> Entry:
    about: dict[str, Any] = {}
    states = {"partial": "unfinished", "incomplete": "unfinished", "aside": "damaged"}
    state = "left over" if kind in ("lock", "owner") else states.get(kind, "ok")
    if kind == "partial":
        about = read_json(path.with_name(f".{key12}.owner.json"))
    elif kind in ("finished", "aside"):
        try:
            about = read_manifest(path)
            if any(faults(path, about, checksums=False)):
                state = "damaged"
        except Damaged:
            state = "damaged"
        except UserError:
            state = "unknown"
    created = str(about.get("created") or about.get("since") or _time(path))
    size = sum(file.lstat().st_size for file in (path, *path.rglob("*")) if not file.is_dir())
    return Entry(stage, key12, str(about.get("title", "")), size, created, about.get("seconds", 0.0), state, path)


def _time(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")


def _names(folders: Iterable[Path]) -> str:
    return ", ".join(f"{folder.parent.name}/{folder.name}" for folder in list(folders)[:5]) or "none"

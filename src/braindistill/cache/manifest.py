"""The manifest of an artifact: written last, read first, and held against the files that it lists."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from braindistill.cache.durable import checksum, sync, write_json
from braindistill.cache.provenance import machine, revision, versions
from braindistill.cache.step import Step, key_of
from braindistill.errors import UserError

FORMAT = 1
FILE = "manifest.json"
CHECKPOINT = "checkpoint"  # the folder in which a stage keeps what a killed run resumes from; no part of the artifact

_read_before: dict[tuple[str, str], list[tuple[str, int, int]]] = {}  # (folder, key) → sizes and times when checksummed


class Damaged(Exception):
    """An artifact that must not be used; the message names the file and what differs."""


def write_manifest(folder: Path, step: Step, seconds: float) -> dict[str, Any]:
    """List every file of a folder with size and checksum, sync them, and write ``manifest.json`` last.

    Raises
    ------
    ValueError
        If the stage has written a ``manifest.json`` of its own.
    """
    if (folder / FILE).exists():
        raise ValueError(f"{step.name}: the stage wrote {FILE}, which is the cache's own file; take another name")
    files, folders = {}, [folder]
    for path in _contents(folder):
        if path.is_dir():
            folders.append(path)
        else:
            sync(path)
            size = path.stat().st_size
            files[path.relative_to(folder).as_posix()] = {"size": size, "sha256": checksum(path)}
    manifest = {
        "format": FORMAT,
        "stage": step.stage,
        "version": step.version,
        "key": step.key,
        "title": step.title,
        "command": step.command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "document": step.document,
        "files": files,
        "digest": step.digest,
        "revision": revision(),
        "versions": versions(),
        "machine": machine(),
    }
    write_json(folder / FILE, manifest)
    for path in reversed(folders):
        sync(path)
    return manifest


def _contents(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name != CHECKPOINT:
            yield path
            if path.is_dir():
                yield from sorted(path.rglob("*"))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a manifest and check that it is whole: its key must be the hash of the document that it records.

    Raises
    ------
    Damaged
        If it is missing, no JSON, lacks a part, or its key is not its document's.
    UserError
        If it can't be read for want of permission, or has a format that this version does not know.
    """
    file = folder / FILE
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except PermissionError:
        raise UserError(f"{file}: no permission to read it; ask its owner, or take another runtime.cache") from None
    except (FileNotFoundError, NotADirectoryError):
        raise Damaged(f"{FILE} is missing") from None
    except (OSError, ValueError) as error:
        raise Damaged(f"{FILE} can't be read ({error})") from error
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        newer = isinstance(found, int) and found > FORMAT
        mend = "upgrade braindistill, or take another runtime.cache" if newer else "move the folder out of the cache"
        raise UserError(f"{file}: format {found!r}, but this version reads format {FORMAT}; {mend}")
    try:
        whole = key_of(manifest["document"]) == manifest["key"]
        for record in manifest["files"].values():
            whole = whole and isinstance(record["size"], int) and bool(re.fullmatch("[0-9a-f]{64}", record["sha256"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged(f"{FILE} lacks a part, or has it in another form ({error!r})") from error
    if not whole:
        raise Damaged(f"{FILE} was altered: its key is not that of what it records")
    return manifest


def faults(folder: Path, manifest: dict[str, Any], checksums: bool = True) -> Iterator[str]:
    """Name every file that is missing or has another size or checksum than the manifest records."""
    for name, record in manifest["files"].items():
        try:
            size = os.stat(folder / name).st_size
            if size != record["size"]:
                yield f"{name} has {size} bytes, its manifest says {record['size']}"
            elif checksums and (found := checksum(folder / name)) != record["sha256"]:
                yield f"{name} has the checksum {found[:12]}…, its manifest says {record['sha256'][:12]}…"
        except PermissionError:
            raise UserError(f"{folder / name}: no permission to read it; ask its owner") from None
        except (FileNotFoundError, NotADirectoryError):
            yield f"{name} is missing"
        except OSError as error:
            yield f"{name} can't be read ({error})"


def check(folder: Path, manifest: dict[str, Any]) -> None:
    """Check sizes at every call, and checksums at the first in this process or when a file's time has changed since.

    Raises
    ------
    Damaged
        Naming the first file that differs.
    """
    who = (str(folder), manifest["key"])
    for fault in faults(folder, manifest, checksums=False):
        raise Damaged(fault)
    state = _state(folder, manifest)
    if _read_before.get(who) != state:
        for fault in faults(folder, manifest):
            raise Damaged(fault)
        _read_before[who] = state


def remember(folder: Path, manifest: dict[str, Any]) -> None:
    """Note that the files were checksummed just now, as they were written."""
    _read_before[str(folder), manifest["key"]] = _state(folder, manifest)


def _state(folder: Path, manifest: dict[str, Any]) -> list[tuple[str, int, int]]:
    try:
        stats = {name: os.stat(folder / name) for name in manifest["files"]}
    except OSError as error:
        raise Damaged(f"{error.filename} can't be read ({error.strerror})") from error
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()]

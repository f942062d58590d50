"""Fingerprints of input files and folders by content, remembered so that unchanged ones are only listed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase as fnmatch
from pathlib import Path
from typing import Any

from braindistill.cache.durable import checksum, read_json, write_json
from braindistill.errors import UserError

_SETTLED = 2e9  # ns: a file younger than this could be edited again within one tick of the file system's clock


def fingerprint(
    path: Path,
    memo: Path | None = None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = lambda items: items,
    only: Sequence[str] = (),
) -> str:
    """Hash an input by content: a file's bytes, or the names, sizes and bytes of all files below a folder.

    Hidden files and folders are skipped; links are followed; a link that leads nowhere (a file that DataLad has not
    fetched) counts as an absent file, so that fetching it changes the fingerprint.

    Parameters
    ----------
    path : Path
        File or folder.
    memo : Path, optional
        A JSON file that remembers fingerprints with a digest of names, sizes and times, so that an unchanged input
        is only listed and not read. A broken one is started anew.
    progress : callable
        Wraps the list of files that have to be read.
    only : sequence of str
        Of a folder, only the files whose relative name matches one of these patterns (``*`` also matches ``/``): a
        data set of terabytes is read for the part that is used.

    Returns
    -------
    str
        64 hexadecimal digits. Of a file, what ``sha256sum`` prints.

    Raises
    ------
    UserError
        If there is no such path, or a file can't be read.
    """
    path = Path(os.path.abspath(Path(path).expanduser()))
    try:
        only = only if path.is_dir() else ()
        listing = sorted(entry for entry in _listing(path) if not only or any(fnmatch(entry[0], p) for p in only))
        state = hashlib.sha256(json.dumps(listing).encode()).hexdigest()
        name = " ".join([str(path), *only])
        remembered = read_json(memo).get(name)
        if isinstance(remembered, dict) and remembered.get("listing") == state and "sha256" in remembered:
            return str(remembered["sha256"])
        result = _hash_contents(path, [entry[:2] for entry in listing], progress)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file or folder; check the path") from None
    except OSError as error:
        raise UserError(f"{error.filename or path}: can't be read ({error.strerror}); check its permissions") from error
    now = time.time_ns()
    settled = all(abs(now - moment) > _SETTLED for entry in listing for moment in entry[2:])
    if memo is not None and settled:
        with contextlib.suppress(OSError):  # a memo that can't be written costs time, nothing else
            write_json(memo, read_json(memo) | {name: {"listing": state, "sha256": result}})
    return result


def _listing(path: Path) -> Iterator[tuple[str, int, int, int]]:
    """Relative name, size in bytes (−1: a link to nowhere), and the times of last edit and last change, in ns."""
    if not path.is_dir():
        stat = path.stat()
        yield "", stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
        return
    pending: list[tuple[str, tuple[str, ...]]] = [("", (os.path.realpath(path),))]  # a folder, and those that hold it
    while pending:
        below, above = pending.pop()
        with os.scandir(path / below) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                name = f"{below}{entry.name}"
                if entry.is_dir():
                    real = os.path.realpath(entry.path) if entry.is_symlink() else f"{above[-1]}{os.sep}{entry.name}"
                    if real not in above:  # a link back to a folder that holds it
                        pending.append((f"{name}/", (*above, real)))
                elif entry.is_symlink() and not os.path.exists(entry.path):
                    yield name, -1, 0, 0
                elif entry.is_file():  # no pipes and sockets
                    stat = entry.stat()
                    yield name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _hash_contents(path: Path, files: list[tuple[str, int]], progress: Callable[[Iterable[Any]], Iterable[Any]]) -> str:
    if not path.is_dir():
        return checksum(path)
    whole = hashlib.sha256(b"folder\n")
    for name, size in progress(files):
        content = checksum(path / name) if size >= 0 else "absent"
        whole.update(json.dumps([name, size, content]).encode() + b"\n")
    return whole.hexdigest()

"""Files that are whole or absent, whatever kills the process or the machine, and locks that die with their holder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from braindistill.errors import UserError


def checksum(file: Path) -> str:
    """SHA-256 of a file's bytes (64 hexadecimal digits), read a block at a time."""
    with open(file, "rb", buffering=0) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Have the system write a file, or a folder's list of names, to the disk."""
    if os.name == "nt":  # Windows syncs neither folders nor files that are opened for reading
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some network file systems can't sync a folder
            raise
    finally:
        os.close(descriptor)


def write_json(file: Path, value: Any) -> None:
    """Write JSON beside the target, sync it, and move it into place in one step.

    Raises
    ------
    ValueError
        For a NaN or an infinity.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    temporary = file.with_name(f".{file.name.lstrip('.')}.{os.urandom(4).hex()}.tmp")
    try:
        with open(temporary, "x", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def read_json(file: Path | None) -> dict[str, Any]:
    """Read a JSON object that may be absent or broken: then it is empty."""
    try:
        value = json.loads(file.read_text(encoding="utf-8")) if file else {}
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


@contextlib.contextmanager
def locked(file: Path, waiting: Callable[[], Any] | None = None) -> Iterator[bool]:
    """Hold the system's lock on a file, which is made where it is missing.

    Parameters
    ----------
    file : Path
        The lock file. It stays: that it exists says nothing.
    waiting : callable, optional
        Called once if somebody else holds the lock, before waiting for it. Without it nobody waits.

    Yields
    ------
    bool
        Whether the lock is held.

    Raises
    ------
    UserError
        If the file system has no locks, or the file can't be opened.
    """
    from filelock import FileLock, Timeout  # from 3.29.7 on it sees that ``gc`` removed the file it just locked

    lock = FileLock(file)
    try:
        try:
            lock.acquire(timeout=0.3 if waiting else 0)
        except Timeout:
            if waiting:
                waiting()
                lock.acquire(poll_interval=0.2)
    except (OSError, NotImplementedError) as error:
        raise UserError(f"{file}: can't be locked ({error}); take a runtime.cache on a disk that has locks") from error
    try:
        yield lock.is_locked
    finally:
        lock.release()

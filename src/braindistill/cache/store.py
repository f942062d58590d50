"""The store of artifacts: found again by content, built once however many ask, whole or absent whatever kills a run.

::

    <root>/<stage>/<key12>/                 a finished artifact; its manifest.json was written last
    <root>/<stage>/<key12>.damaged-<n>/     one that failed its checks, set aside and never used
    <root>/<stage>/.<key12>.partial/        the working folder of a run, which may hold a checkpoint/
    <root>/<stage>/.<key12>.lock            the system's lock on building it, gone with the process that holds it
    <root>/<stage>/.<key12>.owner.json      who builds it, for those who wait

Nothing else keeps state: no run is "running" because a file says so. Knows nothing about fMRI or networks.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from braindistill.cache import manifest as manifests
from braindistill.cache.durable import locked, read_json, sync, write_json
from braindistill.cache.inventory import Entry, collect, entries, find, mark_used, verify
from braindistill.cache.manifest import CHECKPOINT, Damaged
from braindistill.cache.partial import describe_owner, strip
from braindistill.cache.reasons import why
from braindistill.cache.step import SHORT, Step
from braindistill.errors import UserError

_warned: set[str] = set()  # stages whose code was seen to differ, in this process


def _to_stderr(message: str) -> None:
    print(message, file=sys.stderr)


class Cache:
    """Artifacts below a folder.

    Parameters
    ----------
    root : Path
        Made where it is missing.
    say, warn : callable
        Take a line of text. The cache says what its caller can't know: that it waits, resumes, sets aside.

    Raises
    ------
    UserError
        If the folder can't be made or written.
    """

    def __init__(
        self, root: Path, say: Callable[[str], Any] = _to_stderr, warn: Callable[[str], Any] = _to_stderr
    ) -> None:
        self.root = Path(os.path.abspath(Path(root).expanduser()))
        self.say, self.warn = say, warn
        trial = self.root / f".writable-{os.urandom(4).hex()}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            trial.write_bytes(b"x")
            trial.unlink()
        except OSError as error:
            raise UserError(
                f"runtime.cache={root}: can't write there ({error.strerror}); take a folder that can be written"
            ) from None

    def path(self, step: Step) -> Path:
        """Where the artifact is, or will be."""
        return self.root / step.name

    def lookup(self, step: Step) -> Path | None:
        """Find a finished, undamaged artifact.

        Returns
        -------
        Path or None
            None where there is none, or where it was damaged and has been set aside.

        Raises
        ------
        UserError
            If the folder holds another key with the same first digits, or a newer format.
        """
        try:
            return self._open(step)
        except Damaged:
            with self._lock(step):  # somebody may have set it aside, and rebuilt it, since
                return self._open_or_set_aside(step)

    def build(self, step: Step, make: Callable[[Path], Any]) -> Path:
        """Find an artifact, or let ``make`` write it into an empty folder, and commit that folder in one rename.

        Parameters
        ----------
        make : callable
            Writes the artifact's files into the folder it is given. What it keeps in ``checkpoint/`` is there again
            if the run was killed, and is removed at the end. If it raises, nothing but the checkpoint is left.

        Returns
        -------
        Path
            The artifact's folder. Processes that ask at the same time wait for the one that builds.

        Raises
        ------
        UserError
            As ``lookup``, or if the file system has no locks.
        """
        return self.build_together([step], lambda folders: make(folders[0]))[0]  # type: ignore[arg-type]

    def build_together(self, steps: Sequence[Step], make: Callable[[list[Path | None]], Any]) -> list[Path]:
        """`build` for several artifacts that one call of ``make`` writes; it gets None in the place of one that is there."""
        found = [self.lookup(step) for step in steps]
        with contextlib.ExitStack() as locks:
            # in one order, so that two processes don't wait for each other
            for k in sorted((k for k, path in enumerate(found) if path is None), key=lambda k: steps[k].key):
                locks.enter_context(self._lock(steps[k]))
                found[k] = self._open_or_set_aside(steps[k])
                if found[k] is not None:
                    self.say(f"{steps[k].name} has been built meanwhile")
            missing = [k for k, path in enumerate(found) if path is None]
            partials = {k: self._start(steps[k]) for k in missing}
            try:
                started = time.monotonic()
                if missing:
                    make([partials.get(k) for k in range(len(steps))])
                seconds = (time.monotonic() - started) / max(len(missing), 1)
                for k in missing:
                    manifest = manifests.write_manifest(partials[k], steps[k], seconds)
                    found[k] = self._commit(steps[k], partials[k], manifest)
            except BaseException:
                for partial in partials.values():
                    strip(partial)
                raise
            finally:
                for k, partial in partials.items():
                    if not partial.exists():
                        self._beside(steps[k], "owner.json").unlink(missing_ok=True)
        return [path for path in found if path is not None]

    def _start(self, step: Step) -> Path:
        """The empty folder of an artifact to be, but for the checkpoint of a run that was stopped."""
        partial, owner = self._beside(step, "partial"), self._beside(step, "owner.json")
        if strip(partial):
            self._resume(step, read_json(owner))
        partial.mkdir(exist_ok=True)
        write_json(owner, describe_owner(step))
        return partial

    def _commit(self, step: Step, partial: Path, manifest: dict[str, Any]) -> Path:
        folder = self.path(step)
        shutil.rmtree(partial / CHECKPOINT, ignore_errors=True)
        try:
            os.rename(partial, folder)
        except OSError:
            if not os.path.lexists(folder):
                raise
            winner = self._open_or_set_aside(step)  # from a machine that doesn't see our lock
            if winner is not None:
                shutil.rmtree(partial)
                self.say(f"{step.name} has been built meanwhile")
                return winner
            os.rename(partial, folder)
        sync(folder.parent)
        manifests.remember(folder, manifest)
        return folder

    def _open(self, step: Step) -> Path | None:
        folder = self.path(step)
        if not os.path.lexists(folder):
            return None
        manifest = manifests.read_manifest(folder)
        if manifest["key"] != step.key:
            raise UserError(
                f"{folder} holds the artifact {manifest['key']}, but {step.key} was asked for, which begins with the "
                "same digits; move one of them to another runtime.cache"
            )
        manifests.check(folder, manifest)
        mark_used(folder)
        recorded = manifest.get("digest")
        if recorded and step.digest and recorded != step.digest and step.stage not in _warned:
            _warned.add(step.stage)
            self.warn(
                f"{step.name} was built by another version of the code of {step.stage}; it is reused. "
                f"To rebuild it, delete {folder}, or raise the stage's code version"
            )
        return folder

    def _open_or_set_aside(self, step: Step) -> Path | None:
        try:
            return self._open(step)
        except Damaged as fault:
            folder = self.path(step)
            if os.path.lexists(folder):
                number = 1
                while os.path.lexists(aside := folder.with_name(f"{folder.name}.damaged-{number}")):
                    number += 1
                os.rename(folder, aside)
                self.warn(f"{step.name} is damaged: {fault}; set aside as {aside.name} and not used")
            return None

    def _resume(self, step: Step, last: dict[str, Any]) -> None:
        self.say(f"{step.name} resumes from the checkpoint of a run that was stopped")
        if last.get("digest") and step.digest and last["digest"] != step.digest:
            self.warn(
                f"{step.name}: the code of {step.stage} has changed since that checkpoint; "
                f"to start anew, delete {self._beside(step, 'partial')}"
            )

    def _beside(self, step: Step, kind: str) -> Path:
        return self.root / step.stage / f".{step.key[:SHORT]}.{kind}"

    def _lock(self, step: Step) -> contextlib.AbstractContextManager[bool]:
        def wait() -> None:
            owner = read_json(self._beside(step, "owner.json"))
            who = [f"{word} {owner[word]}" for word in ("host", "pid", "since") if word in owner]
            self.say(f"waiting for {step.name}, being built by {', '.join(who) or 'another process'}")

        lock = self._beside(step, "lock")
        lock.parent.mkdir(exist_ok=True)
        return locked(lock, wait)

    def manifest(self, path: Path) -> dict[str, Any]:
        """The manifest of an artifact's folder.

        Raises
        ------
        UserError
            If it is missing, broken, or of a format that this version does not know.
        """
        try:
            return manifests.read_manifest(Path(path))
        except Damaged as fault:
            raise UserError(f"{path} is no artifact that can be used: {fault}; build it again") from fault

    def age(self, step: Step) -> str:
        """How long ago the artifact was built, as ``3 min old``; '' if it isn't there."""
        try:
            manifest = manifests.read_manifest(self.path(step))
            seconds = (datetime.now(UTC) - datetime.fromisoformat(manifest["created"])).total_seconds()
        except (Damaged, UserError, KeyError, TypeError, ValueError):
            return ""
        for unit, size, limit in (("s", 1, 60), ("min", 60, 60), ("h", 3600, 48)):
            if seconds < size * limit:
                return f"{max(0, seconds) // size:.0f} {unit} old"
        return f"{seconds // 86400:.0f} days old"

    def why(self, step: Step) -> str:
        """Why a step has to run: ``method.temperature 4 → 2`` (from the nearest artifact), or ``first of its kind``."""
        return why(self.root, step)

    def entries(self) -> list[Entry]:
        """Everything in the cache, newest first: finished, unfinished and damaged."""
        return entries(self.root)

    def find(self, key_prefix: str) -> Path:
        """The finished artifact whose key begins with these digits (``ab12``, ``distill/ab12`` or a whole key).

        Raises
        ------
        UserError
            If there is none, more than one, or it is damaged.
        """
        return find(self.root, key_prefix)

    def verify(self, progress: Callable[[Iterable[Path]], Iterable[Path]] = lambda items: items) -> list[str]:
        """Read every file of every finished artifact; one line a problem, naming artifact and file."""
        return verify(self.root, progress)

    def gc(self, older_than_days: float | None = None, *, dry_run: bool = False) -> list[Entry]:
        """Remove what runs that were stopped have left, what was set aside, and artifacts long unused.

        Parameters
        ----------
        older_than_days : float, optional
            Also remove finished artifacts that were neither built nor used in this many days.
        dry_run : bool
            List only.

        Returns
        -------
        list of Entry
            What was removed, or would be. What is being built now, and what the cache did not make, is never touched.
        """
        return collect(self.root, older_than_days, dry_run)

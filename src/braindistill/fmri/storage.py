"""Where trials × voxels lie while a subject is read: a memory map that becomes the artifact, or plain memory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from braindistill.errors import UserError
from braindistill.runtime import say

BLOCK = 2**22  # numbers looked at in one go (16 MB), so that a memory-mapped subject never has to fit in memory
FILE = "responses.npy"


def allocate(workspace: Path | None, trials: int, voxels: int, session_trials: int | None = None) -> np.ndarray:
    """Make room for a subject's responses, to be filled a session or run at a time.

    Parameters
    ----------
    workspace : folder in which a memory map ``responses.npy`` is made; None takes plain memory.
    session_trials : trials that the reader holds in memory at once, for the line about what is needed.

    Returns
    -------
    (trials, voxels) float32, not initialised.

    Raises
    ------
    UserError
        The disk has no room for it.
    """
    if workspace is None or 0 in (trials, voxels):
        return np.empty((trials, voxels), dtype=np.float32)
    workspace.mkdir(parents=True, exist_ok=True)
    return _make(workspace / FILE, trials, voxels, session_trials)


def compact(responses: np.ndarray, columns: np.ndarray, groups: Sequence[np.ndarray] | None = None) -> np.ndarray:
    """Keep some voxels and average groups of trials, a block of rows at a time.

    Parameters
    ----------
    responses : (trials, voxels) float32; where it is the memory map of a file, the file is replaced by the smaller one
        (the old map stays valid).
    columns : (voxels,) bool, the voxels to keep
    groups : for each row of the result, the trials it averages; None keeps the trials.

    Returns
    -------
    (groups or trials, kept voxels) float32
    """
    index = np.flatnonzero(columns)
    rows = len(responses) if groups is None else len(groups)
    path = Path(str(responses.filename)) if isinstance(responses, np.memmap) and writable_map(responses) else None
    partial = path.with_name(f"{path.name}.partial") if path else None
    kept = _make(partial, rows, len(index)) if partial else np.empty((rows, len(index)), dtype=np.float32)
    for block in row_blocks(rows, responses.shape[1]):
        if groups is None:
            np.take(responses[block], index, axis=1, out=kept[block])
            continue
        for row in range(block.start, block.stop):
            trials = groups[row]
            values = np.take(responses[trials[0]] if len(trials) == 1 else responses[trials], index, axis=-1)
            kept[row] = values if values.ndim == 1 else values.mean(axis=0, dtype=np.float64)
    if partial is None or path is None:
        return kept
    assert isinstance(kept, np.memmap)
    kept.flush()
    del kept
    os.replace(partial, path)
    return np.load(path, mmap_mode="r+", allow_pickle=False)


def is_stored(responses: np.ndarray, path: Path) -> bool:
    """Is the array, as a whole, the writable memory map of this very file?"""
    return (
        isinstance(responses, np.memmap)
        and writable_map(responses)
        and path.is_file()
        and path.samefile(str(responses.filename))
        and responses.flags.c_contiguous
        and path.stat().st_size == responses.offset + responses.nbytes
    )


def writable_map(responses: np.ndarray) -> bool:
    """Is it a memory map that writes to its file, as `allocate` makes?"""
    return isinstance(responses, np.memmap) and responses.filename is not None and responses.mode in ("w+", "r+")


def row_blocks(rows: int, columns: int, most: int | None = None) -> Iterator[slice]:
    """Slices of rows that hold about ``BLOCK`` numbers each, and at most ``most`` rows."""
    step = max(1, min(BLOCK // max(1, columns), most or rows))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def gigabytes(size: float) -> str:
    """Bytes for people: ``2.40 GB``, ``13.4 MB``."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _make(path: Path, trials: int, voxels: int, session_trials: int | None = None) -> np.ndarray:
    size = 4 * trials * voxels
    free = shutil.disk_usage(path.parent).free
    held = 4 * voxels * (session_trials or 0)
    memory = f"about {gigabytes(3 * held + 12 * BLOCK)} of memory" if held else "memory for a session or run at a time"
    found = f"{trials:,} trials × {voxels:,} voxels need {gigabytes(size)} of disk"
    if size > free:
        raise UserError(
            f"{found}, but {path.parent} has {gigabytes(free)} left; choose fewer voxels (fmri.roi=…), make room, or "
            "put the cache on another disk (runtime.cache=…)"
        )
    if session_trials is not None or size > 1e8:
        say(f"{found} ({gigabytes(free)} are free) and {memory}")
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(trials, voxels))

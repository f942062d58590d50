"""Device, threads, named random generators, logging and progress. Imports torch only inside the functions that need it."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import torch

_verbosity = 1
#: when this process was started: artifacts that are older were reused
BEGAN = datetime.now(UTC)


@dataclass(frozen=True)
class Runtime:
    """How a run is carried out; nothing here changes a result, so nothing here is part of a key.

    Attributes
    ----------
    device : ``auto`` (CUDA where there is one), ``cpu``, ``cuda``, ``cuda:1`` …
    workers : processes that build artifacts side by side; 0 = one a CPU core (one in all with a GPU)
    cache : folder of artifacts
    upstream : ``build`` what is missing, or ``require`` it (exit code 3, with the commands that would build it)
    dry_run : print the plan and stop
    verbosity : 0 warnings, 1 what is done, 2 every step
    tensorboard : write TensorBoard events beside ``metrics.jsonl``
    checkpoint_seconds : a training saves its state after a step, at most this often
    """

    device: str = "auto"
    workers: int = 0
    cache: str = "outputs"
    upstream: Literal["build", "require"] = "build"
    dry_run: bool = False
    verbosity: int = 1
    tensorboard: bool = True
    checkpoint_seconds: float = 30.0


def set_verbosity(level: int) -> None:
    """0 warnings only, 1 what is done, 2 every step."""
    global _verbosity
    _verbosity = level


def say(message: str, level: int = 1) -> None:
    """Print a line of progress to standard error (standard output is kept for results)."""
    if level <= _verbosity:
        from tqdm import tqdm

        tqdm.write(message, file=sys.stderr)


def warn(message: str) -> None:
    """Print a warning to standard error, whatever the verbosity."""
    say(f"warning: {message}", level=0)


def progress(items: Iterable[Any], description: str, total: int | None = None) -> Iterable[Any]:
    """A tqdm bar that is silent without a terminal."""
    from tqdm import tqdm

    quiet = _verbosity < 1 or not sys.stderr.isatty()
    return tqdm(items, desc=description, total=total, disable=quiet, leave=False)


def derive(seed: int, *names: object) -> int:
    """A 63-bit seed that depends on the run's seed and on what it is for, so that no two uses share a stream."""
    text = "/".join(map(str, (int(seed), *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(seed: int, *names: object) -> np.random.Generator:
    """The named numpy generator of a run, e.g. ``numpy_generator(seed, "folds")``."""
    return np.random.default_rng(derive(seed, *names))


def torch_generator(seed: int, *names: object, device: str = "cpu") -> torch.Generator:
    """The named torch generator of a run."""
    import torch

    return torch.Generator(device).manual_seed(derive(seed, *names))


@contextlib.contextmanager
def seeded(seed: int, *names: object) -> Iterator[None]:
    """Run code that only knows torch's global generator (weight initialisation) from a named seed, and put the state back."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, *names))
        yield


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Limit torch and BLAS to ``count`` threads: results can differ in the last bits between thread counts."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> None:
    """Let the C library keep large blocks that are freed, for the next step of a training, which wants the same ones.

    Given back to the system and taken anew at every step, they cost a sixth of a step's time. Only glibc knows how.
    """
    with contextlib.suppress(OSError, AttributeError):
        for option in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            ctypes.CDLL(None).mallopt(option, 2**30)


def peak_memory() -> float:
    """The largest resident memory of this process so far, in MB."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) / 1e3
    except (OSError, ValueError, IndexError):  # no Linux; what a parent had may be counted
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


@contextlib.contextmanager
def deterministic(wanted: bool, device: str) -> Iterator[None]:
    """Only operations that give the same bits again. Those of a CPU that a training uses all do."""
    if not wanted or not device.startswith("cuda"):
        yield
        return
    import torch

    memory: Any = torch.utils.deterministic

    before = torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False  # costs a write of every new tensor
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        memory.fill_uninitialized_memory = before[1]


@contextlib.contextmanager
def termination() -> Iterator[Callable[[], bool]]:
    """Put SIGTERM off until the end of the block, which can ask whether it came, save what it has, and leave.

    Outside the main thread, where signals don't arrive, it never comes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGTERM, before)
        if came:
            os.kill(os.getpid(), signal.SIGTERM)


def resolve_device(name: str) -> str:
    """``auto`` → ``cuda`` where there is one, else ``cpu``."""
    import torch

    from braindistill.errors import UserError

    # cuBLAS reads it when it starts; without it no product is deterministic (train.deterministic)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(
            f"runtime.device={name}: this machine has no CUDA device that torch can use; take runtime.device=cpu or auto"
        )
    return name


def find_data(relative: str) -> Path | None:
    """Look a data file up in ``$BRAINDISTILL_DATA``, ``data/`` and ``../shared/data/``; None where it is nowhere."""
    folders = [os.environ.get("BRAINDISTILL_DATA"), "data", "../shared/data"]
    candidates = [Path(folder) / relative for folder in folders if folder]
    return next((path for path in candidates if path.exists()), None)

"""Building what is missing: in this process, or side by side in workers that die with it."""

from __future__ import annotations

import copy
import errno
import importlib
import os
import signal
import threading
import traceback
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from braindistill.cache import Cache
from braindistill.cache.step import Step
from braindistill.errors import UserError
from braindistill.exports import plugged_modules
from braindistill.plugins import load_plugins
from braindistill.runtime import Runtime, progress, resolve_device, say, set_verbosity, threads, warn

#: starting worker processes costs seconds: below this many steps, work in this one
_WORTH_WORKERS = 8


_NOT_BUILT = "not built: "
#: what a full disk, a lost mount or a missing permission raises: no bug of ours, and no traceback helps
_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ESTALE}


class Missing(Exception):
    """``runtime.upstream=require``: artifacts that would have to be built first, by ``commands`` in this order."""

    def __init__(self, steps: list[Step]) -> None:
        super().__init__(f"{len(steps)} upstream artifacts are missing (runtime.upstream=require); build them with:")
        self.commands = list(dict.fromkeys(step.command for step in steps))


def missing_steps(cache: Cache, targets: list[Step]) -> tuple[list[Step], list[Step]]:
    """What would be built, in order, and what would be reused. Behind a finished artifact nothing is looked at."""
    to_build: list[Step] = []
    reused: list[Step] = []
    seen: set[str] = set()

    def visit(step: Step) -> None:
        if step.key in seen:
            return
        seen.add(step.key)
        if cache.lookup(step):
            reused.append(step)
            return
        for upstream in step.inputs.values():
            visit(upstream)
        to_build.append(step)

    for target in targets:
        visit(target)
    return to_build, reused


def ensure(cache: Cache, targets: list[Step], runtime: Runtime) -> dict[str, str]:
    """Build what is missing behind the targets.

    Returns
    -------
    dict
        Failures: key of a step → one line. Steps that rest on a failed one are among them; all others are built.

    Raises
    ------
    Missing
        ``runtime.upstream=require`` and something upstream of the targets is missing.
    """
    to_build, reused = missing_steps(cache, targets)
    own = {step.key for step in targets}
    required = [step for step in to_build if step.key not in own]
    if runtime.upstream == "require" and required:
        raise Missing(required)
    _tell(cache, to_build, reused)
    if not to_build:
        return {}
    count = runtime.workers or (1 if _has_gpu(runtime.device) else os.cpu_count() or 1)
    if min(count, len(to_build)) == 1 or len(to_build) < _WORTH_WORKERS:
        return _one_by_one(cache, to_build, runtime)
    return _side_by_side(cache, to_build, runtime, min(count, len(to_build)))


def build(step: Step, cache: Cache, runtime: Runtime) -> Path:
    """Build one artifact whose inputs are there."""
    stage = importlib.import_module(f"braindistill.stages.{step.stage.replace('-', '_')}")

    def make(folder: Path) -> None:
        inputs = {}
        for name, upstream in step.inputs.items():
            found = cache.lookup(upstream)
            if found is None:
                raise UserError(f"{upstream.name} has gone while {step.name} was to be built; run the command again")
            inputs[name] = found
        with threads(step.config.get("train", {}).get("threads", 1)):
            stage.run(handed_over(step), inputs, folder, runtime)

    return cache.build(step, make)


def estimate(cache: Cache, to_build: list[Step]) -> tuple[float | None, int | None]:
    """Seconds (of one process) and bytes that steps will take, from the median of finished artifacts of their stage."""
    done: dict[str, list[Any]] = {}
    for entry in cache.entries():
        if entry.state == "ok":
            done.setdefault(entry.stage, []).append(entry)
    if any(step.stage not in done for step in to_build):
        return None, None
    seconds = sum(median(entry.seconds for entry in done[step.stage]) for step in to_build)
    return seconds, round(sum(median(entry.bytes for entry in done[step.stage]) for step in to_build))


def _tell(cache: Cache, to_build: list[Step], reused: list[Step], listed: int = 4) -> None:
    """What is reused and how old it is; what is built and why. The first few of a stage by name, the others by number."""
    for steps, describe in (
        (reused, lambda step: f"reused {step.name} ({step.title}, {cache.age(step)})"),
        (to_build, lambda step: f"build  {step.name} ({step.title}): {cache.why(step)}"),
    ):
        count: Counter[str] = Counter()
        for step in steps:
            count[step.stage] += 1
            say(describe(step), level=1 if count[step.stage] <= listed else 2)  # type: ignore[no-untyped-call]
        for stage, number in count.items():
            if number > listed:
                say(f"       … and {number - listed} more of {stage} (runtime.verbosity=2 names them)")


def _one_by_one(cache: Cache, to_build: list[Step], runtime: Runtime) -> dict[str, str]:
    failures: dict[str, str] = {}
    runtime = replace(runtime, device=resolve_device(runtime.device))
    for step in progress(to_build, "artifacts"):
        broken = next((up for up in step.inputs.values() if up.key in failures), None)
        if broken is not None:
            failures[step.key] = f"{_NOT_BUILT}{broken.title} failed"
            continue
        error = _attempt(step, cache, runtime)
        if error:
            failures[step.key] = error
    return failures


def _side_by_side(cache: Cache, to_build: list[Step], runtime: Runtime, count: int) -> dict[str, str]:
    """Run steps in worker processes as soon as their inputs are there; if a worker is killed, what is left fails."""
    import multiprocessing

    failures: dict[str, str] = {}
    building = {step.key for step in to_build}
    pending = {step.key: {up.key for up in step.inputs.values()} & building for step in to_build}
    ticks = iter(progress(range(len(to_build)), "artifacts"))
    waiting = list(to_build)
    running: dict[Future[str | None], Step] = {}
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, context, _start_worker, (runtime.verbosity, plugged_modules()))
    try:
        while waiting or running:
            for step in list(waiting):
                broken = next((up for up in step.inputs.values() if up.key in failures), None)
                if broken is not None:
                    failures[step.key] = f"{_NOT_BUILT}{broken.title} failed"
                    waiting.remove(step)
                elif not pending[step.key] and len(running) < 2 * count:
                    running[pool.submit(_work, step, cache.root, runtime)] = step
                    waiting.remove(step)
            finished, _ = wait(running, return_when=FIRST_COMPLETED) if running else (set(), None)
            for future in finished:
                step = running.pop(future)
                next(ticks, None)
                error = future.result()
                if error:
                    failures[step.key] = error
                for needs in pending.values():
                    needs.discard(step.key)
    except BrokenProcessPool:
        reason = (
            "a worker process died (killed, or out of memory?); finished artifacts are kept: "
            "run the command again, with fewer runtime.workers if memory is short"
        )
        pool.shutdown(wait=False, cancel_futures=True)
        return {step.key: reason for step in [step, *running.values(), *waiting]} | failures
    except BaseException:  # an interrupt should not wait for trainings to end; a checkpoint is as good as after a kill
        for process in multiprocessing.active_children():
            process.kill()
        # a killed worker may have held the queue's lock: waiting for the pool could take for ever
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    else:
        pool.shutdown()
    finally:
        for _ in ticks:  # closes the bar
            pass
    return failures


def _start_worker(verbosity: int, plugins: list[str]) -> None:
    """Die with the parent, however it dies: a killed run leaves no workers behind."""
    import multiprocessing
    from multiprocessing.connection import wait as wait_for

    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which a killed worker would leave behind
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, too, and kills its workers
    set_verbosity(verbosity if verbosity > 1 else 0)  # no bars beside the parent's
    load_plugins(plugins)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait_for([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _work(step: Step, root: Path, runtime: Runtime) -> str | None:
    cache = Cache(root, say=lambda text: say(text, 1 - min(runtime.verbosity, 1)), warn=warn)
    return _attempt(step, cache, replace(runtime, device=resolve_device(runtime.device)))


def _attempt(step: Step, cache: Cache, runtime: Runtime) -> str | None:
    """Build a step; None, or what went wrong in one line (with the traceback on standard error if it was our fault)."""
    try:
        build(step, cache, runtime)
    except UserError as error:
        return str(error)
    except Exception as error:
        fault = machine_fault(error)
        if fault is None:
            warn(f"{step.name} ({step.title}) failed:\n{traceback.format_exc()}")
        return fault or f"{type(error).__name__}: {str(error).strip()}".replace("\n", " ")
    return None


def machine_fault(error: Exception) -> str | None:
    """One line about a full disk, a missing permission and the like; None where it is something else."""
    if not isinstance(error, OSError) or error.errno not in _MACHINE:
        return None
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror}; mend that and run the command again: finished artifacts are kept"


def root_causes(failures: dict[str, str]) -> list[str]:
    """The reasons of failures, without those of steps that only rest on a failed one."""
    return list(dict.fromkeys(reason for reason in failures.values() if not reason.startswith(_NOT_BUILT)))


def _has_gpu(device: str) -> bool:
    """Would steps share a GPU? Answered without importing torch where there is none."""
    return device.startswith("cuda") or (
        device == "auto" and Path("/dev/nvidia0").exists() and resolve_device(device) != "cpu"
    )


def handed_over(step: Step) -> dict[str, Any]:
    """What a stage gets: what is keyed, and beside it where its files lie and the command line, which the report shows."""
    config = copy.deepcopy(dict(step.config))
    for name, path in step.paths.items():
        group, option = name.split(".", 1)
        config[group][option] = Path(path)
    return config | {"command": step.command}

"""Jobs side by side, in worker processes that die with their parent."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

from braindistill.cache import Cache
from braindistill.cache.step import Step
from braindistill.exports import plugged_modules
from braindistill.jobs import Job, attempt, broken
from braindistill.plugins import load_plugins
from braindistill.runtime import Runtime, progress, resolve_device, say, set_verbosity, warn

#: seconds that a worker has to save a checkpoint when it is told to end
_GRACE = 20


def side_by_side(cache: Cache, jobs: list[Job], runtime: Runtime, count: int) -> dict[str, str]:
    """Run jobs in worker processes as soon as their inputs are there; if a worker is killed, what is left fails."""
    import multiprocessing

    failures: dict[str, str] = {}
    building = {step.key for job in jobs for step in job.steps}
    ticks = iter(progress(range(len(jobs)), "artifacts"))
    waiting = list(jobs)
    running: dict[Future[str | None], Job] = {}
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, context, _start_worker, (runtime.verbosity, plugged_modules()))
    try:
        while waiting or running:
            for job in list(waiting):
                reason = broken(job, failures)
                if reason is not None:
                    failures |= {step.key: reason for step in job.steps}
                    waiting.remove(job)
                elif len(running) < 2 * count and not any(need.key in building for need in job.needs):
                    running[pool.submit(_work, job.members, cache.root, runtime)] = job
                    waiting.remove(job)
            finished, _ = wait(running, return_when=FIRST_COMPLETED) if running else (set(), None)
            for future in finished:
                job = running.pop(future)
                next(ticks, None)
                error = future.result()
                if error:
                    failures |= {step.key: error for step in job.steps}
                building -= {step.key for step in job.steps}
    except BrokenProcessPool:
        reason = (
            "a worker process died (killed, or out of memory?); finished artifacts are kept: "
            "run the command again, with fewer runtime.workers if memory is short"
        )
        pool.shutdown(wait=False, cancel_futures=True)
        return {step.key: reason for job in [job, *running.values(), *waiting] for step in job.steps} | failures
    except BaseException:  # an interrupt should not wait for trainings to end: they save a checkpoint and leave
        children = multiprocessing.active_children()
        for process in children:
            process.terminate()
        for process in children:
            process.join(_GRACE)
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
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _work(steps: list[Step], root: Path, runtime: Runtime) -> str | None:
    cache = Cache(root, say=lambda text: say(text, 1 - min(runtime.verbosity, 1)), warn=warn)
    return attempt(steps, cache, replace(runtime, device=resolve_device(runtime.device)))

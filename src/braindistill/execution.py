"""Building what is missing: in this process, or side by side in workers that die with it."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from braindistill.cache import Cache
from braindistill.cache.step import Step
from braindistill.jobs import NOT_BUILT, Job, attempt, broken, jobs_of, stacks_of
from braindistill.runtime import Runtime, progress, resolve_device, say
from braindistill.workers import side_by_side

#: starting worker processes costs seconds: below this many steps, work in this one
_WORTH_WORKERS = 8


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
    stacks = stacks_of(targets)

    def visit(step: Step) -> None:
        if step.key in seen:
            return
        seen.add(step.key)
        if cache.lookup(step):
            reused.append(step)
            return
        # the members of a stack are built by one call, whatever asks for one of them
        members = stacks.get(step.together, [step])
        for member in members:
            for upstream in member.inputs.values():
                visit(upstream)
        for member in members:
            if member.key == step.key or member.key not in seen:
                seen.add(member.key)
                (reused if cache.lookup(member) else to_build).append(member)

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
    jobs = jobs_of(to_build, targets)
    if min(count, len(jobs)) == 1 or len(to_build) < _WORTH_WORKERS:
        return _one_by_one(cache, jobs, runtime)
    return side_by_side(cache, jobs, runtime, min(count, len(jobs)))


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


def _one_by_one(cache: Cache, jobs: list[Job], runtime: Runtime) -> dict[str, str]:
    failures: dict[str, str] = {}
    runtime = replace(runtime, device=resolve_device(runtime.device))
    for job in progress(jobs, "artifacts"):
        error = broken(job, failures) or attempt(job.members, cache, runtime)
        if error:
            failures |= {step.key: error for step in job.steps}
    return failures


def root_causes(failures: dict[str, str]) -> list[str]:
    """The reasons of failures, without those of steps that only rest on a failed one."""
    return list(dict.fromkeys(reason for reason in failures.values() if not reason.startswith(NOT_BUILT)))


def _has_gpu(device: str) -> bool:
    """Would steps share a GPU? Answered without importing torch where there is none."""
    return device.startswith("cuda") or (
        device == "auto" and Path("/dev/nvidia0").exists() and resolve_device(device) != "cpu"
    )

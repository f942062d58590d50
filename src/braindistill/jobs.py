"""What one call makes, and the call: an artifact, or those of several seeds that are trained as one."""

from __future__ import annotations

import copy
import errno
import importlib
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from braindistill.cache import Cache
from braindistill.cache.step import Step
from braindistill.errors import UserError
from braindistill.runtime import Runtime, threads, warn

NOT_BUILT = "not built: "
#: what a full disk, a lost mount or a missing permission raises: no bug of ours, and no traceback helps
_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ESTALE}


def stacks_of(targets: list[Step]) -> dict[str, list[Step]]:
    """Label → the steps behind the targets that are made by one call."""
    found: dict[str, dict[str, Step]] = {}
    seen: set[str] = set()

    def visit(step: Step) -> None:
        if step.key in seen:
            return
        seen.add(step.key)
        if step.together:
            found.setdefault(step.together, {})[step.key] = step
        for upstream in step.inputs.values():
            visit(upstream)

    for target in targets:
        visit(target)
    return {label: list(steps.values()) for label, steps in found.items()}


@dataclass(frozen=True)
class Job:
    """What one call makes: a step, or those of a stack that are missing among its ``members``."""

    steps: list[Step]
    members: list[Step]

    @property
    def needs(self) -> list[Step]:
        return [upstream for member in self.members for upstream in member.inputs.values()]


def jobs_of(to_build: list[Step], targets: list[Step]) -> list[Job]:
    stacks = stacks_of(targets)
    jobs: dict[str, Job] = {}
    for step in to_build:
        label = step.together or step.key
        jobs.setdefault(label, Job([], stacks.get(step.together, [step]))).steps.append(step)
    return list(jobs.values())


def broken(job: Job, failures: dict[str, str]) -> str | None:
    """Why a job can't be done: what it needs has failed."""
    return next((f"{NOT_BUILT}{need.title} failed" for need in job.needs if need.key in failures), None)


def build(steps: Sequence[Step], cache: Cache, runtime: Runtime) -> list[Path]:
    """Build an artifact, or those of a stack, whose inputs are there."""
    stage = importlib.import_module(f"braindistill.stages.{steps[0].stage.replace('-', '_')}")

    def make(folders: list[Path | None]) -> None:
        inputs = [_opened(step, cache) for step in steps]
        with threads(steps[0].config.get("train", {}).get("threads", 1)):
            if len(steps) == 1:
                stage.run(handed_over(steps[0]), inputs[0], folders[0], runtime)
            else:
                stage.run_together([handed_over(step) for step in steps], inputs, folders, runtime)

    return cache.build_together(steps, make)


def _opened(step: Step, cache: Cache) -> dict[str, Path]:
    inputs = {}
    for name, upstream in step.inputs.items():
        found = cache.lookup(upstream)
        if found is None:
            raise UserError(f"{upstream.name} has gone while {step.name} was to be built; run the command again")
        inputs[name] = found
    return inputs


def attempt(steps: list[Step], cache: Cache, runtime: Runtime) -> str | None:
    """Do a job; None, or what went wrong in one line (with the traceback on standard error if it was our fault)."""
    try:
        build(steps, cache, runtime)
    except UserError as error:
        return str(error)
    except Exception as error:
        fault = machine_fault(error)
        if fault is None:
            warn(f"{steps[0].name} ({steps[0].title}) failed:\n{traceback.format_exc()}")
        return fault or f"{type(error).__name__}: {str(error).strip()}".replace("\n", " ")
    return None


def machine_fault(error: Exception) -> str | None:
    """One line about a full disk, a missing permission and the like; None where it is something else."""
    if not isinstance(error, OSError) or error.errno not in _MACHINE:
        return None
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror}; mend that and run the command again: finished artifacts are kept"


def handed_over(step: Step) -> dict[str, Any]:
    """What a stage gets: what is keyed, and beside it where its files lie and the command line, which the report shows."""
    config = copy.deepcopy(dict(step.config))
    for name, path in step.paths.items():
        group, option = name.split(".", 1)
        config[group][option] = Path(path)
    return config | {"command": step.command}

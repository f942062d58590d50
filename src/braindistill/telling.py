"""What is printed about steps: the plan, where a result is, why something failed."""

from __future__ import annotations

import sys

from braindistill.cache import Cache
from braindistill.cache.step import Step
from braindistill.execution import estimate, missing_steps, root_causes


def print_plan(cache: Cache, targets: list[Step]) -> int:
    """What would be built and reused, and what that takes."""
    to_build, reused = missing_steps(cache, targets)
    for step in reused:
        print(f"reuse  {step.name}  {step.title}")
    for step in to_build:
        print(f"build  {step.name}  {step.title}: {cache.why(step)}")
    seconds, size = estimate(cache, to_build)
    cost = "time and disk unknown: nothing of the kind was built here yet"
    if seconds is not None and size is not None:
        cost = f"about {seconds:.0f} s of one process and {size / 1e6:.1f} MB"
    print(f"{len(to_build)} to build, {len(reused)} to reuse" + (f"; {cost}" if to_build else ""))
    return 0


def print_path(cache: Cache, step: Step) -> int:
    """An artifact's summary and its folder."""
    folder = cache.path(step)
    for name in ("summary.txt", "scores.json"):
        if (folder / name).exists():
            print((folder / name).read_text(encoding="utf-8"))
    print(folder)
    return 0


def report_failures(failures: dict[str, str]) -> int:
    """One line a reason; the exit code."""
    for reason in root_causes(failures):
        print(f"braindistill: {reason}", file=sys.stderr)
    return 1 if failures else 0


def root_cause(step: Step, failures: dict[str, str]) -> str:
    """The reason of a failed step, or that of the step it rests on."""
    for upstream in step.inputs.values():
        if upstream.key in failures:
            return root_cause(upstream, failures)
    return failures[step.key]

"""What a verb does with its composed config: check it, plan, build, and print where the result is."""

from __future__ import annotations

import json
import platform
import re
import shlex
import sys
from pathlib import Path
from typing import Any

from braindistill.cache import Cache
from braindistill.cache.provenance import versions
from braindistill.compose import check_own_words, check_plugins, under_seeds
from braindistill.errors import UserError
from braindistill.execution import Missing, ensure
from braindistill.inspection import inspect_cache
from braindistill.invocation import Invocation
from braindistill.jobs import machine_fault
from braindistill.judging import judge
from braindistill.pipeline import Planner, step_for
from braindistill.runtime import Runtime, say, set_verbosity, warn
from braindistill.telling import print_path, print_plan, report_failures


def perform(verb: str, action: list[str], composed: Any) -> int:
    """Run a verb on the config of one job; returns the exit code, having printed one line where it failed."""
    try:
        return _perform(verb, action, composed)
    except Missing as error:
        how = shlex.join(Invocation.current().how)
        print(
            f"braindistill: {error}",
            *(f"{command} {how}".rstrip() for command in error.commands),
            sep="\n  ",
            file=sys.stderr,
        )
        return 3
    except UserError as error:
        print(f"braindistill: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        fault = machine_fault(error)
        if fault is None:
            raise
        print(f"braindistill: {fault}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("braindistill: interrupted; finished artifacts are kept, the same command goes on", file=sys.stderr)
        return 130


def _perform(verb: str, action: list[str], composed: Any) -> int:
    job = Invocation.current()
    check_plugins(job.words, composed)
    under = under_seeds(composed, job.words, job.compose, job.extra)
    config = under(None)
    runtime = Runtime(**config["runtime"])
    if runtime.workers < 0 or not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", runtime.device):
        raise UserError("runtime: expected workers ≥ 0 and device=auto, cpu, cuda or cuda:N")
    set_verbosity(runtime.verbosity)
    if verb != "eval":
        check_own_words(job.words, config)
    if verb == "info":
        return _info(config, runtime, job)
    if verb == "cache":
        return inspect_cache(Path(runtime.cache), action)
    cache = Cache(Path(runtime.cache), say=say, warn=warn)
    if verb == "eval":
        return judge(cache, config, runtime, job)
    targets = step_for(verb, Planner(cache, job.flags), config, job.recorded, under)
    if runtime.dry_run:
        return print_plan(cache, targets)
    failures = ensure(cache, targets, runtime)
    if failures:
        return report_failures(failures)
    # several only where a verb makes several of its kind
    asked = [step for step in targets if step.stage == targets[-1].stage]
    return max(print_path(cache, step) for step in asked)


def _info(config: dict[str, Any], runtime: Runtime, job: Invocation) -> int:
    from braindistill import __version__

    print(f"braindistill {__version__}, Python {platform.python_version()}, {platform.platform()}")
    print("  " + ", ".join(f"{name} {version}" for name, version in versions().items() if name != "braindistill"))
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    print(f"CUDA device: {gpu}; CPU threads: {torch.get_num_threads()}")
    print(f"configs: {', '.join(job.folders)}")
    print(f"cache: {Path(runtime.cache).absolute()}")
    named = {word.lstrip("+").partition("=")[0] for word in job.words}
    if "student" in named:
        _describe_student(config, runtime, job)
    if "fmri" not in named:
        if "student" not in named:
            print(json.dumps({key: value for key, value in config.items() if key != "plugins"}, indent=1))
        return 0
    cache = Cache(Path(runtime.cache), say=say, warn=warn)  # who names a data set wants to see what is in it
    step = Planner(cache, job.flags).responses(config, job.recorded)
    if runtime.dry_run:
        return print_plan(cache, [step])
    return report_failures(ensure(cache, [step], runtime)) or print_path(cache, step)


def _describe_student(config: dict[str, Any], runtime: Runtime, job: Invocation) -> None:
    """Print the layers of the student, for the experiment's images where they are prepared."""
    from braindistill.images import ImageSet
    from braindistill.students.build import build
    from braindistill.students.summary import summarise

    shape, n_classes, why = (3, 32, 32), 10, "assumed, since the experiment's images are not prepared"
    if (Path(runtime.cache) / "images").is_dir():  # or there is nothing to look up, and no input worth a fingerprint
        cache = Cache(Path(runtime.cache), say=say, warn=warn)
        folder = cache.lookup(Planner(cache, job.flags).images(config, job.recorded))
        if folder:
            image_set = ImageSet.load(folder)
            shape, n_classes, why = image_set.image_shape, len(image_set.classes), f"of {folder}"
    options = dict(config["student"])
    name = options.pop("name")
    network = build(name, n_classes, shape, config["seed"], **options)
    print(f"student={name} on images of {' × '.join(map(str, shape))} and {n_classes} classes ({why}):")
    print(summarise(network, shape))

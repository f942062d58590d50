"""What a verb does with its composed config: check it, plan, build, and print where the result is."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

from braindistill import config as schema
from braindistill.cache import Cache
from braindistill.cache.step import Step
from braindistill.compose import check_own_words, checked, make_arms, plain_words
from braindistill.errors import UserError
from braindistill.execution import Missing, ensure, estimate, missing_steps
from braindistill.pipeline import Arm, Planner, seeds_of, step_for, uses_target
from braindistill.runtime import Runtime, progress, say, set_verbosity, warn


def perform(verb: str, action: list[str], composed: Any, words: list[str]) -> int:
    """Run a verb; returns the exit code, having printed one line where it failed."""
    try:
        schema.load_plugins(list(composed.get("plugins") or []))
        check_own_words(words, composed)
        config = checked(composed)
        runtime = Runtime(**config["runtime"])
        set_verbosity(runtime.verbosity)
        if verb == "info":
            return _info(config, runtime)
        cache = Cache(Path(runtime.cache), say=say, warn=warn)
        if verb == "cache":
            return _cache(cache, action)
        if verb == "eval":
            return _eval(cache, config, words, runtime)
        planner = Planner(cache)
        targets = step_for(verb, planner, config, [w for w in plain_words(words) if not w.startswith("runtime.")])
        if runtime.dry_run:
            return _print_plan(cache, targets)
        failures = ensure(cache, targets, runtime)
        return _report_failures(failures) or _print_path(cache, targets[-1])
    except Missing as error:
        print(f"braindistill: {error}", file=sys.stderr)
        return 3
    except UserError as error:
        print(f"braindistill: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("braindistill: interrupted; finished artifacts are kept, the same command goes on", file=sys.stderr)
        return 130


def _eval(cache: Cache, config: dict[str, Any], words: list[str], runtime: Runtime) -> int:
    import hydra

    base = [word for word in plain_words(words) if not word.startswith("runtime.")]
    command = f"braindistill eval {shlex.join(base)}"
    arms = make_arms(words, config, lambda merged: hydra.compose("config", merged))
    for arm in arms:
        arm.config(seeds_of(config)[0])  # a bad option of any arm is said before anything is built
    planner = Planner(cache)
    data = [planner.images(config, base), planner.responses(config, base)]
    if not runtime.dry_run:
        failures = ensure(cache, data, runtime)
        if failures:
            return _report_failures(failures)
    rois = _roi_names(cache, data[1])
    reasons = {arm.name: why for arm in arms if (why := _why_not(arm, arms, seeds_of(config)[0], rois))}
    running = [arm for arm in arms if arm.name not in reasons]
    if not running:
        raise UserError(
            "eval: none of the arms can be run: " + "; ".join(f"{name}: {why}" for name, why in reasons.items())
        )
    target = planner.evaluation(config, running, reasons, base)
    if runtime.dry_run:
        return _print_plan(cache, [target])
    upstream = [step for name, step in target.inputs.items() if name.startswith("prediction/")]
    failures = {} if cache.lookup(target) else ensure(cache, upstream, runtime)
    if failures:
        return _report_incomplete(cache, target, running, seeds_of(config), failures, command)
    ensure(cache, [target], runtime)
    folder = cache.path(target)
    results = json.loads((folder / "results.json").read_text())
    _print_results(results, folder)
    return 0


def _why_not(arm: Arm, arms: list[Arm], seed: int, rois: set[str] | None) -> str | None:
    """The reason why the data or the experiment can't have an arm, or None."""
    config = arm.config(seed)
    teacher = config["teacher"]
    taught = uses_target(config) and config["target"]["name"] != "file"
    if config["images"]["labels_matched"]:
        decoders = [other.config(seed)["teacher"] for other in arms if uses_target(other.config(seed))]
        if not any(decoder.get("labels") == "all" for decoder in decoders):
            return "decoder and students have the same labels (teacher.labels=student), so the budget is equal as it is"
    if taught and teacher.get("control") == "nuisance" and rois is not None and teacher["nuisance"] not in rois:
        return f"the data have no mask '{teacher['nuisance']}' of voxels outside visual cortex"
    if (
        taught
        and teacher["name"] == "random_matched"
        and config["images"]["n_pool"]
        and config["target"]["images"] != "labelled"
    ):
        return "targets are on an unlabelled pool, where it would use labels that no other arm has"
    return None


def _roi_names(cache: Cache, responses: Step) -> set[str] | None:
    folder = cache.lookup(responses)
    if folder is None:
        return None
    from braindistill.fmri.responses import Responses

    return set(Responses.load(folder).rois)


def _print_results(results: dict[str, Any], folder: Path) -> None:
    from braindistill.report.table import render

    print(render(results))
    print(f"report: {folder / 'report.html'}")
    print(folder)


def _report_incomplete(
    cache: Cache, target: Step, arms: list[Arm], seeds: list[int], failures: dict[str, str], command: str
) -> int:
    """Some arms failed: the others are compared and shown, in a folder that is never taken for a result."""
    from braindistill.stages.eval import evaluate

    failed: dict[str, str] = {}
    for arm in arms:
        for seed in seeds:
            step = target.inputs[f"prediction/{arm.name}/{seed}"]
            if step.key in failures and arm.name not in failed:
                failed[arm.name] = _root_cause(step, failures)
    folder = cache.path(target).with_name(cache.path(target).name + ".incomplete")
    folder.mkdir(parents=True, exist_ok=True)
    inputs = {name: cache.path(step) for name, step in target.inputs.items()}
    results = evaluate(dict(target.config), inputs, folder, failed, command)
    _print_results(results, folder)
    for name, reason in failed.items():
        print(f"braindistill: arm {name} failed: {reason}", file=sys.stderr)
    return 1


def _root_cause(step: Step, failures: dict[str, str]) -> str:
    for upstream in step.inputs.values():
        if upstream.key in failures:
            return _root_cause(upstream, failures)
    return failures[step.key]


def _report_failures(failures: dict[str, str]) -> int:
    reasons = [reason for reason in failures.values() if not reason.startswith("not built: ")]
    for reason in dict.fromkeys(reasons):
        print(f"braindistill: {reason}", file=sys.stderr)
    return 1 if failures else 0


def _print_path(cache: Cache, step: Step) -> int:
    folder = cache.path(step)
    if (folder / "scores.json").exists():
        print((folder / "scores.json").read_text())
    print(folder)
    return 0


def _print_plan(cache: Cache, targets: list[Step]) -> int:
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


def _info(config: dict[str, Any], runtime: Runtime) -> int:
    from braindistill import __version__

    print(f"braindistill {__version__}, Python {platform.python_version()}, {platform.platform()}")
    packages = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "himalaya", "nibabel", "hydra-core")
    print("  " + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages))
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    print(f"CUDA device: {gpu}; CPU threads: {torch.get_num_threads()}")
    print(f"configs: {schema.find_configs()}")
    print(f"cache: {Path(runtime.cache).absolute()}")
    print(json.dumps({key: value for key, value in config.items() if key != "plugins"}, indent=1))
    return 0


def _cache(cache: Cache, action: list[str]) -> int:
    verb, *rest = action
    if verb == "ls":
        for entry in sorted(cache.entries(), key=lambda entry: (entry.stage, entry.created)):
            print(
                f"{entry.stage:14}{entry.key12:14}{entry.bytes / 1e6:9.2f} MB  {entry.created:20.19}{entry.state:12}{entry.title}"
            )
        return 0
    if verb == "show":
        if not rest:
            raise UserError(
                "cache show KEY: give the first digits of an artifact's key; `braindistill cache ls` lists them"
            )
        print(json.dumps(cache.manifest(cache.find(rest[0])), indent=1))
        return 0
    if verb == "verify":
        problems = cache.verify(lambda paths: progress(paths, "verify"))
        print("\n".join(problems) if problems else f"{len(cache.entries())} artifacts, all whole")
        return 1 if problems else 0
    days = float(rest[rest.index("--older-than") + 1]) if "--older-than" in rest[:-1] else None
    dry = "--dry-run" in rest
    removed = cache.gc(days, dry_run=dry)
    for entry in removed:
        print(
            f"{'would remove' if dry else 'removed'} {entry.stage}/{entry.key12} ({entry.state}, {entry.bytes / 1e6:.2f} MB)"
        )
    print(f"{len(removed)} folders, {sum(entry.bytes for entry in removed) / 1e6:.2f} MB")
    return 0

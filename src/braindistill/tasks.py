"""What a verb does with its composed config: check it, plan, build, and print where the result is."""

from __future__ import annotations

import json
import platform
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from braindistill.cache import Cache
from braindistill.cache.provenance import versions
from braindistill.cache.step import Step
from braindistill.compose import check_own_words, check_plugins, make_arms, plain_words, under_seeds
from braindistill.errors import UserError
from braindistill.execution import Missing, ensure, estimate, missing_steps, root_causes
from braindistill.inspection import inspect_cache
from braindistill.jobs import machine_fault
from braindistill.pipeline import Arm, Planner, described_by, needs_teacher, seeds_of, step_for, uses_target
from braindistill.runtime import Runtime, say, set_verbosity, warn


def perform(verb: str, action: list[str], composed: Any) -> int:
    """Run a verb on the config of one job; returns the exit code, having printed one line where it failed."""
    try:
        return _perform(verb, action, composed)
    except Missing as error:
        how = shlex.join(Job.current().how)
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
    job = Job.current()
    check_plugins(job.words, composed)
    under = under_seeds(composed, job.words, _compose, job.extra)
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
        return _eval(cache, config, runtime, job)
    targets = step_for(verb, Planner(cache, job.flags), config, job.recorded, under)
    if runtime.dry_run:
        return _print_plan(cache, targets)
    failures = ensure(cache, targets, runtime)
    if failures:
        return _report_failures(failures)
    # several only where a verb makes several of its kind
    asked = [step for step in targets if step.stage == targets[-1].stage]
    return max(_print_path(cache, step) for step in asked)


def _compose(words: list[str]) -> Any:
    import hydra

    return hydra.compose("config", words)


@dataclass(frozen=True)
class Job:
    """What Hydra knows about the job that runs: its own overrides, and the folders that configs come from.

    ``recorded`` are the words that go into an artifact's command line; how it was run is no part of it.
    """

    words: list[str]
    folders: list[str]
    extra: Path | None

    @classmethod
    def current(cls) -> Job:
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import OmegaConf

        hydra = HydraConfig.get()
        sources = [source for source in hydra.runtime.config_sources if source.schema == "file"]
        extra = next((Path(source.path) for source in sources if source.provider == "command-line"), None)
        words = cast(list[str], OmegaConf.to_container(hydra.overrides.task, resolve=False))
        return cls(words, [source.path for source in sources], extra)

    @property
    def flags(self) -> list[str]:
        return ["--config-dir", str(self.extra)] if self.extra else []

    @property
    def how(self) -> list[str]:
        """Words about how it is run that any other command for the same cache needs, too."""
        running = [word for word in plain_words(self.words) if word.startswith("runtime.")]
        return [word for word in running if not word.startswith(("runtime.upstream", "runtime.dry_run"))]

    @property
    def recorded(self) -> list[str]:
        return [word for word in plain_words(self.words) if not word.startswith("runtime.")]


def _eval(cache: Cache, config: dict[str, Any], runtime: Runtime, job: Job) -> int:
    seeds = seeds_of(config)
    arms = make_arms(job.words, config, _compose, job.extra)
    check_own_words(job.words, config, *(arm.config(seeds[0]) for arm in arms))
    planner = Planner(cache, job.flags)
    common = [word for word in job.recorded if not word.lstrip("+").startswith("eval.")]
    data = [planner.images(config, common), planner.responses(config, common)]
    for arm in arms:  # one that can't be planned is told before anything is built
        planner.arm(arm, seeds[0], seeds)
    if runtime.upstream == "build" and not runtime.dry_run:  # which arms apply depends on the data
        failures = ensure(cache, data, runtime)
        if failures:
            return _report_failures(failures)
    rois, n_classes = _what_data_have(cache, *data)
    reasons = {arm.name: why for arm in arms if (why := _why_not(arm, arms, seeds[0], rois, n_classes))}
    running = [arm for arm in arms if arm.name not in reasons]
    if not running:
        told = "; ".join(f"{name}: {why}" for name, why in reasons.items())
        raise UserError(f"eval: none of the arms can be run: {told}")
    target = planner.evaluation(config, running, reasons, job.recorded)
    if runtime.dry_run:
        return _print_plan(cache, [target])
    predictions = [step for name, step in target.inputs.items() if name.startswith("prediction/")]
    failures = {} if cache.lookup(target) else ensure(cache, predictions, runtime)
    folder, incomplete = cache.path(target), cache.path(target).with_suffix(".incomplete")
    if failures:
        return _report_incomplete(cache, target, running, seeds, failures, incomplete)
    failures = ensure(cache, [target], runtime)
    if failures:
        return _report_failures(failures)
    shutil.rmtree(incomplete, ignore_errors=True)
    _print_results(json.loads((folder / "results.json").read_text()), folder)
    return 0


def _why_not(arm: Arm, arms: list[Arm], seed: int, rois: set[str] | None, n_classes: int | None) -> str | None:
    """The reason why the data or the experiment can't have an arm, or None."""
    config = described_by(arm.config(seed))
    teacher = config["teacher"]
    taught = uses_target(config) and needs_teacher(config)
    control = config["target"].get("control") if uses_target(config) else None
    if config["images"]["labels_matched"]:
        decoders = [other.config(seed)["teacher"] for other in arms if uses_target(other.config(seed))]
        if not any(decoder.get("labels") == "all" for decoder in decoders):
            return "decoder and students have the same labels (teacher.labels=student), so the budget is equal as it is"
    if taught and teacher.get("control") == "nuisance" and rois is not None and teacher["nuisance"] not in rois:
        return f"the data have no mask '{teacher['nuisance']}' of voxels outside visual cortex"
    if taught and teacher.get("control") == "random_readout" and teacher["name"] == "decoder":
        return "it reads out the features of an encoder, and teacher=decoder has none"
    if control in ("random_matched", "shuffled_within"):
        if config["images"]["n_pool"] and config["target"]["images"] != "labelled":
            return "targets are on an unlabelled pool, where it would use labels that no other arm has"
        if control == "random_matched" and n_classes == 2:
            return "with two classes there is only one other class, and nothing to permute"
    return None


def _what_data_have(cache: Cache, images: Step, responses: Step) -> tuple[set[str] | None, int | None]:
    """Names of the ROIs and number of the student's classes; None in a dry run where they aren't prepared yet."""
    folders = cache.lookup(images), cache.lookup(responses)
    if folders[0] is None or folders[1] is None:
        return None, None
    from braindistill.fmri.responses import Responses
    from braindistill.images import ImageSet

    return set(Responses.load(folders[1]).rois), len(ImageSet.load(folders[0]).classes)


def _print_results(results: dict[str, Any], folder: Path) -> None:
    from braindistill.report.table import render

    print(render(results))
    print(f"report: {folder / 'report.html'}")
    print(folder)


def _report_incomplete(
    cache: Cache, target: Step, arms: list[Arm], seeds: list[int], failures: dict[str, str], folder: Path
) -> int:
    """Some arms failed: the others are compared and shown, in a folder that is never taken for a result."""
    from braindistill.stages.eval import evaluate

    failed: dict[str, str] = {}
    for arm in arms:
        for seed in seeds:
            step = target.inputs[f"prediction/{arm.name}/{seed}"]
            if step.key in failures and arm.name not in failed:
                failed[arm.name] = _root_cause(step, failures)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    inputs = {name: cache.path(step) for name, step in target.inputs.items()}
    _print_results(evaluate(dict(target.config), inputs, folder, failed, target.command), folder)
    for name, reason in failed.items():
        print(f"braindistill: arm {name} failed: {reason}", file=sys.stderr)
    return 1


def _root_cause(step: Step, failures: dict[str, str]) -> str:
    for upstream in step.inputs.values():
        if upstream.key in failures:
            return _root_cause(upstream, failures)
    return failures[step.key]


def _report_failures(failures: dict[str, str]) -> int:
    for reason in root_causes(failures):
        print(f"braindistill: {reason}", file=sys.stderr)
    return 1 if failures else 0


def _print_path(cache: Cache, step: Step) -> int:
    folder = cache.path(step)
    for name in ("summary.txt", "scores.json"):
        if (folder / name).exists():
            print((folder / name).read_text(encoding="utf-8"))
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


def _info(config: dict[str, Any], runtime: Runtime, job: Job) -> int:
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
        return _print_plan(cache, [step])
    return _report_failures(ensure(cache, [step], runtime)) or _print_path(cache, step)


def _describe_student(config: dict[str, Any], runtime: Runtime, job: Job) -> None:
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

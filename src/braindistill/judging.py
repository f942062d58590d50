"""What the verb ``eval`` does: choose its arms, tune them, build what they need, compare them, and show it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from braindistill.cache import Cache
from braindistill.cache.step import Step
from braindistill.compose import check_own_words, make_arm, make_arms
from braindistill.errors import UserError
from braindistill.execution import Missing, ensure, missing_steps
from braindistill.invocation import Invocation
from braindistill.jobs import NOT_BUILT, handed_over
from braindistill.pipeline import Planner
from braindistill.planning.arms import Arm, describe, seeds_of
from braindistill.planning.evaluation import arm_steps, plan_evaluation
from braindistill.planning.expansion import Maker, curve_arms, label_budgets, roi_arms, what_data_have, why_not
from braindistill.planning.subjects import for_subjects, needs_brain, same_files, subjects_of
from braindistill.planning.tuning import Tuned, check_tuning, choose, plan_trials
from braindistill.runtime import Runtime, say, warn
from braindistill.telling import print_plan, report_failures, root_cause
from braindistill.words import key_of

#: inputs of the evaluation that are made for it; the others stand behind these
_BUILT = ("prediction/", "curve/", "measure/", "explain")


def judge(cache: Cache, config: dict[str, Any], runtime: Runtime, invocation: Invocation) -> int:
    """Run ``eval`` on a checked config; returns the exit code."""
    seeds = seeds_of(config)
    _check_options(config["eval"])
    arms = make_arms(invocation.words, config, invocation.compose, invocation.extra)
    check_own_words(invocation.words, config, *(arm.config(seeds[0]) for arm in arms))
    check_tuning(arms, config, seeds[0])
    planner = Planner(cache, invocation.flags)
    common = [word for word in invocation.recorded if not word.lstrip("+").startswith("eval.")]
    subjects = subjects_of(config)

    def make(name: str, own: list[str], words: list[str]) -> Arm:
        changed = {key_of(word) for word in words}
        kept = [word for word in invocation.words if key_of(word) not in changed]
        kept += [f"++{word}" for word in words]
        return make_arm(name, own, kept, config, invocation.compose, invocation.extra)

    prepared = [planner.images(config, common), planner.responses(config, common)]
    for subject, word in subjects.items():
        own = make(f"of subject {subject}", [], [word])
        prepared += [step(own.config(seeds[0]), own.overrides) for step in (planner.images, planner.responses)]
    _check_twins(list(subjects), prepared[3::2])
    for arm in arms:  # one that can't be planned is told before anything is built
        arm_steps(planner, arm, seeds[0], seeds)
    if runtime.upstream == "build" and not runtime.dry_run:  # which arms apply depends on the data
        failures = ensure(cache, prepared, runtime)
        if failures:
            return report_failures(failures)
    data = what_data_have(cache, *prepared[:2])
    if data is not None:
        _check_tables(config["eval"], data.images)
    elif "each" in config["eval"]["rois"] or config["eval"]["match_voxels"]:  # neither is known before
        if not runtime.dry_run:
            raise Missing(missing_steps(cache, prepared)[0])
        print("the arms of eval.rois are known after `braindistill prepare`; they come on top of this plan:")
        config = config | {"eval": config["eval"] | {"rois": [], "match_voxels": False}}
    reasons = {arm.name: why for arm in arms if (why := why_not(arm, arms, seeds[0], data))}
    running = [arm for arm in arms if arm.name not in reasons]
    if not running:
        told = "; ".join(f"{name}: {why}" for name, why in reasons.items())
        raise UserError(f"eval: none of the arms can be run: {told}")

    rois = roi_arms(running, config, seeds[0], data, make)
    running, reasons = running + rois.arms, reasons | rois.not_run
    context: dict[str, Any] = {"rois": rois.context} if rois.context else {}
    budgets = label_budgets(config, seeds[0], data)
    lost: list[tuple[Arm, str]] = []  # of which no trial worked
    if config["eval"]["tune"]:
        tuned = _tune(cache, planner, running, config, seeds, make, runtime)
        if tuned is None:
            return 0
        lost = [(arm, tuned.failed[arm.name]) for arm in running if arm.name in tuned.failed]
        running, context["tuning"] = tuned.arms, tuned.context
    few = curve_arms(running, budgets, make)
    if subjects:
        running = [for_subjects(arm, subjects, make) for arm in running]
        few = {n: [for_subjects(arm, subjects, make, budgets[n]) for arm in own] for n, own in few.items()}
        if same_files(cache, prepared[::2]):  # with the same pictures, an arm without a brain is the same for all
            running = [_shared(planner, arm, seeds) for arm in running]
            few = {number: [_shared(planner, arm, seeds) for arm in own] for number, own in few.items()}
    target = plan_evaluation(planner, config, running, reasons, invocation.recorded, few, context)
    if runtime.dry_run:
        return print_plan(cache, [target])
    parts = [step for name, step in target.inputs.items() if name.startswith(_BUILT)]
    failures = {} if cache.lookup(target) else ensure(cache, parts, runtime)
    folder, incomplete = cache.path(target), cache.path(target).with_suffix(".incomplete")
    if failures or lost:
        return _show_incomplete(cache, target, seeds, failures, lost, incomplete)
    failures = ensure(cache, [target], runtime)
    if failures:
        return report_failures(failures)
    shutil.rmtree(incomplete, ignore_errors=True)
    _print_results(json.loads((folder / "results.json").read_text()), folder)
    return 0


def _shared(planner: Planner, arm: Arm, seeds: list[int]) -> Arm:
    """The arm without its variants, where what it learns from is not of any subject."""
    own = next(iter(arm.subjects.values()))
    return arm if needs_brain(arm_steps(planner, own, seeds[0], seeds)["prediction"]) else replace(arm, subjects={})


def _check_options(options: Mapping[str, Any]) -> None:
    margin, numbers = options["margin"], options["n_train"]
    if margin <= 0:
        raise UserError(f"eval.margin={margin:g}: expected more than 0, such as 0.01 for a point")
    if len(set(numbers)) != len(numbers) or any(number < 1 for number in numbers):
        raise UserError(f"eval.n_train={numbers}: expected different numbers from 1 on")
    if options["match_voxels"] and not options["rois"]:
        raise UserError("eval.match_voxels=true is about the arms of eval.rois; name some, or give eval.rois=[each]")
    sizes = options["epsilons"]
    if options["corruptions"] is not None or not sizes or not all(0 < size <= 1 for size in sizes):
        from braindistill.verdict import check_options  # imports torch

        check_options(options)


def _check_twins(subjects: list[str], responses: list[Step]) -> None:
    """Copies of one subject are no replicates."""
    keys = [step.key for step in responses]
    twins = [name for name, key in zip(subjects, keys, strict=True) if keys.count(key) > 1]
    if twins:
        raise UserError(f"eval.subjects: {' and '.join(twins)} have the same data; a subject counts once")


def _check_tables(options: Mapping[str, Any], images: Path) -> None:
    """A table of superclasses or of people's answers that doesn't fit is told before anything is trained."""
    from braindistill.images import ImageSet
    from braindistill.verdict import Measures

    Measures(options, ImageSet.load(images))


def _tune(
    cache: Cache,
    planner: Planner,
    arms: list[Arm],
    config: Mapping[str, Any],
    seeds: list[int],
    make: Maker,
    runtime: Runtime,
) -> Tuned | None:
    """Build the trials and choose; None in a dry run that has printed what the choice would take."""
    trials = plan_trials(planner, arms, config, seeds, make)
    students = [step for tried in trials.values() for trial in tried for step in trial.students]
    to_build, _ = missing_steps(cache, students)
    if to_build and runtime.dry_run:
        print_plan(cache, students)
        print("these are the trials of eval.tune; the evaluation follows, and its plan depends on which of them win")
        return None
    if to_build and runtime.upstream == "require":
        raise Missing(to_build)
    tuned = choose(cache, trials, config["eval"]["tune"], ensure(cache, students, runtime))
    for name, found in tuned.context["arms"].items():
        words, score = " ".join(found["chosen"]), found["val_accuracy"]
        say(
            f"tuned  {name}: {words} ({100 * score:.1f} % of the validation images, best of {len(found['tried'])} trials)"
        )
        for values, scored in found["tried"]:
            if scored is None:
                warn(f"a trial of {name} failed: {' '.join(values)}")
    return tuned


def _show_incomplete(
    cache: Cache,
    target: Step,
    seeds: list[int],
    failures: dict[str, str],
    lost: list[tuple[Arm, str]],
    folder: Path,
) -> int:
    """Something failed: what is left is compared and shown, in a folder that is never taken for a result."""
    from braindistill.stages.eval import evaluate

    config = handed_over(target)
    config["arms"] |= {arm.name: describe(arm, seeds[0]) for arm, _ in lost}
    failed = {arm.name: why for arm, why in lost}
    skipped: dict[str, str] = {}
    gone: set[str] = set()
    broken = [(name, step) for name, step in target.inputs.items() if step.key in failures]
    # arms before their measures: what a failed arm lacks needs no further word
    for name, step in sorted(broken, key=lambda item: not item[0].startswith("prediction/")):
        kind, _, rest = name.partition("/")
        number = rest.partition("/")[0] if kind == "curve" else ""
        rest = rest.removeprefix(f"{number}/")
        arm = max((known for known in config["arms"] if rest.startswith(f"{known}/")), key=len, default="")
        subject = rest.removeprefix(f"{arm}/").rpartition("/")[0]
        why = (f"subject {subject}: " if subject else "") + root_cause(step, failures)
        if kind == "prediction":
            failed.setdefault(arm, why)
        elif kind == "explain":
            skipped[kind] = why
        elif kind == "measure" and arm not in failed:
            for measure in step.config["eval"]["measures"]:
                skipped.setdefault(measure, f"arm {arm}: {why}")
        elif kind == "curve" and arm not in failed:
            skipped.setdefault(f"n_train={number}", f"arm {arm}: {why}")
        gone.add("/".join(filter(None, [kind, number, arm, ""])) if arm else kind)
    inputs = {name: cache.path(step) for name, step in target.inputs.items()}
    kept = {name: path for name, path in inputs.items() if not name.startswith(tuple(gone))}
    known = config["eval_context"].get("skipped_measures", {})
    config["eval_context"]["skipped_measures"] = known | skipped
    config["eval_context"]["warnings"] = [f"{name} failed and is left out: {why}" for name, why in skipped.items()]
    config["eval_context"]["steps"] = _not_taken(cache, target, failures)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _print_results(evaluate(config, kept, folder, failed, target.command), folder)
    for name, reason in failed.items():
        print(f"braindistill: arm {name} failed: {reason}", file=sys.stderr)
    for name, reason in skipped.items():
        print(f"braindistill: {name} is left out: {reason}", file=sys.stderr)
    return 1


def _not_taken(cache: Cache, target: Step, failures: dict[str, str]) -> list[dict[str, str]]:
    """Steps that failed, and those that were skipped because of them, for the report."""
    to_build, _ = missing_steps(cache, [target])
    return [
        {
            "stage": step.stage,
            "title": step.title,
            "state": "skipped" if failures.get(step.key, NOT_BUILT).startswith(NOT_BUILT) else "failed",
        }
        for step in to_build
        if step.key != target.key
    ]


def _print_results(results: dict[str, Any], folder: Path) -> None:
    from braindistill.report.table import render

    print(render(results))
    print(f"report: {folder / 'report.html'}")
    print(folder)

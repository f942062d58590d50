"""Tuning: declared values tried on the validation images, as often for every arm, and the best of them for its seeds."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from braindistill import config as schema
from braindistill.cache import Cache
from braindistill.cache.step import Step
from braindistill.errors import UserError, nearest
from braindistill.pipeline import Planner
from braindistill.planning.arms import Arm, is_combined, needs_teacher, stack_of, terms_of, uses_target
from braindistill.planning.expansion import Maker
from braindistill.runtime import say
from braindistill.telling import root_cause
from braindistill.words import key_of, override

#: groups that say how a student is made; the others say which images and labels there are, which is the same for all arms
_TUNABLE = ("method", "train", "student", "teacher", "target")
#: options of these groups that say what an arm may know, or how it is computed
_FIXED = (
    *("train.select", "train.parallel_seeds", "train.threads", "teacher.labels", "teacher.seed", "target.images"),
    *("teacher.control", "target.control", "teacher.disjoint", "teacher.original_protocol"),
)

Ranges = Mapping[str, list[Any]]


@dataclass(frozen=True)
class Trial:
    """Values that are tried for an arm, and the students, one a seed, that show what they are worth."""

    words: list[str]
    arm: Arm
    students: list[Step]


@dataclass(frozen=True)
class Tuned:
    """Arms with the values that won, arms of which no trial worked with the reason, and what the results say of it."""

    arms: list[Arm]
    failed: dict[str, str]
    context: dict[str, Any]


def check_tuning(arms: list[Arm], config: Mapping[str, Any], seed: int) -> None:
    """Refuse what can't be tuned before anything is built.

    Raises
    ------
    UserError
        An option that no arm has, or that is the same for all; no values; no validation images.
    """
    options = config["eval"]
    if options["tune"] and options["tune_seeds"] < 1:
        raise UserError(f"eval.tune_seeds={options['tune_seeds']}: expected 1 or more")
    configs = {arm.name: arm.config(seed) for arm in arms}
    for option, values in options["tune"].items():
        _check_option(option, list(configs.values()))
        if not values or len({override(option, value) for value in values}) != len(values):
            raise UserError(f"eval.tune: {option}={values}: expected a list of different values")
    for name, own in configs.items() if options["tune"] else ():
        if not own["images"]["n_val"]:
            raise UserError(f"eval.tune scores trials on validation images: give images.n_val=N (arm {name} has none)")
        if own["train"]["select"] == "test":
            raise UserError(f"eval.tune: arm {name} has train.select=test, which leaves the validation images out")


def plan_trials(
    planner: Planner, arms: list[Arm], config: Mapping[str, Any], seeds: list[int], make: Maker
) -> dict[str, list[Trial]]:
    """Arm → its trials, of which every arm has equally many (`share`)."""
    few = seeds[: config["eval"]["tune_seeds"]]
    trials: dict[str, list[Trial]] = {}
    for name, values in share(arms, config["eval"]["tune"], seeds[0]).items():
        arm = next(arm for arm in arms if arm.name == name)
        trials[name] = []
        for words in values:
            kept = [word for word in arm.own if key_of(word) not in {key_of(new) for new in words}]
            tried = replace(make(name, [*kept, *words], []), exploratory=arm.exploratory)
            trials[name].append(Trial(words, tried, [_student(planner, tried, seed, few) for seed in few]))
    return trials


def share(arms: list[Arm], ranges: Ranges, seed: int) -> dict[str, list[list[str]]]:
    """Arm → the overrides of each of its trials.

    An arm's options are those of the ranges that its method, student, teacher and target have and that its own overrides
    leave open. Every arm gets as many trials as the arm with the fewest combinations has; the others try as many of
    theirs, chosen so that each value of an option is tried about as often as any other.

    Raises
    ------
    UserError
        An arm has none of the options.
    """
    grids: dict[str, list[tuple[str, ...]]] = {}
    for arm in arms:
        own = {key_of(word) for word in arm.own}
        has = [option for option in ranges if option not in own and has_option(arm.config(seed), option)]
        if not has:
            raise UserError(
                f"eval.tune: arm {arm.name} has none of {', '.join(ranges)}, and every arm gets as many trials as any other; "
                "add an option that it has, such as train.lr, or leave the arm out"
            )
        words = [[override(option, value) for value in ranges[option]] for option in has]
        grids[arm.name] = list(itertools.product(*words))
    number = min(map(len, grids.values()))
    fewest = [name for name, grid in grids.items() if len(grid) == number]
    if len(fewest) < len(grids):
        say(
            f"eval.tune: every arm gets {number} trials, since {fewest[0]} has no more combinations; others try so many"
        )
    return {name: [list(words) for words in spread(grid, number)] for name, grid in grids.items()}


def spread(grid: list[tuple[str, ...]], number: int) -> list[tuple[str, ...]]:
    """So many of the combinations, each next one the first of those whose values were used least."""
    used: Counter[str] = Counter()
    left, chosen = list(grid), []
    for _ in range(number):
        best = min(left, key=lambda words: sum(used[word] for word in words))
        left.remove(best)
        used.update(best)
        chosen.append(best)
    return chosen


def has_option(config: Mapping[str, Any], option: str) -> bool:
    """Does an arm's choice of method, student, teacher … have an option, and use it?"""
    group, _, key = option.partition(".")
    if group not in ("teacher", "target"):
        return key in schema.options(group, str(config[group].get("name", group)))
    if not uses_target(config):
        return False
    if is_combined(config) and option in {key_of(word) for own in config["method"]["terms"].values() for word in own}:
        return False  # a term has settled it
    users = [term for term in terms_of(config).values() if group == "target" or needs_teacher(term)]
    return any(key in schema.options(group, term[group]["name"]) for term in users)


def choose(cache: Cache, trials: Mapping[str, list[Trial]], ranges: Ranges, failures: Mapping[str, str]) -> Tuned:
    """For every arm the trial of the highest validation accuracy, averaged over seeds; of equal ones the first."""
    arms, failed, report = [], {}, {}
    for name, tried in trials.items():
        reasons = [
            root_cause(step, dict(failures)) for trial in tried for step in trial.students if step.key in failures
        ]
        scores = [
            None if any(step.key in failures for step in trial.students) else _score(cache, trial) for trial in tried
        ]
        known = [score for score in scores if score is not None]
        if not known:
            failed[name] = f"none of its {len(tried)} trials could be trained: {reasons[0]}"
            continue
        best = scores.index(max(known))
        arms.append(tried[best].arm)
        report[name] = {
            "chosen": tried[best].words,
            "val_accuracy": scores[best],
            "tried": [[trial.words, score] for trial, score in zip(tried, scores, strict=True)],
        }
    number = len(next(iter(trials.values())))
    seeds = len(next(iter(trials.values()))[0].students)
    context = {"trials": number, "seeds": seeds, "ranges": dict(ranges), "arms": report}
    return Tuned(arms, failed, context)


def read_val_accuracy(folder: Path, select: str) -> float:
    """Validation accuracy of the weights that a student kept: of the last epoch, or of the best."""
    log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    scores = [float(entry["val_accuracy"]) for entry in log]
    return max(scores) if select == "validation" else scores[-1]


def _student(planner: Planner, arm: Arm, seed: int, seeds: list[int]) -> Step:
    config = arm.config(seed)
    try:
        stack = stack_of(seed, seeds, config["train"]["parallel_seeds"])
        return planner.student(config, [*arm.overrides, f"seed={seed}"], stack, arm.name)
    except UserError as error:
        raise UserError(f"arm {arm.name}: {error}") from error


def _score(cache: Cache, trial: Trial) -> float:
    return fmean(read_val_accuracy(cache.path(step), step.config["train"]["select"]) for step in trial.students)


def _check_option(option: str, configs: list[dict[str, Any]]) -> None:
    group = option.partition(".")[0]
    if option in _FIXED or (group in schema.GROUPS and group not in _TUNABLE):
        groups = ", ".join(_TUNABLE)
        raise UserError(f"eval.tune: {option} is the same for every arm, and not tuned; take options of {groups}")
    if group in _TUNABLE and any(has_option(config, option) for config in configs):
        return
    known = {
        f"{group}.{name}"
        for config in configs
        for name in (schema.options(group, str(config[group].get("name", group))) if group in _TUNABLE else ())
    }
    close = nearest(option, known) if known else nearest(group, _TUNABLE)
    raise UserError(f"eval.tune: none of the arms has an option {option}; {close}")

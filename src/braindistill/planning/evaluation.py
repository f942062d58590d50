"""The plan of an evaluation: the steps that ``eval`` reads, each under a name that says what of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from braindistill.cache.step import Step
from braindistill.errors import UserError
from braindistill.pipeline import MEASURED, Planner
from braindistill.planning.arms import Arm, describe, described_by, needs_teacher, seeds_of, stack_of, terms_of

#: arms whose students are shown side by side, with the brain arm
_SHOWN = ("baseline", "kd")


def plan_evaluation(
    planner: Planner,
    config: Mapping[str, Any],
    arms: list[Arm],
    not_run: Mapping[str, str],
    words: list[str],
    curves: Mapping[int, list[Arm]] | None = None,
    context: Mapping[str, Any] | None = None,
) -> Step:
    """The table.

    Inputs are named ``images``, ``prediction|target|teacher|measure/ARM/SEED``, ``curve/N/ARM/SEED`` (predictions
    of students with N labels) and ``explain``. Of an arm with several subjects, ARM is ``NAME/SUBJECT``, and the subject's
    images are ``images/SUBJECT``.

    Parameters
    ----------
    arms, not_run : arms to compare, and those that can't be run with the reason
    curves : number of labels → the arms at that number
    context : parts of the results that are known before anything is compared: ``rois``, ``tuning``, ``skipped_measures``
    """
    asked, seeds = config["eval"], seeds_of(config)
    context = dict(context or {})
    inputs = {"images": planner.images(config, words)}
    for arm in arms:
        for subject, own in arm.subjects.items():
            inputs[f"images/{subject}"] = planner.images(own.config(seeds[0]), own.overrides)
        for name, own in arm.variants().items():
            for seed in seeds:
                steps = arm_steps(planner, own, seed, seeds)
                inputs |= {f"{kind}/{name}/{seed}": step for kind, step in steps.items()}
    for number, few in (curves or {}).items():
        for name, own in (pair for arm in few for pair in arm.variants().items()):
            for seed in seeds:
                inputs[f"curve/{number}/{name}/{seed}"] = arm_steps(planner, own, seed, seeds)["prediction"]
    if asked["explain"]:
        brain = next((arm for arm in arms if makes_claim(arm, seeds[0])), None)
        if brain is None:
            reason = "none of the arms has a brain for its teacher"
            context["skipped_measures"] = context.get("skipped_measures", {}) | {"explain": reason}
        else:
            # of several subjects the first
            shown = {arm.name: next(iter(arm.variants())) for arm in arms if arm.name in (*_SHOWN, brain.name)}
            inputs["explain"] = _explain(planner, words, inputs, brain, shown, seeds[0])
    files = {key: asked[key] for key in ("hierarchy", "people") if asked[key] is not None}
    options = {"seeds": seeds} | {key: asked[key] for key in ("measures", "margin")}
    parts = {
        "eval": options | files,
        "arms": {arm.name: describe(arm, seeds[0]) for arm in arms},
        "not_run": dict(not_run),
        "eval_context": context,
    }
    return planner.step("eval", parts, inputs, words, f"evaluation of {len(arms)} arms × {len(seeds)} seeds")


def arm_steps(planner: Planner, arm: Arm, seed: int, seeds: list[int]) -> dict[str, Step]:
    """What the evaluation reads of an arm under one of its seeds: ``prediction`` and, where it has them, ``measure``, ``target`` and ``teacher``; of several terms those of the first."""
    config, words = arm.config(seed), [*arm.overrides, f"seed={seed}"]
    try:
        prediction = planner.prediction(
            config, words, stack_of(seed, seeds, config["train"]["parallel_seeds"]), arm.name
        )
        steps = {"prediction": prediction}
        if set(config["eval"]["measures"]) & set(MEASURED):
            steps["measure"] = planner.measure(config, words, prediction.inputs["student"], arm.name)
        for first in list(terms_of(config).values())[:1]:
            steps["target"] = planner.target(first, words)
            if needs_teacher(first):
                steps["teacher"] = planner.teacher(first, words)
    except UserError as error:
        raise UserError(f"arm {arm.name}: {error}") from error
    return steps


def makes_claim(arm: Arm, seed: int) -> bool:
    """Is this an arm for which "the brain helped" can be said?"""
    from braindistill.verdict import is_brain

    return not arm.exploratory and is_brain(describe(arm, seed))


def _explain(
    planner: Planner, words: list[str], found: Mapping[str, Step], brain: Arm, shown: Mapping[str, str], seed: int
) -> Step:
    """What the brain arm's teacher and the students beside it go by, under one seed; ``shown``: arm → its name in ``found``."""
    where, own = next(iter(brain.variants().items()))
    config = described_by(own.config(seed))
    inputs = {
        "images": found[f"images/{where.removeprefix(f'{brain.name}/')}"] if brain.subjects else found["images"],
        "responses": planner.responses(config, own.overrides if brain.subjects else words),
        "teacher": found[f"teacher/{where}/{seed}"],
        **{f"student/{name}": found[f"prediction/{place}/{seed}"].inputs["student"] for name, place in shown.items()},
    }
    if config["target"]["name"] == "mask":
        inputs["masks"] = found[f"target/{where}/{seed}"]
    parts = {
        "teacher": {key: config["teacher"][key] for key in ("roi", "nuisance")},
        "train": {"threads": config["train"]["threads"]},
    }
    return planner.step("explain", parts, inputs, words, f"what {brain.name} goes by, beside {len(shown)} students")

"""Arms of several subjects: each arm that depends on whose brain it is, once a subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from braindistill import config as schema
from braindistill.cache import Cache
from braindistill.cache.step import Step
from braindistill.errors import UserError
from braindistill.planning.arms import Arm
from braindistill.planning.expansion import Maker
from braindistill.words import key_of, override

#: options of a reader that say whose data it reads; the first that it has is the one
_WHOSE = ("subject", "path", "root", "seed")


def subjects_of(config: Mapping[str, Any]) -> dict[str, str]:
    """``eval.subjects`` as a subject's name → the word that reads its data: ``1`` → ``fmri.subject=1``.

    Raises
    ------
    UserError
        There is only one, or two have the same name.
    """
    given = config["eval"]["subjects"]
    if not given:
        return {}
    known = schema.options("fmri", config["fmri"]["name"])
    option = next(option for option in _WHOSE if option in known)
    names = [Path(value).stem if known[option].is_path else str(value) for value in map(str, given)]
    if len(set(names)) != len(names) or len(names) < 2:
        raise UserError(
            f"eval.subjects={given}: expected two or more different subjects, each a value of fmri.{option}; "
            f"for one, give fmri.{option}=…"
        )
    return {name: override(f"fmri.{option}", value) for name, value in zip(names, given, strict=True)}


def for_subjects(arm: Arm, subjects: Mapping[str, str], make: Maker, words: Sequence[str] = ()) -> Arm:
    """The arm with a variant for each subject; ``words`` are what it was made with.

    Raises
    ------
    UserError
        The arm's own overrides say whose data it reads.
    """
    for word in subjects.values():
        if key_of(word) in {key_of(own) for own in arm.own}:
            raise UserError(f"eval.subjects: arm {arm.name} sets {key_of(word)} itself; leave it to eval.subjects")
    variants = {name: make(arm.name, arm.own, [*words, word]) for name, word in subjects.items()}
    return replace(arm, subjects={name: replace(made, exploratory=arm.exploratory) for name, made in variants.items()})


def same_files(cache: Cache, steps: Sequence[Step]) -> bool:
    """Do these artifacts hold the same, whatever they were made from? No where one isn't built yet."""
    folders = [cache.lookup(step) for step in steps]
    held = [None if folder is None else cache.manifest(folder)["files"] for folder in folders]
    return None not in held and all(one == held[0] for one in held)


def needs_brain(step: Step) -> bool:
    """Do responses stand behind this, other than to see which of the student's pictures were stimuli?"""
    return "responses" in step.inputs or any(
        needs_brain(upstream) for upstream in step.inputs.values() if upstream.stage != "images"
    )

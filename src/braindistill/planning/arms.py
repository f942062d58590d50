"""What a checked config asks for, and an arm: a named row of the evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from braindistill import config as schema
from braindistill.errors import UserError
from braindistill.images.assembly import SPLIT
from braindistill.methods.signatures import needs_target

#: what the evaluation says about an arm beside its scores; all else reaches it through its inputs
DESCRIBED = {
    "images": (*SPLIT, "allow_overlap"),
    "teacher": ("name", "control", "disjoint", "labels", "original_protocol"),
    "target": ("name", "images", "control"),
    "student": ("init", "overlap"),
    "train": ("select",),
}


@dataclass(frozen=True)
class Arm:
    """A named row of the evaluation.

    Parameters
    ----------
    config : its checked config as a function of the seed
    overrides : the command-line words behind it
    own : those of them that make it this arm
    exploratory : it is there to be looked at, as a ROI's is: no claim is made for it, so it needs no controls of its own
    subjects : of an arm that depends on whose brain it is, subject → the arm with that subject's data
    """

    name: str
    config: Callable[[int], dict[str, Any]]
    overrides: list[str]
    own: list[str] = field(default_factory=list)
    exploratory: bool = False
    subjects: dict[str, Arm] = field(default_factory=dict)

    def variants(self) -> dict[str, Arm]:
        """What the evaluation calls the arm in its inputs, ``NAME`` or ``NAME/SUBJECT`` → the arm."""
        return {f"{self.name}/{subject}": arm for subject, arm in self.subjects.items()} or {self.name: self}


def describe(arm: Arm, seed: int) -> dict[str, Any]:
    """An arm as the evaluation knows it: the options of ``DESCRIBED``, its own overrides, exploratory or not, its subjects."""
    first = described_by(arm.config(seed))
    shown = {group: first[group] for group in DESCRIBED}
    shown |= {"target": {}} if not uses_target(first) else {}
    shown |= {"teacher": {}} if not (uses_target(first) and needs_teacher(first)) else {}
    found: dict[str, Any] = {
        group: {key: shown[group][key] for key in keys if key in shown[group]} for group, keys in DESCRIBED.items()
    }
    if shown["teacher"]:
        found["teacher"]["pretrained"] = bool(shown["teacher"].get("weights"))
    # where files lie is no part of what an evaluation means
    paths = tuple(f"{group}.{key}=" for group in schema.GROUPS for key in schema.path_options(first, group))
    found["overrides"] = [word for word in arm.own if not word.lstrip("+").startswith(paths)]
    return found | {"exploratory": arm.exploratory, "subjects": list(arm.subjects)}


def is_combined(config: Mapping[str, Any]) -> bool:
    """Is the method a sum of several?"""
    return config["method"]["name"] == "combined"


def terms_of(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Name of a term that learns from a target → its config: of ``method=combined`` those that were composed for it, else
    the method's own, or none."""
    if is_combined(config):
        return {name: term for name, term in config["terms"].items() if needs_target(term["method"]["name"])}
    return {config["method"]["name"]: config} if uses_target(config) else {}


def described_by(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config that says where an arm's target is from: of several terms the first."""
    return next(iter(terms_of(config).values())) if is_combined(config) else config


def stack_of(seed: int, seeds: list[int], size: int) -> list[int]:
    """The seeds that a seed is trained with: its part of the list, cut into parts of ``size``."""
    start = seeds.index(seed) // size * size
    return seeds[start : start + size]


def uses_target(config: Mapping[str, Any]) -> bool:
    """Does the arm's method learn from a target? Read from its signature."""
    return is_combined(config) or needs_target(config["method"]["name"])


def needs_teacher(config: Mapping[str, Any]) -> bool:
    """Is the target asked of a teacher? Otherwise it comes from a file."""
    return config["target"]["name"] != "file" and config["target"].get("rdm") is None


def seeds_of(config: Mapping[str, Any]) -> list[int]:
    """``eval.seeds=10`` → ten seeds from ``seed`` on; a list is taken as it is.

    Raises
    ------
    UserError
        There is none, or one is named twice.
    """
    given = config["eval"]["seeds"]
    seeds = [int(config["seed"]) + offset for offset in range(given)] if isinstance(given, int) else list(given)
    if not seeds or len(set(seeds)) != len(seeds):
        raise UserError(f"eval.seeds={given}: give a number from 1 on, or a list of different seeds")
    return seeds

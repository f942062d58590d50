"""From command-line words to checked configs: the part that knows Hydra."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from braindistill import config as schema
from braindistill.errors import UserError, nearest
from braindistill.pipeline import Arm

#: groups in which an arm or an experiment may leave options behind that its chosen member doesn't have
_LENIENT = frozenset({"teacher", "target", "method", "student", "images", "fmri"})
_ASSIGNMENT = re.compile(r"^(?P<prefix>\+\+|\+|~)?(?P<key>[A-Za-z_][\w./@-]*)=(?P<value>.*)$", re.DOTALL)


def prepare_words(words: Sequence[str], extra: Path | None = None) -> list[str]:
    """Make overrides fit for Hydra: choices of groups are checked here, values are let through to our own check.

    Without ``experiment=`` and ``fmri=`` the run is the built-in ``experiment=demo``.

    Raises
    ------
    UserError
        A group's option that doesn't exist, a word that is no override.
    """
    prepared = []
    chosen = set()
    for word in words:
        match = _ASSIGNMENT.match(word)
        if not match and not word.startswith("~"):
            raise UserError(
                f"{word!r} is not an override; expected group=option or key=value, e.g. teacher=brain or seed=3"
            )
        if not match or match["key"].startswith("hydra"):
            prepared.append(word)
            continue
        key, value = match["key"], match["value"]
        if key in (*schema.GROUPS, "experiment") and key not in ("eval", "runtime") and not value.startswith("{"):
            known = schema.choices(key, extra)
            for option in value.split(","):
                if option not in known and option != "null":
                    raise UserError(f"{key}={option}: no such option; {nearest(option, known)}")
            chosen.add(key)
            prepared.append(word)
        elif match["prefix"] or key in schema.GROUPS:
            prepared.append(word)
        else:  # unknown keys come through, so that the answer is ours: it names the nearest
            prepared.append(f"++{word}")
    if not chosen & {"experiment", "fmri"}:
        prepared.append("experiment=demo")
    _parse(prepared)
    return prepared


def plain_words(words: Sequence[str]) -> list[str]:
    """The words as a person would type them."""
    return [word.removeprefix("++") for word in words]


def checked(composed: Any, seed: int | None = None, lenient: bool = True) -> dict[str, Any]:
    """Resolve a composed config under a seed and check it against the signatures."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    composed = composed.copy()
    OmegaConf.set_struct(composed, False)
    if seed is not None:
        composed.seed = seed
    composed.pop("hydra", None)
    composed.pop("experiment", None)
    try:
        resolved = OmegaConf.to_container(composed, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:
        raise UserError(f"config: {str(error).splitlines()[0]}") from error
    assert isinstance(resolved, dict)
    return schema.check({str(key): value for key, value in resolved.items()}, _LENIENT if lenient else frozenset())


def check_own_words(words: Sequence[str], composed: Any) -> None:
    """Options that the user typed must exist in the member that is chosen, or, for eval, in one that an arm may choose."""
    for word in plain_words(words):
        match = _ASSIGNMENT.match(word)
        if not match or "." not in match["key"] or match["key"].startswith(("hydra", "eval.definitions")):
            continue
        group, option = match["key"].split(".", 1)
        if group not in schema.GROUPS:
            raise UserError(f"unknown key '{match['key']}'; {nearest(group, schema.GROUPS)}")
        name = str(composed[group].get("name", group))
        known = schema.options(group, name)
        if option.split(".")[0] not in known and option != "name":
            whose = f"{group}={name}" if "name" in composed[group] else group
            raise UserError(f"{group}.{option}: {whose} has no such option; {nearest(option, known)}")


def make_arms(words: list[str], base: dict[str, Any], compose: Callable[[list[str]], Any]) -> list[Arm]:
    """Expand ``eval.arms``: each name's overrides on top of the command line.

    Raises
    ------
    UserError
        An arm that nobody defined.
    """
    definitions = base["eval"]["definitions"]
    arms = []
    for name in base["eval"]["arms"]:
        if name not in definitions:
            raise UserError(
                f"eval.arms: no arm is called {name!r}; {nearest(name, definitions)} (add it: +eval.definitions.{name}=[…])"
            )
        own = [str(word) for word in definitions[name]]
        taken = {word.split("=")[0] for word in own}
        merged = [word for word in words if word.removeprefix("++").split("=")[0] not in taken] + prepare_arm(own)
        composed = compose(merged)

        @functools.cache
        def config(seed: int, composed: Any = composed) -> dict[str, Any]:
            return checked(composed, seed)

        kept = [word for word in plain_words(merged) if not word.startswith(("eval.", "runtime.", "seed="))]
        arms.append(Arm(name, config, kept, own))
    return arms


def prepare_arm(own: list[str]) -> list[str]:
    return [word for word in prepare_words(own) if word != "experiment=demo" or word in own]


def _parse(words: Sequence[str]) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    for word in words:
        try:
            parser.parse_override(word)
        except HydraException as error:
            raise UserError(f"{word.removeprefix('++')!r} can't be parsed: {str(error).splitlines()[0]}") from error

"""From command-line words to checked configs: the part that knows Hydra."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from braindistill import config as schema
from braindistill.errors import UserError, nearest
from braindistill.images.assembly import SPLIT
from braindistill.methods.signatures import needs_target
from braindistill.planning.arms import Arm
from braindistill.plugins import load_plugins
from braindistill.words import key_of, parse, plain_words, quote_arm

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

#: groups in which an arm or an experiment may leave options behind that its chosen member doesn't have
_LENIENT = frozenset({"teacher", "target", "method", "student", "images", "fmri"})


def prepare_words(words: Sequence[str], extra: Path | None = None) -> list[str]:
    """Make overrides fit for Hydra: choices of groups are checked here, values are let through to our own check.

    Without ``experiment=`` and ``fmri=`` the run is the built-in ``experiment=demo``.

    Raises
    ------
    UserError
        A group's option that doesn't exist, a word that is no override.
    """
    overrides = [parse(quote_arm(word)) for word in words]
    _plug_in(overrides)
    prepared = [_prepare(override, extra) for override in overrides]
    if not {override.key_or_group for override in overrides} & {"experiment", "fmri"}:
        prepared.append("experiment=demo")
    return prepared


def explain(error: Exception) -> str:
    """What Hydra or OmegaConf found wrong, in one line."""
    said = [str(error), *([str(error.__cause__)] if error.__cause__ else [])]
    lines = dict.fromkeys(line.strip() for text in said for line in text.splitlines())
    kept = [
        line for line in lines if line and not line.startswith(("object_type", "full_key: hydra", "reference_type"))
    ]
    return "; ".join(kept) or type(error).__name__


def checked(composed: Any, seed: int | None = None) -> dict[str, Any]:
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
        raise UserError(f"config: {explain(error)}") from error
    assert isinstance(resolved, dict)
    return schema.check({str(key): value for key, value in resolved.items()}, _LENIENT)


def check_own_words(words: Sequence[str], *chosen: dict[str, Any]) -> None:
    """Options that a person typed must exist in the member that is chosen, here or in one of the arms.

    An experiment's YAML is treated more kindly (`checked`): it may set options that only some arms have.
    """
    for word in words:
        override = parse(word)
        group, _, option = str(override.key_or_group).partition(".")
        if not option or group not in schema.GROUPS:
            continue
        names = list(dict.fromkeys(config[group].get("name", group) for config in chosen))
        known = {key for name in names for key in schema.options(group, name)}
        if option.split(".")[0] not in {*known, "name"}:
            whose = group if group in schema.SINGLE else f"{group}={' and '.join(names)}"
            raise UserError(f"{group}.{option}: {whose} has no such option; {nearest(option, known)}")


def check_plugins(words: Sequence[str], composed: Any) -> None:
    """Load the plugins of the command line, and refuse those of a YAML file, which should run no code."""
    if _listed(composed.get("plugins")) != _plug_in([parse(word) for word in words]):
        raise UserError("plugins is set in a YAML file; they are taken from the command line only: plugins=[…]")


def make_arms(
    words: list[str], base: dict[str, Any], compose: Callable[[list[str]], Any], extra: Path | None = None
) -> list[Arm]:
    """Expand ``eval.arms``: each name's overrides on top of the command line.

    Raises
    ------
    UserError
        An arm that nobody defined or that is named twice, or whose overrides don't fit.
    """
    definitions, names = base["eval"]["definitions"], base["eval"]["arms"]
    if not names or len(set(names)) != len(names):
        raise UserError(f"eval.arms={names}: name at least one arm, and each only once")
    arms = []
    for name in names:
        if name not in definitions:
            known = nearest(name, definitions)
            raise UserError(f"eval.arms: no arm is called {name!r}; {known} (add it: +eval.definitions.{name}=[…])")
        arms.append(make_arm(name, definitions[name], words, base, compose, extra))
    return arms


def make_arm(
    name: str,
    own: list[str],
    words: list[str],
    base: dict[str, Any],
    compose: Callable[[list[str]], Any],
    extra: Path | None = None,
) -> Arm:
    """The arm that its own overrides make on top of the command line's words.

    Raises
    ------
    UserError
        They don't fit, or change what is the same for all arms: seeds, evaluation, test images.
    """
    try:
        prepared = [_prepare(parse(quote_arm(word)), extra) for word in own]
        taken = {key_of(word) for word in prepared}
        shared = [key for key in taken if key.split(".")[0] in ("seed", "eval", "runtime", "plugins")]
        if shared:
            raise UserError(f"{shared[0]} is the same for all arms; give it on the command line")
        merged = [word for word in words if key_of(word) not in taken] + prepared
        config = under_seeds(_composed(merged, compose), merged, compose, extra)
        check_own_words(prepared, config(base["seed"]))
        _check_test_images(config(base["seed"])["images"], base["images"])
    except UserError as error:
        raise UserError(f"arm {name}: {error}") from error
    skipped = ("eval.", "runtime.", "seed=")
    return Arm(name, config, [word for word in plain_words(merged) if not word.lstrip("+~").startswith(skipped)], own)


def _check_test_images(images: dict[str, Any], of_others: dict[str, Any]) -> None:
    """Every arm is scored on the same test images, which only the options of training images leave as they are."""
    for option in {*images, *of_others} - {*SPLIT, "stimuli", "allow_overlap"}:
        if images.get(option) != of_others.get(option):
            raise UserError(f"images.{option} would give it other test images than the other arms have")


def under_seeds(
    composed: Any, words: list[str], compose: Callable[[list[str]], Any], extra: Path | None = None
) -> Callable[[int | None], dict[str, Any]]:
    """The checked config as a function of the seed (None: its own).

    That of ``method=combined`` has ``terms``: name → the config that the term's overrides make of the same words.

    Raises
    ------
    UserError
        A term that isn't made of a method, a target and a teacher, or whose method learns from no target.
    """
    terms = {}
    first = checked(composed)
    if first["method"]["name"] == "combined":
        terms = {name: _term(name, own, words, compose, extra) for name, own in first["method"]["terms"].items()}
        if not any(needs_target(term.method.name) for term in terms.values()):
            raise UserError(
                "method=combined sums terms, and none learns from a target; add method.terms.NAME=[method=…,target=…,teacher=…]"
            )

    @functools.cache
    def config(seed: int | None) -> dict[str, Any]:
        made = checked(composed, seed)
        return made | ({"terms": {name: checked(term, seed) for name, term in terms.items()}} if terms else {})

    return config


def _term(name: str, own: list[str], words: list[str], compose: Callable[[list[str]], Any], extra: Path | None) -> Any:
    overrides = [_prepare(parse(word), extra) for word in own]
    taken = {key_of(word) for word in overrides}
    for key in taken:
        if key.split(".")[0] not in ("method", "target", "teacher"):
            raise UserError(
                f"method.terms.{name}: {key} belongs to no term; a term has a method, a target and a teacher"
            )
    kept = [word for word in words if key_of(word) not in taken and key_of(word).split(".")[0] != "method"]
    composed = _composed([*kept, *overrides], compose)
    found = checked(composed)
    check_own_words(overrides, found)
    if found["method"]["name"] in ("combined", "none"):
        raise UserError(
            f"method.terms.{name}: method={found['method']['name']} is no term of a sum; take kd, voxels, label_smoothing …"
        )
    return composed


def _composed(words: list[str], compose: Callable[[list[str]], Any]) -> Any:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        return compose(words)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from error


def _prepare(override: Override, extra: Path | None = None) -> str:
    from hydra.core.override_parser.types import Glob

    word, key, value = str(override.input_line), str(override.key_or_group), override.value()
    if key in {*schema.GROUPS, "experiment"}:
        if not override.is_delete() and not isinstance(value, Glob):
            known = schema.choices(key, extra)
            for option in override.sweep_string_iterator() if override.is_sweep_override() else [value]:
                if option not in known and (key, option) != ("experiment", None):
                    raise UserError(f"{key}={option}: no such option; {nearest(str(option), known)}")
        return word
    root = key.replace("/", ".").split(".")[0]
    if root not in (*schema.GROUPS, "seed", "plugins", "hydra"):
        raise UserError(f"unknown key '{key}'; {nearest(root, [*schema.GROUPS, 'experiment', 'seed', 'plugins'])}")
    if word[0] in "+~" or root == "hydra":
        return word
    return f"++{word}"  # unknown options come through, so that the answer is ours: it names the nearest


def _plug_in(overrides: Sequence[Override]) -> list[str]:
    """Load the modules of ``plugins=[…]``, and give members that have no YAML their place in Hydra's tree."""
    from hydra.core.config_store import ConfigStore

    given = [override for override in overrides if override.key_or_group == "plugins"]
    if any(override.is_sweep_override() for override in given):
        raise UserError(f"{given[-1].input_line}: several modules need brackets: plugins=[first,second]")
    modules = _listed(given[-1].value()) if given else []
    load_plugins(modules)
    for group in schema.GROUPS:
        for name in schema.plugged(group):
            defaults = {key: option.default for key, option in schema.options(group, name).items()}
            node = {key: "???" if value is schema.REQUIRED else value for key, value in defaults.items()}
            seed = {"seed": "${seed}"} if group == "teacher" and "seed" in node else {}  # redrawn for every seed
            ConfigStore.instance().store(name, {"name": name} | node | seed, group)
    return modules


def _listed(value: Any) -> list[str]:
    return [str(name) for name in ([value] if isinstance(value, str) else value or [])]

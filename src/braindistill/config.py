"""The config tree, checked against the signatures it configures.

An option's name, type and default are those of a keyword-only parameter; YAML only repeats the default beside a
comment. Signatures are read from the source's syntax tree, so that a typing error is reported without importing torch.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from braindistill.coercion import coerce, fit_any
from braindistill.errors import UserError, nearest
from braindistill.exports import definitions, plugged_into, syntax
from braindistill.methods.signatures import published_weight, takes
from braindistill.runtime import find_data

#: group → (package, pattern of the function an option configures, functions whose options every member shares)
GROUPS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "fmri": ("fmri", "load_{}", ("preprocess",)),
    "images": ("images", "load_{}", ("assemble", "check_overlap", "split")),
    "teacher": ("teachers", "fit_{}", ()),
    "target": ("targets", "export_{}", ()),
    "student": ("students", "{}", ()),
    "method": ("methods", "{}_loss", ()),
    "train": ("training", "train", ()),
    "eval": ("stages.eval", "plan_arms", ()),
    "runtime": ("runtime", "Runtime", ()),
}
#: groups that have one member, which needs no name
SINGLE = ("train", "eval", "runtime")
REQUIRED = object()
#: what a method works on → the function of ``students`` whose options say which layers these are
_LAYERS = {
    "student_features": "choose_layer",
    "teacher_features": "choose_teacher_layer",
    "student_layers": "choose_pairs",
}
#: a positional parameter whose class is called so stands for the options that are the class's fields
_BUNDLE = "Options"
_PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class Option:
    """One keyword-only parameter: its annotation as syntax, and its default (``REQUIRED`` where it has none)."""

    annotation: ast.expr
    default: Any

    @property
    def is_path(self) -> bool:
        return bool(re.search(r"\bPath\b", ast.unparse(self.annotation)))


def find_configs() -> Path:
    """The folder of YAML files: ``configs/`` of the checkout, or the copy inside an installed wheel."""
    checkout = _PACKAGE.parent.parent / "configs"
    installed = _PACKAGE / "configs"
    for folder in (installed, checkout):
        if (folder / "config.yaml").exists():
            return folder
    raise UserError(f"no configs found in {installed} or {checkout}: the installation is incomplete; install it again")


def choices(group: str, extra: Path | None = None) -> list[str]:
    """Names of a group's members, from its YAML files (and those of ``--config-dir``) and from plugins."""
    folders = [find_configs() / group, *([extra / group] if extra else [])]
    files = {file.stem for folder in folders for file in folder.glob("*.yaml")}
    return sorted(files | plugged(group).keys()) if group in GROUPS else sorted(files)


def plugged(group: str) -> dict[str, str]:
    """The members that users' modules add to a group: name → module."""
    package, pattern, _ = GROUPS[group]
    prefix, _, suffix = pattern.partition("{}")
    added = plugged_into(package)
    return {function.removeprefix(prefix).removesuffix(suffix): module for function, module in added.items()}


def options(group: str, name: str) -> dict[str, Option]:
    """The options of one member of a group, read from signatures.

    Raises
    ------
    UserError
        No function of that name exists in the group's package.
    """
    package, pattern, shared = GROUPS[group]
    function = pattern.format(name)
    found = dict(_signature(package, function, f"{group}={name}"))
    if group == "method":
        found |= _around_method(name, found)
    if group == "fmri" and "subject" in found:  # fmri.load reads several one after the other and joins them
        shared = (*shared, "combine_subjects")
        found["subject"] = Option(ast.parse("int | list[int]", mode="eval").body, found["subject"].default)
    for other in shared:
        found |= _signature(package, other, f"{group}={name}")
    return found


def _around_method(name: str, own: Mapping[str, Option]) -> dict[str, Option]:
    """Options of what surrounds a method: its adapter, its layers, its weights."""
    where, positional = f"method={name}", parameters("method", name)
    found: dict[str, Option] = {}
    if f"adapt_{name}" in definitions(_PACKAGE / "students"):
        found |= _signature("students", f"adapt_{name}", where)
    for parameter, function in _LAYERS.items():
        if parameter in positional:
            found |= _signature("students", function, where)
    if takes(name):
        found |= _signature("methods", "objective", where) | _signature("methods", "weigh", where)
        weight = found["target_weight"]
        found["target_weight"] = dataclasses.replace(weight, default=published_weight(name))
    return {key: option for key, option in found.items() if key not in own}


def parameters(group: str, name: str) -> list[str]:
    """Names of the positional parameters of a member's function: what it works on, beside its options."""
    package, pattern, _ = GROUPS[group]
    node = _node(package, pattern.format(name), f"{group}={name}")
    return [argument.arg for argument in node.args.args] if isinstance(node, ast.FunctionDef) else []


def fields(package: str, name: str) -> list[str]:
    """The options that a class of options stands for."""
    return list(_signature(package, name, f"{package}={name}"))


def bundled(function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a function whose options may belong to a positional parameter, a class of options."""
    classes = {
        name: hint for name, hint in get_type_hints(function).items() if getattr(hint, "__name__", "").endswith(_BUNDLE)
    }
    left = dict(options)
    made = {}
    for name, kind in classes.items():
        made[name] = kind(
            **{field.name: left.pop(field.name) for field in dataclasses.fields(kind) if field.name in left}
        )
    return made | left


def check(config: Mapping[str, Any], lenient: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Check and coerce a resolved config tree.

    Parameters
    ----------
    config : mapping
        The composed tree as plain containers: one mapping a group, and the scalars ``seed`` and ``plugins``.
    lenient : set of group names
        Groups in which an option that only another member of the group has is left out instead of refused:
        an experiment may set options of several teachers, of which each arm takes one.

    Returns
    -------
    dict
        The same tree with every option present and of its declared type.

    Raises
    ------
    UserError
        Unknown key, wrong type, missing required option: one line that names the key.
    """
    known = {*GROUPS, "seed", "plugins"}
    for key in config:
        if key not in known:
            raise UserError(f"unknown key '{key}'; {nearest(key, known)}")
    checked: dict[str, Any] = {
        "seed": coerce(config.get("seed", 0), ast.parse("int", mode="eval").body, "seed"),
        "plugins": config.get("plugins") or [],
    }
    return checked | {group: check_group(group, config.get(group), group in lenient) for group in GROUPS}


def check_group(group: str, given: Any, lenient: bool) -> dict[str, Any]:
    """`check` for the options of one group."""
    if not isinstance(given, Mapping | None):
        raise UserError(f"{group}={given!r}: expected the options of {group}, as in {group}.KEY=VALUE")
    given = dict(given or {})
    name = str(given.pop("name", group))
    if name == group and group not in SINGLE:
        raise UserError(f"{group}: which one? its YAML says no name; {nearest('', choices(group))}")
    whose = group if group in SINGLE else f"{group}={name}"
    schema = options(group, name)
    for key in list(given):
        if key not in schema:
            if not (lenient and any(key in options(group, other) for other in _members(group))):
                raise UserError(f"{group}.{key}: {whose} has no such option; {nearest(key, schema)}")
            del given[key]
    checked: dict[str, Any] = {} if group in SINGLE else {"name": name}
    for key, option in schema.items():
        value = given.get(key, option.default)
        if value is REQUIRED or value == "???":
            raise UserError(f"{group}.{key} is required by {whose}: add {group}.{key}=… to the command")
        value = coerce(value, option.annotation, f"{group}.{key}")
        checked[key] = _locate(value, f"{group}.{key}") if option.is_path and value is not None else value
    return checked


def path_options(config: Mapping[str, Any], group: str) -> dict[str, str]:
    """The input files and folders that a checked group names: option → path."""
    member = options(group, str(config[group].get("name", group)))
    return {
        key: config[group][key] for key, option in member.items() if option.is_path and config[group][key] is not None
    }


def _members(group: str) -> list[str]:
    return [name for name in choices(group) if _exists(group, name)]


def _exists(group: str, name: str) -> bool:
    package, pattern, _ = GROUPS[group]
    return pattern.format(name) in definitions(_PACKAGE / package)


def _node(package: str, function: str, where: str) -> ast.stmt:
    file = _PACKAGE / (package.replace(".", "/") + ".py")
    if file.exists():
        return next(node for node in syntax(file).body if getattr(node, "name", "") == function)
    known = definitions(_PACKAGE / package)
    if function not in known:
        group, name = where.split("=")
        raise UserError(f"{where}: no such option; {nearest(name, choices(group))}")
    return known[function][1]


def _signature(package: str, function: str, where: str) -> dict[str, Option]:
    node = _node(package, function, where)
    found: dict[str, Option] = {}
    pairs: list[tuple[str, ast.expr | None, ast.expr | None]]
    if isinstance(node, ast.ClassDef):  # a dataclass: its fields
        fields = [field for field in node.body if isinstance(field, ast.AnnAssign)]
        pairs = [(ast.unparse(field.target), field.annotation, field.value) for field in fields]
    else:
        assert isinstance(node, ast.FunctionDef)
        given = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        pairs = [(argument.arg, argument.annotation, default) for argument, default in given]
        classes = [ast.unparse(argument.annotation) for argument in node.args.args if argument.annotation]
        for bundle in (name for name in classes if name.endswith(_BUNDLE)):
            found |= _signature(package, bundle, where)
    return found | {name: _option(f"{where}: {function}(… {name} …)", hint, default) for name, hint, default in pairs}


def _option(where: str, annotation: ast.expr | None, default: ast.expr | None) -> Option:
    try:
        if annotation is None:
            raise ValueError
        fit_any(None, annotation)
        value = REQUIRED if default is None else ast.literal_eval(default)
    except ValueError:
        raise UserError(
            f"{where}: an option needs a type out of int, float, bool, str, Path, Literal, list[…] and None, "
            "and a default that is written out"
        ) from None
    return Option(annotation, list(value) if isinstance(value, tuple) else value)


def _locate(path: str, where: str) -> str:
    """Resolve ``data:NAME`` to a file in a data folder; leave other paths as they are."""
    if not path.startswith("data:"):
        return path
    relative = path.removeprefix("data:")
    found = find_data(relative)
    if found is None:
        raise UserError(
            f"{where}: {relative} was looked for in $BRAINDISTILL_DATA, data/ and ../shared/data/ and is in none of them; "
            f"put it there (data/README.md says where it comes from) or give {where}=PATH"
        )
    return str(found)

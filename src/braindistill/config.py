"""The config tree, checked against the signatures it configures.

An option's name, type and default are those of a keyword-only parameter; YAML only repeats the default beside a
comment. Signatures are read from the source's syntax tree, so that a typing error is reported without importing torch.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from braindistill.errors import UserError, nearest
from braindistill.exports import definitions, syntax
from braindistill.runtime import find_data

#: group → (package, pattern of the function an option configures, functions whose options every member shares)
GROUPS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "fmri": ("fmri", "load_{}", ()),
    "images": ("images", "load_{}", ("assemble", "check_overlap", "split")),
    "teacher": ("teachers", "fit_{}", ()),
    "target": ("targets", "export_{}", ()),
    "student": ("students", "{}", ()),
    "method": ("methods", "{}_loss", ()),
    "train": ("training", "train", ()),
    "eval": ("stages.eval", "plan_arms", ()),
    "runtime": ("runtime", "Runtime", ()),
}
#: packages whose functions a plugin may add to, and the plugins' functions by (package, name)
PLUGINS: dict[tuple[str, str], Callable[..., Any]] = {}
REQUIRED = object()
_PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class Option:
    """One keyword-only parameter: its annotation as syntax, and its default (``REQUIRED`` where it has none)."""

    annotation: ast.expr
    default: Any

    @property
    def is_path(self) -> bool:
        return any(isinstance(node, ast.Name) and node.id == "Path" for node in ast.walk(self.annotation))


def find_configs() -> Path:
    """The folder of YAML files: ``configs/`` of the checkout, or the copy inside an installed wheel."""
    checkout = _PACKAGE.parent.parent / "configs"
    installed = _PACKAGE / "configs"
    for folder in (installed, checkout):
        if (folder / "config.yaml").exists():
            return folder
    raise UserError(f"no configs found in {installed} or {checkout}: the installation is incomplete; install it again")


def choices(group: str, extra: Path | None = None) -> list[str]:
    """Names of a group's options, from its YAML files (and those of ``--config-dir``)."""
    folders = [find_configs() / group, *([extra / group] if extra else [])]
    return sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})


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
    if group == "method" and "teacher_logits" in _parameters(package, function):
        shared = ("objective",)
    for other in shared:
        found |= _signature(package, other, f"{group}={name}")
    return found


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
        "plugins": list(config.get("plugins") or []),
    }
    for group in GROUPS:
        given = dict(config.get(group) or {})
        name = str(given.pop("name", group))
        schema = options(group, name)
        checked[group] = {"name": name} if group not in ("train", "eval", "runtime") else {}
        for key in list(given):
            if key not in schema:
                if group in lenient and any(key in options(group, other) for other in _members(group)):
                    del given[key]
                    continue
                whose = f"{group}={name}" if group not in ("train", "eval", "runtime") else group
                raise UserError(f"{group}.{key}: {whose} has no such option; {nearest(key, schema)}")
        for key, option in schema.items():
            value = given.get(key, option.default)
            if value is REQUIRED or value == "???":
                raise UserError(f"{group}.{key} is required by {group}={name}: add {group}.{key}=… to the command")
            checked[group][key] = coerce(value, option.annotation, f"{group}.{key}")
    return checked


def coerce(value: Any, annotation: ast.expr, where: str) -> Any:
    """Bring a YAML value to an option's declared type, without losing anything: ``1`` is a float, ``1.5`` is no int."""
    for branch in _branches(annotation):
        ok, result = _fit(value, branch)
        if ok:
            return _locate(result, where) if isinstance(branch, ast.Name) and branch.id == "Path" else result
    raise UserError(
        f"{where}={value!r}: expected {ast.unparse(annotation)}, found {type(value).__name__}{_allowed(value, annotation)}"
    )


def load_plugins(modules: list[str]) -> None:
    """Import a user's modules: their public functions named like ours (``my_loss``, ``load_mydata``) join the groups."""
    for name in modules:
        sys.path.insert(0, str(Path.cwd()))
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            raise UserError(f"plugins=[{name}]: can't be imported: {error}") from error
        finally:
            sys.path.pop(0)
        for group, (package, pattern, _) in GROUPS.items():
            prefix, suffix = pattern.split("{}") if "{}" in pattern else (pattern, "")
            for attribute, value in vars(module).items():
                own = inspect.isfunction(value) and value.__module__ == module.__name__
                if own and "{}" in pattern and attribute.startswith(prefix) and attribute.endswith(suffix):
                    if group == "student" and getattr(value, "plugs_into", group) != group:
                        continue
                    PLUGINS[package, attribute] = value


def function(package: str, name: str) -> Callable[..., Any]:
    """The function behind an option: a plugin's, or the package's own (imported now)."""
    return PLUGINS.get((package, name)) or getattr(importlib.import_module(f"braindistill.{package}"), name)


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
    if (package, function) in PLUGINS:
        return ast.parse(textwrap.dedent(inspect.getsource(PLUGINS[package, function]))).body[0]
    file = _PACKAGE / (package.replace(".", "/") + ".py")
    if file.exists():
        found = {node.name: node for node in syntax(file).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        return found[function]
    known = definitions(_PACKAGE / package)
    if function not in known:
        group = where.split("=")[0]
        raise UserError(f"{where}: no such option; {nearest(where.split('=')[1], choices(group))}")
    return known[function][1]


def _parameters(package: str, function: str) -> list[str]:
    node = _node(package, function, f"{package}={function}")
    return [argument.arg for argument in node.args.args] if isinstance(node, ast.FunctionDef) else []


def _signature(package: str, function: str, where: str) -> dict[str, Option]:
    node = _node(package, function, where)
    if isinstance(node, ast.ClassDef):  # a dataclass: its fields
        return {
            field.target.id: Option(field.annotation, _literal(field.value))
            for field in node.body
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        }
    assert isinstance(node, ast.FunctionDef)
    pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    return {
        argument.arg: Option(argument.annotation, _literal(default))
        for argument, default in pairs
        if argument.annotation
    }


def _literal(node: ast.expr | None) -> Any:
    if node is None:
        return REQUIRED
    value = ast.literal_eval(node)
    return list(value) if isinstance(value, tuple) else value


def _branches(annotation: ast.expr) -> list[ast.expr]:
    if isinstance(annotation, ast.BinOp):
        return _branches(annotation.left) + _branches(annotation.right)
    return [annotation]


def _fit(value: Any, branch: ast.expr) -> tuple[bool, Any]:
    """Does a value fit one branch of a union? → (fits, value in that type)."""
    if isinstance(branch, ast.Constant) and branch.value is None:
        return value is None, None
    if isinstance(branch, ast.Subscript):
        container = ast.unparse(branch.value)
        if container == "Literal":
            allowed = ast.literal_eval(branch.slice)
            allowed = allowed if isinstance(allowed, tuple) else (allowed,)
            return value in allowed, value
        if container == "list":
            if not isinstance(value, list | tuple):
                return False, None
            pairs = [
                next((fit for b in _branches(branch.slice) if (fit := _fit(item, b))[0]), (False, None))
                for item in value
            ]
            return all(ok for ok, _ in pairs), [item for _, item in pairs]
        return isinstance(value, Mapping), value  # dict[...]
    kind = ast.unparse(branch)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "bool":
        return isinstance(value, bool), value
    if kind == "int":
        whole = number and float(value).is_integer()
        return whole, int(value) if whole else None
    if kind == "float":
        return number, float(value) if number else None
    if kind == "str":  # classes=[6,9] and roi=1 are names, too
        return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)), str(value)
    if kind == "Path":
        return isinstance(value, str | Path), str(value)
    raise TypeError(f"config option annotated {kind}: not a type that config.py knows")


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


def _allowed(value: Any, annotation: ast.expr) -> str:
    words = [
        word
        for branch in _branches(annotation)
        if isinstance(branch, ast.Subscript) and ast.unparse(branch.value) == "Literal"
        for word in (lambda v: v if isinstance(v, tuple) else (v,))(ast.literal_eval(branch.slice))
    ]
    return f"; {nearest(str(value), words)}" if words else ""

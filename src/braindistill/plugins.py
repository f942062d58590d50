"""A user's own modules: what their functions are called says which group they join."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path

from braindistill.config import GROUPS
from braindistill.errors import UserError
from braindistill.exports import plug, syntax

_NAMES = "NAME_loss, fit_NAME, export_NAME, load_NAME or NAME(n_classes, image_shape, …)"


def load_plugins(modules: list[str]) -> None:
    """Let the public functions of a user's modules join the groups; they are read now, and imported when first used.

    ``NAME_loss`` joins ``method=``, ``fit_NAME`` joins ``teacher=``, ``export_NAME`` joins ``target=``,
    ``load_NAME(workspace, …)`` joins ``fmri=``, any other ``load_NAME`` joins ``images=``, and
    ``NAME(n_classes, image_shape, …)`` joins ``student=``.

    Raises
    ------
    UserError
        There is no such module, it can't be read, or none of its functions joins a group.
    """
    if modules and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    for module in modules:
        try:
            functions = [node for node in syntax(source(module)).body if isinstance(node, ast.FunctionDef)]
        except SyntaxError as error:
            raise UserError(f"plugins=[{module}]: {error.filename}, line {error.lineno}: {error.msg}") from error
        joining = [(group, node) for node in functions if (group := _group_of(node))]
        if not joining:
            raise UserError(f"plugins=[{module}]: none of its functions is named like ours: {_NAMES}")
        for group, node in joining:
            plug(GROUPS[group][0], module, node)


def source(module: str) -> Path:
    """The file of a module that can be imported.

    Raises
    ------
    UserError
        There is no such module, or it is not written in Python.
    """
    try:
        spec, reason = importlib.util.find_spec(module), "no such module"
    except (ImportError, ValueError) as error:
        spec, reason = None, str(error)
    if spec is None or not str(spec.origin).endswith(".py"):
        raise UserError(f"plugins=[{module}]: {reason}; give the name of a module in {Path.cwd()} or on PYTHONPATH")
    return Path(str(spec.origin))


def _group_of(node: ast.FunctionDef) -> str | None:
    parameters = [argument.arg for argument in node.args.args]
    if node.name.startswith("_"):
        return None
    if parameters[:2] == ["n_classes", "image_shape"]:
        return "student"
    if node.name.startswith("load_"):
        return "fmri" if "workspace" in parameters else "images"
    for group in ("teacher", "target", "method"):
        if re.fullmatch(GROUPS[group][1].replace("{}", ".+"), node.name):
            return group
    return None

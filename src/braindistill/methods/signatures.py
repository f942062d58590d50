"""What a method needs, read from its signature without importing torch."""

from __future__ import annotations

import ast
from pathlib import Path

from braindistill.errors import UserError, nearest
from braindistill.exports import definitions


def method_names() -> list[str]:
    """Names of the methods: the package's functions called ``NAME_loss``, without the ending."""
    found = definitions(Path(__file__).parent)
    return sorted(name.removesuffix("_loss") for name in found if name.endswith("_loss"))


def needs_target(name: str) -> bool:
    """Whether a method learns from a teacher, i.e. has a parameter ``teacher_logits``.

    Raises
    ------
    UserError
        If there is no such method.
    """
    if name not in method_names():
        raise UserError(f"method={name}: no such method; {nearest(name, method_names())}")
    _, node = definitions(Path(__file__).parent)[f"{name}_loss"]
    return isinstance(node, ast.FunctionDef) and any(a.arg == "teacher_logits" for a in node.args.args)

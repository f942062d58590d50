"""What a method needs, read from its signature without importing torch."""

from __future__ import annotations

import ast
from pathlib import Path

from braindistill.errors import UserError, nearest
from braindistill.exports import definitions

#: a method's parameter → the kind of target that it takes
_KINDS = {
    "teacher_logits": "soft_labels",
    "teacher_voxels": "voxels",
    "teacher_features": "voxels",  # a brain's patterns are its features
    "teacher_similarity": "relations",
    "teacher_mask": "mask",
}


def method_names() -> list[str]:
    """Names of the methods: the package's functions called ``NAME_loss``, without the ending."""
    found = definitions(Path(__file__).parent)
    return sorted(name.removesuffix("_loss") for name in found if name.endswith("_loss"))


def method_parameters(name: str) -> list[str]:
    """Names of the positional parameters of a method: what it works on, beside its options.

    Raises
    ------
    UserError
        If there is no such method.
    """
    if name not in method_names():
        raise UserError(f"method={name}: no such method; {nearest(name, method_names())}")
    _, node = definitions(Path(__file__).parent)[f"{name}_loss"]
    return [argument.arg for argument in node.args.args] if isinstance(node, ast.FunctionDef) else []


def needs_target(name: str) -> str | None:
    """The kind of target that a method learns from (soft_labels, voxels, relations, mask); None: it learns from labels.

    Raises
    ------
    UserError
        If there is no such method.
    """
    parameters = method_parameters(name)
    return next((kind for parameter, kind in _KINDS.items() if parameter in parameters), None)

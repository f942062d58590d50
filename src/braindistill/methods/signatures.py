"""What a method needs, read from its signature without importing torch."""

from __future__ import annotations

import ast
from pathlib import Path

from braindistill.errors import UserError, nearest
from braindistill.exports import definitions

#: a method's parameter → the kinds of target that it may be given
_KINDS: dict[str, tuple[str, ...]] = {
    "teacher_logits": ("soft_labels",),
    "teacher_layers": ("features",),
    "teacher_features": ("features", "voxels"),  # a brain's patterns are its features
    "teacher_voxels": ("voxels",),
    "teacher_similarity": ("relations",),
    "teacher_mask": ("mask",),
}
#: weights of the target in the settings that a method was published with on CIFAR-100, where they are not 1
_PUBLISHED_WEIGHTS = {
    "fitnet": 100.0,
    "attention": 1000.0,
    "similarity": 3000.0,
    "crd": 0.8,
    "review": 5.0,
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


def takes(name: str) -> tuple[str, ...]:
    """The kinds of target that a method may learn from, the usual one first; none: it learns from labels.

    Those of ``combined`` are its terms'.

    Raises
    ------
    UserError
        If there is no such method.
    """
    parameters = method_parameters(name)
    return next((kinds for parameter, kinds in _KINDS.items() if parameter in parameters), ())


def needs_target(name: str) -> bool:
    """Does a method learn from a target? Errors as of `takes`."""
    return bool(takes(name))


def published_weight(name: str) -> float:
    """The default of a method's ``target_weight``: what it was published with on CIFAR-100."""
    return _PUBLISHED_WEIGHTS.get(name, 1.0)

"""Build a student by name, with weights that depend only on the seed."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

from torch import nn

from braindistill import students
from braindistill.errors import UserError, nearest
from braindistill.exports import definitions
from braindistill.runtime import seeded


def student_names() -> list[str]:
    """Names of the students: the package's functions whose first parameters are ``n_classes`` and ``image_shape``."""
    return sorted(
        name
        for name, (_, node) in definitions(Path(__file__).parent).items()
        if isinstance(node, ast.FunctionDef)
        and [argument.arg for argument in node.args.args[:2]] == ["n_classes", "image_shape"]
    )


def build(name: str, n_classes: int, image_shape: tuple[int, int, int], seed: int, **options: Any) -> nn.Module:
    """Build the student ``name`` for C × H × W images, with initial weights drawn from ``seed``.

    Raises
    ------
    UserError
        If there is no such student, it has no such option, or lacks one that it can't do without.
    """
    if name not in student_names():
        raise UserError(f"student={name}: no such student; {nearest(name, student_names())}")
    architecture = getattr(students, name)
    parameters = inspect.signature(architecture).parameters.values()
    known = {parameter.name: parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
    for option in options:
        if option not in known:
            raise UserError(f"student.{option}: {name} has no such option; {nearest(option, known)}")
    for option, parameter in known.items():
        if parameter.default is parameter.empty and option not in options:
            raise UserError(f"student.{option} is required by student={name}: add student.{option}=…")
    with seeded(seed, "student", "weights"):
        return architecture(n_classes, image_shape, **options)

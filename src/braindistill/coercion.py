"""Option values brought to the types that annotations declare, read as syntax: nothing is imported for it."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from braindistill.errors import UserError, nearest


def coerce(value: Any, annotation: ast.expr, where: str) -> Any:
    """Bring a YAML value to an option's declared type, without losing anything: ``1`` is a float, ``1.5`` is no int.

    Raises
    ------
    UserError
        The value has another type, is not finite, or is not among the allowed words.
    """
    fits, result = fit_any(value, annotation)
    if not fits:
        for word, known in _unknown_words(value, annotation):
            raise UserError(f"{where}: no such word {word!r}; {nearest(str(word), known)}")
        expected = ast.unparse(annotation)
        raise UserError(
            f"{where}={value!r}: expected {expected}, found {type(value).__name__}{_allowed(value, annotation)}"
        )
    return result


def _branches(annotation: ast.expr) -> list[ast.expr]:
    if isinstance(annotation, ast.BinOp):
        return _branches(annotation.left) + _branches(annotation.right)
    return [annotation]


def _fit(value: Any, branch: ast.expr) -> tuple[bool, Any]:
    """Does a value fit one branch of a union? → (fits, value in that type)."""
    if isinstance(branch, ast.Subscript):
        return _fit_container(value, ast.unparse(branch.value).rpartition(".")[2], branch.slice)
    kind = ast.unparse(branch).rpartition(".")[2]
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300  # and no NaN
    if kind == "None":
        return value is None, None
    if kind == "bool":
        return isinstance(value, bool), value
    if kind == "int":
        whole = number and float(value).is_integer()
        return whole, int(value) if whole else None
    if kind == "float":
        exact = number and float(value) == value  # an integer beyond 2⁵³ may not be one
        return exact, float(value) if exact else None
    if kind == "str":  # classes=[6,9] and roi=1 are names, too
        return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)), str(value)
    if kind == "Path":
        return isinstance(value, str | Path), os.path.expanduser(str(value))
    raise ValueError(f"{kind} is not a type of options")


def _fit_container(value: Any, kind: str, inner: ast.expr) -> tuple[bool, Any]:
    if kind == "Literal":
        allowed = ast.literal_eval(inner)
        return value in (allowed if isinstance(allowed, tuple) else (allowed,)), value
    if kind not in ("list", "Sequence", "dict"):
        raise ValueError(f"{kind} is not a type of options")
    of_item = inner.elts[1] if isinstance(inner, ast.Tuple) else inner
    fit_any(None, of_item)
    if not isinstance(value, Mapping if kind == "dict" else list | tuple):
        return False, None
    fits = [fit_any(item, of_item) for item in (value.values() if isinstance(value, Mapping) else value)]
    items = [item for _, item in fits]
    return all(ok for ok, _ in fits), dict(zip(value, items, strict=True)) if kind == "dict" else items


def _unknown_words(value: Any, annotation: ast.expr) -> list[tuple[Any, list[Any]]]:
    """Items of a list of words that are none of those allowed, with these."""
    if not isinstance(value, list) or not isinstance(annotation, ast.Subscript):
        return []
    known = _words_of(annotation.slice)
    return [(item, known) for item in value if known and item not in known]


def fit_any(value: Any, annotation: ast.expr) -> tuple[bool, Any]:
    """Does a value fit an annotation, a union perhaps? → (fits, value in that type)."""
    fits = [_fit(value, branch) for branch in _branches(annotation)]
    return next((fit for fit in fits if fit[0]), (False, None))


def _allowed(value: Any, annotation: ast.expr) -> str:
    words = _words_of(annotation)
    return f"; {nearest(str(value), words)}" if words else ""


def _words_of(annotation: ast.expr) -> list[Any]:
    """What ``Literal`` allows, in any branch of a union."""
    return [
        word
        for branch in _branches(annotation)
        if isinstance(branch, ast.Subscript) and ast.unparse(branch.value).rpartition(".")[2] == "Literal"
        for word in ast.literal_eval(f"[{ast.unparse(branch.slice).strip('()')}]")
    ]

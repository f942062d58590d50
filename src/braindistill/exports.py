"""Lazy exports: a package offers every public function and class of its files, each imported when first used.

A package's ``__init__.py`` is two lines::

    from braindistill.exports import lazy
    __getattr__, __dir__ = lazy(__name__, __path__)

so that a new method, reader or student needs no registration, and ``--help`` can list them without importing torch.
"""

from __future__ import annotations

import ast
import functools
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from braindistill.errors import nearest


@functools.cache
def syntax(file: Path) -> ast.Module:
    """The syntax tree of a source file, parsed once a process."""
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


@functools.cache
def definitions(folder: Path) -> dict[str, tuple[str, ast.stmt]]:
    """Every public top-level function and class of a package folder: name → (module stem, syntax node)."""
    found: dict[str, tuple[str, ast.stmt]] = {}
    for file in sorted(folder.glob("*.py")):
        if file.stem != "__init__":
            for node in syntax(file).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                    found.setdefault(node.name, (file.stem, node))
    return found


def lazy(package: str, path: Sequence[str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make the ``__getattr__`` and ``__dir__`` of a package from the definitions in its files."""
    folder = Path(path[0])

    def get(name: str) -> Any:
        if (folder / f"{name}.py").exists():
            return importlib.import_module(f"{package}.{name}")
        if name.startswith("_") or name not in definitions(folder):
            raise AttributeError(f"{package} has no {name!r}; {nearest(name, definitions(folder))}")
        return getattr(importlib.import_module(f"{package}.{definitions(folder)[name][0]}"), name)

    return get, lambda: sorted(definitions(folder))

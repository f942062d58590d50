"""Lazy exports: a package offers every public function and class of its files, each imported when first used.

A package's ``__init__.py`` is two lines::

    from braindistill.exports import lazy
    __getattr__, __dir__ = lazy(__name__, __path__)

so that a new method, reader or student needs no registration, and ``--help`` can list them without importing torch.
What a user's own module adds (`plug`) is offered in the same way.
"""

from __future__ import annotations

import ast
import functools
import importlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from braindistill.errors import UserError, nearest


@functools.cache
def syntax(file: Path) -> ast.Module:
    """The syntax tree of a source file, parsed once a process."""
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


#: what users' modules add: package → name → (module, syntax node)
_plugged: dict[str, dict[str, tuple[str, ast.stmt]]] = {}


#: the beginning of a public function or class at the top level; to parse every file for them takes a quarter of a second
_BEGINNING = re.compile(r"^(?:def|class) ([A-Za-z]\w*)[(:\[]", re.M)


class Definitions(Mapping[str, tuple[str, ast.stmt]]):
    """Every public top-level function and class of a package folder and of what is plugged into it.

    name → (module, syntax node); a module of the package itself is relative: ``.logits``. A file is parsed when a node of
    it is asked for.
    """

    def __init__(self, folder: Path) -> None:
        self.files, self.plugged = _own(folder), _plugged.get(folder.name, {})

    def __getitem__(self, name: str) -> tuple[str, ast.stmt]:
        if name in self.plugged:
            return self.plugged[name]
        file = self.files[name]
        return f".{file.stem}", next(node for node in syntax(file).body if getattr(node, "name", "") == name)

    def __iter__(self) -> Iterator[str]:
        return iter({**self.files, **self.plugged})

    def __len__(self) -> int:
        return len({**self.files, **self.plugged})


def definitions(folder: Path) -> Definitions:
    """What a package offers."""
    return Definitions(folder)


@functools.cache
def _own(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in sorted(folder.glob("*.py")):
        if file.stem != "__init__":
            for name in _BEGINNING.findall(file.read_text(encoding="utf-8")):
                found.setdefault(name, file)
    return found


def plugged_into(package: str) -> dict[str, str]:
    """The functions that users' modules add to a package: name → module."""
    return {name: module for name, (module, _) in _plugged.get(package, {}).items()}


def plug(package: str, module: str, node: ast.FunctionDef) -> None:
    """Let a package offer a function of a user's module, which is imported when first used.

    Raises
    ------
    UserError
        The package has a function of that name itself.
    """
    if node.name in _own(Path(__file__).parent / package):
        raise UserError(f"plugins: {module}.{node.name} has the name of a built-in one; give it another name")
    _plugged.setdefault(package, {})[node.name] = (module, node)


def plugged_modules() -> list[str]:
    """The users' modules that were plugged in."""
    return sorted({module for added in _plugged.values() for module, _ in added.values()})


def lazy(package: str, path: Sequence[str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make the ``__getattr__`` and ``__dir__`` of a package from the definitions in its files."""
    folder = Path(path[0])

    def get(name: str) -> Any:
        if (folder / f"{name}.py").exists():
            return importlib.import_module(f"{package}.{name}")
        if name.startswith("_") or name not in definitions(folder):
            raise AttributeError(f"{package} has no {name!r}; {nearest(name, definitions(folder))}")
        return getattr(importlib.import_module(definitions(folder)[name][0], package), name)

    return get, lambda: sorted(definitions(folder))

"""Which code and which machine made an artifact: recorded beside it, never part of its key."""

from __future__ import annotations

import functools
import hashlib
import platform
import re
import sys
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parent.parent
_IMPORT = re.compile(
    rb"^[ \t]*(?:from[ \t]+(braindistill[\w.]*)[ \t]+import\b([ \t]*\([^)]*\)|[^\n(]*)|import[ \t]+([^\n]+))", re.M
)
_RECORDED = (
    "braindistill",
    "numpy",
    "scipy",
    "torch",
    "torchvision",
    "scikit-learn",
    "himalaya",
    "nibabel",
    "safetensors",
)


@functools.cache
def code_digest(module: str) -> str:
    """SHA-256 over the source of a module and of every module of this package that it imports, at any remove.

    Only absolute imports are seen. An import from a sub-package counts all of its files, for its exports are lazy.

    Parameters
    ----------
    module : str
        ``braindistill.stages.distill``; a module of another package counts its own file and what it imports from here.

    Raises
    ------
    ModuleNotFoundError
        If there is no such module.
    """
    pending = _sources(module)
    if not pending:
        raise ModuleNotFoundError(f"no source of {module}")
    found: dict[Path, str] = {}
    while pending:
        file = pending.pop()
        if file not in found:
            found[file], imported = _read(file)
            for name in imported:
                pending.extend(_sources(name))
    lines = [f"{_relative(file)} {content}" for file, content in found.items()]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _relative(file: Path) -> str:
    return file.relative_to(_PACKAGE).as_posix() if file.is_relative_to(_PACKAGE) else file.name


@functools.cache
def _read(file: Path) -> tuple[str, tuple[str, ...]]:
    source = file.read_bytes()
    imported = []
    for origin, names, modules in _IMPORT.findall(source):
        if origin == b"braindistill":  # `from braindistill import fmri, runtime`: the names are modules
            imported += [f"braindistill.{name.decode()}" for name in re.findall(rb"(\w+)(?:[ \t]+as[ \t]+\w+)?", names)]
        elif origin:
            imported.append(origin.decode())
        imported += [name.decode() for name in re.findall(rb"\bbraindistill\.[\w.]+", modules)]
    return hashlib.sha256(source).hexdigest(), tuple(imported)


@functools.cache
def _sources(module: str) -> list[Path]:
    package, *rest = module.split(".")
    if package == "braindistill":
        path = _PACKAGE.joinpath(*rest)
        if path.with_suffix(".py").is_file() and rest:
            return [path.with_suffix(".py")]
        return sorted(path.glob("*.py"))
    import importlib.util

    spec = importlib.util.find_spec(module)
    return [Path(spec.origin)] if spec and spec.origin and spec.origin.endswith(".py") else []


@functools.cache
def revision() -> str:
    """The git revision of the checkout this runs from, with ``-dirty`` if it was edited; '' where there is none."""
    checkout = _PACKAGE.parents[1]  # an installed wheel has no .git here, even below somebody else's repository
    if not (checkout / ".git").exists():
        return ""
    import subprocess

    command = [
        "git",
        "--no-optional-locks",
        "-C",
        str(checkout),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages whose numbers end up in artifacts, without importing them."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in _RECORDED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Host, platform, and the CUDA device if one is in use."""
    torch = sys.modules.get("torch")  # never imported for this
    in_use = torch is not None and torch.cuda.is_initialized()
    device = torch.cuda.get_device_name() if torch is not None and in_use else "cpu"
    return {"host": platform.node(), "platform": platform.platform(), "device": device}

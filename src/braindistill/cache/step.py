"""What names an artifact: its stage, the resolved options that the stage reads, and everything that goes in, hashed."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

SHORT = 12  # digits of a key that name its folder; the manifest holds all 64


def canonical_json(value: Any) -> str:
    """Write a value so that equal values give equal text: sorted keys, no spaces, integral floats as integers.

    Parameters
    ----------
    value : None, bool, int, float, str, and lists, tuples and mappings (with str keys) of them
        A tuple is written as a list, ``1.0`` as ``1`` and ``-0.0`` as ``0``; ``True`` stays ``true``.

    Returns
    -------
    str
        ASCII JSON.

    Raises
    ------
    ValueError
        For a NaN or an infinity, naming where it stands.
    TypeError
        For any other type (a ``Path``, an array, a key that is no str), naming where it stands.
    """
    return json.dumps(_plain(value, ""), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where or 'the value'} is {value}, which can't be part of a key; give a finite number")
        return int(value) if value.is_integer() else value
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where or 'the value'} has the key {key!r}, which is no string")
        return {key: _plain(item, f"{where}.{key}" if where else key) for key, item in value.items()}
    raise TypeError(f"{where or 'the value'} is a {type(value).__name__}, which can't be part of a key")


@dataclass(frozen=True, eq=False)
class Step:
    """One artifact, made or yet to be made. Two steps are equal when their keys are.

    Parameters
    ----------
    stage : str
        ``train-teacher``; the first part of the artifact's folder.
    version : int
        The stage's code version, raised by hand when what the stage computes changes.
    config : mapping
        Resolved values of the options that the stage reads, not their differences from the defaults.
    inputs : mapping of str to Step
        Upstream artifacts.
    files : mapping of str to str
        Option name → fingerprint of the input file or folder.
    digest, command, title : str
        Digest of the stage's source, the command line that builds it, and a few words for people.
        Recorded in the manifest, no part of the key.
    paths : mapping of str to str
        Option name → where an input file lies: what it holds is keyed, not its place.
    together : str
        Steps of the same label are made by one call, side by side; '' = on its own. No part of the key.
    """

    stage: str
    version: int
    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Step] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""
    command: str = ""
    title: str = ""
    paths: Mapping[str, str] = field(default_factory=dict)
    together: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", self.stage):
            raise ValueError(f"stage {self.stage!r}: take lower-case letters, digits and hyphens; it names a folder")

    @cached_property
    def document(self) -> dict[str, Any]:
        """What is hashed, as plain JSON values that later changes of ``config`` don't reach."""
        parts = {
            "stage": self.stage,
            "version": self.version,
            "config": _plain(self.config, ""),  # so that an error names the option, without "config."
            "inputs": {name: step.key for name, step in self.inputs.items()},
            "files": self.files,
        }
        return json.loads(canonical_json(parts))

    @cached_property
    def key(self) -> str:
        """64 hexadecimal digits: the SHA-256 of the document's canonical JSON."""
        return key_of(self.document)

    @property
    def name(self) -> str:
        """``stage/key12``, the artifact's folder below the cache."""
        return f"{self.stage}/{self.key[:SHORT]}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Step) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def key_of(document: Mapping[str, Any]) -> str:
    """The key of what a manifest records as hashed."""
    return hashlib.sha256(canonical_json(document).encode("ascii")).hexdigest()

"""Teachers on disk: which class reads an artifact back."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from braindistill.errors import UserError
from braindistill.teachers.answer import Answer

#: kind in ``teacher.json`` → (module, its class with a method ``load(folder, record)``, or a function of these)
_KINDS = {
    "brain": ("brain_storage", "load_brain"),
    "network": ("network_teacher", "NetworkTeacher"),
    "handcrafted": ("handcrafted", "HandcraftedTeacher"),
    "table": ("human", "TableTeacher"),
    "random": ("controls", "RandomTeacher"),
}


class Teacher(Protocol):
    """Anything that gives soft labels for images."""

    name: str
    classes: list[str]

    def soft_labels(self, image_id: np.ndarray, images: np.ndarray, device: str) -> Answer: ...


def load_teacher(folder: Path) -> Any:
    """Read back the teacher of a ``train-teacher`` artifact.

    Raises
    ------
    UserError
        The folder holds no teacher, or one of another version.
    """
    folder = Path(folder)
    if not (folder / "teacher.json").exists():
        raise UserError(f"{folder}: holds no teacher (teacher.json is missing); give the key of a train-teacher run")
    record: dict[str, Any] = json.loads((folder / "teacher.json").read_text())
    if record.get("kind") not in _KINDS:
        raise UserError(f"{folder}: a teacher of another version of braindistill; train it again")
    module, name = _KINDS[record["kind"]]
    read = getattr(importlib.import_module(f"braindistill.teachers.{module}"), name)
    return getattr(read, "load", read)(folder, record)

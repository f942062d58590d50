"""A trained student on disk: ``student.safetensors`` (weights) beside ``student.json`` (how to rebuild it)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from braindistill.errors import UserError
from braindistill.images.augmentation import normalise
from braindistill.runtime import progress
from braindistill.students.build import build
from braindistill.students.checkpoint import START

_KEYS = ("name", "options", "classes", "image_shape", "mean", "std")


class Student(nn.Module):
    """A network that takes images as they are on disk.

    Attributes
    ----------
    network : the bare network, which takes normalised images
    classes : names of the classes, in the order of the logits
    description : the content of ``student.json``
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, description: dict[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.description = description
        self.classes: list[str] = list(description["classes"])
        self.register_buffer("mean", torch.tensor(description["mean"]))
        self.register_buffer("std", torch.tensor(description["std"]))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N × classes) of uint8 or float images in 0 … 255 (N × C × H × W)."""
        weight = next(self.network.parameters())
        return self.network(normalise(images.to(weight.device), self.mean, self.std, weight.dtype))

    @torch.no_grad()
    def log_probabilities(self, images: np.ndarray, device: str, batch_size: int) -> np.ndarray:
        """Log-probabilities, float32 (N × classes), of uint8 images N × C × H × W, which may be a memory map."""
        self.to(device)
        rows = []
        for start in progress(range(0, len(images), batch_size), "predictions"):
            batch = torch.from_numpy(np.array(images[start : start + batch_size]))
            rows.append(self(batch).log_softmax(1).float().cpu().numpy())
        return np.concatenate(rows)


def save(model: nn.Module, folder: Path, description: dict[str, Any]) -> None:
    """Write a bare network into a folder.

    Parameters
    ----------
    model
        What :func:`braindistill.students.build.build` returned, trained.
    folder
        Made where it is missing.
    description
        ``name`` and ``options`` of the student, ``classes``, ``image_shape`` (C, H, W), ``mean`` and ``std`` (one
        value a channel, in [0, 1]); anything else that JSON can hold is kept too. How a pretrained student started is
        noted as ``pretrained`` and is no part of the options: the file of those weights isn't needed any more.
    """
    missing = [key for key in _KEYS if key not in description]
    if missing:
        raise ValueError(f"description of a student lacks {', '.join(missing)}")
    from safetensors.torch import save_file

    options = dict(description["options"])
    start = {key: options.pop(key) for key in START if key in options}
    description = {**description, "options": options}
    if start.get("init") == "pretrained":
        description["pretrained"] = {"file": Path(start["weights"]).name, "overlap": start.get("overlap")}
    text = json.dumps(description, indent=1, allow_nan=False)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "student.safetensors")
    # Last, since a folder with a description is taken for a whole student.
    (folder / "student.json").write_text(text + "\n", encoding="utf-8")


def load(key_or_folder: str | Path, cache: Path | None = None) -> Student:
    """Give a trained student back, in evaluation mode on the CPU.

    Parameters
    ----------
    key_or_folder
        An artifact's folder, or the first digits of its key.
    cache
        Folder of the artifacts; ``$BRAINDISTILL_CACHE`` or ``outputs`` if not given.

    Raises
    ------
    UserError
        If there is no such artifact, it is no student, or its weights don't fit its description.
    """
    folder = Path(key_or_folder)
    if not folder.is_dir():
        from braindistill.cache import Cache

        folder = Cache(cache or Path(os.environ.get("BRAINDISTILL_CACHE", "outputs"))).find(str(key_or_folder))
    if not (folder / "student.json").is_file():
        raise UserError(
            f"{folder}: holds no student (student.json is missing); give the key or folder of a distill run"
        )
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        description = json.loads((folder / "student.json").read_text(encoding="utf-8"))
        shape = tuple(description["image_shape"])
        network = build(description["name"], len(description["classes"]), shape, 0, **description["options"])
        network.load_state_dict(load_file(folder / "student.safetensors"))
        return Student(network, description).eval()
    except (KeyError, ValueError, RuntimeError, OSError, SafetensorError) as error:
        reason = str(error).replace("\n", " ")[:200]
        raise UserError(f"{folder}: damaged, or of another version: {reason}; build the student again") from error


def layers(model: nn.Module, image_shape: tuple[int, int, int]) -> list[tuple[str, str, tuple[int, ...], int]]:
    """Name, type, output shape (of one image) and number of parameters of every layer, in the order they run.

    A layer is a module without children; ``model`` takes normalised images.
    """
    found: list[tuple[str, str, tuple[int, ...], int]] = []
    handles = []
    for name, module in model.named_modules():
        if not any(module.children()):

            def note(module: nn.Module, _: Any, output: Any, name: str = name) -> None:
                count = sum(parameter.numel() for parameter in module.parameters())
                shape = tuple(output.shape[1:]) if isinstance(output, Tensor) else ()
                found.append((name, type(module).__name__, shape, count))

            handles.append(module.register_forward_hook(note))
    was_training = model.training
    weight = next(model.parameters())
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, *image_shape, dtype=weight.dtype, device=weight.device))
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return found

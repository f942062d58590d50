"""What a student said about the test images, kept as an artifact: written by ``predict``, read by ``eval``."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from braindistill.errors import UserError
from braindistill.images import ImageSet

#: what a training's log says that is worth a curve, by its name in the results
_CURVES = {"epoch": "epoch", "loss": "loss", "val_accuracy": "val_accuracy"}


def save_predictions(
    folder: Path, image_set: ImageSet, rows: np.ndarray, held_out: tuple[np.ndarray, np.ndarray] | None
) -> None:
    """Write log-probabilities of the test images and, where there are some, of the validation images.

    ``log_probabilities.npy`` and ``val_log_probabilities.npy`` are float32, images × classes, the latter beside its labels
    ``val_labels.npy``; ``test_images.json`` says which test images they are.

    Parameters
    ----------
    rows : in the order of the image set
    held_out : log-probabilities and labels of the validation images
    """
    np.save(folder / "log_probabilities.npy", rows, allow_pickle=False)
    if held_out is not None:
        np.save(folder / "val_log_probabilities.npy", held_out[0], allow_pickle=False)
        np.save(folder / "val_labels.npy", held_out[1], allow_pickle=False)
    (folder / "test_images.json").write_text(json.dumps(_which(image_set)))


def read_predictions(name: str, folders: Sequence[Path], image_set: ImageSet) -> list[np.ndarray]:
    """Log-probabilities of an arm's students, one a seed.

    Raises
    ------
    UserError
        They are of other test images or classes, or a student has diverged.
    """
    expected = len(image_set.test_ids), len(image_set.classes)
    found = []
    for folder in folders:
        rows = np.load(folder / "log_probabilities.npy", allow_pickle=False)
        record = folder / "test_images.json"
        other = record.exists() and json.loads(record.read_text()) != _which(image_set)
        if rows.shape != expected or other:
            shape = " × ".join(map(str, rows.shape))
            raise UserError(
                f"arm {name}: its predictions ({folder.name}, {shape}) are of other test images than those of the evaluation "
                f"({expected[0]} × {expected[1]}, images × classes); give every arm the same test images"
            )
        if not np.isfinite(rows).all():
            raise UserError(
                f"arm {name}: a student ({folder.name}) says NaN or infinity, so its training has diverged; lower train.lr"
            )
        found.append(rows)
    return found


def read_held_out(folders: Sequence[Path]) -> list[tuple[np.ndarray, np.ndarray]] | None:
    """Log-probabilities and labels of the validation images, a pair a seed; None where a prediction has none."""
    names = ("val_log_probabilities.npy", "val_labels.npy")
    if not all((folder / name).exists() for folder in folders for name in names):
        return None
    rows, labels = ([np.load(folder / name, allow_pickle=False) for folder in folders] for name in names)
    return list(zip(rows, labels, strict=True))


def read_training(folders: Sequence[Path]) -> dict[str, list[float | None]] | None:
    """Curves of a training, mean over seeds up to the end of the shortest; None where a prediction came without a log."""
    files = [folder / "metrics.jsonl" for folder in folders]
    if not all(file.exists() for file in files):
        return None
    logs = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
    epochs: list[tuple[dict[str, Any], ...]] = list(zip(*logs, strict=False))
    return {
        name: [_mean([entry[key] for entry in entries]) for entries in epochs]
        for name, key in _CURVES.items()
        if epochs and all(key in entry for entry in epochs[0])
    }


def _mean(values: list[float]) -> float | None:
    mean = sum(values) / len(values)
    return mean if math.isfinite(mean) else None


def _which(image_set: ImageSet) -> dict[str, Any]:
    ids = "\n".join([*image_set.test_ids.tolist(), *image_set.classes])
    labels = np.asarray(image_set.test_labels, "<i8").tobytes()
    return {"n": len(image_set.test_ids), "sha256": hashlib.sha256(ids.encode() + b"\n" + labels).hexdigest()}

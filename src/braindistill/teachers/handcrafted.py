"""The non-deep prediction: multinomial logistic regression on Gabor energies, oriented gradients and colour."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from braindistill.errors import UserError
from braindistill.images import ImageSet, Split
from braindistill.runtime import Runtime, progress
from braindistill.teachers.answer import Answer
from braindistill.teachers.calibration import calibrate, log_softmax
from braindistill.teachers.features import ImageFeatures
from braindistill.teachers.held_out_images import answer_held_out, deal_images
from braindistill.teachers.linear_decoder import LinearDecoder, fit_linear_decoder

_KINDS = ("gabor", "hog", "colour")
_BATCH = 2048


@dataclass
class HandcraftedTeacher:
    """Linear classifiers of handcrafted features, one a fold of the student's labelled images.

    Attributes
    ----------
    classes : names of the classes
    readers : what is read from a picture; the parts are put side by side
    decoders : one a fold, of raw features
    trained_on, held : ids of the labelled images, and the fold that held each out
    temperature : what log-probabilities are divided by
    scores : ``scores.json``
    """

    classes: list[str]
    readers: list[ImageFeatures]
    decoders: list[LinearDecoder]
    trained_on: list[str]
    held: list[int]
    temperature: float = 1.0
    scores: dict[str, Any] = field(default_factory=dict)
    name: str = "handcrafted"

    def soft_labels(self, image_id: np.ndarray, images: np.ndarray, device: str) -> Answer:
        """Calibrated log-probabilities: of the fold that held a labelled image out, and of all folds for any other image."""
        fold_of = dict(zip(self.trained_on, self.held, strict=True))
        models = [decoder.predict for decoder in self.decoders]
        answers = []
        for start in range(0, len(images), _BATCH):  # features take more room than pictures
            inputs = _read(self.readers, images[start : start + _BATCH], device)
            answers.append(answer_held_out(image_id[start : start + _BATCH], inputs, fold_of, models))
        rows, source, fold = (np.concatenate(parts) for parts in zip(*answers, strict=True))
        return Answer(log_softmax(rows / self.temperature), source, fold)

    def save(self, folder: Path) -> None:
        """Write ``teacher.json``, ``scores.json`` and ``teacher.safetensors``."""
        from safetensors.numpy import save_file

        arrays: dict[str, np.ndarray] = {}
        for k, decoder in enumerate(self.decoders):
            arrays |= {f"{k}/weights": decoder.weights, f"{k}/bias": decoder.bias}
        save_file({name: np.ascontiguousarray(part, np.float32) for name, part in arrays.items()}, _arrays(folder))
        record = {
            "kind": "handcrafted",
            "name": self.name,
            "classes": self.classes,
            "features": [reader.kind for reader in self.readers],
            "shape": list(self.readers[0].shape),
            "trained_on": self.trained_on,
            "held": self.held,
            "temperature": self.temperature,
        }
        (folder / "scores.json").write_text(json.dumps(self.scores, indent=1))
        (folder / "teacher.json").write_text(json.dumps(record))

    @classmethod
    def load(cls, folder: Path, record: dict[str, Any]) -> HandcraftedTeacher:
        """Read back what `save` wrote."""
        from safetensors.numpy import load_file

        arrays = load_file(_arrays(Path(folder)))
        decoders = [LinearDecoder(arrays[f"{k}/weights"], arrays[f"{k}/bias"]) for k in range(len(arrays) // 2)]
        readers = [ImageFeatures(kind, tuple(record["shape"])) for kind in record["features"]]
        own = {key: record[key] for key in ("classes", "trained_on", "held", "temperature")}
        scores = json.loads((Path(folder) / "scores.json").read_text())
        return cls(readers=readers, decoders=decoders, scores=scores, **own)


def fit_handcrafted(
    image_set: ImageSet,
    split: Split,
    runtime: Runtime,
    *,
    cues: Literal["gabor", "hog", "colour", "all"] = "all",
    penalty: float = 0.01,
    n_folds: int = 5,
    seed: int = 0,
) -> HandcraftedTeacher:
    """Fit logistic regression on handcrafted features of the student's labelled images, cross-fitted and calibrated.

    What the project of 2021 asked for beside the brain's prediction: one that is neither the brain's nor a deep network's.

    Parameters
    ----------
    image_set, split : the pictures, and which of them are labelled
    runtime : where features are computed
    cues : ``gabor`` (energies), ``hog`` (oriented gradients), ``colour``, or ``all`` of them, of equal variance
    penalty : L2, on features z-scored and brought to a total variance of 1
    n_folds : folds over the labelled images, class-balanced, at least 2
    seed : draws the folds

    Raises
    ------
    UserError
        Fewer than two folds, or fewer labelled images than folds; fewer than two classes in a fold's training images.
    """
    labels, image_id = image_set.train_labels[split.labelled], image_set.train_ids[split.labelled]
    held = deal_images(image_id, labels, n_folds, seed)
    readers = [ImageFeatures(kind, image_set.image_shape) for kind in (_KINDS if cues == "all" else (cues,))]
    images = image_set.train_images[split.labelled]
    parts = [_read([reader], images, runtime.device) for reader in readers]
    inputs = np.concatenate(parts, axis=1)
    widths = np.repeat([part.shape[1] for part in parts], [part.shape[1] for part in parts])
    decoders, spoken = [], np.empty((len(labels), len(image_set.classes)), np.float32)
    for k in progress(range(n_folds), "folds"):
        train = held != k
        if len(np.unique(labels[train])) < 2:
            raise UserError(
                f"teacher=handcrafted: without fold {k + 1} there are labelled images of one class only; give more labels "
                "(images.n_train)"
            )
        mean, deviation = inputs[train].mean(0, dtype=np.float64), inputs[train].std(0, dtype=np.float64)
        # a constant feature's deviation is rounding error
        scale = np.where(deviation > 1e-6 * np.abs(mean), deviation, np.inf) * np.sqrt(widths * len(parts))
        scaled = ((inputs - mean) / scale).astype(np.float32)
        n_classes = len(image_set.classes)
        model = fit_linear_decoder("logistic", scaled[train], labels[train], n_classes, penalty, together=True)
        spoken[~train] = model.predict(scaled[~train])
        weights = (model.weights / scale[:, None]).astype(np.float32)
        decoders.append(LinearDecoder(weights, (model.bias - mean @ weights).astype(np.float32)))
    temperature = calibrate(spoken, labels)
    scores = {
        "accuracy": float((spoken.argmax(1) == labels).mean()),
        "n_images": len(labels),
        "chance": float(np.bincount(labels).max() / len(labels)),
        "temperature": temperature,
        "scheme": f"{n_folds} folds by image",
    }
    classes = list(image_set.classes)
    return HandcraftedTeacher(
        classes, readers, decoders, image_id.tolist(), held.tolist(), temperature, {"handcrafted": scores}
    )


def _read(readers: list[ImageFeatures], images: np.ndarray, device: str) -> np.ndarray:
    return np.concatenate([reader.extract(images, device) for reader in readers], axis=1)


def _arrays(folder: Path) -> Path:
    return folder / "teacher.safetensors"

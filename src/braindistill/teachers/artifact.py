"""What a fitted teacher is on disk and in memory, and the one question it answers: soft labels for these images."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from braindistill.errors import UserError
from braindistill.runtime import progress
from braindistill.teachers.controls import random_soft_labels
from braindistill.teachers.decoder import LinearDecoder, log_softmax
from braindistill.teachers.encoder import Ridge
from braindistill.teachers.features import ImageFeatures

_BATCH = 2048


@dataclass
class BrainTeacher:
    """A teacher fitted on responses (or on features in their place).

    Attributes
    ----------
    name : encoder | decoder | brain | random_matched | features
    classes : class names; empty for an encoder
    features : what it reads from a picture; None for a decoder alone
    encoders, decoders : one a fold. With both, an image goes through each pair; with features and decoders only, the
        features themselves are decoded
    stimulus_id : (stimuli) the stimuli that have measured responses
    measured : (stimuli × classes) log-probabilities of measured responses, from folds that did not see the stimulus, or None
    in_sample : (stimuli) bool, rows of ``measured`` that the decoder was fitted on, or None
    scores : ``scores.json``: out-of-fold scores
    voxel_r : (voxels) out-of-fold r of the encoder, or None
    temperature : what log-probabilities are divided by, for ``measured`` and ``predicted`` responses
    labelled : stimuli whose labels the decoder was given
    seed : draws what ``random_matched`` permutes
    """

    name: str
    classes: list[str]
    features: ImageFeatures | None
    encoders: list[Ridge]
    decoders: list[LinearDecoder]
    stimulus_id: np.ndarray
    measured: np.ndarray | None
    in_sample: np.ndarray | None
    scores: dict[str, Any]
    voxel_r: np.ndarray | None = None
    temperature: dict[str, float] = field(default_factory=lambda: {"measured": 1.0, "predicted": 1.0})
    labelled: list[str] = field(default_factory=list)
    seed: int = 0

    def soft_labels(self, image_id: np.ndarray, images: np.ndarray, device: str) -> tuple[np.ndarray, np.ndarray]:
        """Log-probabilities of a row of images.

        Parameters
        ----------
        image_id : (images) str; an id among the stimuli is answered from its measured responses
        images : (images × channels × height × width) uint8

        Returns
        -------
        rows : (images × classes) float32 log-probabilities, calibrated
        source : (images) ``measured``, ``predicted`` or ``in_sample``

        Raises
        ------
        UserError
            An encoder was asked for soft labels; a decoder was asked about images that were never shown.
        """
        if not self.classes or self.measured is None:
            raise UserError(f"teacher={self.name} has no decoder, so it gives no soft labels; take teacher=brain")
        place = {name: row for row, name in enumerate(self.stimulus_id.tolist())}
        row_of = np.array([place.get(name, -1) for name in image_id.tolist()], int)
        shown = row_of >= 0
        rows = np.empty((len(image_id), len(self.classes)), np.float32)
        source = np.where(shown, "measured", "predicted").astype("<U9")
        rows[shown] = log_softmax(self.measured[row_of[shown]] / self.temperature["measured"])
        if self.in_sample is not None:
            source[shown] = np.where(self.in_sample[row_of[shown]], "in_sample", "measured")
        others = np.flatnonzero(~shown)
        if len(others):
            if self.features is None:
                raise UserError(
                    f"teacher={self.name}: {len(others)} of {len(image_id)} images were never shown in the scanner "
                    f"(first: {image_id[others[0]]}), and a decoder alone can't predict responses; take teacher=brain"
                )
            rows[others] = self._predict(images, others, device)
        return rows, source

    def predicted_log_probabilities(self, images: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Uncalibrated log-probabilities of pictures, averaged over folds (images × classes)."""
        assert self.features is not None
        inputs = self.features.extract(images, device)
        total = np.zeros((len(images), len(self.classes)))
        for k, decoder in enumerate(self.decoders):
            total += decoder.predict(self.encoders[k].predict(inputs) if self.encoders else inputs)
        return log_softmax(total / len(self.decoders))

    def _predict(self, images: np.ndarray, rows: np.ndarray, device: str) -> np.ndarray:
        blocks = []
        for start in progress(range(0, len(rows), _BATCH), "predicted responses"):
            picked = np.asarray(images[rows[start : start + _BATCH]])
            blocks.append(self.predicted_log_probabilities(picked, device))
        return log_softmax(np.concatenate(blocks) / self.temperature["predicted"])

    def save(self, folder: Path) -> None:
        """Write ``teacher.safetensors``, ``teacher.json``, ``scores.json`` and, with an encoder, ``voxel_r.npy``."""
        from safetensors.numpy import save_file

        arrays: dict[str, np.ndarray] = {}
        for kind, models in (("encoder", self.encoders), ("decoder", self.decoders)):
            for k, model in enumerate(models):
                arrays |= {
                    f"{kind}/{k}/{name}": np.ascontiguousarray(part, np.float32) for name, part in vars(model).items()
                }
        if self.measured is not None:
            arrays["measured"] = np.ascontiguousarray(self.measured, np.float32)
        save_file(arrays, folder / "teacher.safetensors")
        record = {
            "name": self.name,
            "classes": self.classes,
            "features": self.features.describe() if self.features else None,
            "n_folds": max(len(self.encoders), len(self.decoders)),
            "temperature": self.temperature,
            "stimulus_id": self.stimulus_id.tolist(),
            "in_sample": None if self.in_sample is None else self.in_sample.tolist(),
            "labelled": self.labelled,
            "seed": self.seed,
        }
        (folder / "teacher.json").write_text(json.dumps(record))
        (folder / "scores.json").write_text(json.dumps(self.scores, indent=1))
        if self.voxel_r is not None:
            np.save(folder / "voxel_r.npy", self.voxel_r.astype(np.float32), allow_pickle=False)

    @classmethod
    def load(cls, folder: Path, record: dict[str, Any]) -> BrainTeacher:
        from safetensors.numpy import load_file

        arrays = load_file(folder / "teacher.safetensors")

        def models(kind: str, make: type) -> list[Any]:
            found: dict[int, dict[str, np.ndarray]] = {}
            for key, value in arrays.items():
                if key.startswith(f"{kind}/"):
                    _, k, name = key.split("/")
                    found.setdefault(int(k), {})[name] = value
            return [make(**found[k]) for k in sorted(found)]

        described = record["features"]
        features = ImageFeatures(**{**described, "shape": tuple(described["shape"])}) if described else None
        return cls(
            record["name"],
            record["classes"],
            features,
            models("encoder", Ridge),
            models("decoder", LinearDecoder),
            np.array(record["stimulus_id"], str),
            arrays.get("measured"),
            None if record["in_sample"] is None else np.array(record["in_sample"], bool),
            json.loads((folder / "scores.json").read_text()),
            temperature=record["temperature"],
            labelled=record["labelled"],
            seed=record["seed"],
        )


@dataclass
class NetworkTeacher:
    """Ordinary KD's teacher: a network trained on the same labels as the student."""

    name: str
    classes: list[str]
    network: Any
    trained_on: list[str]

    def soft_labels(self, image_id: np.ndarray, images: np.ndarray, device: str) -> tuple[np.ndarray, np.ndarray]:
        """As `BrainTeacher.soft_labels`. On its own training images, as ordinary KD has it, answers are in sample."""
        seen = np.isin(image_id, np.array(self.trained_on, str))
        rows = self.network.log_probabilities(images, device, _BATCH)
        return rows, np.where(seen, "in_sample", "predicted").astype("<U9")


@dataclass
class RandomTeacher:
    """The original project's noise teacher; it gives any classes it is asked for."""

    seed: int
    classes: list[str] = field(default_factory=list)
    name: str = "random"

    def soft_labels(self, image_id: np.ndarray, images: np.ndarray, device: str) -> tuple[np.ndarray, np.ndarray]:
        """As `BrainTeacher.soft_labels`; the images are not looked at."""
        return random_soft_labels(image_id, len(self.classes), self.seed), np.full(len(image_id), "predicted")


def load_teacher(folder: Path) -> BrainTeacher | NetworkTeacher | RandomTeacher:
    """Read back the teacher of a ``train-teacher`` artifact."""
    folder = Path(folder)
    record = json.loads((folder / "teacher.json").read_text())
    if record["name"] == "random":
        return RandomTeacher(record["seed"])
    if record["name"] == "cnn":
        from braindistill.students import load

        return NetworkTeacher("cnn", record["classes"], load(folder), record["trained_on"])
    return BrainTeacher.load(folder, record)

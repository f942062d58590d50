"""A teacher that is a network, or one a fold: ordinary KD, born-again networks, and KD degraded to the brain's accuracy."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from braindistill.runtime import numpy_generator
from braindistill.students.artifact import Student, load, save
from braindistill.teachers.answer import UNSEEN, Answer
from braindistill.teachers.calibration import log_softmax
from braindistill.teachers.held_out_images import answer_held_out

_BATCH = 2048


@dataclass
class NetworkTeacher:
    """Networks that were trained on the student's labels.

    Attributes
    ----------
    name : cnn | self | kd_matched
    classes : names of the classes, in the networks' order
    networks : one, or one a fold
    trained_on : ids of the images that the networks were trained on; empty where the weights came from a file
    held : the fold that held each of these out; empty where there is one network
    scores : ``scores.json``
    noise, temperature, seed : of ``kd_matched``, see `degrade`
    """

    name: str
    classes: list[str]
    networks: list[Student]
    trained_on: list[str] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    scores: dict[str, Any] = field(default_factory=dict)
    noise: float = 0.0
    temperature: float = 1.0
    seed: int = 0

    def soft_labels(self, image_id: np.ndarray, images: np.ndarray, device: str) -> Answer:
        """Log-probabilities of a row of images.

        A single network is in sample on its own training images, as ordinary KD has it. Of several, one answers about an
        image that it held out, and all about an image that none was trained on.

        Parameters
        ----------
        image_id : (images) str
        images : (images × channels × height × width) uint8
        """
        if len(self.networks) > 1:
            fold_of = dict(zip(self.trained_on, self.held, strict=True))
            models = [
                functools.partial(network.log_probabilities, device=device, batch_size=_BATCH)
                for network in self.networks
            ]
            answer = answer_held_out(image_id, images, fold_of, models)
        else:
            rows = self.networks[0].log_probabilities(images, device, _BATCH)
            seen = np.isin(image_id, np.array(self.trained_on, str))
            source = np.where(seen, "in_sample", "predicted").astype("<U9")
            answer = Answer(rows, source, np.full(len(rows), UNSEEN, np.int16))
        if self.noise == 0 and self.temperature == 1:
            return answer
        return answer._replace(rows=degrade(answer.rows, image_id, self.noise, self.temperature, self.seed))

    def save(self, folder: Path) -> None:
        """Write ``teacher.json``, ``scores.json``, and the network as a student's folder; of several, one folder a fold."""
        for place, network in zip(network_folders(folder, len(self.networks)), self.networks, strict=True):
            save(network.network, place, network.description)
        record = {
            "kind": "network",
            "name": self.name,
            "classes": self.classes,
            "n_networks": len(self.networks),
            "trained_on": self.trained_on,
            "held": self.held,
            "noise": self.noise,
            "temperature": self.temperature,
            "seed": self.seed,
        }
        (folder / "scores.json").write_text(json.dumps(self.scores, indent=1))
        (folder / "teacher.json").write_text(json.dumps(record))

    @classmethod
    def load(cls, folder: Path, record: dict[str, Any]) -> NetworkTeacher:
        """Read back what `save` wrote."""
        own = {key: record[key] for key in ("name", "classes", "trained_on", "held", "noise", "temperature", "seed")}
        networks = [load(place) for place in network_folders(Path(folder), record["n_networks"])]
        return cls(networks=networks, scores=json.loads((Path(folder) / "scores.json").read_text()), **own)


def network_folders(folder: Path, n_networks: int) -> list[Path]:
    """Where each network lies: a single one in the folder itself, or one in a folder a fold."""
    return [folder] if n_networks == 1 else [folder / f"fold-{k}" for k in range(n_networks)]


def degrade(rows: np.ndarray, image_id: np.ndarray, noise: float, temperature: float, seed: int) -> np.ndarray:
    """Add Gaussian noise to log-probabilities and divide them by a temperature → log-probabilities.

    An image's noise is a function of its id and the seed alone. ``noise`` is a standard deviation in nats.
    """
    drawn = np.stack([numpy_generator(seed, "kd_matched", name).standard_normal(rows.shape[1]) for name in image_id])
    return log_softmax((rows + noise * drawn) / temperature)

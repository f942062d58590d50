"""Sixteen pictures of three classes (six labelled, six in the pool, four neither), and a teacher that knows them all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from braindistill.images import ImageSet, Split
from braindistill.targets import asking, soft_labels
from braindistill.teachers.answer import UNSEEN, Answer


@pytest.fixture
def image_set() -> ImageSet:
    rng = np.random.default_rng(0)
    labels = np.arange(16) % 3
    images = rng.integers(0, 256, (16, 1, 4, 4)).astype(np.uint8)
    ids = np.array([f"image-{row:02d}" for row in range(16)])
    return ImageSet(
        images, ids, labels, images[:3] + np.uint8(1), np.array(["t0", "t1", "t2"]), labels[:3], list("abc")
    )


@pytest.fixture
def split() -> Split:
    return Split(labelled=np.arange(6), pool=np.arange(6, 12), val=np.arange(12, 14))


@dataclass
class Oracle:
    """A teacher whose answers are linear in the pixels. Images 0 to 8 were shown to it, in folds 0 to 2.

    ``asked`` counts the images of each question.
    """

    name: str = "brain"
    classes: list[str] = field(default_factory=lambda: list("abc"))
    n_voxels: int = 10
    voxel_scores: dict[str, np.ndarray] = field(default_factory=dict)
    rois: dict[str, np.ndarray] = field(default_factory=lambda: {"V1": np.arange(4), "V2": np.arange(4, 10)})
    shown_source: str = "measured"
    asked: list[int] = field(default_factory=list)

    def soft_labels(self, image_id: np.ndarray, images: np.ndarray, device: str) -> Answer:
        logits = self._read(images, len(self.classes), 1)
        rows = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        return self._answer(image_id, rows, self.shown_source)

    def voxels(self, image_id: np.ndarray, images: np.ndarray, device: str, measured: bool) -> Answer:
        rows = 500 + 20 * self._read(images, self.n_voxels, 2)
        answer = self._answer(image_id, rows, "measured" if measured else "predicted")
        answer.rows[answer.source == "measured"] += 100
        return answer

    def roi_index(self, roi: str) -> np.ndarray:
        return self.rois[roi]

    def _read(self, images: np.ndarray, width: int, seed: int) -> np.ndarray:
        pixels = images.reshape(len(images), -1).astype(np.float64) / 128 - 1
        return pixels @ np.random.default_rng(seed).normal(size=(pixels.shape[1], width))

    def _answer(self, image_id: np.ndarray, rows: np.ndarray, source: str) -> Answer:
        number = np.array([int(name.split("-")[1]) for name in image_id.tolist()], int)
        shown = number < 9
        self.asked.append(len(image_id))
        fold = np.where(shown, number % 3, UNSEEN).astype(np.int16)
        return Answer(rows.astype(np.float32), np.where(shown, source, "predicted").astype("<U9"), fold)


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> Oracle:
    """The teacher that an export finds, in whatever folder."""
    made = Oracle()

    def give(folder: Any) -> Oracle:
        return made

    monkeypatch.setattr(asking, "load_teacher", give)
    monkeypatch.setattr(soft_labels, "load_teacher", give)
    return made

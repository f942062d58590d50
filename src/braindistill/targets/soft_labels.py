"""Soft labels: log-probabilities over the student's classes, keyed by image id."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from braindistill.errors import UserError
from braindistill.images import ImageSet, Split
from braindistill.teachers.artifact import BrainTeacher, load_teacher
from braindistill.teachers.controls import permute_other_classes


@dataclass
class SoftLabels:
    """A target on disk: ``log_probabilities.npy``, ``ids.npz`` and ``target.json``.

    Attributes
    ----------
    image_id : (images) str
    log_probabilities : (images × classes) float16 or float32; rows are normalised
    classes : names, in the order of the columns
    record : provenance: teacher, temperature, entropy, diagnostic accuracies, where rows came from
    """

    image_id: np.ndarray
    log_probabilities: np.ndarray
    classes: list[str]
    record: dict[str, Any] = field(default_factory=dict)

    def rows_for(self, image_id: np.ndarray, classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Join on image id: float32 (images × classes) in the order asked for, and which images have a row.

        Raises
        ------
        UserError
            The target's classes are not the student's.
        """
        if sorted(classes) != sorted(self.classes):
            raise UserError(
                f"the target's classes are {_some(self.classes)}, the student's are {_some(classes)}: they must be the same; "
                "restrict the images with images.classes=[…]"
            )
        place = {name: row for row, name in enumerate(self.image_id.tolist())}
        row_of = np.array([place.get(name, -1) for name in image_id.tolist()], int)
        found = row_of >= 0
        rows = np.zeros((len(image_id), len(classes)), np.float32)
        columns = [self.classes.index(name) for name in classes]
        rows[found] = np.asarray(self.log_probabilities[row_of[found]], np.float32)[:, columns]
        return rows, found

    def save(self, folder: Path) -> None:
        np.save(folder / "log_probabilities.npy", self.log_probabilities, allow_pickle=False)
        np.savez(folder / "ids.npz", image_id=self.image_id, classes=np.array(self.classes, str))
        (folder / "target.json").write_text(json.dumps(self.record, indent=1))

    @classmethod
    def load(cls, folder: Path) -> SoftLabels:
        folder = Path(folder)
        with np.load(folder / "ids.npz", allow_pickle=False) as ids:
            image_id, classes = ids["image_id"], ids["classes"].tolist()
        rows = np.load(folder / "log_probabilities.npy", mmap_mode="r", allow_pickle=False)
        return cls(image_id, rows, classes, json.loads((folder / "target.json").read_text()))


def export_soft_labels(
    teacher_folder: Path | None,
    image_set: ImageSet,
    split: Split,
    device: str,
    *,
    images: Literal["labelled", "pool", "all"] = "all",
    precision: Literal["float16", "float32"] = "float32",
    allow_in_sample: bool = False,
) -> SoftLabels:
    """Ask the teacher about the student's training images.

    Parameters
    ----------
    teacher_folder, image_set, split, device : the teacher's artifact, the pictures and their roles
    images : which training images get a target
    precision : how log-probabilities are stored
    allow_in_sample : let a brain teacher speak about labelled stimuli that its decoder was fitted on (``teacher.n_folds=1``)

    Raises
    ------
    UserError
        A target would be in sample; the teacher can't speak about an image; a control needs labels that images lack.
    """
    assert teacher_folder is not None
    teacher = load_teacher(teacher_folder)
    if teacher.name == "random":
        teacher.classes = image_set.classes
    chosen = chosen_images(split, images)
    image_id = image_set.train_ids[chosen]
    rows, source = teacher.soft_labels(image_id, image_set.train_images[chosen], device)
    in_sample = source == "in_sample"
    if in_sample.any() and not allow_in_sample and teacher.name != "cnn":
        raise UserError(
            f"{in_sample.sum()} targets would be in sample (first: {image_id[in_sample][0]}): the decoder was fitted on those "
            "stimuli; use teacher.n_folds ≥ 2, or target.allow_in_sample=true to see what that does"
        )
    if isinstance(teacher, BrainTeacher) and teacher.name == "random_matched":
        if images != "labelled" and len(split.pool):
            raise UserError(
                "teacher=random_matched needs each image's true class, which the pool must not reveal; "
                "take target.images=labelled"
            )
        rows, _ = SoftLabels(image_id, rows, teacher.classes).rows_for(image_id, image_set.classes)
        rows = permute_other_classes(rows, image_set.train_labels[chosen], image_id, teacher.seed)
        teacher.classes = image_set.classes
    counts = {str(kind): int((source == kind).sum()) for kind in np.unique(source)}
    temperature = getattr(teacher, "temperature", None)
    record = {"teacher": teacher.name, "sources": counts, "temperature": temperature, "n_images": len(image_id)}
    target = SoftLabels(image_id, rows.astype(precision), teacher.classes, record)
    record |= diagnose(target, image_set, split)
    return target


def diagnose(target: SoftLabels, image_set: ImageSet, split: Split) -> dict[str, Any]:
    """Entropy and accuracy of a target. The pool's labels are read here for this number only, never for training."""
    found: dict[str, Any] = {}
    for part, rows in (("labelled", split.labelled), ("pool", split.pool)):
        log_p, has = target.rows_for(image_set.train_ids[rows], image_set.classes)
        scored = has & (image_set.train_labels[rows] >= 0)
        right = log_p[scored].argmax(1) == image_set.train_labels[rows][scored]
        found[f"accuracy_{part}"] = float(right.mean()) if scored.any() else None
    log_p = np.asarray(target.log_probabilities, np.float64)
    found["entropy"] = float(-(np.exp(log_p) * np.maximum(log_p, -1e4)).sum(1).mean()) if len(log_p) else None
    return found


def chosen_images(split: Split, images: str) -> np.ndarray:
    """Indices of the training images that ``target.images`` names."""
    parts = {"labelled": [split.labelled], "pool": [split.pool], "all": [split.labelled, split.pool]}
    return np.concatenate(parts[images])


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f", … ({len(names)})" if len(names) > 5 else "")

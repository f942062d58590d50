"""Soft labels: log-probabilities over the student's classes, keyed by image id."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from braindistill.errors import UserError
from braindistill.images import ImageSet, Split
from braindistill.joining import find_rows
from braindistill.targets.asking import ask_soft_labels, check_control, chosen_images, deal, describe_rows
from braindistill.targets.mapping import map_classes, read_mapping
from braindistill.targets.store import read_rows, write_rows
from braindistill.targets.views import ViewMaker
from braindistill.teachers.artifact import load_teacher
from braindistill.teachers.controls import permute_other_classes

#: teachers whose own training images may be asked about, as ordinary KD does
_MAY_BE_IN_SAMPLE = {"cnn", "self", "kd_matched", "file"}
#: stands for the logarithm of zero
_FLOOR = -30.0


@dataclass
class SoftLabels:
    """A target on disk: ``log_probabilities.npy``, ``ids.npz`` and ``target.json``; with top-k also ``columns``, ``mass``.

    Attributes
    ----------
    image_id : (images) str
    log_probabilities : (images × classes, or × k) float16 or float32; of views of the images (images × views × …)
    classes : names, in the order of the columns
    record : provenance: teacher, temperature, entropy, diagnostic accuracies, where rows came from
    source, fold : (images) where a row came from, and the fold that held its image out, as in `Answer`
    columns : (images [× views] × k) the classes of the k largest probabilities, or None: all are stored
    mass : (images [× views]) float32: what these k sum to; the rest is spread evenly over the other classes
    """

    kind: ClassVar[str] = "soft_labels"

    image_id: np.ndarray
    log_probabilities: np.ndarray
    classes: list[str]
    record: dict[str, Any] = field(default_factory=dict)
    source: np.ndarray | None = None
    fold: np.ndarray | None = None
    columns: np.ndarray | None = None
    mass: np.ndarray | None = None

    @property
    def views(self) -> int:
        """Views of each image that have a row; 0: the image as it is has one. ``record["views"]`` says how they are made."""
        return self.log_probabilities.shape[1] if self.log_probabilities.ndim == 3 else 0

    def rows_for(self, image_id: np.ndarray, classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Join on image id: float32 rows in the order asked for, and which images have one.

        Rows are images × classes; of a target with views images × views × classes.

        Raises
        ------
        UserError
            The target's classes are not the student's.
        """
        if sorted(classes) != sorted(self.classes):
            raise UserError(
                f"the target's classes are {_some(self.classes)}, the student's are {_some(classes)}: they must be the same; "
                "restrict the images with images.classes=[…], or say which stands for which with target.mapping=FILE"
            )
        row, found = find_rows(self.image_id, image_id)
        rows = np.zeros((len(image_id), *self.log_probabilities.shape[1:-1], len(classes)), np.float32)
        rows[found] = self.whole(row[found])[..., [self.classes.index(name) for name in classes]]
        return rows, found

    def whole(self, rows: np.ndarray) -> np.ndarray:
        """Some rows with all classes, float32 (rows [× views] × classes)."""
        stored = np.asarray(self.log_probabilities[rows], np.float32)
        if self.columns is None or self.mass is None:
            return stored
        mass = np.asarray(self.mass[rows], np.float64)[..., None]
        rest = (1 - mass) / (len(self.classes) - stored.shape[-1])
        whole = np.repeat(np.maximum(np.log(np.maximum(rest, 1e-30)), _FLOOR), len(self.classes), axis=-1)
        kept = np.exp(stored.astype(np.float64))
        kept *= mass / kept.sum(-1, keepdims=True)
        np.put_along_axis(whole, np.asarray(self.columns[rows], np.int64), np.log(np.maximum(kept, 1e-30)), axis=-1)
        return whole.astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write the target into an existing folder."""
        parts = {"log_probabilities": self.log_probabilities, "columns": self.columns, "mass": self.mass}
        arrays = {name: part for name, part in parts.items() if part is not None}
        names = {"classes": np.array(self.classes, str)}
        write_rows(folder, self.image_id, self.source, self.fold, arrays, names, {"kind": self.kind} | self.record)

    @classmethod
    def load(cls, folder: Path) -> SoftLabels:
        """Read what `save` wrote; rows are memory-mapped."""
        stored = read_rows(folder, ["log_probabilities", "columns", "mass"])
        record = {key: value for key, value in stored.record.items() if key != "kind"}
        rows, columns, mass = (stored.arrays.get(name) for name in ("log_probabilities", "columns", "mass"))
        assert rows is not None
        classes = stored.names["classes"].tolist()
        return cls(stored.image_id, rows, classes, record, stored.source, stored.fold, columns, mass)


def export_soft_labels(
    teacher_folder: Path | None,
    image_set: ImageSet,
    split: Split,
    device: str,
    view_maker: ViewMaker | None = None,
    *,
    images: Literal["labelled", "pool", "all"] = "all",
    precision: Literal["float16", "float32"] = "float32",
    top_k: int | None = None,
    mapping: Path | None = None,
    control: Literal["random_matched", "shuffled_within", "shuffled_across"] | None = None,
    allow_in_sample: bool = False,
    views: int = 0,
    seed: int = 0,
) -> SoftLabels:
    """Ask the teacher about the student's training images.

    Parameters
    ----------
    teacher_folder, image_set, split, device : the teacher's artifact, the pictures and their roles
    view_maker : how the training will augment the images; needed with ``views``
    images : which training images get a target
    precision : how log-probabilities are stored
    top_k : keep the k largest of each row, as float16, and how much they sum to; None: all
    mapping : a csv, tsv or json table from the teacher's classes to the student's, see `read_mapping`
    control : ``random_matched`` (the classes other than the true one permuted), ``shuffled_within`` (rows dealt to other
        images of the class), ``shuffled_across`` (to any other image). The first two need labelled images
    allow_in_sample : let a brain teacher speak about labelled stimuli that its decoder was fitted on (``teacher.n_folds=1``)
    views : ask about so many augmented views of each image, of which the training then shows one at a time; 0: about the
        image as it is. A control deals all views of an image together
    seed : draws the control

    Raises
    ------
    UserError
        A target would be in sample; the teacher can't speak about an image, or its classes are not the student's; a
        control needs labels that images lack.
    """
    assert teacher_folder is not None
    check_control(control, image_set, split, images)
    teacher = load_teacher(teacher_folder)
    if teacher.name == "random":
        teacher.classes = image_set.classes
    if not teacher.classes:
        raise UserError(
            f"teacher={teacher.name} has no decoder, so it gives no soft labels; take target=voxels, relations or mask, "
            "or teacher=brain"
        )
    chosen = chosen_images(split, images)
    image_id = image_set.train_ids[chosen]
    rows, source, fold = ask_soft_labels(teacher, image_set, chosen, device, views, view_maker)
    in_sample = source == "in_sample"
    if in_sample.any() and not allow_in_sample and teacher.name not in _MAY_BE_IN_SAMPLE:
        raise UserError(
            f"{in_sample.sum()} targets would be in sample (first: {image_id[in_sample][0]}): the decoder was fitted on those "
            "stimuli; use teacher.n_folds ≥ 2, or target.allow_in_sample=true to see what that does"
        )
    temperature = getattr(teacher, "temperature", None)
    if isinstance(temperature, float):  # one for all images, none of them measured
        temperature = {"predicted": temperature}
    record = describe_rows(teacher.name, source, fold, control) | {"temperature": temperature}
    if views and view_maker is not None:
        record |= view_maker.record(views)
    classes = teacher.classes
    if mapping is not None:
        table = read_mapping(Path(mapping))
        flat, record["mapping"] = map_classes(rows.reshape(-1, rows.shape[-1]), classes, image_set.classes, table)
        rows, classes = flat.reshape(*rows.shape[:-1], -1), image_set.classes
    if control == "random_matched":
        rows, _ = SoftLabels(image_id, rows, classes).rows_for(image_id, image_set.classes)
        of_view = rows.reshape(len(rows), -1, rows.shape[-1]).swapaxes(0, 1)
        permuted = [permute_other_classes(view, image_set.train_labels[chosen], image_id, seed) for view in of_view]
        rows, classes = np.stack(permuted, 1).reshape(rows.shape), image_set.classes
    dealt = deal(control, image_set, chosen, seed)
    target = SoftLabels(image_id, rows[dealt], classes, record, source[dealt], fold[dealt])
    if top_k is None:
        target.log_probabilities = target.log_probabilities.astype(precision)
    else:
        _keep_top(target, top_k)
    record |= diagnose(target, image_set, split)
    return target


def diagnose(target: SoftLabels, image_set: ImageSet, split: Split) -> dict[str, Any]:
    """Entropy and accuracy of a target, over all its views. The pool's labels are read here for this number only, never for training."""
    found: dict[str, Any] = {}
    for part, rows in (("labelled", split.labelled), ("pool", split.pool)):
        log_p, has = target.rows_for(image_set.train_ids[rows], image_set.classes)
        scored = has & (image_set.train_labels[rows] >= 0)
        chosen = log_p[scored].argmax(-1)
        right = chosen == image_set.train_labels[rows][scored].reshape(-1, *[1] * (chosen.ndim - 1))
        found[f"accuracy_{part}"] = float(right.mean()) if scored.any() else None
    log_p = target.whole(np.arange(len(target.image_id))).astype(np.float64)
    found["entropy"] = float(-(np.exp(log_p) * np.maximum(log_p, -1e4)).sum(-1).mean()) if len(log_p) else None
    return found


def _keep_top(target: SoftLabels, k: int) -> None:
    n_classes = len(target.classes)
    if not 1 <= k < n_classes:
        raise UserError(f"target.top_k={k}: must be from 1 to {n_classes - 1}, there being {n_classes} classes")
    log_p = np.asarray(target.log_probabilities, np.float32)
    columns = np.argsort(-log_p, axis=-1, kind="stable")[..., :k]
    values = np.take_along_axis(log_p, columns, axis=-1)
    target.columns = columns.astype(np.uint8 if n_classes <= 256 else np.uint16)
    target.mass = np.minimum(np.exp(values.astype(np.float64)).sum(-1), 1).astype(np.float32)
    target.log_probabilities = values.astype(np.float16)
    kept = target.mass if len(target.mass) else np.ones(1)
    target.record["top_k"] = {"k": k, "mass_mean": float(kept.mean()), "mass_min": float(kept.min())}


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f", … ({len(names)})" if len(names) > 5 else "")

"""Soft labels from people: a table of counts or probabilities by image id."""

from __future__ import annotations

import csv
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from braindistill.errors import UserError, nearest
from braindistill.images import ImageSet
from braindistill.joining import find_rows
from braindistill.runtime import say
from braindistill.teachers.answer import Answer, unseen

#: endings that an image's id may have in the table and lack in the folder, or the other way round
_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


class Table(NamedTuple):
    """Counts or probabilities (rows × classes), the image's id of each row, and the classes' names."""

    image_id: np.ndarray
    values: np.ndarray
    classes: list[str]


@dataclass
class TableTeacher:
    """Soft labels that are there already, a row an image id.

    Attributes
    ----------
    name : human
    classes : names of the columns
    image_id : (rows) str, without endings of picture files
    log_probabilities : (rows × classes) float32
    scores : ``scores.json``
    """

    name: str
    classes: list[str]
    image_id: np.ndarray
    log_probabilities: np.ndarray
    scores: dict[str, Any] = field(default_factory=dict)

    def soft_labels(self, image_id: np.ndarray, images: np.ndarray, device: str) -> Answer:
        """Log-probabilities by image id (with or without the ending of a picture's file); the images are not looked at.

        Raises
        ------
        UserError
            Images without a row: how many, and the first five.
        """
        row, absent = _rows_of(self.image_id, image_id)
        if absent:
            raise UserError(
                f"teacher={self.name}: {len(absent)} of {len(image_id)} images have no row in the table: "
                f"{', '.join(absent[:5])}; leave them out (images.n_train, target.images=labelled), or complete the table"
            )
        return unseen(self.log_probabilities[row], "table")

    def save(self, folder: Path) -> None:
        """Write ``teacher.json``, ``scores.json``, ``log_probabilities.npy`` and ``ids.npz``."""
        np.save(folder / "log_probabilities.npy", self.log_probabilities, allow_pickle=False)
        np.savez_compressed(folder / "ids.npz", image_id=self.image_id)
        (folder / "scores.json").write_text(json.dumps(self.scores, indent=1))
        record = {"kind": "table", "name": self.name, "classes": self.classes}
        (folder / "teacher.json").write_text(json.dumps(record))

    @classmethod
    def load(cls, folder: Path, record: dict[str, Any]) -> TableTeacher:
        """Read back what `save` wrote."""
        folder = Path(folder)
        with np.load(folder / "ids.npz", allow_pickle=False) as stored:
            image_id = stored["image_id"]
        rows = np.load(folder / "log_probabilities.npy", mmap_mode="r", allow_pickle=False)
        scores = json.loads((folder / "scores.json").read_text())
        return cls(record["name"], record["classes"], image_id, rows, scores)


def fit_human(image_set: ImageSet, *, path: Path, smoothing: float = 0.01) -> TableTeacher:
    """Soft labels from a table of people's answers, joined to the student's images on ids.

    Parameters
    ----------
    image_set : the student's images; columns are brought to its classes by name, others are dropped
    path : ``.npz`` with ``image_id``, ``classes`` and ``counts`` or ``probabilities`` (images × classes), or ``.csv`` or
        ``.tsv`` with a column ``image_id`` and one a class
    smoothing : pseudo-count added to every class of every image (a symmetric Dirichlet prior), so that no probability is
        zero; a row of probabilities counts as one answer. 0.1 of ten classes weighs as much as one answer

    Raises
    ------
    UserError
        An unreadable table, a class of the student's that is not in it, or no id in common; a probability of zero.
    """
    if smoothing < 0:
        raise UserError(f"teacher.smoothing={smoothing}: expected 0 or more")
    path = Path(path)
    table = read_table(path)
    for name in image_set.classes:
        if name not in table.classes:
            raise UserError(f"teacher.path={path}: no column for class '{name}'; {nearest(name, table.classes)}")
    values = table.values[:, [table.classes.index(name) for name in image_set.classes]].astype(np.float64)
    # of a restricted set, rows of other classes' images may be left without an answer
    kept = values.sum(1) > 0
    values, image_id = values[kept] + smoothing, bare_ids(table.image_id[kept])
    if (values == 0).any():
        raise UserError(
            f"teacher.smoothing={smoothing:g}: {(values == 0).any(1).sum()} rows give a class no answer, and the logarithm of "
            "zero is no target; take e.g. teacher.smoothing=0.01"
        )
    rows = np.log(values / values.sum(1, keepdims=True)).astype(np.float32)
    teacher = TableTeacher("human", list(image_set.classes), image_id, rows)
    teacher.scores = {"table": _compare(teacher, image_set, path)}
    return teacher


def _compare(teacher: TableTeacher, image_set: ImageSet, path: Path) -> dict[str, Any]:
    """Which images and rows have no partner, and how often the majority says what the data set says."""
    row, absent = _rows_of(teacher.image_id, image_set.train_ids)
    matched = row >= 0
    if not matched.any():
        raise UserError(
            f"teacher.path={path}: none of its {len(teacher.image_id)} ids is that of a training image: they are like "
            f"'{teacher.image_id[0]}', the images' like '{image_set.train_ids[0]}'"
        )
    alone = teacher.image_id[np.setdiff1d(np.arange(len(teacher.image_id)), row)].tolist()
    for found, what in ((absent, "training images without a row"), (alone, "rows without a training image")):
        if found:
            say(f"teacher=human: {len(found)} {what}: {', '.join(found[:5])}{' …' if found[5:] else ''}")
    labelled = matched & (image_set.train_labels >= 0)
    majority = teacher.log_probabilities[row[labelled]].argmax(1)
    return {
        "accuracy": float((majority == image_set.train_labels[labelled]).mean()) if labelled.any() else None,
        "n_images": int(labelled.sum()),
        "scheme": "the commonest answer (the first of equally common ones) against the data set's labels",
        "images_without_row": {"n": len(absent), "first": absent[:5]},
        "rows_without_image": {"n": len(alone), "first": alone[:5]},
    }


def read_table(path: Path) -> Table:
    """Read a table of counts or probabilities, see `fit_human`.

    Raises
    ------
    UserError
        No such file, another format, a missing column, a value that is no number or negative, an id twice, an empty row.
    """
    where = f"teacher.path={path}"
    if not path.is_file():
        raise UserError(f"{where}: no such file; give a .npz, .csv or .tsv of image_id and a column a class")
    if path.suffix not in (".npz", ".csv", ".tsv"):
        raise UserError(f"{where}: a table is .npz, .csv or .tsv, found '{path.suffix}'")
    table = _read_npz(path, where) if path.suffix == ".npz" else _read_text(path, where)
    if table.values.shape != (len(table.image_id), len(table.classes)):
        raise UserError(
            f"{where}: {table.values.shape} values, {len(table.image_id)} ids and {len(table.classes)} classes; "
            "expected images × classes"
        )
    wrong = ~(np.isfinite(table.values) & (table.values >= 0)).all(1) | (table.values.sum(1) <= 0)
    if wrong.any():
        first = table.image_id[wrong.argmax()]
        raise UserError(f"{where}: {wrong.sum()} rows are empty, negative or not finite, the first that of {first}")
    names, counts = np.unique(bare_ids(table.image_id), return_counts=True)
    if (counts > 1).any():
        raise UserError(f"{where}: {(counts > 1).sum()} ids occur twice: {', '.join(names[counts > 1][:5].tolist())}")
    return table


def _read_npz(path: Path, where: str) -> Table:
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = {key: stored[key] for key in stored.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{where}: not an npz of plain arrays ({str(error)[:100]})") from error
    values = found.get("counts", found.get("probabilities"))
    if values is None or "image_id" not in found or "classes" not in found:
        raise UserError(
            f"{where}: expected the keys image_id, classes, and counts or probabilities; found {', '.join(found) or 'none'}"
        )
    return Table(found["image_id"].astype(str), values, found["classes"].astype(str).tolist())


def _read_text(path: Path, where: str) -> Table:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = [line for line in csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",") if line]
    if not lines or "image_id" not in lines[0]:
        raise UserError(
            f"{where}: no column image_id in its first line: {', '.join(lines[0][:5]) if lines else 'empty'}"
        )
    place = lines[0].index("image_id")
    classes = [name for column, name in enumerate(lines[0]) if column != place]
    try:
        values = [[float(cell) for column, cell in enumerate(line) if column != place] for line in lines[1:]]
        return Table(
            np.array([line[place] for line in lines[1:]], str), np.array(values).reshape(-1, len(classes)), classes
        )
    except (ValueError, IndexError) as error:
        raise UserError(f"{where}: a row that is not an image_id and {len(classes)} numbers ({error})") from error


def bare_ids(image_id: np.ndarray) -> np.ndarray:
    """Ids without the ending of a picture's file: ``train/cat/0001.jpg`` → ``train/cat/0001``."""
    ends = np.char.rpartition(image_id.astype(str), ".")
    known = np.isin(np.char.lower(ends[:, 2]), [ending[1:] for ending in _ENDINGS]) & (ends[:, 1] == ".")
    return np.where(known, ends[:, 0], image_id)


def _rows_of(known: np.ndarray, image_id: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The row of each image, −1 where there is none, and the ids of those."""
    row, found = find_rows(known, bare_ids(image_id))
    return np.where(found, row, -1), image_id[~found].tolist()

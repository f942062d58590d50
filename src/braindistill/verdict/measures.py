"""Measures beside accuracy: from stored predictions, and from what ``measure`` found; and why some can't be had."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from braindistill.errors import UserError, nearest
from braindistill.images import ImageSet
from braindistill.joining import find_rows
from braindistill.metrics.accuracy import top_k_accuracy
from braindistill.metrics.agreement import human_agreement
from braindistill.metrics.calibration import brier, ece, nll, reliability_curve
from braindistill.metrics.confidence import aurc, choose_threshold, selective
from braindistill.metrics.hierarchies import built_in_hierarchy, read_hierarchy
from braindistill.metrics.severity import group_of_class, severity
from braindistill.teachers.human import bare_ids, read_table
from braindistill.verdict.values import nested_over_seeds

#: measures that need a student, not only what it said; ``measure`` takes them
FROM_STUDENTS = {"robustness": "robustness", "attacks": "robustness", "brain_score": "brain_score"}
_NO_HIERARCHY = "no hierarchy of these classes is built in; give a table of superclasses (eval.hierarchy=FILE)"


class Measures:
    """Measures of one arm after another.

    Parameters
    ----------
    options : of ``eval``: ``measures``, ``hierarchy``, ``people``
    image_set : whose test images the predictions are of

    Attributes
    ----------
    notes : sentences about measures that a reader must know
    """

    def __init__(self, options: Mapping[str, Any], image_set: ImageSet) -> None:
        self.asked = list(options.get("measures", ["calibration"]))
        self.labels, self.classes = np.asarray(image_set.test_labels), list(image_set.classes)
        self.notes: list[str] = []
        self._skipped: dict[str, dict[str, list[str]]] = {}
        self._arms: list[str] = []
        self._hierarchy = None
        if {"severity", "selective"} & set(self.asked):
            self._hierarchy = _find_hierarchy(options.get("hierarchy"), self.classes)
        self._people: tuple[np.ndarray, np.ndarray] | str = ""
        if "human" in self.asked:
            self._people = _find_people(options.get("people"), image_set)

    @property
    def skipped(self) -> dict[str, str]:
        """Measure → why it is missing, and for which arms if not for all."""
        return {
            measure: "; ".join(
                why if arms == self._arms else f"{', '.join(arms)}: {why}" for why, arms in reasons.items()
            )
            for measure, reasons in self._skipped.items()
        }

    def of_arm(
        self,
        name: str,
        said: Sequence[np.ndarray],
        calibrated: Mapping[str, Any],
        held_out: Sequence[tuple[np.ndarray, np.ndarray]] | None,
        measured: Sequence[Path],
    ) -> dict[str, Any]:
        """All that is asked for and can be had.

        Parameters
        ----------
        said : log-probabilities of the test images, one table a seed
        calibrated : their `calibration`
        held_out : log-probabilities and labels of the validation images, a pair a seed; None: there are none
        measured : artifacts of ``measure``, one a seed, or none
        """
        self._arms = list(dict.fromkeys([*self._arms, name]))  # of several subjects, it comes once for each
        found: dict[str, Any] = {}
        if "calibration" in self.asked:
            found |= calibrated
        if "severity" in self.asked:
            if self._hierarchy is None:
                self._skip("severity", _NO_HIERARCHY, name)
            else:
                found["severity"] = self._severity(said)
        if "selective" in self.asked:
            if held_out is None:
                self._skip("selective", "no validation images to choose the threshold on (images.n_val=0)", name)
            else:
                found["selective"] = self._selective(said, held_out)
                if self._hierarchy is None:
                    self._skip("selective: severe and mild mistakes", _NO_HIERARCHY, name)
        if "human" in self.asked:
            if isinstance(self._people, str):
                self._skip("human", self._people, name)
            else:
                rows, shares = self._people
                found["human"] = nested_over_seeds([human_agreement(own[rows], shares) for own in said])
        return found | self._from_students(name, measured)

    def _severity(self, said: Sequence[np.ndarray]) -> dict[str, Any]:
        assert self._hierarchy is not None
        each = [severity(rows.argmax(1), self.labels, self._hierarchy, self.classes) for rows in said]
        return nested_over_seeds([{key: own[key] for key in ("mild", "severe", "lca_height")} for own in each])

    def _selective(
        self, said: Sequence[np.ndarray], held_out: Sequence[tuple[np.ndarray, np.ndarray]]
    ) -> dict[str, Any]:
        groups = None if self._hierarchy is None else group_of_class(self.classes, self._hierarchy)
        each = []
        for rows, (own, labels) in zip(said, held_out, strict=True):
            threshold, table = choose_threshold(np.exp(own), labels), np.exp(rows)
            scores = selective(table, self.labels, threshold, groups)
            shown = {key: value for key, value in scores.items() if groups is not None or key not in ("severe", "mild")}
            each.append({"threshold": threshold, **shown, "aurc": aurc(table, self.labels)})
        return nested_over_seeds(each)

    def _from_students(self, name: str, measured: Sequence[Path]) -> dict[str, Any]:
        asked = [measure for measure in FROM_STUDENTS if measure in self.asked]
        if not asked:
            return {}
        if not measured or not all((folder / "measures.json").exists() for folder in measured):
            for measure in asked:
                self._skip(measure, "students were not measured, or that has failed", name)
            return {}
        records = [json.loads((folder / "measures.json").read_text()) for folder in measured]
        reasons = {measure: why for record in records for measure, why in record["skipped"].items()}
        for measure, why in reasons.items():
            self._skip(measure, why, name)
        self.notes = list(dict.fromkeys([*self.notes, *(note for record in records for note in record["notes"])]))
        parts = {FROM_STUDENTS[measure] for measure in asked if measure not in reasons}
        return {
            part: nested_over_seeds([record[part] for record in records])
            for part in dict.fromkeys(FROM_STUDENTS.values())
            if part in parts
        }

    def _skip(self, measure: str, why: str, arm: str) -> None:
        arms = self._skipped.setdefault(measure, {}).setdefault(why, [])
        arms += [arm] if arm not in arms else []


def calibration(said: Sequence[np.ndarray], labels: np.ndarray) -> dict[str, Any]:
    """Brier score, NLL, ECE (and top-5 accuracy from six classes on) over seeds, and the reliability curve of all seeds."""
    tables = [np.exp(rows) for rows in said]
    scores = [
        {"brier": brier(table, labels), "nll": nll(rows, labels), "ece": ece(table, labels)}
        | ({"top5": top_k_accuracy(rows, labels, 5)} if rows.shape[1] >= 6 else {})
        for rows, table in zip(said, tables, strict=True)
    ]
    curve = reliability_curve(np.concatenate(tables), np.tile(labels, len(said)))
    shown = {key: getattr(curve, key).tolist() for key in ("confidence", "accuracy", "share")}
    return {**nested_over_seeds(scores), "reliability": shown}


def _find_hierarchy(file: Path | None, classes: list[str]) -> Mapping[str, Sequence[str]] | None:
    """That of the file, else the built-in one that knows every class, if any.

    Raises
    ------
    UserError
        The file can't be read, or lacks a class.
    """
    if file is None:
        built_in = [built_in_hierarchy(name) for name in ("cifar10", "cifar100")]
        return next((known for known in built_in if known.keys() >= set(classes)), None)
    try:
        given = read_hierarchy(Path(file))
    except UserError as error:
        raise UserError(f"eval.hierarchy: {error}") from error
    try:
        group_of_class(classes, given)
    except UserError as error:
        raise UserError(f"eval.hierarchy={file}: {error}") from error
    return given


def _find_people(file: Path | None, image_set: ImageSet) -> tuple[np.ndarray, np.ndarray] | str:
    """Rows of test images that people have judged, and shares of their answers (rows × classes); or why there are none.

    Raises
    ------
    UserError
        The file can't be read, or lacks a class.
    """
    if file is None:
        return "no table of people's answers to the test images is given (eval.people=FILE)"
    try:
        table = read_table(Path(file))
    except UserError as error:
        raise UserError(str(error).replace("teacher.path=", "eval.people=")) from error
    for name in image_set.classes:
        if name not in table.classes:
            raise UserError(f"eval.people={file}: no column for class '{name}'; {nearest(name, table.classes)}")
    answers = table.values[:, [table.classes.index(name) for name in image_set.classes]].astype(np.float64)
    row, found = find_rows(bare_ids(table.image_id), bare_ids(image_set.test_ids))
    found &= answers[row].sum(1) > 0
    if not found.any():
        return (
            f"none of the {len(found)} test images has a row in the table of people's answers: its ids are like "
            f"'{table.image_id[0]}', the images' like '{image_set.test_ids[0]}'"
        )
    chosen = answers[row[found]]
    return np.flatnonzero(found), chosen / chosen.sum(1, keepdims=True)

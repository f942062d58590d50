"""From the classes of an fMRI data set to those of a student, by a table that a person (or WordNet) made."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from braindistill.errors import UserError
from braindistill.runtime import warn


def read_mapping(path: Path) -> dict[str, dict[str, float]]:
    """Read a table: class of the fMRI data → class of the student → weight (1 where none is given).

    ``.csv`` and ``.tsv`` have a row ``fmri class, student class[, weight]``, after an optional header that begins with
    ``fmri``; lines that begin with ``#`` are left out. ``.json`` is an object: fMRI class → student class, or a list of
    them, or an object of weights.

    Raises
    ------
    UserError
        No such file, or a row that is none of this.
    """
    if not path.is_file():
        raise UserError(f"target.mapping={path}: no such file")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json":
            pairs = _json_pairs(json.loads(text))
        elif path.suffix in (".csv", ".tsv"):
            pairs = _table_pairs(text, "\t" if path.suffix == ".tsv" else ",")
        else:
            raise ValueError("expected a .csv, .tsv or .json file")
        table: dict[str, dict[str, float]] = {}
        for one, other, weight in pairs:
            if other in table.setdefault(one, {}):
                raise ValueError(f"'{one}' → '{other}' is given twice")
            table[one][other] = float(weight)
            if not (math.isfinite(table[one][other]) and table[one][other] > 0):
                raise ValueError(f"the weight of '{one}' → '{other}' is {weight}; weights are positive")
    except (ValueError, TypeError) as error:  # JSON and Unicode errors are ValueErrors
        raise UserError(f"target.mapping={path}: {error}") from error
    if not table:
        raise UserError(f"target.mapping={path}: holds no row")
    return table


def map_classes(
    log_probabilities: np.ndarray, classes: list[str], wanted: list[str], table: dict[str, dict[str, float]]
) -> tuple[np.ndarray, dict[str, Any]]:
    """Carry probabilities over to other classes, and say what was lost.

    Several classes that map to one are summed; one that maps to several is split by their weights. Classes without a
    partner among those wanted are dropped, and each row is renormalised.

    Parameters
    ----------
    log_probabilities : (images × classes)
    classes, wanted : names of the columns there are, and of those to make
    table : as `read_mapping` gives it

    Returns
    -------
    rows : float32 (images × wanted) log-probabilities; classes that nothing maps to have the floor of −30
    record : ``dropped_classes``, ``unmapped_student_classes``, ``dropped_mass`` (mean and largest over rows)

    Raises
    ------
    UserError
        No entry of the table leads from a class to one that is wanted.
    """
    carry = np.zeros((len(classes), len(wanted)))
    place = {name: column for column, name in enumerate(wanted)}
    for row, name in enumerate(classes):
        partners = table.get(name, {})
        for partner, weight in partners.items():
            if partner in place:
                carry[row, place[partner]] = weight / sum(partners.values())
    if not carry.any():
        raise UserError(
            f"target.mapping: no row leads from a class of the teacher ({', '.join(classes[:5])} …) to one of the student "
            f"({', '.join(wanted[:5])} …)"
        )
    strangers = sorted((table.keys() - set(classes)) | ({to for row in table.values() for to in row} - set(wanted)))
    unmapped = [name for name, column in zip(wanted, carry.T, strict=True) if not column.any()]
    for names, what in (
        (strangers, "names are classes of neither teacher nor student"),
        (unmapped, "classes of the student have no partner, so their probability is 0"),
    ):
        if names:
            warn(f"target.mapping: {len(names)} {what}: {', '.join(names[:5])}{' …' if names[5:] else ''}")
    # relative to the largest probability that survives, so that a row whose mass is nearly all dropped keeps its shape
    kept = carry.sum(1) > 0
    logits = np.asarray(log_probabilities, np.float64)
    largest = np.maximum(logits[:, kept].max(1, keepdims=True), -1e4)
    mapped = np.exp(logits[:, kept] - largest) @ carry[kept]
    total = mapped.sum(1, keepdims=True)
    even = (carry.any(0) / carry.any(0).sum())[None]
    rows = np.where(total > 0, mapped / np.where(total > 0, total, 1), even)
    dropped = 1 - np.exp(logits) @ carry.sum(1) if len(logits) else np.zeros(1)
    record = {
        "dropped_classes": [name for name, has in zip(classes, kept, strict=True) if not has],
        "unmapped_student_classes": unmapped,
        "dropped_mass": {"mean": float(dropped.mean()), "max": float(dropped.max())},
    }
    return np.maximum(np.log(np.maximum(rows, 1e-30)), -30).astype(np.float32), record


def _table_pairs(text: str, delimiter: str) -> list[tuple[str, str, Any]]:
    pairs: list[tuple[str, str, Any]] = []
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for number, cells in enumerate(csv.reader(lines, delimiter=delimiter)):
        cells = [cell.strip() for cell in cells]
        if number == 0 and cells[0].lower().split()[:1] == ["fmri"]:
            continue
        if len(cells) not in (2, 3) or not all(cells):
            raise ValueError(f"row {number + 1} is {cells}; expected fMRI class, student class[, weight]")
        pairs.append((cells[0], cells[1], cells[2] if len(cells) == 3 else 1))
    return pairs


def _json_pairs(table: Any) -> list[tuple[str, str, Any]]:
    if not isinstance(table, dict):
        raise ValueError("expected an object: fMRI class → student class, a list of them, or an object of weights")
    pairs = []
    for one, others in table.items():
        if isinstance(others, str | list):
            others = dict.fromkeys([others] if isinstance(others, str) else map(str, others), 1)
        if not isinstance(others, dict):
            raise ValueError(f"'{one}' maps to {others!r}; expected a name, a list of names or an object of weights")
        pairs += [(one, other, weight) for other, weight in others.items()]
    return pairs

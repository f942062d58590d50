"""Label atlases: an integer for each voxel or vertex, and a table that names the integers."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from braindistill.errors import UserError

#: endings of the table, after the name of the atlas; NSD's tables of NIfTI atlases end in .mgz.ctab
TABLES = (".tsv", ".csv", ".txt", ".ctab", ".mgz.ctab", ".json")
_INDEX = ("index", "label", "value", "id", "key")
_NAME = ("name", "label_name", "region", "roi", "structure", "label")


def find_label_names(stem: Path) -> Path | None:
    """The table of names beside an atlas, given the atlas's path without its ending; None: a plain mask."""
    for ending in TABLES:
        table = stem.with_name(stem.name + ending)
        if table.is_file() and (ending != ".json" or _json_names(table)):
            return table
    return None


def read_label_names(path: Path) -> dict[int, str]:
    """Read index → name from a table with a header (``index``, ``name``), from lines ``index name …`` or from JSON.

    FreeSurfer's colour tables (``index name R G B A``) are lines of that kind; ``#`` starts a comment. Index 0 is the
    background and is left out.

    Raises
    ------
    UserError
        The file holds no such pair, or gives an index two names.
    """
    try:
        if path.suffix == ".json":
            pairs = list(_json_names(path).items())
        elif path.suffix in (".tsv", ".csv"):
            pairs = _read_table(path)
        else:
            pairs = _read_lines(path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a UTF-8 text file ({error}); expected lines of index and name") from error
    names: dict[int, str] = {}
    for index, name in pairs:
        if index and names.setdefault(index, name) != name:
            raise UserError(f"{path}: the label {index} is {names[index]} and {name}; give each label one name")
    if not names:
        raise UserError(f"{path}: no label and its name; expected the columns index and name, or lines 'index name'")
    return names


def split_labels(labels: np.ndarray, names: dict[int, str], path: Path) -> dict[str, np.ndarray]:
    """One bool mask for each name that occurs; labels of one name (left and right) are united.

    Raises
    ------
    UserError
        The labels are no whole numbers, or none of the named ones occurs.
    """
    whole = np.rint(labels).astype(np.int64)
    if not np.array_equal(whole, labels):
        raise UserError(f"{path}: a table of names lies beside it, but its values are no whole numbers")
    present = set(np.unique(whole).tolist())
    masks: dict[str, np.ndarray] = {}
    for index, name in names.items():
        if index in present:
            masks[name] = masks.get(name, False) | (whole == index)
    if not masks:
        found = ", ".join(map(str, sorted(present)[:10]))
        raise UserError(f"{path}: none of its labels ({found}) is in the table of names ({len(names)} labels)")
    return masks


def _json_names(path: Path) -> dict[int, str]:
    """``{"1": "V1"}`` → names; any other JSON file (a BIDS sidecar) → nothing."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return {}
    if not isinstance(content, dict) or not all(key.lstrip("-").isdecimal() for key in content):
        return {}
    return {int(key): str(name) for key, name in content.items()}


def _read_table(path: Path) -> list[tuple[int, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.reader(file, delimiter="," if path.suffix == ".csv" else "\t") if row]
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    index = next((header.index(column) for column in _INDEX if column in header), None)
    name = next((header.index(column) for column in _NAME if column in header and header.index(column) != index), None)
    if index is not None and name is not None:
        rows = rows[1:]
    elif rows and _is_number(rows[0][0]):
        index, name = 0, 1
    else:
        raise UserError(f"{path}: columns {', '.join(header) or 'none'}; expected index and name")
    pairs = []
    for line, row in enumerate(rows, start=1):
        if len(row) <= max(index, name) or not _is_number(row[index]):
            raise UserError(f"{path}, row {line} below the header: {row}; expected a whole number and a name")
        pairs.append((int(float(row[index])), row[name].strip()))
    return pairs


def _read_lines(path: Path) -> list[tuple[int, str]]:
    pairs = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        parts = line.split("#")[0].split()
        if not parts:
            continue
        if len(parts) < 2 or not _is_number(parts[0]):
            raise UserError(f"{path}, line {number}: {line.strip()!r}; expected a whole number and a name")
        pairs.append((int(float(parts[0])), parts[1]))
    return pairs


def _is_number(text: str) -> bool:
    try:
        return float(text).is_integer()
    except ValueError:
        return False

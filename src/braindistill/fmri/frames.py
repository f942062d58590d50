"""Data frames that pandas stored in HDF5 (``to_hdf``), read a block of rows at a time without pandas.

Both of its formats: ``fixed`` keeps one array a type, ``block0_values`` …; ``table`` keeps one array of records. Where a
frame's columns have mixed names pandas pickles them; those are never read, so the order of the columns is what counts.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from braindistill.errors import UserError
from braindistill.fmri.hdf5 import open_hdf5


@dataclasses.dataclass
class Frame:
    """An open data frame of numbers whose rows have an id.

    Attributes
    ----------
    path : the file, for messages
    ids : (rows,) the column of ids
    width : number of the other columns
    read : a slice of rows → (rows, width)
    """

    path: Path
    ids: np.ndarray
    width: int
    read: Callable[[slice], np.ndarray]


@contextlib.contextmanager
def open_frame(path: Path, key: str, id_column: str) -> Iterator[Frame]:
    """Open the frame stored under ``key`` (or the only one), with its column of ids apart from the others.

    Raises
    ------
    UserError
        The file is missing, truncated, or holds no such frame; the frame is not numbers beside one column of ids.
    """
    with open_hdf5(path, f"an HDF5 file in which pandas stored {key}") as file:
        groups = [name for name in file if "pandas_type" in file[name].attrs]
        if key not in file and len(groups) != 1:
            raise UserError(f"{path}: no data frame {key}; it holds {', '.join(file) or 'nothing'}")
        group = file[key if key in file else groups[0]]
        blocks = _records(group) if "table" in group else _arrays(group)
        if not blocks:
            found = ", ".join(group) or "nothing"
            raise UserError(f"{path}: {group.name} is no data frame of pandas' fixed or table format; it holds {found}")
        yield _split_ids(path, blocks, id_column)


@dataclasses.dataclass
class _Block:
    """Columns of one type; their names where they are not pickled."""

    width: int
    names: list[str] | None
    read: Callable[[slice, slice], np.ndarray]  # rows, columns


def _arrays(group: Any) -> list[_Block]:
    blocks: list[_Block] = []
    while (name := f"block{len(blocks)}_values") in group and group[name].ndim == 2:

        def read(rows: slice, columns: slice, values: Any = group[name]) -> np.ndarray:
            return values[rows, columns]

        blocks.append(_Block(group[name].shape[1], _names(group, f"block{len(blocks)}_items"), read))
    return blocks


def _records(group: Any) -> list[_Block]:
    table = group["table"]
    blocks = []
    for field in table.dtype.names or ():
        shape = table.dtype[field].shape
        if field != "index":
            names = None if field.startswith("values_block_") else [field]

            def read(rows: slice, columns: slice, field: str = field) -> np.ndarray:
                values = table.fields(field)[rows]
                return values.reshape(len(values), -1)[:, columns]

            blocks.append(_Block(int(np.prod(shape, dtype=int)), names, read))
    return blocks


def _names(group: Any, key: str) -> list[str] | None:
    items = group.get(key)
    if items is None or items.dtype.kind not in "SUiu":
        return None
    return [item.decode() if isinstance(item, bytes) else str(item) for item in items[()].ravel()]


def _split_ids(path: Path, blocks: list[_Block], id_column: str) -> Frame:
    """The ids are a block of their own, or the first column of the only one."""
    everything = slice(None)
    values = max(blocks, key=lambda block: block.width)
    _check_order(path, values.names, id_column)
    alone = [block for block in blocks if block is not values]
    if not alone:
        if values.names and values.names[0] != id_column:
            raise UserError(f"{path}: no column {id_column}, the first is {values.names[0]}; take the original file")
        ids = values.read(everything, slice(0, 1))[:, 0]
        return Frame(path, ids, values.width - 1, lambda rows: values.read(rows, slice(1, None)))
    named = [block for block in alone if block.width == 1 and block.names in ([id_column], None)]
    if len(alone) > 1 or not named:
        found = ", ".join(str(block.names or f"{block.width} columns") for block in alone)
        raise UserError(f"{path}: expected numbers of one type beside the column {id_column}; found {found} too")
    ids = named[0].read(everything, everything)[:, 0]
    return Frame(path, ids, values.width, lambda rows: values.read(rows, everything))


def _check_order(path: Path, names: list[str] | None, id_column: str) -> None:
    """Columns that have readable numbers for names must stand in their order."""
    numbers = [name for name in names or [] if name != id_column]
    if numbers and all(name.isdigit() for name in numbers) and numbers != sorted(numbers, key=int):
        raise UserError(f"{path}: the columns are not in the order of the trials; take the original file")

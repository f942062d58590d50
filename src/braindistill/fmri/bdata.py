"""BData, the HDF5 format of bdpy and BrainDecoderToolbox2: samples × columns, and for each key the columns it selects."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from braindistill.errors import UserError, nearest
from braindistill.fmri.hdf5 import open_hdf5, pieces
from braindistill.fmri.storage import BLOCK

if TYPE_CHECKING:
    import h5py


@dataclasses.dataclass
class BData:
    """An open BData file; nothing of the samples is read before `read` or `select`.

    Attributes
    ----------
    path : the file, for messages
    dataset : (samples, columns)
    metadata : key → (columns,) float64, NaN where the key does not apply to a column
    """

    path: Path
    dataset: h5py.Dataset
    metadata: dict[str, np.ndarray]

    def columns(self, key: str) -> np.ndarray:
        """Positions of the columns that a key selects: those where its metadata are 1.

        Raises
        ------
        UserError
            The file has no such key.
        """
        if key not in self.metadata:
            raise UserError(f"{self.path}: no key {key}; {nearest(key, self.metadata)}")
        return np.flatnonzero(self.metadata[key] == 1)

    def select(self, key: str) -> np.ndarray:
        """(samples, selected columns) float64: what bdpy's ``select`` gives for a key."""
        columns = self.columns(key)
        values = np.empty((self.dataset.shape[0], len(columns)), dtype=np.float64)
        self.read(np.arange(len(values)), columns, values)
        return values

    def read(self, rows: np.ndarray, columns: np.ndarray, out: np.ndarray) -> None:
        """Fill ``out`` (rows × columns) from the file, slice by slice, whatever the size of the whole.

        Parameters
        ----------
        rows, columns : strictly increasing positions
        """
        for across, wanted_columns in pieces(columns, BLOCK // 64):
            width = across.stop - across.start
            for down, wanted_rows in pieces(rows, max(1, BLOCK // width)):
                block = self.dataset[down, across]
                where = np.ix_(rows[wanted_rows] - down.start, columns[wanted_columns] - across.start)
                out[wanted_rows, wanted_columns] = block[where]


@contextlib.contextmanager
def open_bdata(path: Path) -> Iterator[BData]:
    """Open a BData file, in the spelling of new (``dataset``, ``metadata``) or old files (``dataSet``, ``metaData``).

    Raises
    ------
    UserError
        The file is missing, truncated, no HDF5, or lacks a part; the metadata do not fit the columns.
    """
    with open_hdf5(path, "a BData file (.h5) as bdpy writes it") as file:
        dataset = _part(file, path, "dataset", "dataSet")
        table = _part(file, path, "metadata", "metaData")
        keys = [_text(key) for key in _part(table, path, "key")[()].ravel()]
        value = np.asarray(_part(table, path, "value")[()], dtype=np.float64)
        expected = (len(keys), dataset.shape[1] if dataset.ndim == 2 else 0)
        if value.shape != expected:
            raise UserError(
                f"{path}: metadata/value is {value.shape}, but there are {expected[0]} keys and the data set is "
                f"{dataset.shape} (samples × columns); expected keys × columns {expected}"
            )
        if repeated := {key for key in keys if keys.count(key) > 1}:
            raise UserError(f"{path}: metadata/key holds {', '.join(sorted(repeated))} twice; rename one")
        yield BData(path, dataset, dict(zip(keys, value, strict=True)))


def _part(group: Any, path: Path, *names: str) -> Any:
    for name in names:
        if name in group:
            return group[name]
    where = group.name.strip("/")
    raise UserError(f"{path}: no /{f'{where}/' if where else ''}{names[0]}; expected a BData file; {_listing(group)}")


def _listing(group: Any) -> str:
    return f"it holds {', '.join(group) or 'nothing'}" if hasattr(group, "keys") else "that is no group"


def _text(key: Any) -> str:
    return key.decode("utf-8", errors="replace") if isinstance(key, bytes) else str(key)

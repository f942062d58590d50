"""HDF5 files: opened with a clear message where they cannot be, and read in contiguous pieces."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from braindistill.errors import UserError

if TYPE_CHECKING:
    import h5py


@contextlib.contextmanager
def open_hdf5(path: Path, expected: str) -> Iterator[h5py.File]:
    """Open a file for reading; what HDF5 cannot read inside the ``with`` block is a UserError too.

    Parameters
    ----------
    expected : what the file should be, for messages.

    Raises
    ------
    UserError
        The file is missing, is no HDF5, or is truncated or damaged.
    """
    import h5py

    if not path.is_file():
        raise UserError(f"{path}: no such file; expected {expected}")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except OSError as error:
        if error.errno is not None and h5py.is_hdf5(path):
            raise  # the operating system's, such as a full disk
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: not readable as HDF5, truncated or damaged ({reason}); expected {expected}; copy it again"
        ) from error


def pieces(index: np.ndarray, longest: int, gap: int = 16) -> Iterator[tuple[slice, slice]]:
    """Cut sorted positions into runs that can be read as one slice.

    Parameters
    ----------
    index : (n,) strictly increasing positions in the file
    longest : most positions that a slice may span
    gap : unwanted positions that are read along rather than starting a new slice

    Yields
    ------
    The slice of the file, and the slice of ``index`` whose positions lie in it.
    """
    start = 0
    for stop in range(1, len(index) + 1):
        if stop == len(index) or index[stop] - index[stop - 1] > gap + 1 or index[stop] - index[start] >= longest:
            yield slice(int(index[start]), int(index[stop - 1]) + 1), slice(start, stop)
            start = stop

"""MNIST in its official idx files."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from braindistill.errors import UserError
from braindistill.images.image_set import ImageSet
from braindistill.runtime import find_data

_MAGIC = {1: 0x801, 3: 0x803}  # unsigned bytes, by number of dimensions


def load_mnist(*, root: Path | None = None) -> ImageSet:
    """Read the idx files of LeCun et al. 1998, gzipped or not: ids ``mnist-train-00000`` and ``mnist-t10k-00000``.

    Parameters
    ----------
    root
        Folder of ``train-images-idx3-ubyte[.gz]``, ``t10k-images-idx3-ubyte[.gz]`` and their labels; looked up as
        ``mnist`` or ``digits69`` in the data folders if not given. The training files may be absent: the training
        part is then what ``images.n_test`` leaves of the test files.

    Raises
    ------
    UserError
        If a file is missing, has the wrong magic number or is truncated.
    """
    folder = Path(root) if root is not None else find_data("mnist") or find_data("digits69")
    if folder is None or not folder.is_dir():
        place = "no folder mnist or digits69 in $BRAINDISTILL_DATA, data" if folder is None else f"no folder {folder}"
        raise UserError(f"images.root: {place}; set it to the folder of t10k-images-idx3-ubyte.gz")
    test_images, test_labels = _read_part(folder, "t10k")
    if _find(folder, "train-images-idx3-ubyte"):
        train_images, train_labels = _read_part(folder, "train")
    else:
        train_images, train_labels = test_images[:0], test_labels[:0]
    return ImageSet(
        train_images=train_images,
        train_ids=np.array([f"mnist-train-{row:05d}" for row in range(len(train_images))], dtype=str),
        train_labels=train_labels,
        test_images=test_images,
        test_ids=np.array([f"mnist-t10k-{row:05d}" for row in range(len(test_images))], dtype=str),
        test_labels=test_labels,
        classes=[str(digit) for digit in range(10)],
    ).check(f"images.root={folder}")


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _read_part(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    images = _read_idx(folder, f"{part}-images-idx3-ubyte", 3)[:, None]
    labels = _read_idx(folder, f"{part}-labels-idx1-ubyte", 1).astype(np.int64)
    return images, labels


def _read_idx(folder: Path, name: str, dimensions: int) -> np.ndarray:
    """An idx file: big-endian magic number, one 32-bit size a dimension, then the bytes."""
    path = _find(folder, name)
    if path is None:
        raise UserError(f"images.root={folder}: no file {name} or {name}.gz; put the official file there")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged or truncated gzip file ({error}); download it again") from error
    start = 4 * (1 + dimensions)
    header = np.frombuffer(content[:start], dtype=">u4", count=min(len(content), start) // 4)
    if len(header) == 0 or header[0] != _MAGIC[dimensions]:
        found = f"{int(header[0]):#x}" if len(header) else "an empty file"
        raise UserError(f"{path}: magic number {_MAGIC[dimensions]:#x} expected, found {found}; not this idx file")
    shape = tuple(int(length) for length in header[1:])
    expected = int(np.prod(shape, dtype=np.int64))
    if len(shape) < dimensions or len(content) - start != expected:
        raise UserError(
            f"{path}: {max(len(content) - start, 0)} bytes of data, its header says {expected}; "
            "truncated, download it again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape).copy()

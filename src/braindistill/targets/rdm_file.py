"""Representational dissimilarity matrices that a user brings."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from braindistill.errors import UserError


def read_rdm(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read an ``.npz`` with ``rdm`` (n × n) and ``image_id`` (n).

    Returns
    -------
    similarity : float64 (n × n): one minus the dissimilarity; of a matrix with ones on its diagonal, itself
    image_id : (n) str

    Raises
    ------
    UserError
        The matrix is not square, finite or symmetric, its diagonal neither 0 nor 1, or its rows are not named.
    """
    matrix, image_id = _read(path)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.dtype.kind not in "fiu":
        shape = " × ".join(map(str, matrix.shape))
        raise UserError(f"target.rdm={path}: rdm must be a square matrix of numbers; found {matrix.dtype}, {shape}")
    if len(image_id) != len(matrix):
        raise UserError(f"target.rdm={path}: image_id names {len(image_id)} rows, but rdm has {len(matrix)}")
    names, counts = np.unique(image_id, return_counts=True)
    if (counts > 1).any():
        twice = names[counts > 1]
        raise UserError(f"target.rdm={path}: image_id names {len(twice)} images more than once (first: {twice[0]})")
    matrix = matrix.astype(np.float64)
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        raise UserError(
            f"target.rdm={path}: {(~np.isfinite(matrix)).sum()} entries are not finite (first: {image_id[row]}, "
            f"{image_id[column]})"
        )
    size = max(np.abs(matrix).max(initial=0), 1e-30)
    apart = np.abs(matrix - matrix.T)
    if apart.max(initial=0) > 1e-3 * size:
        row, column = np.unravel_index(int(apart.argmax()), apart.shape)
        raise UserError(
            f"target.rdm={path}: not symmetric: {image_id[row]}, {image_id[column]} is {matrix[row, column]:.4g} one way and "
            f"{matrix[column, row]:.4g} the other"
        )
    matrix = (matrix + matrix.T) / 2
    diagonal = np.diag(matrix)
    if np.abs(diagonal).max(initial=0) <= 1e-3 * size:
        return 1 - matrix, image_id
    if np.abs(diagonal - 1).max() <= 1e-3:
        return matrix, image_id
    worst = int(np.minimum(np.abs(diagonal), np.abs(diagonal - 1)).argmax())
    raise UserError(
        f"target.rdm={path}: the diagonal must be 0 (dissimilarities) or 1 (similarities); {image_id[worst]} has "
        f"{diagonal[worst]:.4g}"
    )


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if not path.exists():
        raise UserError(f"target.rdm={path}: no such file")
    if path.suffix != ".npz":
        raise UserError(f"target.rdm={path}: expected an .npz file with rdm and image_id")
    try:
        with np.load(path, allow_pickle=False) as stored:
            parts = {name: stored[name] for name in stored.files}
    except Exception as error:  # zip, header and pickle errors are of many kinds
        raise UserError(f"target.rdm={path}: can't be read: {error}") from error
    for name in ("rdm", "image_id"):
        if name not in parts:
            raise UserError(f"target.rdm={path}: lacks '{name}'; found {', '.join(sorted(parts)) or 'nothing'}")
    return parts["rdm"], parts["image_id"].astype(str).ravel()

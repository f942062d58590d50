"""Representational similarity analysis: which pairs of images a network, or a brain, tells apart."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Array = NDArray[np.float64]
Comparison = Literal["spearman", "pearson", "cosine", "kendall"]
_FLAT = "found a dissimilarity matrix without any differences, which resembles nothing"


def rdm(features: ArrayLike, measure: Literal["correlation", "cosine", "euclidean"] = "correlation") -> Array:
    """Representational dissimilarity matrix (Kriegeskorte, Mur & Bandettini 2008).

    Parameters
    ----------
    features
        images × features (units of a layer, or voxels), float.
    measure
        ``correlation``: 1 − Pearson r of two rows, in [0, 2]; ``cosine``: 1 − cosine, in [0, 2]; ``euclidean``: squared
        distance divided by the number of features, ≥ 0.

    Returns
    -------
    images × images float64, symmetric, zeros on the diagonal.

    Raises
    ------
    ValueError
        If a value is not finite, or a row is constant (or zero), which correlates with nothing.
    """
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2 or not rows.size or not np.isfinite(rows).all():
        raise ValueError(f"features: found shape {rows.shape}, expected finite numbers, images × features")
    if measure == "euclidean":
        rows = rows - rows.mean(axis=0)  # distances do not mind, rounding does
        squares = (rows**2).sum(axis=1)
        found = (squares[:, None] + squares - 2 * rows @ rows.T) / rows.shape[1]
    elif measure in ("correlation", "cosine"):
        size = np.abs(rows).max(axis=1)
        if measure == "correlation":
            rows = rows - rows.mean(axis=1, keepdims=True)
        length = np.sqrt((rows**2).sum(axis=1))
        flat = length <= 1e-12 * size * np.sqrt(rows.shape[1])
        if flat.any():
            raise ValueError(f"features: row {flat.argmax()} is constant, so it has no {measure} with the others")
        rows = rows / length[:, None]
        found = 1 - rows @ rows.T
    else:
        raise ValueError(f"measure: found {measure}, expected correlation, cosine or euclidean")
    found = np.maximum((found + found.T) / 2, 0)
    np.fill_diagonal(found, 0)
    return found


def compare_rdms(a: ArrayLike, b: ArrayLike, measure: Comparison = "spearman") -> float:
    """How alike two dissimilarity matrices of the same images are, over the pairs of different images, in [−1, 1].

    Parameters
    ----------
    a, b
        images × images, symmetric, at least 3 images in the same order.
    measure
        ``spearman``: ρ, ties ranked by their average; ``pearson``: r; ``cosine``; ``kendall``: τ-a, which Nili et al.
        (2014) recommend where a matrix has ties: a tied pair of entries counts as no agreement, so that a coarse matrix
        cannot win by its ties.

    Raises
    ------
    ValueError
        If shapes differ, or a matrix is constant (zero, for the cosine).
    """
    return _similarity(_pairs(a), _pairs(b), measure)


def rdm_noise_ceiling(rdms: ArrayLike, measure: Comparison = "spearman") -> tuple[float, float]:
    """Lowest and highest similarity to these matrices that the best possible model has on average (Nili et al. 2014).

    The upper bound compares each matrix with the mean of all, itself among them; the lower one with the mean of the
    others. Before the mean, matrices are brought to the measure's own scale: ranks for ``spearman`` and ``kendall``, mean
    0 and length 1 for ``pearson``, length 1 for ``cosine``. For ``kendall`` the mean of ranks is nearly, not exactly,
    the best matrix, so its upper bound may be a little low.

    Parameters
    ----------
    rdms
        subjects × images × images; instead of subjects also repeats, or sessions, of one subject.

    Returns
    -------
    lower, upper
        In the unit of ``measure``. A model between the two explains what there is to explain.

    Raises
    ------
    ValueError
        If there are fewer than two matrices.
    """
    tables = np.asarray(rdms, dtype=np.float64)
    if tables.ndim != 3 or len(tables) < 2:
        raise ValueError(f"rdms: found shape {tables.shape}, expected at least 2 matrices, subjects × images × images")
    pairs = np.stack([_pairs(table) for table in tables])
    scaled = np.stack([_scaled(row, measure) for row in pairs])
    total = scaled.sum(axis=0)
    upper = np.mean([_similarity(row, total, measure) for row in pairs])
    lower = np.mean([_similarity(row, total - own, measure) for row, own in zip(pairs, scaled, strict=True)])
    return float(lower), float(upper)


def _pairs(matrix: ArrayLike) -> Array:
    """The entries above the diagonal."""
    table = np.asarray(matrix, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or len(table) < 3:
        raise ValueError(f"found a matrix of shape {table.shape}, expected images × images with at least 3 images")
    entries = table[np.triu_indices(len(table), 1)]
    if not np.isfinite(entries).all():
        raise ValueError("found NaN or infinity in a dissimilarity matrix, expected finite numbers")
    if not np.allclose(table, table.T, rtol=1e-4, atol=1e-4 * np.abs(entries).max()):
        raise ValueError("found a dissimilarity matrix that is not symmetric")
    return entries


def _scaled(entries: Array, measure: str) -> Array:
    if measure in ("spearman", "kendall"):
        return stats.rankdata(entries)
    centred = entries - entries.mean() if measure == "pearson" else entries
    length = np.sqrt(np.sum(centred**2))
    if length == 0:
        raise ValueError(_FLAT)
    return centred / length


def _similarity(a: Array, b: Array, measure: str) -> float:
    if a.shape != b.shape:
        raise ValueError(f"found {a.size} and {b.size} pairs of images, expected matrices of the same images")
    if measure not in ("spearman", "pearson", "cosine", "kendall"):
        raise ValueError(f"measure: found {measure}, expected spearman, pearson, cosine or kendall")
    if measure == "kendall":
        return _tau_a(a, b)
    if measure == "spearman":
        a, b = stats.rankdata(a), stats.rankdata(b)
    if measure != "cosine":
        a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt(np.sum(a**2) * np.sum(b**2)))
    if scale == 0:
        raise ValueError(_FLAT)
    return float(np.clip(np.sum(a * b) / scale, -1, 1))


def _tau_a(a: Array, b: Array) -> float:
    """Kendall's τ-a = (concordant − discordant) / all pairs of entries, from scipy's τ-b by undoing its correction for ties."""
    every = a.size * (a.size - 1) / 2
    untied = [
        every - np.sum(counts * (counts - 1.0)) / 2 for counts in (np.unique(x, return_counts=True)[1] for x in (a, b))
    ]
    if 0 in untied:
        raise ValueError(_FLAT)
    return float(stats.kendalltau(a, b).statistic * np.sqrt(untied[0] * untied[1]) / every)

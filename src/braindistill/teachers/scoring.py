"""Scores of an encoder, out of fold: raw, ceiling and normalised, a voxel and an ROI."""

from __future__ import annotations

from typing import Any

import numpy as np

from braindistill.teachers.encoder import correlate, explained_variance

#: voxels whose ceiling (R² units) lies below are left out of normalised summaries: a ratio to almost nothing says nothing
CEILING_FLOOR = 0.05


def score_encoder(
    predicted: np.ndarray,
    deviation: np.ndarray,
    measured: np.ndarray,
    ceiling: np.ndarray | None,
    fold: np.ndarray,
) -> dict[str, np.ndarray]:
    """Scores of every voxel.

    Parameters
    ----------
    predicted : (stimuli × voxels) responses predicted for held stimuli; NaN where a stimulus was never held
    deviation : the same without each fold's intercept. A fold's mean says nothing about a picture, and it lies opposite to
        the mean of what is held out: pooled over folds it would pull the r of a voxel that nothing predicts below zero
    measured : (stimuli × voxels) mean over repeats
    ceiling : (voxels) the best R² a model could reach against that mean, or None
    fold : (stimuli) which fold held a stimulus

    Returns
    -------
    dict
        ``r`` and ``r2`` (voxels), pooled over folds; ``r_fold`` (folds × voxels), NaN in folds of fewer than 3 stimuli; and
        with a ceiling ``ceiling_r2``, ``r_normalised`` = r / √ceiling and ``r2_normalised`` = R² / ceiling, unclipped,
        NaN where the ceiling is under `CEILING_FLOOR`. The ceiling on r is the root of the ceiling on R².
    """
    by_fold = [
        correlate(deviation[fold == k], measured[fold == k])
        if (fold == k).sum() > 2
        else np.full(measured.shape[1], np.nan)
        for k in np.unique(fold)
    ]
    found = {
        "r": correlate(deviation, measured),
        "r2": explained_variance(predicted, measured),
        "r_fold": np.stack(by_fold),
    }
    if ceiling is not None:
        usable = np.where(ceiling >= CEILING_FLOOR, ceiling, np.nan)
        found["ceiling_r2"] = np.asarray(ceiling)
        found["r_normalised"] = found["r"] / np.sqrt(usable)
        found["r2_normalised"] = found["r2"] / usable
    return {name: np.asarray(values, np.float32) for name, values in found.items()}


def summarise_scores(found: dict[str, np.ndarray], voxels: np.ndarray, scheme: str) -> dict[str, Any]:
    """The part of ``scores.json`` about some voxels: quantiles over voxels, with units in the names of the keys."""
    r = found["r"][voxels].astype(float)
    summary: dict[str, Any] = {
        "r_median": float(np.median(r)),
        "r_p95": float(np.percentile(r, 95)),
        "r_max": float(r.max()),
        "r2_median": float(np.median(found["r2"][voxels])),
        "r_median_per_fold": [
            None if np.isnan(k).all() else float(np.nanmedian(k)) for k in found["r_fold"][:, voxels]
        ],
        "n_voxels": len(r),
        "scheme": f"{scheme}, Pearson r pooled over folds",
    }
    if "ceiling_r2" in found:
        usable = ~np.isnan(found["r_normalised"][voxels])
        summary |= {
            "ceiling_r2_median": float(np.median(found["ceiling_r2"][voxels])),
            "ceiling_floor_r2": CEILING_FLOOR,
            "n_voxels_above_floor": int(usable.sum()),
        }
        if usable.any():
            summary["r_normalised_median"] = float(np.nanmedian(found["r_normalised"][voxels]))
            summary["r2_normalised_median"] = float(np.nanmedian(found["r2_normalised"][voxels]))
    return summary

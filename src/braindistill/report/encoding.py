"""The picture of an encoder's scores: a row an ROI, voxels as a box, with the noise ceiling where there is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from braindistill.report.style import COLOURS, GREY, INK, STYLE


def draw_encoding(scores: dict[str, np.ndarray], rois: dict[str, np.ndarray], path: Path) -> None:
    """Draw out-of-fold r of every ROI's voxels (quartiles as a box, whiskers to the 5th and 95th percentile).

    Parameters
    ----------
    scores : what `score_encoder` gives
    rois : name → index of its voxels; drawn in this order below a row for all voxels
    path : a PNG file
    """
    import matplotlib
    from matplotlib.figure import Figure

    rows = {"all voxels": np.arange(len(scores["r"])), **rois}
    ceiling = scores.get("ceiling_r2")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.8, 1.2 + 0.34 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        values = [scores["r"][index] for index in rows.values()]
        places = np.arange(len(rows))
        axes.boxplot(
            values,
            positions=places,
            orientation="horizontal",
            widths=0.55,
            whis=(5, 95),
            showfliers=False,
            patch_artist=True,
            boxprops={"facecolor": COLOURS["brain"], "alpha": 0.35, "edgecolor": COLOURS["brain"]},
            medianprops={"color": COLOURS["brain"], "linewidth": 1.8},
            whiskerprops={"color": COLOURS["brain"]},
            capprops={"color": COLOURS["brain"]},
        )
        best = [row.max() for row in values]
        axes.plot(best, places, linestyle="", marker="o", markersize=3, color=INK, label="best voxel")
        if ceiling is not None:
            tops = [_median_ceiling(ceiling[index]) for index in rows.values()]
            axes.plot(tops, places, linestyle="", marker="|", markersize=13, color=GREY, label="median ceiling (√R²)")
        axes.axvline(0, color=GREY, linewidth=0.7)
        axes.set_yticks(places, [f"{name} ({len(index)})" for name, index in rows.items()])
        axes.invert_yaxis()
        axes.set_xlabel("Pearson r, out of fold\n(box: quartiles of voxels; whiskers: 5 to 95 %)")
        figure.legend(loc="outside upper right", ncols=2, frameon=False, fontsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        figure.savefig(path, dpi=180)


def _median_ceiling(ceiling: np.ndarray) -> float:
    """On r, over the voxels that have one; NaN, which is not drawn, where none has."""
    known = ceiling[np.isfinite(ceiling)]
    return float(np.median(np.sqrt(np.clip(known, 0, None)))) if len(known) else np.nan

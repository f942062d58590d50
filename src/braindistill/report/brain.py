"""A picture of fMRI data: noise ceilings of each ROI, and slices through the brain where voxels have places.

Drawn with `matplotlib.figure.Figure`, never pyplot, so that no global figure state is touched.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from braindistill.fmri.responses import Responses
from braindistill.fmri.storage import row_blocks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SLICES = 20  # at most so many in the mosaic
ROIS = 24  # at most so many boxes; the largest


def draw_overview(responses: Responses, path: Path) -> None:
    """Write a PNG with ceilings (single trials: mean responses) per ROI, and a mosaic of axial slices.

    The mosaic needs voxel coordinates and an affine; without them (vertices) there is a histogram over voxels.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if responses.ceiling is not None:
        values, name = responses.ceiling, "noise ceiling (R²)"
    else:
        values, name = _mean(responses.responses), "mean response (single trials: no ceiling)"
    volume = volume_of(responses, values)
    rois = {"all voxels": np.ones(len(values), dtype=bool)}
    rois |= dict(sorted(responses.rois.items(), key=lambda item: -int(item[1].sum()))[:ROIS])
    with rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        height = max(3.2, 0.26 * len(rois) + 1.2)
        figure = Figure(figsize=(10, height), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[1, 1.1])[0]
        _draw_rois(left.add_subplot(), rois, values, name)
        if volume is not None:
            _draw_slices(right, volume, name)
        else:
            _draw_histogram(right.add_subplot(), values, name)
        figure.savefig(path, metadata={"Software": None})  # equal data give equal bytes


def volume_of(responses: Responses, values: np.ndarray) -> np.ndarray | None:
    """Put a value of each voxel back into the box of voxels that holds them all; NaN elsewhere.

    Returns
    -------
    (X, Y, Z) float, or None without coordinates and affine, or where they don't fit on a grid.
    """
    if responses.voxel_coordinates is None or responses.affine is None:
        return None
    try:
        inverse = np.linalg.inv(responses.affine)
    except np.linalg.LinAlgError:
        return None
    places = responses.voxel_coordinates @ inverse[:3, :3].T + inverse[:3, 3]
    index = np.round(places).astype(int)
    if not np.allclose(places, index, atol=0.05):
        return None
    index -= index.min(axis=0)
    shape = index.max(axis=0) + 1
    if np.prod(shape) > 2**25 or len(np.unique(index, axis=0)) < len(index):  # two subjects in one space, say
        return None
    volume = np.full(shape, np.nan)
    volume[tuple(index.T)] = values
    return volume


def _mean(responses: np.ndarray) -> np.ndarray:
    total = np.zeros(responses.shape[1])
    for rows in row_blocks(*responses.shape):
        total += responses[rows].sum(axis=0, dtype=np.float64)
    return total / len(responses)


def _draw_rois(axes: Axes, rois: dict[str, np.ndarray], values: np.ndarray, name: str) -> None:
    each = [values[mask][np.isfinite(values[mask])] for mask in rois.values()]
    axes.boxplot(
        each,
        orientation="horizontal",
        whis=(5, 95),
        showfliers=False,
        widths=0.6,
        patch_artist=True,
        boxprops={"facecolor": "#88CCEE", "linewidth": 0.7},
        medianprops={"color": "#222222"},
    )
    labels = [f"{roi} ({int(mask.sum()):,})" for roi, mask in rois.items()]
    axes.set_yticks(range(1, len(labels) + 1), labels)
    axes.set_ylim(max(len(labels), 4) + 0.5, 0.5)  # from the top down; a single box isn't blown up
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel(f"{name}\nbox: quartiles, whiskers: 5 to 95 %")
    axes.set_title("voxels of each ROI", loc="left", fontsize=9)


def _draw_slices(figure: Figure, volume: np.ndarray, name: str) -> None:
    filled = np.flatnonzero(np.isfinite(volume).any(axis=(0, 1)))
    chosen = filled[np.unique(np.linspace(0, len(filled) - 1, min(SLICES, len(filled))).round().astype(int))]
    columns = int(np.ceil(np.sqrt(len(chosen))))
    rows = -(-len(chosen) // columns)
    known = volume[np.isfinite(volume)]
    if known.min() >= 0:
        limits, colours = (0.0, max(float(np.percentile(known, 99)), 1e-6)), "inferno"
    else:
        most = max(float(np.percentile(np.abs(known), 99)), 1e-6)
        limits, colours = (-most, most), "RdBu_r"
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, place in zip(grid.flat, chosen, strict=False):
        picture = axes.imshow(volume[:, :, place].T, origin="lower", cmap=colours, vmin=limits[0], vmax=limits[1])
        axes.set_facecolor("#dddddd")
        axes.set_title(f"z = {place}", fontsize=7, pad=2)
    figure.colorbar(picture, ax=grid, shrink=0.7, label=name)


def _draw_histogram(axes: Axes, values: np.ndarray, name: str) -> None:
    axes.hist(values[np.isfinite(values)], bins=60, color="#88CCEE", edgecolor="none")
    axes.set_xlabel(name)
    axes.set_ylabel("voxels")
    axes.set_title("all voxels (no places on a grid)", loc="left", fontsize=9)

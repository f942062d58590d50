"""Digital corruptions (Hendrycks & Dietterich 2019) but JPEG: images and results are floats in [0, 1], N × C × H × W."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from braindistill.metrics.blurs import gaussian_blur
from braindistill.metrics.warping import draw_normal, draw_uniform, pixel_grid, warp


def contrast(images: Tensor, generator: torch.Generator, *, keep: float) -> Tensor:
    """Every channel drawn towards its own mean over the image: ``keep`` of each difference is left."""
    mean = images.mean((2, 3), keepdim=True)
    return mean + keep * (images - mean)


def elastic_transform(
    images: Tensor, generator: torch.Generator, *, bend: float, smoothness: float, skew: float
) -> Tensor:
    """A rubber sheet (Simard, Steinkraus & Platt 2003): a random affine map and random smooth displacements.

    Parameters
    ----------
    bend
        Standard deviation of the displacements, as a share of the shorter side.
    smoothness
        Standard deviation of the Gaussian that smooths them, as a share of the shorter side.
    skew
        The furthest that each of shift, stretch and shear moves the middle of a side, as a share of the shorter side.
    """
    n, _, height, width = images.shape
    side = min(height, width)
    y, x = pixel_grid(images)
    down, across = 2 * y / max(1, height - 1) - 1, 2 * x / max(1, width - 1) - 1
    affine = skew * side * draw_uniform(images, 6, n, 1, 1, low=-1, high=1, generator=generator)
    sigma = max(0.3, smoothness * side)
    field = gaussian_blur(draw_normal(images, n, 2, height, width, generator=generator), sigma)
    # smoothing leaves 1 / (2 σ √π) of white noise's deviation, and all of it where σ is far below a pixel
    field = field * (bend * side * max(1.0, 2 * sigma * math.sqrt(math.pi)))
    rows = y + affine[0] + affine[1] * down + affine[2] * across + field[:, 0]
    columns = x + affine[3] + affine[4] * down + affine[5] * across + field[:, 1]
    return warp(images, rows, columns, "reflection")


def pixelate(images: Tensor, generator: torch.Generator, *, scale: float) -> Tensor:
    """A coarser sensor: square cells of 1 / ``scale`` pixels, each of one colour, their mean.

    Cells need not be whole pixels, and begin anywhere: a pixel that two cells share shows both in proportion. In the
    paper they begin at the corner, and a pixel repeats the nearest.
    """
    n, _, height, width = images.shape
    phase = draw_uniform(images, 2, n, 1, 1, 1, generator=generator)
    return _cells(height, 1 / scale, phase[0]) @ images @ _cells(width, 1 / scale, phase[1])


def _cells(size: int, cell: float, phase: Tensor) -> Tensor:
    """Symmetric matrices (phases × size × size) that replace values by the means of cells of so many pixels.

    ``phase``, in [0, 1), is the share of the first cell that lies before the first value.
    """
    pixels = torch.arange(size, device=phase.device, dtype=torch.float32)
    start = cell * (torch.arange(math.ceil(size / cell) + 1, device=phase.device)[:, None] - phase)
    overlap = ((start + cell).minimum(pixels + 1) - start.maximum(pixels)).clamp(min=0)  # cells × pixels
    cut = overlap.sum(-1, keepdim=True).clamp(min=1e-6)  # the frame may cut the first and the last
    return overlap.mT @ (overlap / cut)

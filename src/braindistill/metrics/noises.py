"""Corruptions by noise (Hendrycks & Dietterich 2019): images and results are floats in [0, 1], N × C × H × W."""

from __future__ import annotations

import torch
from torch import Tensor

from braindistill.metrics.warping import draw_normal, draw_uniform


def gaussian_noise(images: Tensor, generator: torch.Generator, *, scale: float) -> Tensor:
    """Independent normal noise of standard deviation ``scale``, as in dim light."""
    return images + scale * draw_normal(images, *images.shape, generator=generator)


def shot_noise(images: Tensor, generator: torch.Generator, *, photons: float) -> Tensor:
    """Poisson noise: a white pixel is ``photons`` photons on average."""
    counts = torch.poisson((images * photons).to(generator.device), generator=generator)
    return counts.to(images.device) / photons


def impulse_noise(images: Tensor, generator: torch.Generator, *, share: float) -> Tensor:
    """Salt and pepper: a ``share`` of the values turns 0 or 1, both equally often."""
    drawn = draw_uniform(images, *images.shape, generator=generator)
    return images.masked_fill(drawn < share / 2, 0.0).masked_fill(drawn >= 1 - share / 2, 1.0)

"""What corruptions share: random draws that are the same on every device, and reading images between their pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def draw_normal(like: Tensor, *shape: int, generator: torch.Generator) -> Tensor:
    """Standard normal numbers on the device of ``like``, drawn on the generator's."""
    return torch.randn(shape, generator=generator, device=generator.device).to(like.device)


def draw_uniform(like: Tensor, *shape: int, low: float = 0.0, high: float = 1.0, generator: torch.Generator) -> Tensor:
    """Uniform numbers in [low, high) on the device of ``like``, drawn on the generator's."""
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device).to(like.device)


def pixel_grid(like: Tensor) -> tuple[Tensor, Tensor]:
    """Row (H × 1) and column (1 × W) of every pixel of images N × C × H × W, as floats."""
    height, width = like.shape[-2:]
    return (
        torch.arange(height, device=like.device, dtype=torch.float32)[:, None],
        torch.arange(width, device=like.device, dtype=torch.float32)[None, :],
    )


def warp(images: Tensor, rows: Tensor, columns: Tensor, outside: str = "border") -> Tensor:
    """Images whose pixels are read elsewhere, bilinearly.

    Parameters
    ----------
    images
        float, N × C × H × W.
    rows, columns
        Where each pixel is read, in pixels: N × H × W, or what broadcasts to it; without an N the same for all images.
    outside
        ``border`` repeats the outermost pixels, ``reflection`` mirrors at them.
    """
    n, channels, height, width = images.shape
    scaled = torch.broadcast_tensors(2 * columns / max(1, width - 1) - 1, 2 * rows / max(1, height - 1) - 1)
    grid = torch.stack(scaled, dim=-1)
    if grid.ndim == 3:  # one grid for all: images are its channels, and positions are worked out once
        flat = images.reshape(1, n * channels, height, width)
        return F.grid_sample(flat, grid[None], padding_mode=outside, align_corners=True).view_as(images)
    return F.grid_sample(images, grid.expand(n, height, width, 2), padding_mode=outside, align_corners=True)

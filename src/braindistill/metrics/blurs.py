"""Corruptions by blur (Hendrycks & Dietterich 2019): images and results are floats in [0, 1], N × C × H × W."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from braindistill.metrics.warping import draw_uniform, pixel_grid, warp


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of standard deviation ``sigma`` pixels; the outermost pixels are repeated outside."""
    rows, columns = (_gaussian_weights(size, sigma).to(images.device) for size in images.shape[2:])
    return rows @ images @ columns.T


def defocus_blur(images: Tensor, generator: torch.Generator, *, radius: float, softness: float) -> Tensor:
    """A lens out of focus: a disk of ``radius`` pixels, its edge smoothed by a Gaussian of ``softness`` pixels.

    The disk's edge is one pixel wide, so that a radius need not be a whole number.
    """
    reach = math.ceil(radius + 0.5 + 3 * softness)
    offsets = torch.arange(-reach, reach + 1, device=images.device, dtype=torch.float32)
    disk = (radius + 0.5 - offsets[:, None].hypot(offsets[None, :])).clamp(0, 1)
    disk = gaussian_blur(disk[None, None], softness)[0, 0]
    return _convolve(images, disk / disk.sum())


def glass_blur(images: Tensor, generator: torch.Generator, *, sigma: float, distance: float) -> Tensor:
    """Frosted glass: blurred, every pixel read from up to ``distance`` pixels away in both directions, blurred again.

    The paper swaps neighbouring pixels one after another. Both blurs are Gaussians of ``sigma`` pixels.
    """
    y, x = pixel_grid(images)
    n, _, height, width = images.shape
    moves = draw_uniform(images, 2, n, height, width, low=-distance, high=distance, generator=generator)
    return gaussian_blur(warp(gaussian_blur(images, sigma), y + moves[0], x + moves[1]), sigma)


def motion_blur(images: Tensor, generator: torch.Generator, *, sigma: float) -> Tensor:
    """Each image smeared in its own direction, up to 45° off the horizontal; see `smear`."""
    angle = draw_uniform(images, len(images), low=-math.pi / 4, high=math.pi / 4, generator=generator)
    return smear(images, angle, sigma)


def zoom_blur(images: Tensor, generator: torch.Generator, *, zoom: float) -> Tensor:
    """A camera that moves towards its object: the mean of the image and ten zooms, evenly from 1 to ``zoom``."""
    y, x = pixel_grid(images)
    middle_y, middle_x = (images.shape[2] - 1) / 2, (images.shape[3] - 1) / 2
    total = images.clone()
    for factor in torch.linspace(1, zoom, 11).tolist()[1:]:
        total += warp(images, middle_y + (y - middle_y) / factor, middle_x + (x - middle_x) / factor)
    return total / 11


def smear(images: Tensor, angle: Tensor, sigma: float) -> Tensor:
    """Images N × C × H × W smeared to one side, with weights of half a Gaussian of ``sigma`` pixels, up to 3 ``sigma``.

    Parameters
    ----------
    angle
        Direction of each image in radians (N).
    """
    y, x = pixel_grid(images)
    down, right = angle.sin()[:, None, None], angle.cos()[:, None, None]
    weights = [math.exp(-0.5 * (step / sigma) ** 2) for step in range(1 + math.floor(3 * sigma))]
    total = images * weights[0]
    for step, weight in enumerate(weights[1:], 1):
        total += weight * warp(images, y + step * down, x + step * right)
    return total / sum(weights)


def _convolve(images: Tensor, kernel: Tensor) -> Tensor:
    """Every channel convolved with one kernel (odd height and width); the outermost pixels are repeated outside."""
    high, wide = kernel.shape[0] // 2, kernel.shape[1] // 2
    planes = F.pad(images.flatten(0, 1)[:, None], (wide, wide, high, high), mode="replicate")
    return F.conv2d(planes, kernel[None, None]).view_as(images)


def _gaussian_weights(size: int, sigma: float) -> Tensor:
    """What each of so many blurred values (rows) takes from each value (columns), up to 3 ``sigma`` away."""
    reach = max(1, math.ceil(3 * sigma))
    distance = torch.arange(-reach, size + reach)[None, :] - torch.arange(size)[:, None]
    weights = (-0.5 * (distance / sigma) ** 2).exp() * (distance.abs() <= reach)
    weights[:, reach] += weights[:, :reach].sum(1)  # outside: the outermost pixels
    weights[:, -reach - 1] += weights[:, -reach:].sum(1)
    kept = weights[:, reach:-reach]
    return kept / kept.sum(1, keepdim=True)

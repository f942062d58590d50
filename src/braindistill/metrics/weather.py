"""Corruptions by weather (Hendrycks & Dietterich 2019): images and results are floats in [0, 1], N × C × H × W.

Nothing is pasted from photographs: snow, fog and, unlike the paper's, frost are grown from random numbers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from braindistill.metrics.blurs import smear
from braindistill.metrics.warping import draw_normal, draw_uniform, pixel_grid


def snow(
    images: Tensor,
    generator: torch.Generator,
    *,
    mean: float,
    scale: float,
    flake: float,
    threshold: float,
    sigma: float,
    clear: float,
) -> Tensor:
    """Falling flakes before a whitened scene.

    Normal noise (``mean``, ``scale``) on cells of ``flake`` pixels, nothing left under ``threshold``, smeared downwards by
    ``sigma`` pixels (`smear`); it is added twice, the second time turned by 180°. A ``clear`` share of the
    scene stays, the rest is as bright as 1.5 times its grey and a half.
    """
    n, _, height, width = images.shape
    cells = [max(1, math.ceil(size / flake)) for size in (height, width)]
    noise = mean + scale * draw_normal(images, n, 1, *cells, generator=generator)
    flakes = F.interpolate(noise, (height, width), mode="bilinear", align_corners=False).clamp(0, 1)
    flakes = flakes.masked_fill(flakes < threshold, 0.0)
    angle = draw_uniform(images, n, low=-0.75 * math.pi, high=-0.25 * math.pi, generator=generator)
    flakes = smear(flakes, angle, sigma)
    white = images.maximum(1.5 * _grey(images) + 0.5)
    return clear * images + (1 - clear) * white + flakes + flakes.flip(2, 3)


def frost(images: Tensor, generator: torch.Generator, *, clear: float, ice: float) -> Tensor:
    """Ice on a window: ``clear`` · image + ``ice`` · frost in [0, 1].

    The frost is procedural, where the paper has six photographs: crystals are the ridges of two fractal noises, coarse
    ones with fine ones on them, and grow thicker towards the frame.
    """
    n, _, height, width = images.shape
    coarse, fine = (
        1 - (2 * fractal(images, n, height, width, roughness, generator) - 1).abs() for roughness in (1.8, 1.2)
    )
    y, x = pixel_grid(images)
    frame = ((2 * y / max(1, height - 1) - 1).abs()).maximum((2 * x / max(1, width - 1) - 1).abs())
    crystals = coarse * (0.6 + 0.4 * fine) * (0.6 + 0.4 * frame)
    return clear * images + ice * crystals


def fog(images: Tensor, generator: torch.Generator, *, density: float, decay: float) -> Tensor:
    """Clouds of ``density``, whose structure at half the size is weaker by ``decay``; the brightest pixel stays as bright."""
    n, _, height, width = images.shape
    clouds = fractal(images, n, height, width, 1 + math.log2(decay), generator)
    brightest = images.amax((1, 2, 3), keepdim=True)
    # a black image has no brightest pixel to keep
    return (images + density * clouds) * torch.where(brightest > 0, brightest / (brightest + density), 1.0)


def brightness(images: Tensor, generator: torch.Generator, *, by: float) -> Tensor:
    """More light: the value (the largest channel) plus ``by``, at most 1; hue and saturation stay, black turns grey."""
    value = images.amax(1, keepdim=True)
    brighter = (value + by).clamp(max=1)
    return torch.where(value > 0, images * (brighter / value.clamp(min=1e-6)), brighter)


def fractal(like: Tensor, n: int, height: int, width: int, roughness: float, generator: torch.Generator) -> Tensor:
    """Fractal noise (n × 1 × H × W), each from 0 to 1: white noise with amplitudes of frequency to the −``roughness``.

    Diamond–square clouds that weaken by d an octave, as the paper has them, are of roughness 1 + log₂ d.
    """
    spectrum = torch.fft.rfft2(draw_normal(like, n, 1, height, width, generator=generator))
    vertical = torch.fft.fftfreq(height, device=like.device)[:, None]
    frequency = vertical.hypot(torch.fft.rfftfreq(width, device=like.device)[None, :])
    weight = torch.where(frequency > 0, frequency.clamp(min=1e-9) ** -roughness, 0.0)
    noise = torch.fft.irfft2(spectrum * weight, s=(height, width))
    low, high = noise.amin((1, 2, 3), keepdim=True), noise.amax((1, 2, 3), keepdim=True)
    return (noise - low) / (high - low).clamp(min=1e-9)


def _grey(images: Tensor) -> Tensor:
    """Luma of RGB, the mean of any other channels (N × 1 × H × W)."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)

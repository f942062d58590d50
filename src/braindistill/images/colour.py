"""What pixels' values become: brightness, contrast, saturation and their like, a factor an image.

Images are float N × C × H × W from 0 to 255, C being 1 (grey) or 3 (RGB); a factor (N) of 1 changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

#: values that are held as float at once
_VALUES = 2**20
#: of ITU-R 601: how bright red, green and blue seem
_LUMA = (0.299, 0.587, 0.114)


def jitter(images: Tensor, factors: Tensor) -> Tensor:
    """Change brightness, then contrast, then saturation of uint8 images, by factors (N × 3); grey ones have no saturation."""

    def change(part: Tensor, given: Tensor) -> Tensor:
        brightness, contrast, saturation = given.unbind(1)
        return change_saturation(change_contrast(change_brightness(part, brightness), contrast), saturation)

    return in_float(change, images, factors)


def in_float(function: Callable[[Tensor, Tensor], Tensor], images: Tensor, factors: Tensor) -> Tensor:
    """Apply a function of float images and a row an image to uint8 images, some at a time, and round."""
    step = max(1, _VALUES // max(1, images[0].numel())) if len(images) else 1
    changed, factors = torch.empty_like(images), factors.to(images.device)
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        changed[part] = function(images[part].float(), factors[part]).round_()
    return changed


def change_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with black."""
    return (images * factor.view(-1, 1, 1, 1)).clamp_(0, 255)


def change_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean over all pixels of the image's grey version."""
    return _blend(_grey(images).mean((1, 2, 3), keepdim=True), images, factor)


def change_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image's grey version; grey images stay as they are."""
    return images if images.shape[1] == 1 else _blend(_grey(images), images, factor)


def change_sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with a smoothed version (3 × 3 pixels, the middle one counting five times); edge pixels stay as they are."""
    if min(images.shape[2:]) < 3:
        return images
    smooth = images.clone()
    inner = smooth[:, :, 1:-1, 1:-1]
    inner.mul_(4).add_(F.avg_pool2d(images, 3, 1), alpha=9).div_(13)
    return _blend(smooth, images, factor)


def stretch_range(images: Tensor) -> Tensor:
    """Make each channel's darkest value 0 and its brightest 255 (autocontrast); a constant channel stays."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    stretched = (images - low) * (255 / (high - low).clamp(min=1))
    return torch.where(high > low, stretched, images)


def equalise(images: Tensor) -> Tensor:
    """Equalise each channel's histogram: a value becomes 255 times the share of pixels above the darkest that it reaches.

    Takes and gives uint8 images; a constant channel stays.
    """
    n, channels, height, width = images.shape
    values = images.reshape(n * channels, height * width).long()
    counts = torch.zeros(n * channels, 256, device=images.device).scatter_add_(
        1, values, torch.ones(values.shape, device=images.device)
    )
    reached = counts.cumsum(1)
    darkest = counts.gather(1, values.amin(1, keepdim=True))
    rest = height * width - darkest
    table = ((reached - darkest) * (255 / rest.clamp(min=1))).round_().clamp_(0, 255)
    table = torch.where(rest > 0, table, torch.arange(256.0, device=images.device)).to(torch.uint8)
    return table.gather(1, values).view(images.shape)


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images
    red, green, blue = (weight * images[:, channel] for channel, weight in enumerate(_LUMA))
    return (red + green + blue).unsqueeze(1)


def _blend(plain: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    return (plain + factor.view(-1, 1, 1, 1) * (images - plain)).clamp_(0, 255)

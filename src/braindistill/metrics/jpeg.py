"""JPEG compression and decompression on tensors: what is lost in the coefficients, without writing a file."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

#: the standard's example tables (ITU-T T.81, annex K.1), which encoders scale by quality
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)


def jpeg_compression(images: Tensor, generator: torch.Generator, *, quality: float) -> Tensor:
    """Baseline JPEG of a ``quality`` of 1 to 100, on the Independent JPEG Group's scale.

    RGB becomes YCbCr with its colour at half the resolution (4:2:0), as encoders do by default; images of another number
    of channels are so many grey ones. 8 × 8 blocks are transformed (DCT-II), divided by the scaled standard tables,
    rounded, and brought back. Entropy coding loses nothing and is left out.

    Parameters
    ----------
    images
        float in [0, 1], N × C × H × W; sides that are no multiple of a block are continued by their last pixels.
    """
    pixels = (255 * images).round()
    height, width = images.shape[2:]
    if images.shape[1] != 3:
        return _crop(_code(_extend(pixels, 8), _LUMINANCE, quality), height, width) / 255
    red, green, blue = _extend(pixels, 16).unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    colour = torch.stack([128 + (blue - luma) / 1.772, 128 + (red - luma) / 1.402], dim=1)
    luma = _code(luma[:, None].round(), _LUMINANCE, quality)[:, 0]
    small = F.avg_pool2d(colour.round(), 2).round()
    colour = F.interpolate(_code(small, _CHROMINANCE, quality), scale_factor=2, mode="bilinear", align_corners=False)
    blueness, redness = (colour - 128).unbind(1)
    found = torch.stack(
        [
            luma + 1.402 * redness,
            luma - (0.114 * 1.772 * blueness + 0.299 * 1.402 * redness) / 0.587,
            luma + 1.772 * blueness,
        ],
        dim=1,
    )
    return _crop(found.clamp(0, 255), height, width) / 255


def _code(planes: Tensor, table: tuple[tuple[int, ...], ...], quality: float) -> Tensor:
    """Planes of whole pixels 0 … 255 (N × C × 8a × 8b) as they come back from quantised coefficients, rounded."""
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    steps = ((torch.tensor(table, dtype=torch.float32) * scale + 50) / 100).floor().clamp(1, 255).to(planes.device)
    transform = _transform().to(planes.device)
    n, channels, height, width = planes.shape
    blocks = (planes - 128).view(n, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    coefficients = transform @ blocks @ transform.T
    blocks = transform.T @ ((coefficients / steps).round() * steps) @ transform
    return (blocks.transpose(3, 4).reshape_as(planes) + 128).round().clamp(0, 255)


def _transform() -> Tensor:
    """The orthonormal DCT-II of 8 values (8 × 8)."""
    rows = [
        [
            math.cos(math.pi * (2 * place + 1) * frequency / 16) / (2 if frequency else math.sqrt(8))
            for place in range(8)
        ]
        for frequency in range(8)
    ]
    return torch.tensor(rows)


def _extend(planes: Tensor, multiple: int) -> Tensor:
    height, width = planes.shape[2:]
    return F.pad(planes, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def _crop(planes: Tensor, height: int, width: int) -> Tensor:
    return planes[:, :, :height, :width]

"""Features that were designed and not learned: pixels, Gabor energies, oriented gradients and colour histograms.

Each is a differentiable module from pictures 0 … 255 (n × C × H × W, C = 1 or 3, of the size it was built for) to
features (n × width).
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: side to which Gabor filters see larger pictures reduced: the bank's shortest wavelength is then 8 pixels
_GABOR_SIDE = 64


class Pixels(nn.Module):
    """The pixels themselves, 0 … 1."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) / 255


class GaborEnergies(nn.Module):
    """Energies of quadrature pairs at 8 orientations and 3 wavelengths, pooled over a grid of at most 8 × 8.

    The V1 model of Adelson & Bergen (1985): √(even² + odd²), of grey pictures whose shorter side is at most 64 pixels.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        shorter = min(shape[1:])
        side = min(shorter, _GABOR_SIDE)
        self.size = [round(length * side / shorter) for length in shape[1:]]
        self.reduced = side < shorter
        self.grid = max(1, min(8, side // 2))
        for scale in (8, 4, 2):
            even, odd = _gabor_pairs(max(3.0, side / scale))
            self.register_buffer(f"pairs_{scale}", torch.from_numpy(np.concatenate([even, odd])))

    def forward(self, images: Tensor) -> Tensor:
        grey = images.mean(1, keepdim=True) / 255
        if self.reduced:
            grey = F.interpolate(grey, self.size, mode="bilinear", antialias=True)
        energies = []
        for bank in self.buffers():
            # the border goes on outside: padding with black would be an edge
            even, odd = F.conv2d(F.pad(grey, (bank.shape[-1] // 2,) * 4, mode="replicate"), bank).chunk(2, 1)
            energies.append(F.adaptive_avg_pool2d(_root(even**2 + odd**2), self.grid).flatten(1))
        return torch.cat(energies, 1)


class OrientedGradients(nn.Module):
    """Histograms of oriented gradients (HOG; Dalal & Triggs 2005).

    Gradients by centred differences, in the channel where they are strongest; votes into 9 unsigned orientations and
    cells of 8 × 8 pixels, interpolated between neighbours in both; blocks of 2 × 2 cells, one cell apart, normalised by
    L2-Hys (L2, clipped at 0.2, L2 again). Pictures below 32 pixels have smaller cells, so that there are 4 a side.
    """

    kernel: Tensor

    def __init__(self, shape: tuple[int, int, int], n_orientations: int = 9) -> None:
        super().__init__()
        self.bins = n_orientations
        self.cell = cell = max(1, min(8, min(shape[1:]) // 4))
        self.cells = [length // cell for length in shape[1:]]
        self.block = min(2, *self.cells)
        # each pixel is shared out to the two nearest cells a dimension, the farther the less
        size = 2 * cell - cell % 2
        share = 1 - (torch.arange(size) - (size - 1) / 2).abs() / cell
        self.register_buffer("kernel", (share[:, None] * share).expand(n_orientations, 1, -1, -1).clone())

    def forward(self, images: Tensor) -> Tensor:
        padded = F.pad(images / 255, (1, 1, 1, 1), mode="replicate")
        across = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
        down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
        strongest = (across**2 + down**2).argmax(1, keepdim=True)
        across, down = across.gather(1, strongest), down.gather(1, strongest)
        magnitude = _root(across**2 + down**2)
        # where nothing changes there is no angle, and no gradient of it
        across = torch.where(magnitude > 1e-6, across, 1.0)
        place = torch.atan2(down, across).remainder(math.pi) * (self.bins / math.pi)
        orientations = torch.arange(self.bins, device=images.device, dtype=images.dtype).view(-1, 1, 1)
        distance = (place - orientations).abs()
        votes = magnitude * F.relu(1 - torch.minimum(distance, self.bins - distance))
        height, width = (count * self.cell for count in self.cells)
        votes = votes[..., :height, :width]
        cells = F.conv2d(votes, self.kernel, stride=self.cell, padding=self.cell // 2, groups=self.bins)
        rows = F.unfold(cells, self.block)  # n × (9 · 4) × blocks
        rows = F.normalize(F.normalize(rows, dim=1, eps=1e-3).clamp(max=0.2), dim=1, eps=0.1)
        return rows.transpose(1, 2).flatten(1)


class ColourHistograms(nn.Module):
    """Mean and histogram of the opponent colours in each cell of a 4 × 4 grid; of grey pictures, of their intensity.

    Opponent colours as in van de Sande et al. (2010): red – green, yellow – blue and intensity, each scaled to 0 … 1. A
    pixel votes for the two nearest of 8 levels, the nearer the more.
    """

    opponents: Tensor
    offset: Tensor

    def __init__(self, shape: tuple[int, int, int], n_levels: int = 8) -> None:
        super().__init__()
        self.levels = n_levels
        self.grid = min(4, *shape[1:])
        colour = shape[0] == 3
        opponents = [[1 / 2, -1 / 2, 0], [1 / 4, 1 / 4, -1 / 2], [1 / 3, 1 / 3, 1 / 3]] if colour else [[1.0]]
        self.register_buffer("opponents", torch.tensor(opponents)[..., None, None])
        self.register_buffer("offset", torch.tensor([0.5, 0.5, 0.0] if colour else [0.0]).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        values = F.conv2d(images / 255, self.opponents) + self.offset
        levels = torch.arange(self.levels, device=images.device, dtype=images.dtype).view(-1, 1, 1, 1)
        votes = F.relu(1 - (values[:, None] * (self.levels - 1) - levels).abs()).flatten(1, 2)
        return F.adaptive_avg_pool2d(torch.cat([values, votes], 1), self.grid).flatten(1)


def _root(squares: Tensor) -> Tensor:
    """√ whose gradient at 0 is 0 and not infinite."""
    return squares.clamp_min(1e-20).sqrt()


def _gabor_pairs(wavelength: float, n_orientations: int = 8) -> tuple[np.ndarray, np.ndarray]:
    sigma = 0.4 * wavelength
    half = math.ceil(2.5 * sigma)
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    envelope = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    even, odd = [], []
    for angle in np.arange(n_orientations) * np.pi / n_orientations:
        phase = 2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / wavelength
        wave = envelope * np.cos(phase)
        even.append(wave - envelope * wave.sum() / envelope.sum())  # no response to uniform brightness
        odd.append(envelope * np.sin(phase))
    norm = np.linalg.norm(envelope)
    return tuple(np.stack(bank)[:, None].astype(np.float32) / norm for bank in (even, odd))  # type: ignore[return-value]

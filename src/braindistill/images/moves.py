"""What augmentation does to each image of a batch: drawn once, a few bytes an image, and applied wherever it is needed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from braindistill.errors import UserError
from braindistill.images.rand_augment import OPERATIONS

#: offsets are kept in two bytes
_WIDEST = 2**14 - 1
#: aspect ratios of a random resized crop (Szegedy et al. 2015, section 6)
_RATIOS = (3 / 4, 4 / 3)


@dataclass(frozen=True)
class Moves:
    """What happens to each of N images, in this order; None: nothing of the kind.

    Attributes
    ----------
    size : N
    offset : (N × 2) int16, rows and columns from 0 to 2·crop: where the window begins in the image padded by ``crop``
    mirrored : (N) bool
    zoomed : (N × 4) float32, the box that is magnified to the whole image: top, left, height, width in pixels
    factors : (N × 3) float32: brightness, contrast, saturation; 1 changes nothing
    operation, strength : (N × operations an image) int8, index into RandAugment's operations, and signed magnitude
    centre : (N × 2) int16, row and column in the middle of the square that is erased
    crop : padding in pixels that ``offset`` counts from
    cutout : side of the square, pixels
    """

    size: int
    offset: Tensor | None = None
    mirrored: Tensor | None = None
    zoomed: Tensor | None = None
    factors: Tensor | None = None
    operation: Tensor | None = None
    strength: Tensor | None = None
    centre: Tensor | None = None
    crop: int = 0
    cutout: int = 0

    def __len__(self) -> int:
        return self.size

    @property
    def changing(self) -> bool:
        """Does anything happen to any image?"""
        return bool(self._tensors())

    def take(self, rows: Tensor) -> Moves:
        """The moves of some of the images, by int64 index."""
        parts = {name: part[rows.to(part.device)] for name, part in self._tensors().items()}
        return dataclasses.replace(self, size=len(rows), **parts)  # type: ignore[arg-type]

    def to(self, device: torch.device | str) -> Moves:
        """The same on another device."""
        return dataclasses.replace(self, **{name: part.to(device) for name, part in self._tensors().items()})  # type: ignore[arg-type]

    def _tensors(self) -> dict[str, Tensor]:
        return {name: part for name, part in vars(self).items() if isinstance(part, Tensor)}


def draw_moves(
    n: int,
    height: int,
    width: int,
    generator: torch.Generator,
    *,
    crop: int = 0,
    flip: bool = False,
    zoom: float = 1.0,
    cutout: int = 0,
    colour: float = 0.0,
    rand_augment: int = 0,
    rand_magnitude: int = 9,
) -> Moves:
    """Draw the augmentation of N images of ``height`` × ``width`` pixels.

    Everything comes from one generator, option after option in the order of the parameters, and what is off draws
    nothing: with a generator on the CPU every device sees the same batches.

    Parameters
    ----------
    crop : pixels of zero padding on each side, out of which a window of the image's size is cut at uniform offsets
        (He et al. 2016, section 4.2). 0: none
    flip : mirror left and right with probability one half
    zoom : smallest share of the area of a random resized crop: the share is uniform from ``zoom`` to 1, the box's aspect
        ratio (against the image's own) log-uniform from 3/4 to 4/3 as far as the box fits. 1: none
    cutout : side of a square, centred on any pixel, that is filled with 0 and may reach over the edge (DeVries & Taylor
        2017). 0: none
    colour : brightness, contrast and saturation are multiplied by factors uniform in 1 ± ``colour``. 0: none
    rand_augment, rand_magnitude : operations an image, and how strong each is, 0 to 30 (Cubuk et al. 2020); see
        `apply_operations`

    Raises
    ------
    UserError
        An option is out of range.
    """
    _check("crop", crop, 0, _WIDEST)
    _check("zoom", zoom, 1e-3, 1)
    _check("cutout", cutout, 0, _WIDEST)
    _check("colour", colour, 0, 1)
    _check("rand_augment", rand_augment, 0, 16)
    _check("rand_magnitude", rand_magnitude, 0, 30)
    drawn: dict[str, Tensor] = {}
    on: dict[str, Any] = {"generator": generator, "device": generator.device}
    if crop:
        drawn["offset"] = torch.randint(2 * crop + 1, (2, n), **on).T.to(torch.int16)
    if flip:
        drawn["mirrored"] = torch.randint(2, (n,), **on).bool()
    if zoom < 1:
        drawn["zoomed"] = _boxes(torch.rand(4, n, **on), height, width, zoom)
    if cutout:
        middle = [torch.randint(length, (n,), **on) for length in (height, width)]
        drawn["centre"] = torch.stack(middle, 1).to(torch.int16)
    if colour:
        drawn["factors"] = 1 + colour * (2 * torch.rand(n, 3, **on) - 1)
    if rand_augment:
        sign = 2 * torch.randint(2, (n, rand_augment), **on) - 1
        drawn["operation"] = torch.randint(len(OPERATIONS), (n, rand_augment), **on).to(torch.int8)
        drawn["strength"] = (sign * rand_magnitude).to(torch.int8)
    return Moves(n, crop=crop, cutout=cutout, **drawn)


def _check(option: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UserError(f"train.{option}={value}: must be from {low:g} to {high:g}")


def _boxes(uniform: Tensor, height: int, width: int, zoom: float) -> Tensor:
    """N × 4 boxes (top, left, height, width) from 4 × N uniform numbers."""
    share, ratio, down, right = uniform
    area = zoom + (1 - zoom) * share
    # sides are H·√(area/ratio) and W·√(area·ratio): both fit where area ≤ ratio ≤ 1/area
    low, high = (torch.tensor(ratio).log() for ratio in _RATIOS)
    room = -area.log()
    low, high = torch.maximum(low, -room), torch.minimum(high, room)
    ratio = (low + (high - low) * ratio).exp()
    tall, wide = height * (area / ratio).sqrt(), width * (area * ratio).sqrt()
    tall, wide = tall.clamp(max=height), wide.clamp(max=width)
    return torch.stack([down * (height - tall), right * (width - wide), tall, wide], 1)

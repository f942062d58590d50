"""Batched augmentation and normalisation of uint8 images on their device, without a loop over samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from braindistill.errors import UserError
from braindistill.images.colour import jitter
from braindistill.images.geometry import magnify, shift_and_mirror
from braindistill.images.moves import Moves, draw_moves
from braindistill.images.rand_augment import apply_operations, move_geometry

#: values that are normalised at once: a megabyte of float32
_CACHED = 2**18


def move(images: Tensor, moves: Moves) -> Tensor:
    """Apply to N × C × H × W uint8 images what was drawn for them; what comes in from outside an image is 0.

    The order is crop, mirror, zoom, colour, RandAugment, cutout. Interpolated values and colours may differ by 1 between
    devices, the rest doesn't.
    """
    images = _place(images, moves)
    if moves.factors is not None:
        images = jitter(images, moves.factors)
    if moves.operation is not None:
        assert moves.strength is not None
        images = apply_operations(images, moves.operation, moves.strength)
    if moves.centre is not None:
        images = images.masked_fill(_erased(moves.centre.to(images.device), moves.cutout, *images.shape[2:]), 0)
    return images


def move_maps(maps: Tensor, moves: Moves) -> Tensor:
    """Move what belongs to the same pixels, such as masks, as the images are moved: all but colours and cutout.

    Parameters
    ----------
    maps : N × K × H × W. Floating-point and uint8 values are interpolated as pixels are; of any other dtype the nearest
        value is taken. What comes in from outside is 0.
    """
    maps = _place(maps, moves)
    if moves.operation is not None:
        assert moves.strength is not None
        for operation, strength in zip(moves.operation.unbind(1), moves.strength.unbind(1), strict=True):
            maps = move_geometry(maps, operation, strength)
    return maps


def _place(images: Tensor, moves: Moves) -> Tensor:
    if moves.offset is not None or moves.mirrored is not None:
        images = shift_and_mirror(images, moves.offset, moves.mirrored, moves.crop)
    return images if moves.zoomed is None else magnify(images, moves.zoomed)


def _erased(centre: Tensor, side: int, height: int, width: int) -> Tensor:
    """Bool N × 1 × H × W: inside the square of cutout."""
    first = (centre - side // 2).unsqueeze(2)
    row, column = (
        (place >= start) & (place < start + side)
        for place, start in (
            (torch.arange(height, device=centre.device), first[:, 0]),
            (torch.arange(width, device=centre.device), first[:, 1]),
        )
    )
    return (row.unsqueeze(2) & column.unsqueeze(1)).unsqueeze(1)


def augment(images: Tensor, generator: torch.Generator, *, companions: Sequence[Tensor] = (), **options: Any) -> Any:
    """Draw an augmentation (`draw_moves` with ``options``) and apply it.

    Parameters
    ----------
    images
        uint8, N × C × H × W, on any device.
    generator
        A CPU generator gives the same batches on every device.
    companions
        What belongs to the same pixels and moves with them, such as masks: N × K × H × W of any dtype, on the images'
        device, K each its own. What comes in from outside the image is 0.

    Returns
    -------
    uint8 tensor of the same shape; with companions: (images, tuple of companions)

    Raises
    ------
    UserError
        A companion's rows or size are not the images'; an option is out of range.
    """
    n, _, height, width = images.shape
    for companion in companions:
        if companion.ndim != 4 or (companion.shape[0], *companion.shape[2:]) != (n, height, width):
            raise UserError(
                f"a companion of {n} images of {height} × {width} pixels has shape {tuple(companion.shape)}, expected "
                f"{n} × K × {height} × {width}: bring it to the images' size first, a mask with rows_for(image_id, size)"
            )
    moves = draw_moves(n, height, width, generator, **options)
    moved = move(images, moves)
    return (moved, tuple(move_maps(companion, moves) for companion in companions)) if companions else moved


def normalise(
    images: Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Scale images from 0 … 255 to (x / 255 − mean) / std per channel, in channels-last layout.

    ``mean`` and ``std`` are in [0, 1]; as tensors on the images' device they cost no transfer.
    """
    exact = torch.promote_types(dtype, torch.float32)
    mean, std = (torch.as_tensor(value, dtype=exact, device=images.device) for value in (mean, std))
    n, channels, height, width = images.shape
    if mean.numel() > channels:  # grey images for a network of colours
        images, channels = images.expand(-1, mean.numel(), -1, -1), mean.numel()
    pixels = images.permute(0, 2, 3, 1)
    scaled = torch.empty(pixels.shape, dtype=dtype, device=images.device)
    # a factor and a term for each value of an image, so that all of it is one run without broadcasting
    factor, term = ((value.expand(channels).repeat(height * width)) for value in (1 / (255 * std), -mean / std))
    # pass after pass over a few images that stay in the cache; other devices take all at once
    step = max(1, _CACHED // max(1, len(factor))) if images.device.type == "cpu" else max(1, n)
    for start in range(0, n, step):
        place = scaled[start : start + step]
        part = place if dtype == exact else torch.empty(place.shape, dtype=exact, device=images.device)
        flat = part.copy_(pixels[start : start + step]).view(len(part), -1)
        flat.mul_(factor).add_(term)
        if part is not place:
            place.copy_(part)
    return scaled.permute(0, 3, 1, 2)


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of uint8 images (N × C × H × W), in [0, 1], as float32 tensors.

    A constant channel gets deviation 1. From the histogram, so that no float copy of the images is made.
    """
    channels = images.unbind(1)
    counts = torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in channels]).double()
    share = counts / counts.sum(1, keepdim=True)
    levels = torch.arange(256, dtype=torch.float64, device=images.device) / 255
    mean = share @ levels
    std = (share * (levels - mean[:, None]) ** 2).sum(1).sqrt()
    return mean.float(), torch.where(std > 0, std, 1.0).float()

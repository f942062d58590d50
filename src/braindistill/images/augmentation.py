"""Batched augmentation and normalisation of uint8 images on their device, without a loop over samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from braindistill.errors import UserError


def augment(
    images: Tensor, generator: torch.Generator, *, crop: int = 0, flip: bool = False, companions: Sequence[Tensor] = ()
) -> Any:
    """Random crop from zero-padded images, and random horizontal flip (He et al. 2016, section 4.2).

    Parameters
    ----------
    images
        uint8, N × C × H × W, on any device.
    generator
        Source of the offsets and flips. A CPU generator gives the same batches on every device.
    crop
        Padding on each side in pixels; offsets are uniform in 0 … 2·crop. 0: no crop.
    flip
        Mirror each image with probability one half.
    companions
        What belongs to the same pixels and moves with them, such as masks: N × K × H × W of any dtype, on the images'
        device, K each its own. What comes in from outside the image is 0.

    Returns
    -------
    uint8 tensor of the same shape; with companions: (images, tuple of companions)

    Raises
    ------
    UserError
        A companion's rows or size are not the images'.
    """
    n, _, height, width = images.shape
    for companion in companions:
        if companion.ndim != 4 or (companion.shape[0], *companion.shape[2:]) != (n, height, width):
            raise UserError(
                f"a companion of {n} images of {height} × {width} pixels has shape {tuple(companion.shape)}, expected "
                f"{n} × K × {height} × {width}: bring it to the images' size first, a mask with rows_for(image_id, size)"
            )
    moved = [images, *companions]
    if crop:
        top, left = torch.randint(2 * crop + 1, (2, n), generator=generator, device=generator.device).to(images.device)
        moved = [_crop(F.pad(part, (crop,) * 4), top, left, height, width) for part in moved]
    if flip:
        mirrored = torch.randint(2, (n, 1, 1, 1), generator=generator, device=generator.device).to(images.device)
        moved = [torch.where(mirrored.bool(), part.flip(3), part) for part in moved]
    return (moved[0], tuple(moved[1:])) if companions else moved[0]


def _crop(padded: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Cut an H × W window at each image's own offset, as one gather of whole rows."""
    n, channels, full_height, full_width = padded.shape
    # Row r of `strips` is the W pixels that start at pixel r of the flat batch: an overlapping view, not a copy.
    strips = padded.contiguous().as_strided((padded.numel() - width + 1, width), (1, 1))
    planes = torch.arange(n * channels, device=padded.device).view(n, channels, 1) * (full_height * full_width)
    rows = (top.view(n, 1, 1) + torch.arange(height, device=padded.device)) * full_width
    starts = planes + rows + left.view(n, 1, 1)
    return strips.index_select(0, starts.flatten()).view(n, channels, height, width)


def normalise(
    images: Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Scale images from 0 … 255 to (x / 255 − mean) / std per channel, in channels-last layout.

    ``mean`` and ``std`` are in [0, 1]; as tensors on the images' device they cost no transfer.
    """
    exact = torch.promote_types(dtype, torch.float32)
    mean, std = (torch.as_tensor(value, dtype=exact, device=images.device).view(1, -1, 1, 1) for value in (mean, std))
    scaled = images.to(exact, memory_format=torch.channels_last).mul(1 / (255 * std)).sub_(mean / std)
    return scaled.to(dtype)


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

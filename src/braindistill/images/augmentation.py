"""Batched augmentation and normalisation of uint8 images on their device, without a loop over samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def augment(images: Tensor, generator: torch.Generator, *, crop: int = 0, flip: bool = False) -> Tensor:
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

    Returns
    -------
    uint8 tensor of the same shape
    """
    n = len(images)
    if crop:
        top, left = torch.randint(2 * crop + 1, (2, n), generator=generator, device=generator.device).to(images.device)
        images = _crop(F.pad(images, (crop,) * 4), top, left, images.shape[2], images.shape[3])
    if flip:
        mirrored = torch.randint(2, (n, 1, 1, 1), generator=generator, device=generator.device).to(images.device)
        images = torch.where(mirrored.bool(), images.flip(3), images)
    return images


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

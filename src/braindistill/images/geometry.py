"""Where pixels go: windows, mirrors and affine warps of whole batches, on any device and of any dtype."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

#: values that are interpolated at once
_VALUES = 2**20


class Padded:
    """N images with zeros around them, from which a window of their size is cut at any offset by one copy an image.

    To the right of a row there is no padding: a window that reaches over the edge finds the zeros that the next row
    begins with. So a window is a single run of memory, in which rows lie a padded width apart.

    Parameters
    ----------
    n, shape : number of images, and their C, H, W
    crop : padding in pixels
    together : a pixel's channels lie side by side, as in channels_last
    """

    def __init__(
        self, n: int, shape: tuple[int, ...], crop: int, together: bool, dtype: torch.dtype, device: torch.device
    ) -> None:
        channels, height, width = shape
        self._planes, self._pixel = (1, channels) if together else (channels, 1)
        self._crop, self._shape = crop, (n, channels, height, width)
        self._rows, self._columns = height + 2 * crop, width + crop
        size = n * channels * self._rows * self._columns
        self._memory = torch.zeros(size + crop * self._pixel, dtype=dtype, device=device)
        whole = self._memory[:size].view(n, self._planes, self._rows, self._columns, self._pixel)
        inner = whole[:, :, crop : crop + height, crop:]
        #: the images themselves, N × C × H × W, to be read and written
        self.images = inner[:, 0].permute(0, 3, 1, 2) if together else inner[..., 0]

    @property
    def nbytes(self) -> int:
        """Bytes that the images and their padding take."""
        return self._memory.nbytes

    def cut(self, rows: Tensor, top: Tensor, left: Tensor) -> Tensor:
        """Windows of images ``rows`` that begin at ``top``, ``left`` of the padded image, 0 to 2·crop.

        The result is dense in none of torch's layouts.
        """
        _, channels, height, width = self._shape
        plane, line = self._rows * self._columns * self._pixel, self._columns * self._pixel
        length = (self._planes - 1) * plane + (height - 1) * line + width * self._pixel
        # an overlapping view, not a copy: row r is the run that begins at value r
        runs = self._memory.as_strided((max(0, len(self._memory) - length + 1), length), (1, 1))
        found = runs.index_select(0, rows * (self._planes * plane) + top * line + left * self._pixel)
        strides = (length, 1, line, self._pixel) if self._planes == 1 else (length, plane, line, 1)
        return found.as_strided((len(rows), channels, height, width), strides)


def shift_and_mirror(images: Tensor, offset: Tensor | None, mirrored: Tensor | None, crop: int) -> Tensor:
    """Cut each image's window (``offset``: N × 2, 0 to 2·crop) from it padded with zeros, then mirror where it is said (N).

    What depends on the draws is worked out where they are, on the CPU, so that it never waits for another device.
    """
    n, device, together = len(images), images.device, images.stride(1) == 1
    drawn = next(part.device for part in (offset, mirrored) if part is not None)
    top, left = torch.full((2, n), crop, device=drawn) if offset is None else offset.long().T
    rows = torch.arange(n, device=drawn)
    turned = rows[:0]
    if mirrored is not None:
        # mirrored copies of some lie behind the images
        turned = mirrored.nonzero()[:, 0]
        rows = torch.where(mirrored, n - 1 + mirrored.cumsum(0), rows)
        left = torch.where(mirrored, 2 * crop - left, left)
    padded = Padded(n + len(turned), images.shape[1:], crop, together, images.dtype, device)
    padded.images[:n].copy_(images)
    if len(turned):
        pixels = images.permute(0, 2, 3, 1) if together else images  # index_select would leave channels_last
        copies = pixels.index_select(0, turned.to(device)).flip(2 if together else 3)
        padded.images[n:].copy_(copies.permute(0, 3, 1, 2) if together else copies)
    return padded.cut(rows.to(device), top.to(device), left.to(device))


def magnify(images: Tensor, boxes: Tensor) -> Tensor:
    """Stretch each image's box (N × 4: top, left, height, width in pixels) to the whole image."""
    height, width = images.shape[2:]
    top, left, tall, wide = boxes.unbind(1)
    zero = torch.zeros_like(top)
    across = torch.stack([wide / width, zero, left + (wide - width) / 2], 1)
    down = torch.stack([zero, tall / height, top + (tall - height) / 2], 1)
    return warp(images, torch.stack([across, down], 1), edge="border")


def warp(images: Tensor, matrix: Tensor, edge: str = "zeros") -> Tensor:
    """Read each pixel from another place of its image.

    Floating-point and uint8 values are interpolated (bilinearly, and rounded); of any other dtype, which may name classes,
    the nearest one is taken.

    Parameters
    ----------
    images : N × C × H × W
    matrix : (N × 2 × 3) from a pixel's x, y, 1 to the x, y it is read from, in pixels from the image's centre
    edge : what lies outside: ``zeros``, or ``border``, the nearest pixel
    """
    n, _, height, width = images.shape
    smooth = images.is_floating_point() or images.dtype == torch.uint8
    exact = torch.float64 if images.dtype in (torch.float64, torch.int64, torch.int32) else torch.float32
    matrix = matrix.to(images.device, exact)
    x = torch.arange(width, device=images.device, dtype=exact) + (0.5 - width / 2)
    y = (torch.arange(height, device=images.device, dtype=exact) + (0.5 - height / 2)).view(-1, 1)
    moved = torch.empty_like(images, memory_format=torch.contiguous_format)
    step = max(1, _VALUES // max(images[0].numel(), 2 * height * width)) if n else 1
    for start in range(0, n, step):
        part = slice(start, start + step)
        (a, b, c), (d, e, f) = (row.unbind(1) for row in matrix[part, :, :, None, None].unbind(1))
        grid = torch.stack([(a * x + b * y + c) * (2 / width), (d * x + e * y + f) * (2 / height)], -1)
        mode = "bilinear" if smooth else "nearest"
        read = F.grid_sample(images[part].to(exact), grid, mode=mode, padding_mode=edge, align_corners=False)
        moved[part] = read if images.is_floating_point() else read.round_()
    return moved

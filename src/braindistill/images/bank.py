"""A training set's images, ready for batches."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from braindistill.images.augmentation import move
from braindistill.images.geometry import Padded
from braindistill.images.moves import Moves

#: bytes that padded and mirrored copies may take
_ROOM = 64 * 2**20


class ImageBank:
    """A training set's uint8 images, from which augmented batches are taken.

    On the CPU a small set is kept with its padding and, with ``flip``, a second time mirrored: a cropped and mirrored image
    is then one copy out of memory, several times faster than its arithmetic. That takes 2 (H + 2·crop)(W + crop) / (H·W)
    times the images' own memory (2.8 times for 32 × 32 pixels and crop 4), 64 MB at most. A larger set is held as it is,
    and images are cut and mirrored batch by batch; so it is on other devices, and where a training crops otherwise than
    the bank was told. A memory map that is not small is not held at all: rows are read in the file's order.

    Parameters
    ----------
    images : uint8, N × C × H × W; the bank keeps what it needs, and never writes to them
    device : where batches are wanted
    crop, flip : as in `draw_moves`
    """

    def __init__(
        self, images: Tensor | np.ndarray, device: torch.device | str, *, crop: int = 0, flip: bool = False
    ) -> None:
        self._device = torch.device(device)
        n, channels, height, width = map(int, images.shape)
        self._n, self._crop, self._flip = n, crop, flip
        self._padded: Padded | None = None
        self._images: Tensor | np.ndarray
        size = (1 + flip) * n * channels * (height + 2 * crop) * (width + crop)
        if self._device.type == "cpu" and (crop or flip) and size <= _ROOM:
            shape = (channels, height, width)
            self._padded = Padded((1 + flip) * n, shape, crop, True, torch.uint8, self._device)
            self._images = self._padded.images[:n]
            self._images.copy_(_tensor(images))
            if flip:
                self._padded.images[n:].copy_(self._images.flip(3))
        elif isinstance(images, np.memmap):
            self._images = images
        else:
            self._images = _tensor(images).to(self._device)

    def __len__(self) -> int:
        return self._n

    @property
    def nbytes(self) -> int:
        """Memory that the images take, in bytes; none for a memory map that is read row by row."""
        if self._padded is not None:
            return self._padded.nbytes
        return self._images.nbytes if isinstance(self._images, Tensor) else 0

    def take(self, rows: Tensor, moves: Moves | None = None) -> Tensor:
        """Images ``rows`` (N, int64), each moved by its own of the ``moves`` (N): as ``move(images[rows], moves)``.

        Returns
        -------
        uint8 N × C × H × W on the bank's device, in a layout that suits `normalise`
        """
        if moves is None:
            return self._plain(rows)
        if self._padded is None or (moves.offset is not None and moves.crop != self._crop):
            return move(self._plain(rows), moves)
        if moves.mirrored is not None and not self._flip:
            return move(self._plain(rows), moves)
        top, left = torch.full((2, len(rows)), self._crop)
        if moves.offset is not None:
            top, left = moves.offset.long().unbind(1)
        rows = rows.cpu()
        if moves.mirrored is not None:
            rows = rows + self._n * moves.mirrored
            left = torch.where(moves.mirrored, 2 * self._crop - left, left)
        moved = self._padded.cut(rows, top, left)
        return move(moved, dataclasses.replace(moves, offset=None, mirrored=None))

    def _plain(self, rows: Tensor) -> Tensor:
        if isinstance(self._images, Tensor):
            return self._images.index_select(0, rows.to(self._device))
        asked = rows.cpu().numpy()
        order = np.argsort(asked, kind="stable")
        read = np.empty((len(asked), *self._images.shape[1:]), np.uint8)
        read[order] = self._images[asked[order]]
        return torch.from_numpy(read).to(self._device)


def _tensor(images: Tensor | np.ndarray) -> Tensor:
    if isinstance(images, Tensor):
        return images
    # torch warns of arrays that it may not write to
    return torch.from_numpy(images if images.flags.writeable else np.array(images))

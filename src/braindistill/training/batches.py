"""From a training set to the batches of an epoch: order, views, augmentation, normalisation, mixing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from braindistill.images import ImageBank, Moves, draw_mix, draw_moves, mix_images, mix_rows, move_maps, normalise
from braindistill.runtime import torch_generator
from braindistill.training.data import Batch, TrainingSet
from braindistill.training.options import TrainOptions

#: images augmented at once: large enough to drown the overhead of a call
_BLOCK = 4096
#: and values at once, 16 MB of float32: of more, the system gives fresh memory each time, which is six times slower
_VALUES = 2**22

_Item = TypeVar("_Item")


class Batches:
    """The batches of a training set, epoch by epoch; those of epoch *e* follow from (seed, e) alone.

    Images stay on the device as uint8, or on the disk where they are a memory map; a large block is augmented and
    normalised at once, so that a step is forward, backward and optimiser only.

    Parameters
    ----------
    data : on the device, but for its images
    options : batch size, augmentation, mixing, memory layout
    seed : of order and augmentation
    """

    def __init__(self, data: TrainingSet, options: TrainOptions, seed: int, device: torch.device) -> None:
        self.data, self.options, self.seed, self.device = data, options, seed, device
        self.layout = torch.channels_last if options.channels_last else torch.contiguous_format
        self.edges = _edges(data.epoch_size, options.batch_size)
        images = data.images
        self.bank: ImageBank | None = None
        self.floats: Tensor | None = None
        if images.dtype in (torch.uint8, np.uint8):
            self.bank = ImageBank(images, device, crop=options.crop, flip=options.flip)
        else:
            self.floats = torch.as_tensor(images).to(device)
        # of images, and of features that are a target, which may be larger
        widest = max(int(np.prod(rows.shape[1:])) for rows in (images, *data.targets.values()))
        self.per_block = max(1, min(_BLOCK, _VALUES // max(widest, 1)) // options.batch_size)

    def epoch(self, epoch: int, done: int = 0) -> Iterator[Batch]:
        """Batches of an epoch from 0, without the first ``done`` of them."""
        blocks = self._blocks(epoch, done)
        # a memory map is read, and sent to the device, while the device works on the block before
        distant = self.device.type == "cuda" and isinstance(self.data.images, np.ndarray)
        for block in _ahead(blocks) if distant else blocks:
            yield from block

    def _blocks(self, epoch: int, done: int) -> Iterator[list[Batch]]:
        data = self.data
        order = _order(len(data.labels), data.epoch_size, torch_generator(self.seed, "order", epoch))
        generator = torch_generator(self.seed, "augment", epoch)
        mixing = torch_generator(self.seed, "mix", epoch)
        view = None
        if data.views is not None:
            count = len(data.views) // len(data.labels)
            view = torch.randint(count, (len(order),), generator=torch_generator(self.seed, "views", epoch))
        for first in range(0, len(self.edges), self.per_block):
            edges = self.edges[first : first + self.per_block]
            part = slice(edges[0][0], edges[-1][1])
            rows = order[part]
            # what is not made is drawn all the same: a training that goes on draws what it would have drawn
            moves = self._draw(rows, None if view is None else view[part], generator)
            if first + len(edges) <= done:
                for low, high in edges:
                    self._mix(high - low, mixing)
                continue
            whole = self._make(rows.to(self.device), None if view is None else view[part], moves, epoch)
            batches = []
            for number, (low, high) in enumerate(edges, first):
                batch = whole[low - part.start : high - part.start]
                batch.step = epoch * len(self.edges) + number
                batch = self._mixed(batch, mixing)
                if number >= done:
                    batches.append(batch)
            yield batches

    def _draw(self, rows: Tensor, view: Tensor | None, generator: torch.Generator) -> Moves | None:
        if self.bank is None:
            return None
        if self.data.views is not None and view is not None:
            return self.data.views.take(view * len(self.data.labels) + rows)
        height, width = self.data.images.shape[2:]
        return draw_moves(len(rows), int(height), int(width), generator, **self.options.augmentation)

    def _make(self, rows: Tensor, view: Tensor | None, moves: Moves | None, epoch: int) -> Batch:
        """A block as one large batch."""
        data = self.data
        if self.bank is None:
            assert self.floats is not None
            inputs = self.floats[rows]
        else:
            assert data.mean is not None
            assert data.std is not None
            inputs = normalise(self.bank.take(rows, moves), data.mean, data.std)
        targets = {}
        for name, known in data.targets.items():
            if name in data.viewed and view is not None:
                targets[name] = known[rows, view.to(self.device)]
            else:
                targets[name] = known[rows]
            if name in data.maps and moves is not None:
                targets[name] = move_maps(targets[name][:, None], moves)[:, 0]
        has_target = {name: known[rows] for name, known in data.has_target.items()}
        return Batch(rows, inputs, data.labels[rows], targets, has_target, epoch, 0)

    def _mix(self, n: int, generator: torch.Generator) -> object:
        if not (self.options.mixup or self.options.cutmix) or self.bank is None:
            return None
        height, width = self.data.images.shape[2:]
        options = {"mixup": self.options.mixup, "cutmix": self.options.cutmix}
        return draw_mix(n, int(height), int(width), generator, **options)

    def _mixed(self, batch: Batch, generator: torch.Generator) -> Batch:
        mix = self._mix(len(batch.rows), generator)
        if mix is None:
            return batch
        partner = mix.partner.to(self.device)  # type: ignore[attr-defined]
        batch.inputs = mix_images(batch.inputs, mix)
        batch.targets = {
            name: mix_rows(rows, mix, log=name in self.data.log_targets) for name, rows in batch.targets.items()
        }
        # half a target is none
        batch.has_target = {name: rows & rows[partner] for name, rows in batch.has_target.items()}
        batch.partner, batch.share = batch.labels[partner], mix.share  # type: ignore[attr-defined]
        return batch

    def laid_out(self, inputs: Tensor) -> Tensor:
        """Inputs in the memory layout that the network is trained in."""
        return inputs.contiguous(memory_format=self.layout if inputs.dim() == 4 else torch.contiguous_format)

    def held_out(self, images: Tensor) -> Iterator[Tensor]:
        """Inputs of a network from images that nothing is done to."""
        # a network's own maps are many times its input, so large images come in smaller batches
        for part in images.split(max(1, min(512, 4 * _VALUES // images[0].numel()))):
            inputs = part.to(self.device)
            if inputs.dtype == torch.uint8:
                assert self.data.mean is not None
                assert self.data.std is not None
                inputs = normalise(inputs, self.data.mean, self.data.std)
            yield self.laid_out(inputs)


def _order(n_images: int, epoch_size: int, generator: torch.Generator) -> Tensor:
    rounds = [torch.randperm(n_images, generator=generator) for _ in range(-(-epoch_size // n_images))]
    return torch.cat(rounds)[:epoch_size]


def _edges(n: int, size: int) -> list[tuple[int, int]]:
    edges = [(start, min(start + size, n)) for start in range(0, n, size)]
    return edges[:-1] if len(edges) > 1 and edges[-1][1] - edges[-1][0] == 1 else edges


def _ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """The same items, each made in a thread while the one before is used."""
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(next, items, None)
        while (item := upcoming.result()) is not None:
            upcoming = pool.submit(next, items, None)
            yield item

"""From a network's map to voxels: the last layer of an encoder that is trained end to end."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

#: the largest intermediate (images × channels or positions × voxels of a block), in values: what a CPU's cache can hold
_BLOCK_VALUES = 2**20


class FactorisedReadout(nn.Module):
    """Where a voxel looks times what it looks for (Klindt, Ecker, Euler & Bethge 2017, equation 2).

    voxel = Σ over positions and channels of map × where × what + bias. ``where`` is the square of a free parameter: never
    negative, and weight decay on that parameter is an L1 penalty on the mask itself (Hoff 2017), so that masks turn
    sparse; on ``what`` it is an L2 penalty. Masks start uniform, as global average pooling.

    Parameters
    ----------
    n_voxels
        Number of outputs.
    map_shape
        Channels, height and width of the map.
    """

    def __init__(self, n_voxels: int, map_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = map_shape
        self.map_shape = map_shape
        self.root = nn.Parameter(torch.full((n_voxels, height * width), (height * width) ** -0.5))
        self.what = nn.Parameter(torch.randn(n_voxels, channels) * 0.1 * channels**-0.5)
        self.bias = nn.Parameter(torch.zeros(n_voxels))

    def where(self) -> Tensor:
        """Spatial masks (voxels × height × width), not negative."""
        return self.root.detach().square().unflatten(1, self.map_shape[1:])

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (n × channels × height × width) → n × voxels, a block of voxels at a time.

        A block's intermediate is computed again for its gradient, so no more than one of them is ever held.
        """
        maps = maps.flatten(2)
        block = max(1, _BLOCK_VALUES // (len(maps) * min(maps.shape[1:])))
        if block >= len(self.bias):
            return _weigh(maps, self.root, self.what) + self.bias
        parts = [
            checkpoint(_weigh, maps, root, what, use_reentrant=False, preserve_rng_state=False)
            for root, what in zip(self.root.split(block), self.what.split(block), strict=True)
        ]
        return torch.cat(parts, 1) + self.bias


class PooledReadout(nn.Module):
    """Global average pool, then one linear layer for all voxels.

    Parameters
    ----------
    n_voxels
        Number of outputs.
    map_shape
        Channels, height and width of the map.
    """

    def __init__(self, n_voxels: int, map_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.what = nn.Parameter(torch.randn(n_voxels, map_shape[0]) * 0.1 * map_shape[0] ** -0.5)
        self.bias = nn.Parameter(torch.zeros(n_voxels))

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (n × channels × height × width) → n × voxels."""
        return maps.mean((2, 3)) @ self.what.T + self.bias


def _weigh(maps: Tensor, root: Tensor, what: Tensor) -> Tensor:
    """Sum over the longer of channels and positions in one matrix product, then over the shorter (n × voxels)."""
    where = root.square()
    if maps.shape[1] > maps.shape[2]:
        return ((maps.transpose(1, 2) @ what.T) * where.T).sum(1)
    return ((maps @ where.T) * what.T).sum(1)

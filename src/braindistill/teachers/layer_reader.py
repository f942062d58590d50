"""Several layers of a network as one vector of features, in one forward pass that ends with the last of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from braindistill.errors import UserError, nearest
from braindistill.runtime import numpy_generator
from braindistill.teachers.networks import LoadedNetwork


class _Enough(Exception):
    """Every wanted layer has been read."""


class LayerReader(nn.Module):
    """Pictures 0 … 255 (n × C × H × W) → features (n × width), layer by layer in the given order.

    Parameters
    ----------
    found : the network
    name : what messages call it
    layers : module names; of a module that runs more than once the first output is taken
    shape : (C, H, W) of the pictures
    side : (height, width) that pictures are resized to
    pool : maps are averaged into at most pool × pool parts; 0: not at all
    project : width that a wider layer is brought to by `sparse_projection`; None: none

    Attributes
    ----------
    bands : name and width of each layer's block
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        found: LoadedNetwork,
        name: str,
        layers: Sequence[str],
        shape: tuple[int, int, int],
        side: tuple[int, int],
        pool: int,
        project: int | None,
    ) -> None:
        super().__init__()
        self.network = found.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.channels, self.side, self.pool = found.channels, list(side), pool
        self.register_buffer("mean", 255 * torch.tensor(found.mean).view(-1, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(found.std).view(-1, 1, 1))
        self._kept: dict[str, Tensor] = {}
        self._wanted = set(layers)
        self._swin = type(found.network).__name__ == "SwinTransformer"
        modules = dict(found.network.named_modules())
        for layer in layers:
            if layer not in modules or not layer:
                raise UserError(
                    f"teacher.layers: {name} has no layer {layer!r}; {nearest(layer, filter(None, modules))}"
                )
        for layer in dict.fromkeys(layers):
            modules[layer].register_forward_hook(self._keep(layer))
        self.bands: list[tuple[str, int]] = []
        with torch.no_grad():
            self._run(torch.zeros(1, *shape), name)
        for place, layer in enumerate(layers):
            width = self._kept[layer].shape[1]
            narrowed = project is not None and project < width
            self.bands.append((layer, project if narrowed else width))  # type: ignore[arg-type]
            self.register_buffer(f"projection_{place}", sparse_projection(layer, width, project) if narrowed else None)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        self._run(images, "the network")
        parts = []
        for place, (layer, _) in enumerate(self.bands):
            part, projection = self._kept[layer], getattr(self, f"projection_{place}")
            parts.append(part if projection is None else (projection @ part.T).T)
        self._kept.clear()
        return torch.cat(parts, 1)

    def _run(self, images: Tensor, name: str) -> None:
        if images.shape[1] > self.channels:
            images = (images * torch.tensor([0.299, 0.587, 0.114], device=images.device).view(3, 1, 1)).sum(1, True)
        self._kept.clear()
        try:
            self.network(self._fit(images))
        except _Enough:
            return
        missing = ", ".join(sorted(self._wanted - self._kept.keys()))
        raise UserError(f"teacher.layers: {missing} of {name} never runs; choose another")

    def _fit(self, images: Tensor) -> Tensor:
        """Normalised pictures of the network's size, channels last; grey ones get its channels by broadcasting."""
        shrinks = images.shape[2] > self.side[0] or images.shape[3] > self.side[1]
        if shrinks:
            images = F.interpolate(images, self.side, mode="bilinear", antialias=True)
        images = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        if list(images.shape[2:]) != self.side:
            # enlarging needs no filter against aliases, and costs less on pictures that are normalised and laid out
            images = F.interpolate(images, self.side, mode="bilinear")
        return images

    def _keep(self, layer: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if layer in self._kept:
                return
            if not isinstance(output, Tensor):
                raise UserError(
                    f"teacher.layers: {layer} gives a {type(output).__name__}, not a tensor; choose another"
                )
            if torch.is_grad_enabled():
                output = output.clone()  # the next module may work in place, and the pool's gradient needs the original
            if self._swin and output.ndim == 4 and layer.startswith(("features", "norm")):
                output = output.permute(0, 3, 1, 2)  # it has its channels last
            if output.ndim == 4 and self.pool:
                size = (min(self.pool, output.shape[2]), min(self.pool, output.shape[3]))
                self._kept[layer] = F.adaptive_avg_pool2d(output, size).flatten(1).float()
            else:
                self._kept[layer] = output.flatten(1).float().clone()
            if len(self._kept) == len(self._wanted):
                raise _Enough

        return hook


def sparse_projection(name: str, width: int, components: int) -> Tensor:
    """A very sparse random projection (Achlioptas 2003; Li, Hastie & Church 2006), as scikit-learn's.

    Entries are ± √(√width / components) with probability 1 / √width and 0 else, so that distances are kept on average;
    they depend on the layer's name and width only.

    Returns
    -------
    (components × width) sparse CSR tensor
    """
    rng = numpy_generator(0, "sparse projection", name, width)
    density, cells = 1 / np.sqrt(width), components * width
    # gaps between the entries of a Bernoulli process are geometric
    gaps = rng.geometric(density, int(cells * density + 10 * np.sqrt(cells * density) + 10))
    places = np.cumsum(gaps) - 1
    places = places[places < cells]
    values = np.sqrt(np.sqrt(width) / components) * rng.choice([-1.0, 1.0], len(places))
    starts = np.searchsorted(places, width * np.arange(components + 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's that compressed rows are in beta
        return torch.sparse_csr_tensor(
            torch.from_numpy(starts),
            torch.from_numpy(places % width),
            torch.from_numpy(values.astype(np.float32)),
            (components, width),
        )

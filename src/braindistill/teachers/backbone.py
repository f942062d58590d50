"""A network from pictures to voxels: a backbone, cut at the layer whose map is read, and a readout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from braindistill.errors import UserError, nearest
from braindistill.runtime import seeded
from braindistill.students.build import build
from braindistill.teachers.readout import FactorisedReadout, PooledReadout


class BrainNetwork(nn.Module):
    """Backbone up to its map → each channel standardised → readout.

    Parameters
    ----------
    backbone
        The whole network.
    description
        ``network``, ``channels`` and ``side`` that it takes, the ``layer`` that is read, the shape of its ``map`` and the
        kind of ``readout``.
    n_voxels
        Number of outputs.
    """

    readout: FactorisedReadout | PooledReadout

    def __init__(self, backbone: nn.Module, description: dict[str, Any], n_voxels: int) -> None:
        super().__init__()
        self.channels, self.side = description["channels"], description["side"]
        self.backbone = _cut(backbone, description["network"], description["layer"])
        # networks differ in the scale of their maps, and one learning rate is to suit them all
        self.norm = nn.BatchNorm2d(description["map"][0], affine=False)
        kind = PooledReadout if description["readout"] == "pooled" else FactorisedReadout
        self.readout = kind(n_voxels, tuple(description["map"]))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised pictures (n × C × H × W) → z-scored responses (n × voxels)."""
        return self.readout(self.norm(self.backbone(_fit(images, self.channels, self.side))["map"]))


def build_backbone(description: dict[str, Any], seed: int) -> nn.Module:
    """The bare backbone, untrained."""
    name, channels, side = description["network"], description["channels"], description["side"]
    if description["origin"] == "student":
        return build(name, 10, (channels, side[0], side[1]), seed, **description["options"])
    import torchvision

    with seeded(seed, "finetune", "backbone"):
        return torchvision.models.get_model(name, weights=None)


def find_map(
    network: nn.Module, name: str, layers: Sequence[str], description: dict[str, Any], picture: Tensor
) -> tuple[str, list[int]]:
    """The layer that is read and the shape of its map (channels, height, width)."""
    shapes: dict[str, tuple[int, ...]] = {}
    handles = []
    for key, module in network.named_modules():

        def note(_module: nn.Module, _inputs: Any, output: Any, key: str = key) -> None:
            # the module that ends last comes last
            shapes.pop(key, None)
            shapes[key] = tuple(output.shape[1:]) if isinstance(output, Tensor) else ()

        handles.append(module.register_forward_hook(note))
    with torch.no_grad():
        network.eval()(_fit(picture.float(), description["channels"], description["side"]))
    for handle in handles:
        handle.remove()
    maps = {key: shape for key, shape in shapes.items() if len(shape) == 3 and key and min(shape[1:]) > 1}
    if not layers:
        made = [key for key in maps if "pool" not in type(network.get_submodule(key)).__name__.lower()]
        if not made:
            raise UserError(f"teacher.network={name}: no layer of it has a map; take a convolutional network")
        return made[-1], list(maps[made[-1]])
    layer = layers[0]
    if layer not in shapes:
        raise UserError(f"teacher.layers: {name} has no layer {layer!r}; {nearest(layer, filter(None, shapes))}")
    if len(shapes[layer]) != 3:
        raise UserError(
            f"teacher.layers: {name}'s {layer!r} gives {'×'.join(map(str, shapes[layer])) or 'no tensor'}, and finetune "
            f"reads a map of channels × height × width; take one of {', '.join(list(maps)[-5:])}"
        )
    return layer, list(shapes[layer])


def _cut(network: nn.Module, name: str, layer: str) -> nn.Module:
    """The network up to a layer, without what comes after it."""
    from torchvision.models.feature_extraction import create_feature_extractor

    try:
        return create_feature_extractor(network, {layer: "map"})
    except Exception as error:  # tracing calls the network's own code
        reason = str(error).strip().splitlines()[:1]
        raise UserError(
            f"teacher.network={name} can't be cut at {layer!r}: {' '.join(reason)}; name another layer"
        ) from error


def _fit(images: Tensor, channels: int, side: list[int] | None) -> Tensor:
    """Bring float pictures to the channels and the size that the backbone takes."""
    if images.shape[1] > channels:
        images = images.mean(1, keepdim=True)
    images = images.expand(-1, channels, -1, -1)
    if side and list(images.shape[2:]) != list(side):
        images = F.interpolate(images, tuple(side), mode="bilinear", antialias=True)
    return images

"""What encoders read from a picture: pixels, handmade features, or layers of a network."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from braindistill.errors import UserError, nearest
from braindistill.images import fit_pictures
from braindistill.runtime import progress
from braindistill.teachers.options import FeatureOptions

if TYPE_CHECKING:
    from torch import nn

KINDS = ("pixels", "gabor", "hog", "colour", "network", "images")


@dataclass(frozen=True)
class ImageFeatures:
    """How pictures become feature vectors; pictures of another size or colour are first brought to the stimuli's.

    Attributes
    ----------
    kind : ``pixels`` | ``gabor`` | ``hog`` | ``colour`` | ``network`` | ``images`` (uint8 as they are, for an encoder
        that reads pictures itself)
    shape : (channels, height, width) of the stimuli
    network, layers, weights : for ``network``: a name that torchvision or braindistill knows, the modules to read (of one
        that runs more than once, the first time), and a local file of weights (None: untrained, seeded)
    image_size : side in pixels that the network's pictures are resized to; None: as they are. A student is given the
        size that it was built for
    pool : maps of a layer are averaged into at most pool × pool parts; 0: not at all
    project : width that a wider layer is brought to by a sparse random projection (Li et al. 2006); None: none
    """

    kind: str
    shape: tuple[int, int, int]
    network: str | None = None
    layers: Sequence[str] = ()
    weights: str | None = None
    image_size: int | None = 224
    pool: int = 2
    project: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        object.__setattr__(self, "layers", tuple(self.layers))
        if self.kind not in KINDS:
            raise UserError(f"teacher.features={self.kind}: no such features; {nearest(self.kind, KINDS)}")
        if self.kind == "network" and not (self.network and self.layers):
            raise UserError(
                "teacher.features=network needs teacher.network=NAME and teacher.layers=[…], e.g. resnet18 and [layer2]"
            )
        for option, least in (("image_size", 1), ("pool", 0), ("project", 1)):
            value = getattr(self, option)
            if value is not None and value < least:
                raise UserError(f"teacher.{option}={value}: expected {least} or more")

    @classmethod
    def of(cls, options: FeatureOptions, shape: tuple[int, int, int]) -> ImageFeatures:
        """Features of a teacher's options, for stimuli of ``shape``; options of networks are left out of others."""
        if options.features != "network":
            return cls(options.features, shape)
        return cls(
            options.features,
            shape,
            options.network,
            tuple(options.layers),
            None if options.weights is None else str(options.weights),
            options.image_size,
            options.pool,
            options.project,
        )

    def module(self, device: str = "cpu") -> nn.Module:
        """The features as a differentiable module in evaluation mode, built once: equal features share it.

        It takes float pictures 0 … 255 (n × channels × height × width, already of ``shape``) and gives float32
        (n × features). Its parameters take no gradient.
        """
        stamp = None
        if self.weights is not None and (path := Path(self.weights)).is_file():
            stamp = (path.stat().st_mtime_ns, path.stat().st_size)
        return _module(self, str(device), stamp)

    def bands(self, device: str = "cpu") -> list[tuple[str, int]]:
        """Name and width of each layer's block of features; other features are one band."""
        if self.kind == "network":
            return list(self.module(device).bands)  # type: ignore[arg-type]
        return [(self.kind, self.extract(np.zeros((1, *self.shape), np.uint8), device).reshape(1, -1).shape[1])]

    def extract(self, images: np.ndarray, device: str = "cpu", rows: np.ndarray | None = None) -> np.ndarray:
        """Features float32 (n × features) of uint8 pictures (n × channels × height × width).

        Parameters
        ----------
        images : may be a memory map, which is read a batch at a time
        rows : the pictures to read, in their order; None: all

        Returns
        -------
        features; for ``images`` the pictures themselves, uint8, in the stimuli's shape
        """
        if self.kind == "images":
            return fit_pictures(images if rows is None else images[rows], self.shape)
        import torch

        rows = np.arange(len(images)) if rows is None else rows
        module, step = self.module(device), self._batch(device)
        features = None
        with torch.inference_mode():
            for start in progress(range(0, max(len(rows), 1), step), f"{self.network or self.kind} features"):
                pictures = fit_pictures(images[rows[start : start + step]], self.shape)
                answer = module(torch.from_numpy(np.ascontiguousarray(pictures)).to(device).float())
                if features is None:
                    features = np.empty((len(rows), answer.shape[1]), np.float32)
                features[start : start + step] = answer.cpu().numpy()
        assert features is not None
        return features

    def _batch(self, device: str) -> int:
        """Pictures at once: about 160 of 224 × 224 pixels on a GPU, 40 on a CPU."""
        _, height, width = self.shape
        pixels = self.image_size**2 if self.kind == "network" and self.image_size else height * width
        return int(np.clip(2 ** (23 if device.startswith("cuda") else 21) // pixels, 16, 256))

    def describe(self) -> dict[str, Any]:
        """What JSON can hold, and ``ImageFeatures(**…)`` takes."""
        return asdict(self) | {"shape": list(self.shape), "layers": list(self.layers)}


@functools.lru_cache(maxsize=4)
def _module(features: ImageFeatures, device: str, stamp: object) -> nn.Module:
    """``stamp`` tells a file of weights from a later one of the same name."""
    import torch

    from braindistill.teachers import handmade

    if features.kind == "network":
        module: nn.Module = _network_layers(features)
    elif features.kind == "images":
        module = torch.nn.Identity()
    elif features.kind == "pixels":
        module = handmade.Pixels()
    elif features.kind == "gabor":
        module = handmade.GaborEnergies(features.shape)
    elif features.kind == "hog":
        module = handmade.OrientedGradients(features.shape)
    else:
        module = handmade.ColourHistograms(features.shape)
    return module.to(device).eval().requires_grad_(False)


def _network_layers(features: ImageFeatures) -> nn.Module:
    from braindistill.teachers.layer_reader import LayerReader
    from braindistill.teachers.networks import find_network

    name, side = str(features.network), features.image_size
    size = features.shape[1:] if side is None else (side, side)
    weights = None if features.weights is None else Path(features.weights)
    found = find_network(name, weights, shape=(features.shape[0], *size))
    return LayerReader(
        found, name, features.layers, features.shape, found.side or size, features.pool, features.project
    )

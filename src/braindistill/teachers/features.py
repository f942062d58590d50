"""Image features that encoders read: pixels, a bank of Gabor energies, or layers of a torchvision network."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from braindistill.errors import UserError, nearest
from braindistill.images import fit_pictures
from braindistill.runtime import progress, seeded

KINDS = ("pixels", "gabor", "network")
_BATCH = 256
#: side to which Gabor filters see larger pictures reduced: the bank's shortest wavelength is then 8 pixels
_GABOR_SIDE = 64


@dataclass(frozen=True)
class ImageFeatures:
    """How pictures become feature vectors; pictures of another size or colour are first brought to the stimuli's.

    Attributes
    ----------
    kind : ``pixels`` | ``gabor`` | ``network``
    shape : (channels, height, width) of the stimuli
    network, layers, weights, image_size : for ``network``: torchvision's name of it, module names to read, a local file of
        weights (None: untrained, seeded), and the side that pictures are resized to
    """

    kind: str
    shape: tuple[int, int, int]
    network: str | None = None
    layers: list[str] = field(default_factory=list)
    weights: str | None = None
    image_size: int = 224

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"teacher.features={self.kind}: no such features; {nearest(self.kind, KINDS)}")
        if self.kind == "network" and not (self.network and self.layers):
            raise UserError(
                "teacher.features=network needs teacher.network=NAME and teacher.layers=[…], e.g. resnet18 and [layer2]"
            )

    def extract(self, images: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Features of uint8 pictures (n × channels × height × width) → float32 (n × features)."""
        images = fit_pictures(images, self.shape)
        if self.kind == "pixels":
            return images.reshape(len(images), -1).astype(np.float32) / 255
        if self.kind == "gabor":
            return _gabor(images, device)
        return self._activations(images, device)

    def describe(self) -> dict[str, Any]:
        return asdict(self)

    def _activations(self, images: np.ndarray, device: str) -> np.ndarray:
        import torch
        import torch.nn.functional as F

        network = _load_network(str(self.network), self.weights).to(device)
        modules = dict(network.named_modules())
        kept: dict[str, torch.Tensor] = {}

        def keep(name: str) -> Any:
            def hook(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
                # a copy, since the next module may work in place
                kept[name] = (F.adaptive_avg_pool2d(output, 2) if output.ndim == 4 else output).flatten(1).clone()

            return hook

        for name in self.layers:
            if name not in modules:
                raise UserError(f"teacher.layers: {self.network} has no layer {name!r}; {nearest(name, modules)}")
            modules[name].register_forward_hook(keep(name))
        mean = torch.tensor([0.485, 0.456, 0.406], device=device).view(3, 1, 1)
        std = torch.tensor([0.229, 0.224, 0.225], device=device).view(3, 1, 1)
        rows = []
        with torch.no_grad():
            for start in progress(range(0, len(images), _BATCH), f"{self.network} features"):
                batch = torch.from_numpy(images[start : start + _BATCH]).to(device).float() / 255
                batch = F.interpolate(batch, (self.image_size, self.image_size), mode="bilinear", antialias=True)
                network((batch.expand(-1, 3, -1, -1) - mean) / std)
                rows.append(torch.cat([kept[name] for name in self.layers], 1).float().cpu().numpy())
        return np.concatenate(rows)


def _gabor(images: np.ndarray, device: str) -> np.ndarray:
    """Energies of quadrature pairs at 8 orientations and 3 wavelengths, pooled over a grid of at most 8 × 8.

    The V1 model of Adelson & Bergen (1985): √(even² + odd²).
    """
    import torch
    import torch.nn.functional as F

    side = min(*images.shape[2:], _GABOR_SIDE)
    size = [round(length * side / min(images.shape[2:])) for length in images.shape[2:]]
    rows = []
    with torch.no_grad():
        banks = [_gabor_pairs(max(3.0, side * scale)) for scale in (1 / 8, 1 / 4, 1 / 2)]
        grid = max(1, min(8, side // 2))
        for start in progress(range(0, len(images), _BATCH), "gabor features"):
            grey = images[start : start + _BATCH].astype(np.float32).mean(1, keepdims=True) / 255
            batch = torch.from_numpy(grey).to(device)
            if side < min(images.shape[2:]):
                batch = F.interpolate(batch, size, mode="bilinear", antialias=True)
            energies = []
            for even, odd in banks:
                # the border goes on outside: padding with black would be an edge
                padded = F.pad(batch, (even.shape[-1] // 2,) * 4, mode="replicate")
                pair = [F.conv2d(padded, torch.from_numpy(bank).to(device)) for bank in (even, odd)]
                energies.append(F.adaptive_avg_pool2d((pair[0] ** 2 + pair[1] ** 2).sqrt(), grid).flatten(1))
            rows.append(torch.cat(energies, 1).cpu().numpy())
    return np.concatenate(rows)


def _gabor_pairs(wavelength: float, n_orientations: int = 8) -> tuple[np.ndarray, np.ndarray]:
    sigma = 0.4 * wavelength
    half = math.ceil(2.5 * sigma)
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    envelope = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    even, odd = [], []
    for angle in np.arange(n_orientations) * np.pi / n_orientations:
        phase = 2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / wavelength
        wave = envelope * np.cos(phase)
        even.append(wave - envelope * wave.sum() / envelope.sum())  # no response to uniform brightness
        odd.append(envelope * np.sin(phase))
    norm = np.linalg.norm(envelope)
    return tuple(np.stack(bank)[:, None].astype(np.float32) / norm for bank in (even, odd))  # type: ignore[return-value]


def _load_network(name: str, weights: str | None) -> Any:
    import torch
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise UserError(f"teacher.network={name}: torchvision has no such network; {nearest(name, known)}")
    with seeded(0, "feature network", name):
        network = torchvision.models.get_model(name, weights=None)
    if weights:
        path = Path(weights)
        if not path.exists():
            raise UserError(
                f"teacher.weights={weights}: no such file; give a .safetensors or .pth file of {name}'s weights, "
                f"or get it with: python scripts/download_data.py {name} --yes (without --yes it prints licence and size)"
            )
        try:
            if path.suffix == ".safetensors":
                from safetensors.torch import load_file

                state = load_file(path)
            else:
                state = torch.load(path, map_location="cpu", weights_only=True)
            network.load_state_dict(state)
        except Exception as error:  # both readers raise errors of their own kinds
            reason = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise UserError(
                f"teacher.weights={weights}: not the weights of {name}: {reason[-1] if reason else type(error).__name__}"
            ) from error
    return network.eval()

"""VGG networks for small images, with batch normalisation and one linear layer (as in Tian et al. 2020, CRD)."""

from __future__ import annotations

from torch import nn

from braindistill.errors import UserError
from braindistill.students.initialisation import initialise


def vgg8(n_classes: int, image_shape: tuple[int, int, int]) -> nn.Sequential:
    """VGG-8 of the distillation tables: five convolutions of 64 to 512 channels, 3.9 M parameters. See `vgg13`."""
    return _vgg("vgg8", 1, n_classes, image_shape)


def vgg13(n_classes: int, image_shape: tuple[int, int, int]) -> nn.Sequential:
    """VGG-13 of the distillation tables: ten convolutions of 64 to 512 channels, 9.4 M parameters.

    Simonyan & Zisserman's (2015) configuration B with batch normalisation, three max-pools, a global average pool and a
    linear layer in the place of their five pools and three linear layers. torchvision's is ``student=torchvision
    student.network=vgg13``.

    Raises
    ------
    UserError
        If the images are smaller than 8 × 8.
    """
    return _vgg("vgg13", 2, n_classes, image_shape)


def _vgg(name: str, depth: int, n_classes: int, image_shape: tuple[int, int, int]) -> nn.Sequential:
    channels, height, width_in_pixels = image_shape
    if min(height, width_in_pixels) < 8:
        raise UserError(f"student={name}: images are {height} × {width_in_pixels}, at least 8 × 8 are needed")
    widths = (64, 128, 256, 512, 512)
    parts: dict[str, nn.Module] = {}
    for number, width in enumerate(widths, 1):
        before = channels if number == 1 else widths[number - 2]
        parts[f"block{number}"] = nn.Sequential(
            *(layer for place in range(depth) for layer in _convolve(width if place else before, width))
        )
        if number <= 3:
            parts[f"pool{number}"] = nn.MaxPool2d(2)
    parts |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "head": nn.Linear(widths[-1], n_classes)}
    network = nn.Sequential()
    for part, module in parts.items():
        network.add_module(part, module)
    initialise(network, head_std=0.01)
    return network


def _convolve(channels: int, width: int) -> tuple[nn.Module, ...]:
    # The bias is idle before batch normalisation, but the published numbers of parameters count it.
    return nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()

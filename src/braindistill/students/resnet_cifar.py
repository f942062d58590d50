"""Residual networks for small images (He et al. 2016, "Deep residual learning for image recognition", section 4.2)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from braindistill.students.initialisation import initialise


def resnet8(
    n_classes: int,
    image_shape: tuple[int, int, int],
    *,
    width: int = 16,
    shortcut: Literal["padded", "projected"] = "padded",
) -> nn.Module:
    """ResNet-8 of the CIFAR kind: 0.08 M parameters. Parameters are those of `resnet20`."""
    return _plain(8, n_classes, image_shape[0], width, shortcut)


def resnet14(
    n_classes: int,
    image_shape: tuple[int, int, int],
    *,
    width: int = 16,
    shortcut: Literal["padded", "projected"] = "padded",
) -> nn.Module:
    """ResNet-14 of the CIFAR kind: 0.17 M parameters. Parameters are those of `resnet20`."""
    return _plain(14, n_classes, image_shape[0], width, shortcut)


def resnet20(
    n_classes: int,
    image_shape: tuple[int, int, int],
    *,
    width: int = 16,
    shortcut: Literal["padded", "projected"] = "padded",
) -> nn.Module:
    """ResNet-20 of the CIFAR kind: 0.27 M parameters at width 16.

    Parameters
    ----------
    n_classes
        Number of outputs.
    image_shape
        C, H, W.
    width
        Channels of the first stage; the second and third have 2 and 4 times as many.
    shortcut
        Where the number of channels changes: ``padded`` with zeros, without parameters (the paper's option A), or
        ``projected`` by a 1 × 1 convolution (option B), as in the published distillation tables on CIFAR-100.
    """
    return _plain(20, n_classes, image_shape[0], width, shortcut)


def resnet32(
    n_classes: int,
    image_shape: tuple[int, int, int],
    *,
    width: int = 16,
    shortcut: Literal["padded", "projected"] = "padded",
) -> nn.Module:
    """ResNet-32 of the CIFAR kind: 0.46 M parameters. Parameters are those of `resnet20`."""
    return _plain(32, n_classes, image_shape[0], width, shortcut)


def resnet56(
    n_classes: int,
    image_shape: tuple[int, int, int],
    *,
    width: int = 16,
    shortcut: Literal["padded", "projected"] = "padded",
) -> nn.Module:
    """ResNet-56 of the CIFAR kind: 0.85 M parameters. Parameters are those of `resnet20`."""
    return _plain(56, n_classes, image_shape[0], width, shortcut)


def resnet110(
    n_classes: int,
    image_shape: tuple[int, int, int],
    *,
    width: int = 16,
    shortcut: Literal["padded", "projected"] = "padded",
) -> nn.Module:
    """ResNet-110 of the CIFAR kind: 1.7 M parameters. Parameters are those of `resnet20`."""
    return _plain(110, n_classes, image_shape[0], width, shortcut)


def resnet8x4(n_classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """ResNet-8 × 4 of the distillation tables (Tian et al. 2020, CRD): 1.2 M parameters. See `resnet32x4`."""
    return _CifarResNet(8, n_classes, image_shape[0], (32, 64, 128, 256), "projected")


def resnet32x4(n_classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """ResNet-32 × 4 of the distillation tables (Tian et al. 2020, CRD): 7.4 M parameters.

    As in the authors' code, the stem has 32 channels and the stages have 64, 128 and 256: the stem is twice as wide as
    that of `resnet32` and the stages four times. Each stage, the first too, starts with a projected shortcut.
    """
    return _CifarResNet(32, n_classes, image_shape[0], (32, 64, 128, 256), "projected")


def _plain(depth: int, n_classes: int, channels: int, width: int, shortcut: str) -> nn.Module:
    return _CifarResNet(depth, n_classes, channels, (width, width, 2 * width, 4 * width), shortcut)


class _CifarResNet(nn.Module):
    """Depth 6 n + 2: a convolution, three stages of n blocks, global average pool, linear layer.

    ``widths`` are channels of the stem and of the stages.
    """

    def __init__(
        self, depth: int, n_classes: int, channels: int, widths: tuple[int, int, int, int], shortcut: str
    ) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        stem, *_, last = widths
        self.stem = nn.Sequential(_conv3x3(channels, stem), nn.BatchNorm2d(stem), nn.ReLU())
        self.stage1 = _stage(stem, widths[1], blocks, 1, shortcut)
        self.stage2 = _stage(widths[1], widths[2], blocks, 2, shortcut)
        self.stage3 = _stage(widths[2], widths[3], blocks, 2, shortcut)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(last, n_classes)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stage3(self.stage2(self.stage1(self.stem(images))))
        return self.head(self.pool(features).flatten(1))


class _Block(nn.Module):
    def __init__(self, channels: int, width: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv3x3(channels, width, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv3x3(width, width), nn.BatchNorm2d(width)
        self.shortcut: nn.Module
        if stride == 1 and channels == width:
            self.shortcut = nn.Identity()
        elif shortcut == "padded":
            self.shortcut = _PaddedShortcut(width - channels, stride)
        else:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, features: Tensor) -> Tensor:
        changed = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(features)))))
        return F.relu(changed + self.shortcut(features))


class _PaddedShortcut(nn.Module):
    """Option A: every second pixel, and zeros for the channels that are new."""

    def __init__(self, new_channels: int, stride: int) -> None:
        super().__init__()
        self.new_channels, self.stride = new_channels, stride

    def forward(self, features: Tensor) -> Tensor:
        kept = features[:, :, :: self.stride, :: self.stride]
        zeros = torch.zeros_like(kept[:, :1]).expand(-1, self.new_channels, -1, -1)
        return torch.cat([kept, zeros], dim=1)


def _stage(channels: int, width: int, blocks: int, stride: int, shortcut: str) -> nn.Sequential:
    later = [_Block(width, width, 1, shortcut) for _ in range(blocks - 1)]
    return nn.Sequential(_Block(channels, width, stride, shortcut), *later)


def _conv3x3(channels: int, width: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)

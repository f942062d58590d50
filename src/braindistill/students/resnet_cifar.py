"""Residual networks for small images (He et al. 2016, "Deep residual learning for image recognition", section 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def resnet20(n_classes: int, image_shape: tuple[int, int, int], *, width: int = 16) -> nn.Module:
    """ResNet-20 of the CIFAR kind, with parameter-free shortcuts (option A): 0.27 M parameters at width 16.

    Parameters
    ----------
    n_classes
        Number of outputs.
    image_shape
        C, H, W.
    width
        Channels of the first stage; the second and third have 2 and 4 times as many.
    """
    return _CifarResNet(20, n_classes, image_shape[0], width)


class _CifarResNet(nn.Module):
    """Depth 6 n + 2: a convolution, three stages of n blocks, global average pool, linear layer."""

    def __init__(self, depth: int, n_classes: int, channels: int, width: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.stem = nn.Sequential(_conv3x3(channels, width), nn.BatchNorm2d(width), nn.ReLU())
        self.stage1 = _stage(width, width, blocks, stride=1)
        self.stage2 = _stage(width, 2 * width, blocks, stride=2)
        self.stage3 = _stage(2 * width, 4 * width, blocks, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(4 * width, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        features = self.stage3(self.stage2(self.stage1(self.stem(images))))
        return self.head(self.pool(features).flatten(1))


class _Block(nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv3x3(channels, width, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv3x3(width, width), nn.BatchNorm2d(width)
        self.shortcut = _PaddedShortcut(width - channels, stride) if stride > 1 else nn.Identity()

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


def _stage(channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    later = [_Block(width, width, stride=1) for _ in range(blocks - 1)]
    return nn.Sequential(_Block(channels, width, stride), *later)


def _conv3x3(channels: int, width: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)

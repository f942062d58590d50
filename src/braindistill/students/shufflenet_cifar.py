"""ShuffleNetV2 for small images (Ma et al. 2018), as in the distillation tables of Tian et al. 2020 (CRD)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def shufflenetv2(n_classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """ShuffleNetV2 × 1 with a total stride of 8: 1.3 M parameters.

    Against the paper's network for ImageNet the stem is a 1 × 1 convolution of stride 1 without a max-pool: so the
    published tables have it.
    """
    return _ShuffleNetV2(n_classes, image_shape[0])


class _ShuffleNetV2(nn.Module):
    def __init__(self, n_classes: int, channels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_pointwise(channels, 24), nn.ReLU())
        self.stage1 = _stage(24, 116, 3)
        self.stage2 = _stage(116, 232, 7)
        self.stage3 = _stage(232, 464, 3)
        self.last = nn.Sequential(*_pointwise(464, 1024), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(1024, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stage3(self.stage2(self.stage1(self.stem(images))))
        return self.head(self.pool(self.last(features)).flatten(1))


class _Halve(nn.Module):
    """Both branches see all channels and halve the resolution; together they give ``width`` channels."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        half = width // 2
        self.left = nn.Sequential(*_depthwise(channels, stride=2), *_pointwise(channels, half), nn.ReLU())
        self.right = nn.Sequential(
            *_pointwise(channels, half), nn.ReLU(), *_depthwise(half, stride=2), *_pointwise(half, half), nn.ReLU()
        )

    def forward(self, features: Tensor) -> Tensor:
        return _shuffle(torch.cat([self.left(features), self.right(features)], 1))


class _Keep(nn.Module):
    """The first half of the channels is left as it is."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.right = nn.Sequential(
            *_pointwise(half, half), nn.ReLU(), *_depthwise(half, stride=1), *_pointwise(half, half), nn.ReLU()
        )

    def forward(self, features: Tensor) -> Tensor:
        left, right = features.chunk(2, 1)
        return _shuffle(torch.cat([left, self.right(right)], 1))


def _shuffle(features: Tensor) -> Tensor:
    """Let the two halves of the channels take turns."""
    return features.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


def _stage(channels: int, width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(_Halve(channels, width), *(_Keep(width) for _ in range(blocks)))


def _pointwise(channels: int, width: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)


def _depthwise(channels: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False), nn.BatchNorm2d(channels)

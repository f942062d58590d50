"""Wide residual networks (Zagoruyko & Komodakis 2016): WRN-depth-k, with k times the channels of a CIFAR ResNet."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from braindistill.students.initialisation import initialise


def wrn_16_2(n_classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """WRN-16-2: 0.70 M parameters."""
    return _WideResNet(16, 2, n_classes, image_shape[0])


def wrn_40_1(n_classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """WRN-40-1: 0.57 M parameters."""
    return _WideResNet(40, 1, n_classes, image_shape[0])


def wrn_40_2(n_classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """WRN-40-2: 2.2 M parameters."""
    return _WideResNet(40, 2, n_classes, image_shape[0])


class _WideResNet(nn.Module):
    """Depth 6 n + 4: a convolution, three stages of n pre-activated blocks, normalisation, global pool, linear layer."""

    def __init__(self, depth: int, widening: int, n_classes: int, channels: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        widths = [16, 16 * widening, 32 * widening, 64 * widening]
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.stage1 = _stage(widths[0], widths[1], blocks, stride=1)
        self.stage2 = _stage(widths[1], widths[2], blocks, stride=2)
        self.stage3 = _stage(widths[2], widths[3], blocks, stride=2)
        self.norm = nn.BatchNorm2d(widths[3])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(widths[3], n_classes)
        initialise(self)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stage3(self.stage2(self.stage1(self.stem(images))))
        return self.head(self.pool(F.relu(self.norm(features))).flatten(1))


class _Block(nn.Module):
    """Normalise, rectify, convolve, twice. Where channels change, the shortcut leaves after the first rectification."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(channels), nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(channels, width, 1, stride, bias=False) if channels != width else None

    def forward(self, features: Tensor) -> Tensor:
        active = F.relu(self.bn1(features))
        changed = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return changed + (features if self.shortcut is None else self.shortcut(active))


def _stage(channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    # WRN-40-1 keeps its 16 channels in the first stage, so only later ones change the resolution: there channels double
    later = [_Block(width, width, stride=1) for _ in range(blocks - 1)]
    return nn.Sequential(_Block(channels, width, stride), *later)

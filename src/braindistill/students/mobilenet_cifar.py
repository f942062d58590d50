"""MobileNetV2 for small images (Sandler et al. 2018), as in the distillation tables of Tian et al. 2020 (CRD)."""

from __future__ import annotations

from torch import Tensor, nn

from braindistill.students.initialisation import initialise

#: expansion, channels at width 1, blocks, stride of the first
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenetv2(n_classes: int, image_shape: tuple[int, int, int], *, width: float = 0.5) -> nn.Module:
    """MobileNetV2 with a total stride of 16: 0.8 M parameters at half width.

    Against the paper's network for ImageNet the second stage has stride 1, the rectifier is not clipped at 6, and there
    is no dropout: so the published tables have it. The last convolution has 1,280 channels at any width up to 1.

    Parameters
    ----------
    n_classes
        Number of outputs.
    image_shape
        C, H, W.
    width
        Factor on the channels of every stage; 0.5 in the tables.
    """
    return _MobileNetV2(n_classes, image_shape[0], width)


class _MobileNetV2(nn.Module):
    def __init__(self, n_classes: int, channels: int, width: float) -> None:
        super().__init__()
        before, last = int(32 * width), int(1280 * max(1, width))
        self.stem = nn.Sequential(*_convolve(channels, before, 3, stride=2))
        self.stages = nn.ModuleList()
        for expansion, wide, blocks, stride in _STAGES:
            after = int(wide * width)
            first = _InvertedResidual(before, after, expansion, stride)
            self.stages.append(
                nn.Sequential(first, *(_InvertedResidual(after, after, expansion, 1) for _ in range(blocks - 1)))
            )
            before = after
        self.last = nn.Sequential(*_convolve(before, last, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(last, n_classes)
        initialise(self, head_std=0.01)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        for stage in self.stages:
            features = stage(features)
        return self.head(self.pool(self.last(features)).flatten(1))


class _InvertedResidual(nn.Module):
    """Expand, convolve each channel, project linearly; around it a shortcut where nothing changes in shape."""

    def __init__(self, channels: int, width: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.change = nn.Sequential(
            *_convolve(channels, wide, 1),
            *_convolve(wide, wide, 3, stride, groups=wide),
            *_convolve(wide, width, 1)[:-1],
        )
        self.has_shortcut = stride == 1 and channels == width

    def forward(self, features: Tensor) -> Tensor:
        return features + self.change(features) if self.has_shortcut else self.change(features)


def _convolve(channels: int, width: int, side: int, stride: int = 1, groups: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels, width, side, stride, padding=side // 2, groups=groups, bias=False)
    return convolution, nn.BatchNorm2d(width), nn.ReLU()

"""ResNet-18 and ResNet-34 (He et al. 2016) with one-dimensional convolutions, which slide along voxels."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


def build_resnet1d(n_classes: int, channels: int = 1, depth: Literal[18, 34] = 18, width: int = 64) -> nn.Module:
    """The architecture of the 2021 project's decoder, as torchvision's of the same depth with 1-D convolutions.

    A convolution of 7 (stride 2), max-pooling of 3 (stride 2), four stages of basic blocks of ``width``, 2, 4 and 8
    times ``width`` channels, global average pooling, a linear layer. It takes inputs (n × channels × length) of any
    length from 1 on, and 3.8 M parameters at depth 18, width 64 and 10 classes.
    """
    return _ResNet1d(n_classes, channels, _BLOCKS[depth], width)


class _ResNet1d(nn.Module):
    def __init__(self, n_classes: int, channels: int, blocks: tuple[int, ...], width: int) -> None:
        super().__init__()
        stem = nn.Conv1d(channels, width, 7, stride=2, padding=3, bias=False)
        self.stem = nn.Sequential(stem, nn.BatchNorm1d(width), nn.ReLU(), nn.MaxPool1d(3, stride=2, padding=1))
        stages, before = [], width
        for number, count in enumerate(blocks):
            after = width * 2**number
            for place in range(count):
                stages.append(_Block1d(before, after, stride=2 if number and not place else 1))
                before = after
        self.blocks = nn.Sequential(*stages)
        self.head = nn.Linear(before, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(inputs)).mean(2))


class _Block1d(nn.Module):
    """Two convolutions of 3 around a shortcut, which is a convolution of 1 where the shape changes (option B)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(before, after, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv1d(after, after, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm1d(after), nn.BatchNorm1d(after)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv1d(before, after, 1, stride, bias=False), nn.BatchNorm1d(after))

    def forward(self, inputs: Tensor) -> Tensor:
        changed = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(inputs)))))
        return F.relu(changed + self.shortcut(inputs))

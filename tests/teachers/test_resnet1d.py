"""The architecture, counted by hand and against torchvision's."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import nn

from braindistill.runtime import seeded
from braindistill.teachers.resnet1d import build_resnet1d


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def counted(n_classes: int, channels: int, depth: int, width: int) -> int:
    """Weights of the convolutions, two a channel of each BatchNorm, and the linear layer."""
    total = 7 * channels * width + 2 * width
    before = width
    for stage, blocks in enumerate({18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}[depth]):
        after = width * 2**stage
        for _ in range(blocks):
            total += 3 * before * after + 3 * after * after + 4 * after
            total += before * after + 2 * after if before != after else 0
            before = after
    return total + before * n_classes + n_classes


@pytest.mark.parametrize(("depth", "width", "channels", "n_classes"), [(18, 64, 1, 150), (34, 16, 3, 8)])
def test_parameters_are_those_counted_by_hand(
    depth: Literal[18, 34], width: int, channels: int, n_classes: int
) -> None:
    assert count(build_resnet1d(n_classes, channels, depth, width)) == counted(n_classes, channels, depth, width)


@pytest.mark.parametrize("depth", [18, 34])
def test_it_is_torchvisions_with_fewer_weights_a_convolution(depth: Literal[18, 34]) -> None:
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        flat = getattr(torchvision.models, f"resnet{depth}")(num_classes=10)
        ours = build_resnet1d(10, 3, depth, 64)
    theirs = [module for module in flat.modules() if isinstance(module, nn.Conv2d)]
    mine = [module for module in ours.modules() if isinstance(module, nn.Conv1d)]

    def facts(module: nn.Conv1d | nn.Conv2d) -> tuple[object, ...]:
        return module.in_channels, module.out_channels, module.kernel_size[0], module.stride[0], module.padding[0]

    assert sorted(map(facts, mine), key=str) == sorted(map(facts, theirs), key=str)
    spared = sum(module.weight.numel() - module.weight.numel() // module.kernel_size[0] for module in theirs)
    assert count(ours) == count(flat) - spared


@pytest.mark.parametrize("length", [1, 2, 3, 17, 500])
def test_any_length_goes(length: int) -> None:
    with seeded(0, "test"):
        network = build_resnet1d(5, 2, 18, 4)
    inputs = torch.linspace(-1, 1, 3 * 2 * length).reshape(3, 2, length)
    outputs = network(inputs)
    assert outputs.shape == (3, 5)
    outputs.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())
    moved = inputs.clone()
    moved[:, 1, length - 1] += 3
    assert not torch.equal(network.eval()(moved), network(inputs)), "the last voxel of the last channel is read"

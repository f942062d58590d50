"""Tapping layers: the right numbers, the bare network untouched."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from braindistill.errors import UserError
from braindistill.students.adapters import Several, Vector
from braindistill.students.build import build
from braindistill.students.taps import Tapped, average_places, find_last_input, find_stages, read_shapes

SHAPE = (1, 8, 8)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0))


def tapped(network: nn.Module, **layers: list[str]) -> Tapped:
    return Tapped(network, layers, {name: Several() for name in layers})


def test_outputs_and_inputs_of_any_layers(images: torch.Tensor) -> None:
    network = build("resnet20", 2, SHAPE, 0, width=4).eval()
    logits, found = tapped(network, one=["stage1", "stage2"], other=["head:input"])(images)
    first = network.stage1(network.stem(images))
    torch.testing.assert_close(logits, network(images))
    torch.testing.assert_close(found["one"], (first, network.stage2(first)))
    torch.testing.assert_close(found["other"][0], network.stage3(found["one"][1]).mean((2, 3)))
    assert found.keys() == {"one", "other"}


def test_maps_and_tokens_are_averaged_over_their_places(images: torch.Tensor) -> None:
    maps = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(average_places(maps), maps.mean((2, 3)))
    torch.testing.assert_close(average_places(maps[0]), maps[0].mean(1))
    assert average_places(maps[0, 0]) is not None
    network = build("small_cnn", 2, SHAPE, 0, width=4).eval()
    _, found = Tapped(network, {"a": ["3"]}, {"a": Vector()})(images)
    torch.testing.assert_close(found["a"], network[:4](images).mean((2, 3)))


def test_the_network_is_untouched_and_its_adapters_are_parts(images: torch.Tensor) -> None:
    network = build("small_cnn", 2, SHAPE, 0, width=4)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    whole = Tapped(network, {"a": ["3"], "b": ["11:input"]}, {"a": Vector(nn.Linear(4, 6)), "b": Vector()})
    assert network.training
    logits, found = whole(images)
    assert (logits.shape, found["a"].shape) == ((3, 2), (3, 6))
    (logits.sum() + found["a"].sum()).backward()
    assert all(parameter.grad is not None for parameter in whole.parameters())
    assert {name.split(".")[0] for name in whole.state_dict()} == {"network", "adapters"}
    names = {name for name in before if "running" not in name and "tracked" not in name}
    assert all(torch.equal(before[name], network.state_dict()[name]) for name in names)


def test_a_copy_keeps_its_own_features(images: torch.Tensor) -> None:
    """As a moving average of the weights does."""
    first = tapped(build("small_cnn", 2, SHAPE, 0, width=4), a=["3"]).eval()
    other = copy.deepcopy(first)
    with torch.no_grad():
        other.network[0].weight.mul_(-1)
    torch.testing.assert_close(other(images)[1]["a"][0], other.network[:4](images))
    assert not torch.equal(first(images)[1]["a"][0], other(images)[1]["a"][0])


def test_the_last_layer_of_each_resolution() -> None:
    cases = {
        ("resnet20", (3, 32, 32)): ["stage1", "stage2", "stage3", "pool"],
        ("small_cnn", (1, 8, 8)): ["2", "9", "10", "12:input"],
        ("wrn_16_2", (3, 32, 32)): None,
        ("vgg8", (3, 32, 32)): None,
        ("mobilenetv2", (3, 32, 32)): None,
        ("shufflenetv2", (3, 32, 32)): None,
    }
    for (name, shape), wanted in cases.items():
        network = build(name, 4, shape, 0)
        network.train()
        stages = find_stages(network, shape)
        if wanted is not None:
            assert stages == wanted, name
        shapes = read_shapes(network, shape, stages)
        sides = [found[1:] if len(found) == 3 else (1, 1) for found in shapes]
        assert len(set(sides)) == len(sides), name
        assert sides == sorted(sides, reverse=True), f"{name}: in the order of a pass"
        assert network.training
        assert not any(module._forward_hooks for module in network.modules()), "no hook stays"


def test_stages_of_a_network_of_another_library() -> None:
    network = build("torchvision", 4, (3, 64, 64), 0, network="resnet18")
    assert find_stages(network, (3, 64, 64)) == ["relu", "layer1", "layer2", "layer3", "layer4", "avgpool"]
    assert find_last_input(network) == "fc:input"
    assert find_last_input(nn.Flatten()) is None


def test_layers_that_give_no_features() -> None:
    network = build("resnet20", 2, SHAPE, 0, width=4)
    with pytest.raises(UserError, match=r"method\.layer=stage4: the network has no such layer; did you mean 'stage"):
        tapped(network, a=["stage4"])
    with pytest.raises(
        UserError, match=r"target\.layers=stage4:input: the network has no such layer; did you mean 'st"
    ):
        read_shapes(network, SHAPE, ["stage4:input"], "target.layers")

    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Flatten(), nn.Linear(3, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.used(images)

    with pytest.raises(UserError, match=r"method\.layer=unused: a pass through the network doesn't use this layer"):
        read_shapes(Idle(), SHAPE, ["unused"])
    with pytest.raises(UserError, match=r"method\.layer=unused: a pass through the network doesn't use this layer"):
        tapped(Idle(), a=["unused"])(torch.zeros(2, *SHAPE))

    class Pair(nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return images, images

    class Last(nn.Sequential):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self[0](images)[0].flatten(1)

    with pytest.raises(UserError, match=r"method\.layer=0: what it gives is a tuple, no tensor of features"):
        read_shapes(Last(Pair()), SHAPE, ["0"])

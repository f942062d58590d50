"""Tapping a layer: the right numbers, the bare network untouched."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from braindistill.errors import UserError
from braindistill.students.build import build
from braindistill.students.taps import Tapped, tap

SHAPE = (1, 8, 8)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0))


def test_by_default_the_input_of_the_last_linear_layer(images: torch.Tensor) -> None:
    network = build("small_cnn", 2, SHAPE, 0, width=4).eval()
    logits, features = Tapped(network)(images)
    torch.testing.assert_close(features, network[:-1](images))
    torch.testing.assert_close(logits, network(images))


def test_maps_and_tokens_are_averaged_over_their_places(images: torch.Tensor) -> None:
    network = build("resnet20", 2, SHAPE, 0, width=4).eval()
    _, features = Tapped(network, "stage2")(images)
    torch.testing.assert_close(features, network.stage2(network.stage1(network.stem(images))).mean((2, 3)))
    tokens = nn.Sequential(nn.Flatten(2), nn.Linear(64, 5), nn.Flatten(), nn.Linear(5, 2))
    _, features = Tapped(tokens, "1")(images.expand(3, 7, 8, 8)[:, :1])
    assert features.shape == (3, 5)
    wide = nn.Sequential(nn.Flatten(2), nn.Linear(64, 5), nn.Flatten(), nn.Linear(35, 2))
    _, features = Tapped(wide, "1")(images.expand(3, 7, 8, 8))
    torch.testing.assert_close(features, wide[1](images.expand(3, 7, 8, 8).flatten(2)).mean(1))


def test_the_head_is_seeded_and_the_network_untouched(images: torch.Tensor) -> None:
    network = build("small_cnn", 2, SHAPE, 0, width=4)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    heads = [tap(network, SHAPE, 6, seed).head.weight for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    tapped = tap(network, SHAPE, 6, 0, layer="3")
    logits, predicted = tapped(images)
    assert (logits.shape, predicted.shape) == ((3, 2), (3, 6))
    (logits.sum() + predicted.sum()).backward()
    assert all(parameter.grad is not None for parameter in tapped.parameters())
    assert {name.split(".")[0] for name in tapped.state_dict()} == {"network", "head"}
    assert tap(network, SHAPE, None, 0).head is None


def test_layers_that_give_no_features() -> None:
    network = build("resnet20", 2, SHAPE, 0, width=4)
    with pytest.raises(UserError, match=r"method\.layer=stage4: the student has no such module; did you mean 'stage"):
        tap(network, SHAPE, None, 0, layer="stage4")
    with pytest.raises(UserError, match=r"method\.layer=null: the student has no linear layer; known: 0, 1"):
        tap(nn.Sequential(nn.Conv2d(1, 2, 8), nn.Flatten()), SHAPE, None, 0)

    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Flatten(), nn.Linear(3, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.used(images)

    with pytest.raises(UserError, match=r"method\.layer=unused: a pass through the student doesn't use this module"):
        tap(Idle(), SHAPE, None, 0, layer="unused")

    class Pair(nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return images, images

    class Last(nn.Sequential):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self[0](images)[0].flatten(1)

    with pytest.raises(UserError, match=r"method\.layer=0: its output is a tuple, no tensor of features"):
        tap(Last(Pair()), SHAPE, None, 0, layer="0")

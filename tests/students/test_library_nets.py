"""Networks of torchvision and timm as students."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from torch import nn

from braindistill.errors import UserError
from braindistill.students import torchvision
from braindistill.students.build import build


def test_torchvisions_networks_keep_their_names_and_take_grey_images():
    from torchvision.models import squeezenet1_1

    network = torchvision(5, (1, 40, 40), network="squeezenet1_1").eval()
    theirs = squeezenet1_1(weights=None, num_classes=5).eval()
    theirs.load_state_dict(network.state_dict())
    images = torch.randn(2, 1, 40, 40)
    torch.testing.assert_close(network(images), theirs(images.expand(-1, 3, -1, -1)))
    larger = torchvision(5, (3, 8, 8), network="squeezenet1_1", image_size=40)
    assert larger.training
    assert larger(torch.randn(2, 3, 8, 8)).shape == (2, 5)


def test_torchvisions_networks_say_what_they_cannot():
    with pytest.raises(
        UserError, match=r"student\.network=squeezenet1_9: torchvision has no such network; did you mean"
    ):
        build("torchvision", 5, (3, 40, 40), 0, network="squeezenet1_9")
    with pytest.raises(UserError, match=r"squeezenet1_1: can't take images of 3 × 8 × 8; give student\.image_size=224"):
        torchvision(5, (3, 8, 8), network="squeezenet1_1")
    with pytest.raises(UserError, match=r"small_stem=true: squeezenet1_1 has no stem .* only the ResNet family has"):
        torchvision(5, (3, 40, 40), network="squeezenet1_1", small_stem=True)


def test_a_small_stem_is_that_of_our_resnets():
    theirs = build("torchvision", 5, (1, 16, 16), 0, network="resnet18", small_stem=True).eval()
    ours = build("resnet18", 5, (3, 16, 16), 0, small_stem=True).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(theirs(images), ours(images.expand(-1, 3, -1, -1)))


def test_timm_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"student=timm: the package timm is not installed; pip install 'braindistill"):
        build("timm", 5, (3, 32, 32), 0, network="convnext_atto")


def test_timm_is_asked_for_a_network_without_weights_of_its_own(monkeypatch):
    asked = {}

    def create_model(name: str, **options: object) -> nn.Module:
        asked.update(options, name=name)
        return nn.Sequential(nn.Conv2d(3, 4, 16), nn.Flatten(), nn.Linear(4, 5))

    fake = types.ModuleType("timm")
    fake.is_model, fake.list_models, fake.create_model = {"tiny"}.__contains__, lambda: ["tiny", "large"], create_model
    monkeypatch.setitem(sys.modules, "timm", fake)
    network = build("timm", 5, (1, 8, 8), 0, network="tiny", image_size=16)
    assert asked == {"name": "tiny", "pretrained": False, "num_classes": 5}
    assert network(torch.randn(2, 1, 8, 8)).shape == (2, 5)
    with pytest.raises(UserError, match=r"student\.network=tinny: timm has no such network; did you mean 'tiny'"):
        build("timm", 5, (1, 8, 8), 0, network="tinny")
    with pytest.raises(UserError, match=r"tiny: can't take images of 1 × 8 × 8; give student\.image_size=224"):
        build("timm", 5, (1, 8, 8), 0, network="tiny")


def test_timms_own_networks():
    timm = pytest.importorskip("timm", reason="the optional package timm is not installed")
    network = build("timm", 5, (1, 16, 16), 0, network="test_resnet", image_size=32).eval()
    theirs = timm.create_model("test_resnet", pretrained=False, num_classes=5).eval()
    theirs.load_state_dict(network.state_dict())
    assert network(torch.randn(2, 1, 16, 16)).shape == (2, 5)
    with pytest.raises(UserError, match="timm has no such network; did you mean 'resnet51q'"):
        build("timm", 5, (3, 32, 32), 0, network="resnet51")

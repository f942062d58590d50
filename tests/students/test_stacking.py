"""Stacked networks train exactly as they would alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from braindistill.errors import UserError
from braindistill.students.build import build
from braindistill.students.stacking import stack, stacking_pays, unstack
from braindistill.students.taps import Tapped

CLASSES, BATCH = 5, 6
STUDENTS: list[tuple[str, tuple[int, int, int], dict[str, Any], int]] = [
    ("small_cnn", (1, 8, 8), {}, 8),
    ("small_cnn", (3, 9, 11), {"width": 4}, 3),
    ("resnet8", (3, 8, 8), {"width": 4}, 3),
    ("resnet20", (3, 8, 8), {"width": 4}, 2),
    ("resnet20", (1, 8, 8), {"width": 4, "shortcut": "projected"}, 2),
    ("wrn_16_2", (3, 8, 8), {}, 2),
    ("vgg8", (3, 8, 8), {}, 2),
    ("resnet18", (1, 8, 8), {}, 2),
]


class Own(nn.Module):
    """A network of one's own, whose forward pass is given as a function."""

    def __init__(self, forward: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.run = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, images: Tensor) -> Any:
        return self.run(self, images)


def draw(name: str, shape: tuple[int, int, int], options: dict[str, Any], n: int) -> list[nn.Module]:
    return [build(name, CLASSES, shape, seed, **options).double() for seed in range(n)]


def batches(n: int, shape: tuple[int, ...], size: int = BATCH, steps: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(steps, n, size, *shape, generator=generator, dtype=torch.float64)
    return images, torch.randint(CLASSES, (steps, n, size), generator=generator)


def compare(network: nn.Module, own: dict[str, Tensor], tolerance: float = 1e-10) -> None:
    expected = network.state_dict()
    assert list(own) == list(expected)
    for name, value in expected.items():
        assert own[name].dtype == value.dtype
        torch.testing.assert_close(own[name], value, rtol=0, atol=tolerance, msg=name)


def total(outputs: Tensor, labels: Tensor) -> Tensor:
    return torch.stack([F.cross_entropy(*pair) for pair in zip(outputs, labels, strict=True)]).sum()


@pytest.mark.parametrize(("name", "shape", "options", "n"), STUDENTS)
def test_ten_steps_are_those_of_each_alone(name, shape, options, n):
    networks = draw(name, shape, options, n)
    stacked = stack(networks)
    # over maps of one pixel a change in the last bit grows a millionfold in ten faster steps of resnet18
    rate = 0.002 if name == "resnet18" else 0.02
    rules = [torch.optim.SGD(module.parameters(), rate, 0.9) for module in (*networks, stacked)]
    for images, labels in zip(*batches(n, shape, steps=10), strict=True):
        for rule in rules:
            rule.zero_grad()
        for network, own, truth in zip(networks, images, labels, strict=True):
            F.cross_entropy(network(own), truth).backward()
        total(stacked(images), labels).backward()
        for rule in rules:
            rule.step()
    before = build(name, CLASSES, shape, 0, **options).double().state_dict()
    for network, own in zip(networks, unstack(stacked), strict=True):
        compare(network, own)
        assert {int(value) for key, value in own.items() if key.endswith("num_batches_tracked")} == {10}
    assert all(not torch.equal(value, before[key]) for key, value in networks[0].state_dict().items())
    images = batches(n, shape)[0][0]
    stacked.eval()
    expected = torch.stack([network.eval()(own) for network, own in zip(networks, images, strict=True)])
    torch.testing.assert_close(stacked(images), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("small_cnn", {}),
        ("resnet20", {"width": 4}),
        ("mobilenetv2", {"width": 0.25}),
        ("shufflenetv2", {}),
        ("torchvision", {"network": "resnet18", "small_stem": True}),  # repeats grey images by a hook
    ],
)
def test_outputs_gradients_and_buffers_of_one_step(name, options):
    shape, n = (1, 24, 24), 2
    networks = draw(name, shape, options, n)
    stacked = stack(networks)
    images, labels = (part[0] for part in batches(n, shape))
    outputs = stacked(images)
    assert outputs.shape == (n, BATCH, CLASSES)
    total(outputs, labels).backward()
    gradients = {key: value.grad.chunk(n) for key, value in stacked.network.named_parameters()}
    for index, (network, own) in enumerate(zip(networks, unstack(stacked), strict=True)):
        alone = network(images[index])
        torch.testing.assert_close(outputs[index], alone, rtol=0, atol=1e-10)
        F.cross_entropy(alone, labels[index]).backward()
        compare(network, own)
        for key, parameter in network.named_parameters():
            own_gradient = gradients[f"network.{key}"][index]
            torch.testing.assert_close(own_gradient, parameter.grad, rtol=0, atol=1e-10, msg=key)


@pytest.mark.parametrize("rule", ["sgd", "adamw"])
def test_elementwise_optimisers_are_exact(rule):
    networks = [build("small_cnn", CLASSES, (1, 8, 8), seed) for seed in range(3)]
    stacked = stack(networks)

    def optimiser(module: nn.Module) -> torch.optim.Optimizer:
        if rule == "adamw":
            return torch.optim.AdamW(module.parameters(), 0.01, weight_decay=0.1)
        return torch.optim.SGD(module.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True)

    rules = [optimiser(module) for module in (*networks, stacked)]
    generator = torch.Generator().manual_seed(0)
    together = dict(stacked.network.named_parameters())
    for _ in range(4):
        for name, _ in networks[0].named_parameters():
            own = [dict(network.named_parameters())[name] for network in networks]
            for parameter in own:
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            together[f"network.{name}"].grad = torch.cat([parameter.grad for parameter in own])
        for each in rules:
            each.step()
    for network, own in zip(networks, unstack(stacked), strict=True):
        compare(network, own, tolerance=0)


def test_stacking_copies():
    networks = draw("small_cnn", (1, 8, 8), {"width": 4}, 2)
    networks[0](torch.ones(2, 1, 8, 8, dtype=torch.float64)).sum().backward()
    networks[1](torch.ones(2, 1, 8, 8, dtype=torch.float64))
    before = [copy.deepcopy(network.state_dict()) for network in networks]
    stacked = stack(networks)
    assert all(parameter.grad is None for parameter in stacked.parameters())
    states = unstack(stacked)
    with torch.no_grad():
        for parameter in stacked.parameters():
            parameter.zero_()
    for network, state, own in zip(networks, before, states, strict=True):
        compare(network, state, tolerance=0)
        compare(network, own, tolerance=0)
    assert copy.deepcopy(stacked)(torch.ones(2, 3, 1, 8, 8, dtype=torch.float64)).count_nonzero() == 0
    with pytest.raises(ValueError, match="2 stacked networks take that many batches, not 3"):
        stacked(torch.ones(3, 1, 1, 8, 8, dtype=torch.float64))


def squeeze_and_excite(self: Any, images: Tensor) -> Tensor:
    features = self.convolve(images)
    gate = torch.sigmoid(self.gate(features.mean((2, 3))))
    features = features * gate[:, :, None, None] + features.amax(1, keepdim=True)
    features += 1
    return self.head(features.view(features.size(0), -1))


def parts(self: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    features = self.convolve(images)
    first, second = features.chunk(2, 1)
    mixed = torch.cat([F.pad(second, (0, 0, 0, 0, 1, 1)), first, features[:, 1:2]], 1)
    rows = F.avg_pool2d(self.norm(mixed), 4).flatten(1)
    return self.head(rows), rows.unflatten(1, (-1, 4)).softmax(1).transpose(1, 2).flatten(1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Own(squeeze_and_excite, convolve=nn.Conv2d(2, 4, 1), gate=nn.Linear(4, 4), head=nn.Linear(256, 5)),
        lambda: Own(parts, convolve=nn.Conv2d(2, 6, 3, 1, 1), norm=nn.GroupNorm(3, 9), head=nn.Linear(36, 5)),
        lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(128, 8, bias=False), nn.BatchNorm1d(8), nn.GELU(), nn.Linear(8, 5)
        ),
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3, 1, 1, 1, 2, True, "circular"), nn.ReLU(inplace=True), nn.Flatten(1)),
    ],
    ids=["gate", "parts", "rows", "groups"],
)
def test_what_mixes_channels_is_done_for_each(make):
    torch.manual_seed(0)
    networks = [make().double() for _ in range(3)]
    images = batches(3, (2, 8, 8))[0][0]
    found, alone = stack(networks)(images), [network(own) for network, own in zip(networks, images, strict=True)]
    if isinstance(found, tuple):
        expected: Any = tuple(map(torch.stack, zip(*alone, strict=True)))
    else:
        expected = torch.stack(alone)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_other_inputs_than_images():
    torch.manual_seed(0)
    networks = [nn.Linear(7, 5).double() for _ in range(3)]
    rows = batches(3, (7,))[0][0]
    expected = torch.stack([network(own) for network, own in zip(networks, rows, strict=True)])
    torch.testing.assert_close(stack(networks)(rows), expected, rtol=0, atol=1e-12)


def hooked() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten())
    network[0].register_forward_hook(lambda *_: None)
    return network


def tied() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1))
    network[1].weight = network[0].weight
    return network


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.1)), "1 is a Dropout"),
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 1), nn.LayerNorm(8)), "1 is a LayerNorm"),
        (lambda: nn.Sequential(nn.Flatten(0)), "flattening from dimension 0 on mixes a batch's images"),
        (lambda: Own(lambda self, images: images.flatten()), "flattening from dimension 0"),
        (lambda: Own(lambda self, images: torch.fft.fft2(images)), "the function fft_fft2"),
        (lambda: Own(lambda self, images: F.dropout(images, 0.5, self.training)), "other calls in training"),
        (lambda: Own(lambda self, images: images if images.sum() > 0 else -images), "can't be followed"),
        (
            lambda: Own(lambda self, images: images * self.layer.weight, layer=nn.Linear(8, 8)),
            "buffer layer.weight belongs",
        ),
        (lambda: Own(lambda self, images: images, layer=nn.Linear(8, 8)), "layer.weight is not used in a pass"),
        (hooked, "0 has a hook"),
        (tied, "layers share a parameter"),
        (
            lambda: Tapped(build("small_cnn", CLASSES, (1, 8, 8), 0), {"a": ["9"]}, {"a": nn.Identity()}),
            "can't be followed",
        ),
    ],
)
def test_what_cannot_be_stacked_is_refused_in_a_line(make, reason):
    with pytest.raises(UserError, match="networks can't be stacked: ") as refused:
        stack([make()] * 2)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_only_a_pass_shows():
    with pytest.raises(UserError, match="one number a channel or less"):
        stack([Own(lambda self, images: images - images.mean())] * 2)(torch.ones(2, 3, 1, 8, 8))
    with pytest.raises(UserError, match="a Linear layer gets 4 dimensions"):
        stack([nn.Linear(8, 5)] * 2)(torch.ones(2, 3, 1, 8, 8))


def test_networks_that_differ():
    with pytest.raises(UserError, match="2 networks are given, which must be one or more of the same architecture"):
        stack([build("small_cnn", CLASSES, (1, 8, 8), 0, width=width) for width in (4, 8)])
    with pytest.raises(UserError, match="0 networks are given"):
        stack([])
    networks = draw("small_cnn", (1, 8, 8), {"width": 4}, 2)
    networks[1](torch.ones(2, 1, 8, 8, dtype=torch.float64))
    with pytest.raises(UserError, match="num_batches_tracked differs: they are not equally long in training"):
        stack(networks)


def test_small_steps_pay_and_large_ones_do_not():
    small = build("small_cnn", CLASSES, (1, 8, 8), 0)
    assert stacking_pays(small, (1, 8, 8), 8)
    assert not stacking_pays(small, (1, 8, 8), 1024)
    assert stacking_pays(small, (1, 8, 8), 1024, "cuda")
    assert not stacking_pays(nn.Sequential(nn.Flatten(), nn.Linear(64, 2), nn.Dropout()), (1, 8, 8), 8)


def test_the_question_leaves_the_network_and_the_generator_alone():
    network = build("small_cnn", CLASSES, (1, 8, 8), 0)
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    assert isinstance(stacking_pays(network, (1, 8, 8), 80), bool)
    compare(network, before, tolerance=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in network.parameters())

"""Our own architectures: published sizes, any picture, gradients everywhere, and weights that come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from braindistill.errors import UserError
from braindistill.students import artifact, small_cnn
from braindistill.students.build import build
from braindistill.students.resnet_cifar import _PaddedShortcut
from braindistill.students.shufflenet_cifar import _shuffle
from braindistill.students.taps import Tapped

RESNETS = ["resnet8", "resnet14", "resnet20", "resnet32", "resnet56", "resnet110"]
OTHERS = ["resnet8x4", "resnet32x4", "wrn_16_2", "wrn_40_1", "wrn_40_2", "vgg8", "vgg13", "mobilenetv2", "shufflenetv2"]
#: options that leave few channels, where depth is what a test is about
NARROW = {name: {"width": 4} for name in RESNETS}


def make(name: str, n_classes: int = 7, shape: tuple[int, int, int] = (3, 32, 32), **options: Any) -> nn.Module:
    return build(name, n_classes, shape, 0, **options)


def count(name: str, n_classes: int, **options: Any) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in make(name, n_classes, **options).parameters())


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 9), (1, 28, 28), (3, 33, 32)])
@pytest.mark.parametrize(
    "name", ["small_cnn", "resnet20", "resnet8x4", "wrn_16_2", "vgg8", "mobilenetv2", "shufflenetv2"]
)
def test_any_size_and_channels(name, shape):
    network = make(name, shape=shape).eval()
    assert network(torch.randn(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "millions"),
    # He et al. 2016, table 6; Zagoruyko & Komodakis 2016, table 4
    {"resnet20": 0.27, "resnet32": 0.46, "resnet56": 0.85, "resnet110": 1.7, "wrn_40_1": 0.6, "wrn_40_2": 2.2}.items(),
)
def test_published_numbers_of_parameters(name, millions):
    digits = len(str(millions).partition(".")[2])
    assert round(count(name, 10) / 1e6, digits) == millions


@pytest.mark.parametrize(
    ("name", "parameters"),
    # of the networks behind the CIFAR-100 tables, counted in the code that its authors (Tian et al. 2020) published
    {
        "resnet8": 83_892,
        "resnet14": 181_108,
        "resnet20": 278_324,
        "resnet32": 472_756,
        "resnet56": 861_620,
        "resnet110": 1_736_564,
        "resnet8x4": 1_233_540,
        "resnet32x4": 7_433_860,
        "wrn_16_2": 703_284,
        "wrn_40_1": 569_780,
        "wrn_40_2": 2_255_156,
        "vgg8": 3_965_028,
        "vgg13": 9_462_180,
        "mobilenetv2": 812_836,
        "shufflenetv2": 1_355_528,
    }.items(),
)
def test_parameters_of_the_distillation_tables(name, parameters):
    assert count(name, 100, **({"shortcut": "projected"} if name in RESNETS else {})) == parameters


def test_numbers_of_parameters_by_hand():
    # by layer: 9 c c' + 2 c' a convolution, 64 · 10 + 10 the head
    assert count("resnet20", 10) == 269_722
    assert count("resnet20", 10, shortcut="projected") == 269_722 + 16 * 32 + 64 + 32 * 64 + 128
    # torchvision's 11,689,512 for 1,000 classes, and 21,797,672
    assert count("resnet18", 1000, shape=(3, 64, 64), small_stem=False) == 11_689_512
    assert count("resnet18", 10, shape=(1, 32, 32)) == 11_689_512 - 990 * 513 - 64 * (3 * 49 - 9)
    assert count("resnet34", 1000, shape=(3, 64, 64), small_stem=False) == 21_797_672
    assert count("small_cnn", 10, shape=(1, 8, 8)) == 9_882


@pytest.mark.parametrize("name", ["small_cnn", *RESNETS, *OTHERS])
def test_gradients_reach_every_parameter_and_evaluation_is_deterministic(name):
    network = make(name, **NARROW.get(name, {}))
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    F.cross_entropy(network(images), torch.arange(4)).backward()
    grads = {key: parameter.grad for key, parameter in network.named_parameters()}
    # VGG's biases before batch normalisation have no effect, and a gradient of rounding errors
    assert not [key for key, grad in grads.items() if grad is None or not grad.isfinite().all() or not grad.any()]
    first, again = (network.eval()(images) for _ in range(2))
    assert torch.equal(first, again)
    torch.testing.assert_close(network(images[:1]), first[:1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["small_cnn", *RESNETS, *OTHERS])
def test_weights_come_back_and_taps_find_the_head(name, tmp_path: Path):
    options = NARROW.get(name, {})
    network = make(name, shape=(1, 8, 8), **options).eval()
    description = {"name": name, "options": options, "classes": [*"abcdefg"], "image_shape": [1, 8, 8]}
    artifact.save(network, tmp_path, description | {"mean": [0.0], "std": [1.0]})
    images = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    student = artifact.load(tmp_path)
    # normalised in another order of operations
    torch.testing.assert_close(student(images), network(images / 255), rtol=1e-4, atol=1e-4)
    name, head = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
    tapped = Tapped(student.network, {"term": [f"{name}:input"]}, {"term": nn.Identity()})
    logits, found = tapped(images / 255)
    (features,) = found["term"]
    assert features.shape == (2, head.in_features)
    torch.testing.assert_close(head(features), logits)


def test_small_stem_keeps_the_resolution():
    for small_stem, side in ((True, 4), (False, 1)):
        network = make("resnet18", 2, (1, 32, 32), small_stem=small_stem).eval()
        sizes = []
        network.layer4.register_forward_hook(lambda *arguments, sizes=sizes: sizes.append(arguments[2].shape[2:]))
        network(torch.randn(1, 1, 32, 32))
        assert sizes == [(side, side)]


def test_option_a_shortcut_subsamples_and_pads():
    features = torch.randn(2, 3, 6, 6)
    out = _PaddedShortcut(3, 2)(features)
    assert torch.equal(out[:, :3], F.avg_pool2d(features, 1, 2))
    assert (out[:, 3:] == 0).all()
    assert out.shape == (2, 6, 3, 3)


def test_shuffled_channels_take_turns():
    assert _shuffle(torch.arange(6).view(1, 6, 1, 1)).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    stage = make("shufflenetv2").stage1.eval()
    features = torch.randn(1, 116, 4, 4)
    assert torch.equal(stage[1](features)[:, ::2], features[:, :58]), "half of the channels pass unchanged"


def test_residual_branches_that_give_nothing_leave_the_input():
    for name, stage, place, last in (("wrn_16_2", "stage1", 1, "conv2"), ("mobilenetv2", "stages.1", 1, "change.6")):
        block = make(name).eval().get_submodule(stage)[place]
        nn.init.zeros_(block.get_submodule(last).weight)
        features = torch.randn(1, next(block.parameters()).shape[1 if "mobile" in name else 0], 4, 4)
        assert torch.equal(block(features), features)


def test_total_strides():
    sizes = {"resnet8x4": 8, "wrn_16_2": 8, "vgg8": 4, "mobilenetv2": 2, "shufflenetv2": 4}
    for name, side in sizes.items():
        rows = artifact.layers(make(name), (3, 32, 32))
        maps = [shape for _, kind, shape, _ in rows if kind == "BatchNorm2d"]
        assert maps[-1][1:] == (side, side), name


def test_width_scales_every_stage():
    assert small_cnn(10, (1, 8, 8), width=4)[0].weight.shape[0] == 4
    assert make("resnet20", 10, (1, 8, 8), width=4).head.in_features == 16
    assert make("mobilenetv2", width=1.0).stages[6][0].change[6].out_channels == 320


def test_too_small_images_are_refused():
    with pytest.raises(UserError, match="student=small_cnn: images are 7 × 9, at least 8 × 8"):
        make("small_cnn", 10, (1, 7, 9))
    with pytest.raises(UserError, match="student=vgg13: images are 9 × 7, at least 8 × 8"):
        make("vgg13", 10, (3, 9, 7))


def test_small_cnn_learns():
    images = torch.zeros(16, 1, 8, 8)
    images[:8, :, :4] = 1  # ink above, or below
    images[8:, :, 4:] = 1
    labels = torch.arange(16) // 8
    torch.manual_seed(0)
    network = small_cnn(2, (1, 8, 8), width=4)
    rule = torch.optim.SGD(network.parameters(), 0.1)
    for _ in range(20):
        rule.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        rule.step()
    assert (network(images).argmax(1) == labels).all()

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from braindistill.errors import UserError
from braindistill.students import resnet18, resnet20, resnet34, small_cnn, torchvision
from braindistill.students.build import build
from braindistill.students.resnet_cifar import _CifarResNet, _PaddedShortcut


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 9), (1, 28, 28), (3, 33, 32)])
@pytest.mark.parametrize("architecture", [small_cnn, resnet20])
def test_any_size_and_channels(architecture, shape):
    network = architecture(7, shape).eval()
    assert network(torch.randn(2, *shape)).shape == (2, 7)


def test_published_numbers_of_parameters():
    # He et al. 2016, table 6: 0.27 M and 0.85 M; exactly, by layer: 9 c c' + 2 c' a convolution, 64 · 10 + 10 the head.
    assert count(resnet20(10, (3, 32, 32))) == 269_722
    assert count(_CifarResNet(56, 10, 3, 16)) == 853_018
    # torchvision's 11,689,512 for 1,000 classes.
    assert count(resnet18(1000, (3, 64, 64), small_stem=False)) == 11_689_512
    assert count(resnet18(10, (1, 32, 32))) == 11_689_512 - 990 * 513 - 64 * (3 * 49 - 9)
    # and 21,797,672
    assert count(resnet34(1000, (3, 64, 64), small_stem=False)) == 21_797_672
    assert count(small_cnn(10, (1, 8, 8))) == 9_882


def test_small_stem_keeps_the_resolution():
    for small_stem, side in ((True, 4), (False, 1)):
        network = resnet18(2, (1, 32, 32), small_stem=small_stem).eval()
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


def test_width_scales_every_stage():
    assert small_cnn(10, (1, 8, 8), width=4)[0].weight.shape[0] == 4
    assert resnet20(10, (1, 8, 8), width=4).head.in_features == 16


def test_too_small_images_are_refused():
    with pytest.raises(UserError, match="7 × 9"):
        small_cnn(10, (1, 7, 9))


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

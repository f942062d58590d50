"""Networks of torchvision, with random weights."""

from __future__ import annotations

from torch import nn


def resnet18(n_classes: int, image_shape: tuple[int, int, int], *, small_stem: bool = True) -> nn.Module:
    """ResNet-18 (He et al. 2016): 11 M parameters.

    Parameters
    ----------
    n_classes
        Number of outputs.
    image_shape
        C, H, W; any number of channels.
    small_stem
        Start with a 3 × 3 convolution of stride 1 and no max-pool, for images below about 100 pixels; otherwise with
        ImageNet's 7 × 7 of stride 2 and max-pool.
    """
    from torchvision.models import resnet18 as build_resnet18

    network = build_resnet18(weights=None, num_classes=n_classes)
    kernel, stride, padding = (3, 1, 1) if small_stem else (7, 2, 3)
    network.conv1 = nn.Conv2d(image_shape[0], 64, kernel, stride, padding, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    if small_stem:
        network.maxpool = nn.Identity()
    return network

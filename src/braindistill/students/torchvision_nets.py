"""Networks of torchvision, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from braindistill.errors import UserError, nearest


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

    return _with_stem(build_resnet18, n_classes, image_shape[0], small_stem)


def resnet34(n_classes: int, image_shape: tuple[int, int, int], *, small_stem: bool = True) -> nn.Module:
    """ResNet-34 (He et al. 2016): 21 M parameters. Parameters are those of `resnet18`."""
    from torchvision.models import resnet34 as build_resnet34

    return _with_stem(build_resnet34, n_classes, image_shape[0], small_stem)


def torchvision(
    n_classes: int, image_shape: tuple[int, int, int], *, network: str, image_size: int | None = None
) -> nn.Module:
    """Any classification network of torchvision, as it is: three channels, and the stem of its authors.

    Parameters
    ----------
    n_classes
        Number of outputs.
    image_shape
        C, H, W; grey images are repeated in three channels.
    network
        torchvision's name, e.g. ``vgg11``.
    image_size
        Side in pixels that images are resized to first; None: as they are.

    Raises
    ------
    UserError
        If torchvision has no such network, or it can't take images of this size.
    """
    from torchvision import models

    # these two return a second output in training
    known = set(models.list_models(module=models)) - {"googlenet", "inception_v3"}
    if network not in known:
        raise UserError(f"student.network={network}: torchvision has no such network; {nearest(network, known)}")
    model = models.get_model(network, weights=None, num_classes=n_classes)

    def prepare(_: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        images = inputs[0].expand(-1, 3, -1, -1)
        if image_size is None:
            return images
        return F.interpolate(images, (image_size, image_size), mode="bilinear", antialias=True)

    # a hook, lest the names of the weights change
    model.register_forward_pre_hook(prepare)
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, *image_shape))
    except (RuntimeError, ValueError, AssertionError) as error:
        size = " × ".join(map(str, image_shape if image_size is None else (image_shape[0], image_size, image_size)))
        raise UserError(
            f"student.network={network}: can't take images of {size}; give student.image_size=224"
        ) from error
    return model.train()


def _with_stem(make: Callable[..., Any], n_classes: int, channels: int, small_stem: bool) -> nn.Module:
    network = make(weights=None, num_classes=n_classes)
    kernel, stride, padding = (3, 1, 1) if small_stem else (7, 2, 3)
    network.conv1 = nn.Conv2d(channels, 64, kernel, stride, padding, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    if small_stem:
        network.maxpool = nn.Identity()
    return network

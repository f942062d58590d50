"""Networks of torchvision, with random weights or those of a local file."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from torch import nn

from braindistill.errors import UserError, nearest
from braindistill.students.checkpoint import start_from
from braindistill.students.pictures import prepare_pictures


def resnet18(
    n_classes: int,
    image_shape: tuple[int, int, int],
    *,
    small_stem: bool = True,
    init: Literal["random", "pretrained"] = "random",
    weights: Path | None = None,
    overlap: str | None = None,
) -> nn.Module:
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
    init
        Random weights, or ``pretrained`` ones of a local file.
    weights
        The file: ``.safetensors``, or a ``.pth`` of tensors only. A head for another number of classes is replaced.
    overlap
        What the weights were trained on that the test images show too, in words; printed.

    Raises
    ------
    UserError
        If the file can't be read, or doesn't fit.
    """
    from torchvision.models import resnet18 as build_resnet18

    network = _with_stem(build_resnet18, n_classes, image_shape[0], small_stem)
    start_from(network, "resnet18", init, weights, overlap, _ADVICE.format("resnet18"))
    return network


def resnet34(
    n_classes: int,
    image_shape: tuple[int, int, int],
    *,
    small_stem: bool = True,
    init: Literal["random", "pretrained"] = "random",
    weights: Path | None = None,
    overlap: str | None = None,
) -> nn.Module:
    """ResNet-34 (He et al. 2016): 21 M parameters. Parameters are those of `resnet18`."""
    from torchvision.models import resnet34 as build_resnet34

    network = _with_stem(build_resnet34, n_classes, image_shape[0], small_stem)
    start_from(network, "resnet34", init, weights, overlap, _ADVICE.format("resnet34"))
    return network


def torchvision(
    n_classes: int,
    image_shape: tuple[int, int, int],
    *,
    network: str,
    image_size: int | None = None,
    small_stem: bool = False,
    init: Literal["random", "pretrained"] = "random",
    weights: Path | None = None,
    overlap: str | None = None,
) -> nn.Module:
    """Any classification network of torchvision: three channels, and the stem of its authors or one for small images.

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
    small_stem
        As in `resnet18`; for ResNet, ResNeXt and Wide ResNet.
    init, weights, overlap
        As in `resnet18`.

    Raises
    ------
    UserError
        If torchvision has no such network, it can't take images of this size or has no stem to replace, or the file of
        weights can't be read or doesn't fit.
    """
    from torchvision import models

    # these two return a second output in training
    known = set(models.list_models(module=models)) - {"googlenet", "inception_v3"}
    if network not in known:
        raise UserError(f"student.network={network}: torchvision has no such network; {nearest(network, known)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about initial weights to come
        model = models.get_model(network, weights=None, num_classes=n_classes)
    if small_stem:
        if not isinstance(model, models.ResNet):
            raise UserError(
                f"student.small_stem=true: {network} has no stem that could be replaced, only the ResNet family has "
                "(resnet18 … wide_resnet101_2); give student.image_size=224 instead"
            )
        _shrink_stem(model, 3)
    start_from(model, network, init, weights, overlap, "ImageNet's need student.small_stem=false; " * small_stem)
    return prepare_pictures(model, network, image_shape, image_size)


_ADVICE = (
    "ImageNet's need student.small_stem=false and images of three channels (student=torchvision student.network={} "
    "repeats grey ones); "
)


def _with_stem(make: Callable[..., Any], n_classes: int, channels: int, small_stem: bool) -> nn.Module:
    network = make(weights=None, num_classes=n_classes)
    if small_stem:
        _shrink_stem(network, channels)
    else:
        network.conv1 = _draw_stem(channels, 7, 2)
    return network


def _shrink_stem(network: Any, channels: int) -> None:
    network.conv1, network.maxpool = _draw_stem(channels, 3, 1), nn.Identity()


def _draw_stem(channels: int, side: int, stride: int) -> nn.Conv2d:
    convolution = nn.Conv2d(channels, 64, side, stride, padding=side // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution

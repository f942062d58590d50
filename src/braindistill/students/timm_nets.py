"""Networks of timm (Wightman 2019), which is an optional package."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Literal

from torch import nn

from braindistill.errors import UserError, nearest
from braindistill.students.checkpoint import start_from
from braindistill.students.pictures import prepare_pictures


def timm(
    n_classes: int,
    image_shape: tuple[int, int, int],
    *,
    network: str,
    image_size: int | None = None,
    init: Literal["random", "pretrained"] = "random",
    weights: Path | None = None,
    overlap: str | None = None,
) -> nn.Module:
    """Any classification network of timm (``pip install braindistill[timm]``), as it is. Nothing is downloaded.

    Parameters
    ----------
    n_classes
        Number of outputs.
    image_shape
        C, H, W; grey images are repeated in three channels.
    network
        timm's name, e.g. ``convnext_atto``.
    image_size
        Side in pixels that images are resized to first; None: as they are.
    init, weights, overlap
        As in `resnet18`.

    Raises
    ------
    UserError
        If timm is not installed, has no such network, the network can't take images of this size, or the file of
        weights can't be read or doesn't fit.
    """
    try:
        import timm as library
    except ImportError as error:
        raise UserError("student=timm: the package timm is not installed; pip install 'braindistill[timm]'") from error
    if not library.is_model(network):
        near = difflib.get_close_matches(network, library.list_models(), n=5, cutoff=0.3)  # of more than a thousand
        raise UserError(f"student.network={network}: timm has no such network; {nearest(network, near)}")
    model = library.create_model(network, pretrained=False, num_classes=n_classes)
    start_from(model, network, init, weights, overlap)
    return prepare_pictures(model, network, image_shape, image_size)

"""Pictures brought to what a network of another library takes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from braindistill.errors import UserError


def prepare_pictures(
    model: nn.Module, name: str, image_shape: tuple[int, int, int], image_size: int | None
) -> nn.Module:
    """Let a network for three channels repeat grey images and, where a size is given, resize them first; try it once.

    Parameters
    ----------
    model
        Takes images N × 3 × H × W.
    name
        Its name, for messages.
    image_shape
        C, H, W of the images that it will be given.
    image_size
        Side in pixels, or None: as they are.

    Raises
    ------
    UserError
        If the network can't take images of this size.
    """

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
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        size = " × ".join(map(str, image_shape if image_size is None else (image_shape[0], image_size, image_size)))
        other = 256 if image_size == 224 else 224
        raise UserError(
            f"student.network={name}: can't take images of {size}; give student.image_size={other}"
        ) from error
    return model.train()

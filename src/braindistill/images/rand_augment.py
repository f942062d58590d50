"""RandAugment (Cubuk et al. 2020): a few operations an image, drawn from fourteen, all of one magnitude.

Operations work on the rows of a batch that drew them. The strength that belongs to the largest magnitude, 30, is that of
AutoAugment (Cubuk et al. 2019, table 6), and falls linearly to none at 0; where an operation has two directions, the sign
says which. Autocontrast and equalise have no magnitude.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from braindistill.images import colour
from braindistill.images.geometry import warp

#: those that move pixels come first
GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS = (
    *GEOMETRIC,
    *("identity", "autocontrast", "equalise", "solarise", "posterise"),
    *("brightness", "contrast", "colour", "sharpness"),
)
LARGEST = 30
_ANGLE = torch.pi / 6
_SHEAR = 0.3
#: of the width or height
_TRANSLATION = 150 / 331
#: brightness, contrast, saturation and sharpness: factors 1 ± this
_FACTOR = 0.9
_BITS = 4


def apply_operations(images: Tensor, operation: Tensor, strength: Tensor) -> Tensor:
    """Apply its operations to each uint8 image, one after the other.

    Parameters
    ----------
    images : N × C × H × W
    operation : (N × operations an image) index into ``OPERATIONS``
    strength : (N × operations an image) magnitude, −30 to 30; the sign is the direction
    """
    for chosen, given in zip(operation.unbind(1), strength.unbind(1), strict=True):
        images = move_geometry(images, chosen, given)
        for name, change in _CHANGES.items():
            rows = (chosen == OPERATIONS.index(name)).nonzero()[:, 0]
            if len(rows):
                own, rows = given[rows].float() / LARGEST, rows.to(images.device)
                changed = change(images.index_select(0, rows), own.to(images.device))
                images = images.index_copy(0, rows, changed)
    return images


def move_geometry(maps: Tensor, operation: Tensor, strength: Tensor) -> Tensor:
    """Of one operation an image, only those that move pixels; maps are of any dtype, 0 comes in from outside."""
    rows = (operation < len(GEOMETRIC)).nonzero()[:, 0]
    if not len(rows):
        return maps
    matrix = _matrices(operation[rows], strength[rows].float() / LARGEST, *maps.shape[2:])
    rows = rows.to(maps.device)
    return maps.index_copy(0, rows, warp(maps.index_select(0, rows), matrix))


def _matrices(operation: Tensor, strength: Tensor, height: int, width: int) -> Tensor:
    """What each pixel is read from (N × 2 × 3), see `warp`; rotations and shears are about the centre."""
    angle, shear_x, shear_y, right, down = (
        torch.where(operation == GEOMETRIC.index(name), strength * largest, 0.0)
        for name, largest in zip(
            GEOMETRIC, (_ANGLE, _SHEAR, _SHEAR, _TRANSLATION * width, _TRANSLATION * height), strict=True
        )
    )
    across = torch.stack([angle.cos(), shear_x - angle.sin(), right], 1)
    down = torch.stack([shear_y + angle.sin(), angle.cos(), down], 1)
    return torch.stack([across, down], 1)


def _solarise(images: Tensor, strength: Tensor) -> Tensor:
    """Invert what is at least as bright as a threshold, 256 to 0."""
    threshold = (256 * (1 - strength.abs())).view(-1, 1, 1, 1)
    return torch.where(images >= threshold, 255 - images, images)


def _posterise(images: Tensor, strength: Tensor) -> Tensor:
    """Keep the 8 to 4 highest bits."""
    dropped = (_BITS * strength.abs()).round().to(torch.uint8).view(-1, 1, 1, 1)
    return (images >> dropped) << dropped


def _by_factor(change: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda images, strength: colour.in_float(change, images, 1 + _FACTOR * strength)


_CHANGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "autocontrast": lambda images, _: colour.in_float(lambda part, _: colour.stretch_range(part), images, images),
    "equalise": lambda images, _: colour.equalise(images),
    "solarise": _solarise,
    "posterise": _posterise,
    "brightness": _by_factor(colour.change_brightness),
    "contrast": _by_factor(colour.change_contrast),
    "colour": _by_factor(colour.change_saturation),
    "sharpness": _by_factor(colour.change_sharpness),
}

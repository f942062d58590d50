"""Views: a fixed number of augmentations of each image, which a teacher answers about once and a student sees later."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from braindistill.images.moves import Moves, draw_moves
from braindistill.runtime import torch_generator


def draw_views(n_images: int, height: int, width: int, views: int, seed: int, **options: Any) -> Moves:
    """Draw ``views`` augmentations of each of a set's images; view v of image i is number v · n + i.

    A view comes from a generator of its own, so that fewer views are the first of more.

    Parameters
    ----------
    n_images, height, width : of the whole set: the draws of an image depend on its place in it
    views : at least 1
    seed : the run's
    **options : of `draw_moves`
    """
    drawn = [
        draw_moves(n_images, height, width, torch_generator(seed, "view", view), **options) for view in range(views)
    ]
    first = vars(drawn[0])
    parts = {
        name: torch.cat([vars(moves)[name] for moves in drawn])
        for name, part in first.items()
        if isinstance(part, Tensor)
    }
    return dataclasses.replace(drawn[0], size=views * n_images, **parts)  # type: ignore[arg-type]

"""Views of images that a teacher is asked about: the student's own augmentation, fixed beforehand.

A student that sees an image cropped and mirrored learns best from what its teacher says about that very picture (Beyer et
al. 2022, "Knowledge distillation: a good teacher is patient and consistent"). A few such views of each image are drawn
once, the teacher answers about them, and the student sees no others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from braindistill.errors import UserError
from braindistill.images import Moves, draw_views, move

#: options of ``train`` that make a view
AUGMENTATION = ("crop", "flip", "zoom", "cutout", "colour", "rand_augment", "rand_magnitude")


@dataclass(frozen=True)
class ViewMaker:
    """Draws the views of a set's training images.

    Attributes
    ----------
    augmentation : options of `draw_moves`, as in ``train``; others are ignored
    seed : the run's
    """

    augmentation: dict[str, Any]
    seed: int

    @property
    def options(self) -> dict[str, Any]:
        """The options that make a view, and no others."""
        return {name: self.augmentation[name] for name in AUGMENTATION if name in self.augmentation}

    def draw(self, images: np.ndarray, views: int, rows: np.ndarray | None = None) -> Moves:
        """Moves of all views of a set's training images, or of some: view v of image i is number v · n + i.

        A view depends on the image's place in the set, so images that are chosen have the views they have among all.

        Parameters
        ----------
        images : all training images of the set, N × C × H × W
        views : at least 1
        rows : the n images that are wanted, in order; None: all

        Raises
        ------
        UserError
            There is no view, or nothing that would make it differ from the image.
        """
        if views < 1:
            raise UserError(f"target.views={views}: must be at least 1, or 0 for the images as they are")
        height, width = images.shape[2:]
        moves = draw_views(len(images), height, width, views, self.seed, **self.options)
        if not moves.changing:
            raise UserError(
                f"target.views={views}: all views would be alike, since nothing is augmented; set train.crop, flip, zoom, "
                "cutout, colour or rand_augment, or target.views=0"
            )
        if rows is None:
            return moves
        wanted = np.arange(views)[:, None] * len(images) + np.asarray(rows, np.int64)
        return moves.take(torch.from_numpy(wanted.ravel()))

    def record(self, views: int) -> dict[str, Any]:
        """The entry of ``target.json`` on views, by which a training can tell that it shows the same."""
        return {"views": {"count": views, "augmentation": self.options, "seed": self.seed}}


def see(images: np.ndarray, rows: np.ndarray, view: int, moves: Moves) -> np.ndarray:
    """Some of a set's images in one of their views, of which ``moves`` has all: uint8 (rows × C × H × W)."""
    own = moves.take(torch.from_numpy(view * len(images) + np.asarray(rows, np.int64)))
    return np.ascontiguousarray(move(torch.from_numpy(np.array(images[rows])), own).numpy())

"""What a teacher says about images: a row each, where it came from, and which fold held the image out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: no fold was fitted on the image, so the row is the mean over all of them
UNSEEN = -1
#: trials of the image lie in several runs, each of which a fold of its own held out
SEVERAL = -2


class Answer(NamedTuple):
    """A teacher's answer about a number of images.

    Attributes
    ----------
    rows : (images × width) float32: log-probabilities of classes, or responses of voxels
    source : (images) ``measured``, ``predicted``, ``in_sample``, ``table`` or ``random``
    fold : (images) int16: the fold that held the image out, `UNSEEN` or `SEVERAL`
    """

    rows: np.ndarray
    source: np.ndarray
    fold: np.ndarray


def unseen(rows: np.ndarray, source: str = "predicted") -> Answer:
    """An answer about images that no fold was fitted on."""
    return Answer(rows, np.full(len(rows), source, "<U9"), np.full(len(rows), UNSEEN, np.int16))

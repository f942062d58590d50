"""Cross-fitting over a student's labelled images: each is answered by the model that did not see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from braindistill.errors import UserError
from braindistill.runtime import numpy_generator
from braindistill.teachers.answer import UNSEEN, Answer
from braindistill.teachers.calibration import log_softmax

_BATCH = 2048


def deal_images(
    image_id: np.ndarray, labels: np.ndarray, n_folds: int, seed: int, option: str = "n_folds"
) -> np.ndarray:
    """Class-balanced folds (images) of labelled images; they depend on ids and the seed, and not on the order of rows.

    ``option`` is what an error calls the number of folds.

    Raises
    ------
    UserError
        Fewer than two folds, or fewer images than folds.
    """
    if not 2 <= n_folds <= len(image_id):
        raise UserError(
            f"teacher.{option}={n_folds}: with {len(image_id)} labelled images there can be 2 to {len(image_id)} folds"
        )
    rng = numpy_generator(seed, "folds of images")
    by_id = np.argsort(image_id)
    # deal every class in turn, so that each fold gets its share of it
    order = np.concatenate([rng.permutation(by_id[labels[by_id] == value]) for value in np.unique(labels)])
    fold = np.empty(len(image_id), int)
    fold[order] = np.arange(len(image_id)) % n_folds
    return fold


def answer_held_out(
    image_id: np.ndarray,
    images: np.ndarray,
    fold_of: Mapping[str, int],
    models: Sequence[Callable[[np.ndarray], np.ndarray]],
) -> Answer:
    """Ask one model a fold: an image that was held out is answered by the model that held it out, others by the mean.

    Parameters
    ----------
    image_id, images : the pictures that are asked about
    fold_of : id → the fold that held it out
    models : one a fold: pictures → log-probabilities (images × classes); they are averaged before they are normalised
    """
    fold = np.array([fold_of.get(name, UNSEEN) for name in image_id.tolist()], np.int16)
    blocks = []
    for start in range(0, len(images), _BATCH):
        part, pictures = fold[start : start + _BATCH], images[start : start + _BATCH]
        total: np.ndarray | None = None
        for k, model in enumerate(models):
            rows = np.flatnonzero((part == k) | (part == UNSEEN))
            if len(rows):
                said = model(pictures[rows])
                total = np.zeros((len(part), said.shape[1])) if total is None else total
                total[rows] += said
        assert total is not None
        total[part == UNSEEN] /= len(models)
        blocks.append(log_softmax(total))
    return Answer(np.concatenate(blocks), np.full(len(fold), "predicted", "<U9"), fold)

"""Controls: teachers that lack the one thing whose help is claimed."""

from __future__ import annotations

import dataclasses

import numpy as np

from braindistill.errors import UserError, nearest
from braindistill.fmri.responses import Responses
from braindistill.runtime import numpy_generator, warn

CONTROLS = ("shuffled_fmri", "nuisance")


def control_responses(
    responses: Responses, control: str | None, roi: str | list[str], nuisance: str, seed: int
) -> Responses:
    """Select the ROI's voxels, and apply a control to them before anything is fitted.

    ``shuffled_fmri`` rules out that pairing does not matter: responses are dealt to other images. ``nuisance`` rules out
    that any response will do: as many voxels from outside visual cortex.
    """
    selected = responses.select(roi, nuisance)
    if control is None:
        return selected
    if control == "shuffled_fmri":
        return shuffle_pairing(selected, seed)
    if control == "nuisance":
        if nuisance not in responses.rois:
            raise UserError(
                f"teacher.control=nuisance: the data have no mask named '{nuisance}' of voxels outside visual cortex; "
                f"name one with teacher.nuisance; {nearest(nuisance, responses.rois)}"
            )
        return _same_count(responses.select(nuisance), selected.responses.shape[1], seed)
    raise UserError(f"teacher.control={control}: no such control; {nearest(control, CONTROLS)}")


def shuffle_pairing(responses: Responses, seed: int) -> Responses:
    """Deal the responses of each stimulus, repeats together, to another stimulus; labels stay with the images.

    Where classes are single stimuli (blocks of a localiser) that would only rename them, so trials are permuted.
    """
    rng = numpy_generator(seed, "shuffled_fmri")
    names, of_trial = np.unique(responses.stimulus_id, return_inverse=True)
    if responses.images is None:
        order = rng.permutation(len(of_trial))
        return dataclasses.replace(responses, responses=np.asarray(responses.responses)[order])
    others = derangement(len(names), rng)[of_trial]
    label = responses.label
    if label is not None:
        by_name = dict(zip(responses.stimulus_id.tolist(), label.tolist(), strict=True))
        label = np.array([by_name[name] for name in names[others].tolist()])
    return dataclasses.replace(responses, stimulus_id=names[others], label=label)


def derangement(n: int, rng: np.random.Generator) -> np.ndarray:
    """A random permutation without fixed points (rejection: e tries on average)."""
    if n < 2:
        return np.arange(n)
    while True:
        order = rng.permutation(n)
        if (order != np.arange(n)).all():
            return order


def random_soft_labels(image_id: np.ndarray, n_classes: int, seed: int) -> np.ndarray:
    """The original project's noise teacher, softmax(u / 0.01) of uniform noise → log-probabilities (images × classes).

    A row depends on its image's id alone.
    """
    from braindistill.teachers.decoder import log_softmax

    return log_softmax(_uniform_rows(image_id, n_classes, seed, "random") / 0.01)


def permute_other_classes(
    log_probabilities: np.ndarray, labels: np.ndarray, image_id: np.ndarray, seed: int
) -> np.ndarray:
    """``random_matched``: each row keeps its values and its true class's value; the other classes' values are permuted."""
    n, n_classes = log_probabilities.shape
    keys = _uniform_rows(image_id, n_classes, seed, "random_matched")
    np.put_along_axis(keys, labels[:, None], 2, axis=1)  # sorts last, so that the true class is left out
    sources = np.argsort(keys, axis=1)[:, :-1]
    places = np.nonzero(np.arange(n_classes) != labels[:, None])[1].reshape(n, n_classes - 1)
    permuted = log_probabilities.copy()
    np.put_along_axis(permuted, places, np.take_along_axis(log_probabilities, sources, axis=1), axis=1)
    return permuted


def _uniform_rows(image_id: np.ndarray, width: int, seed: int, name: str) -> np.ndarray:
    """Uniform noise (images × width), a row a stream of its own: whatever other images are asked about."""
    rows = np.empty((len(image_id), width))
    for row, identifier in enumerate(image_id.tolist()):
        rows[row] = numpy_generator(seed, name, identifier).random(width)
    return rows


def _same_count(responses: Responses, count: int, seed: int) -> Responses:
    n = responses.responses.shape[1]
    if n < count:
        warn(f"control nuisance: only {n} voxels outside visual cortex for {count} in the ROI")
        return responses
    chosen = np.sort(numpy_generator(seed, "nuisance").choice(n, count, replace=False))
    mask = np.zeros(n, bool)
    mask[chosen] = True
    return dataclasses.replace(responses, rois={"nuisance": mask}).select("nuisance")

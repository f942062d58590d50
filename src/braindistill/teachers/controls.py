"""Controls: teachers and targets that lack the one thing whose help is claimed."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from braindistill.errors import UserError, nearest
from braindistill.fmri.responses import Responses
from braindistill.runtime import numpy_generator, warn
from braindistill.teachers.answer import Answer, unseen
from braindistill.teachers.options import VoxelOptions
from braindistill.teachers.stimulus_features import StimulusFeatures

CONTROLS = ("shuffled_fmri", "nuisance", "random_readout")


def control_responses(
    responses: Responses, options: VoxelOptions, seed: int, stimuli: StimulusFeatures | None = None
) -> Responses:
    """Select the voxels that a teacher is fitted on, and apply a control to them before anything is fitted.

    ``shuffled_fmri`` rules out that pairing does not matter: responses are dealt to other images. ``nuisance`` rules out
    that any response will do: as many voxels from outside visual cortex. ``random_readout`` rules out that the encoder's
    features alone will do: random readouts of them, as noisy as the voxels.

    Parameters
    ----------
    options : ``roi`` (``each`` stands for the union of all ROIs), ``nuisance`` and ``control`` are used
    seed : redraws the control
    stimuli : features of the stimuli, which ``random_readout`` reads out

    Raises
    ------
    UserError
        Unknown ROI or control; no mask of nuisance voxels; no features to read out.
    """
    control, nuisance = options.control, options.nuisance
    selected = responses.select(_masks(responses, options), nuisance)
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
    if control == "random_readout":
        from braindistill.teachers.random_readout import random_readout

        if stimuli is None:
            raise UserError(
                "teacher.control=random_readout reads the features of an encoder, and this teacher has no encoder; "
                "take teacher=brain or encoder, or teacher.control=shuffled_fmri"
            )
        return random_readout(selected, stimuli, seed)
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


def shuffle_within(labels: np.ndarray, image_id: np.ndarray, seed: int) -> np.ndarray:
    """Which image each image gets its target from: another one of its class, so that class means stay what they are.

    Rules out that class means suffice: image-specific information is the claim. Who gets whose depends on the ids and the
    seed, and not on the order of the rows.

    Parameters
    ----------
    labels : (images) class of each image
    image_id : (images) str, unique

    Returns
    -------
    (images) int index, a permutation without fixed points inside every class: the target of row i is that of row index[i]

    Raises
    ------
    UserError
        A class has a single image.
    """
    index = np.empty(len(labels), int)
    for value in np.unique(labels).tolist():
        members = np.flatnonzero(labels == value)
        if len(members) == 1:
            raise UserError(
                f"target.control=shuffled_within: class {value} has a single image ({image_id[members[0]]}), and a target "
                "can only go to another image of its class; give more labels (images.n_train)"
            )
        members = members[np.argsort(image_id[members])]
        index[members] = members[derangement(len(members), numpy_generator(seed, "shuffled_within", value))]
    return index


def shuffle_across(image_id: np.ndarray, seed: int) -> np.ndarray:
    """As `shuffle_within`, over all classes: a target goes to any other image. Rules out that any soft targets will do."""
    if len(image_id) == 1:
        raise UserError("target.control=shuffled_across: there is a single image; give more (images.n_train)")
    order = np.argsort(image_id)
    index = np.empty(len(order), int)
    index[order] = order[derangement(len(order), numpy_generator(seed, "shuffled_across"))]
    return index


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


def random_soft_labels(image_id: np.ndarray, n_classes: int, seed: int) -> np.ndarray:
    """The original project's noise teacher, softmax(u / 0.01) of uniform noise → log-probabilities (images × classes).

    A row depends on its image's id alone.
    """
    from braindistill.teachers.calibration import log_softmax

    return log_softmax(_uniform_rows(image_id, n_classes, seed, "random") / 0.01)


@dataclass
class RandomTeacher:
    """The original project's noise teacher; it gives any classes it is asked for."""

    seed: int
    classes: list[str] = field(default_factory=list)
    name: str = "random"

    def soft_labels(self, image_id: np.ndarray, images: np.ndarray, device: str) -> Answer:
        """Log-probabilities by image id; the images are not looked at."""
        return unseen(random_soft_labels(image_id, len(self.classes), self.seed), "random")

    def save(self, folder: Path) -> None:
        """Write ``teacher.json`` and an empty ``scores.json``."""
        (folder / "teacher.json").write_text(json.dumps({"kind": "random", "name": self.name, "seed": self.seed}))
        (folder / "scores.json").write_text("{}")

    @classmethod
    def load(cls, folder: Path, record: dict[str, Any]) -> RandomTeacher:
        return cls(record["seed"])


def fit_random(*, seed: int = 0) -> RandomTeacher:
    """The original project's noise teacher: only its seed is kept."""
    return RandomTeacher(seed)


def _masks(responses: Responses, options: VoxelOptions) -> str | list[str]:
    if options.roi != "each":
        return options.roi if isinstance(options.roi, str) else list(options.roi)
    rois = [name for name in responses.rois if name != options.nuisance]
    if not rois:
        raise UserError("teacher.roi=each: the data have no ROI masks; take teacher.roi=all")
    return rois


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

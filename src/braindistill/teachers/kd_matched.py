"""The control ``kd_matched``: a CNN teacher that is as often right, and as uncertain, as the brain teacher."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from braindistill.errors import UserError
from braindistill.images import ImageSet, Split
from braindistill.metrics import entropy
from braindistill.runtime import Runtime, say, warn
from braindistill.teachers.calibration import log_softmax
from braindistill.teachers.cnn import describe_student, train_networks
from braindistill.teachers.network_teacher import NetworkTeacher, degrade
from braindistill.teachers.options import DecoderOptions, EncoderOptions, FeatureOptions, VoxelOptions

_ROUNDS = 60


def fit_kd_matched(
    image_set: ImageSet,
    split: Split,
    brain: Any,
    training: dict[str, Any],
    folder: Path,
    runtime: Runtime,
    voxels: VoxelOptions,
    features: FeatureOptions,
    encoding: EncoderOptions,
    decoding: DecoderOptions,
    *,
    reference: Literal["brain", "decoder"] = "brain",
    cnn: str = "small_cnn",
    cnn_width: int | None = None,
    folds: Literal["auto", "stimulus", "run"] = "auto",
    n_folds: int = 5,
    disjoint: bool = True,
    init_from: Path | None = None,
    seed: int = 0,
) -> NetworkTeacher:
    """Cross-fit a CNN on the student's labels, then degrade it to the brain teacher's accuracy and entropy.

    Rules out that any teacher of this accuracy and softness would have helped as much. Gaussian noise on the logits, a
    function of the image's id, brings the expected accuracy on labelled images, out of fold, to the brain teacher's
    out-of-fold accuracy; then a temperature brings the mean entropy over labelled images and pool to the brain teacher's
    over the same images. A CNN that is worse than the brain teacher gets no noise, and a warning.

    Parameters
    ----------
    image_set, split, training, folder, runtime : as in `fit_cnn`
    brain : the brain teacher to match, fitted with the options below
    reference : which teacher that is
    cnn, cnn_width : the network, as ``network`` and ``width`` of `fit_cnn`
    n_folds : folds of the CNN and of the brain teacher; at least 2, since accuracies must be out of fold
    voxels, features, encoding, decoding, folds, disjoint, init_from : the brain teacher's own options
    seed : the CNN's weights, folds and noise

    Raises
    ------
    UserError
        The brain teacher has no out-of-fold accuracy, knows other classes, or can't speak about the pool.
    """
    wanted = _accuracy_of(brain)
    if sorted(brain.classes) != sorted(image_set.classes):
        raise UserError(
            f"teacher=kd_matched: the teacher={reference} knows {len(brain.classes)} classes and the student "
            f"{len(image_set.classes)}: entropies over different classes can't be matched; take teacher.labels=student"
        )
    known = np.concatenate([split.labelled, split.pool])
    image_id, images = image_set.train_ids[known], image_set.train_images[known]
    uncertain = entropy(brain.soft_labels(image_id, images, runtime.device).rows)
    student = describe_student(cnn, cnn_width, "cnn")
    teacher = train_networks("kd_matched", image_set, split, student, training, folder, runtime, n_folds, seed)
    rows = teacher.soft_labels(image_id, images, runtime.device).rows
    labels = image_set.train_labels[split.labelled]
    labelled = rows[: len(labels)]
    before = float((labelled.argmax(1) == labels).mean())
    teacher.noise = find_noise(labelled, labels, wanted)
    if before < wanted:
        warn(
            f"kd_matched: the CNN is right on {before:.1%}, less than the brain teacher's {wanted:.1%}: no noise is added"
        )
    teacher.temperature = find_temperature(degrade(rows, image_id, teacher.noise, 1.0, seed), uncertain)
    matched = degrade(rows, image_id, teacher.noise, teacher.temperature, seed)
    teacher.scores["matched"] = {
        "accuracy_of_network": before,
        "accuracy_of_brain": wanted,
        "accuracy_expected": expected_accuracy(labelled, labels, teacher.noise),
        "accuracy": float((matched[: len(labels)].argmax(1) == labels).mean()),
        "entropy_of_network": entropy(rows),
        "entropy_of_brain": uncertain,
        "entropy": entropy(matched),
        "noise": teacher.noise,
        "temperature": teacher.temperature,
        "cnn_worse_than_brain": before < wanted,
    }
    say(f"kd_matched: accuracy {before:.1%} → {wanted:.1%} by noise {teacher.noise:.3g}", level=2)
    return teacher


def _accuracy_of(brain: Any) -> float:
    for part in ("composed", "decoder"):
        if "accuracy" in brain.scores.get(part, {}):
            return float(brain.scores[part]["accuracy"])
    raise UserError(
        f"teacher=kd_matched: teacher={brain.name} has no out-of-fold accuracy to match; take teacher.n_folds=2 or more"
    )


def expected_accuracy(log_probabilities: np.ndarray, labels: np.ndarray, noise: float) -> float:
    """How often the true class is the largest when independent Gaussian noise is added, in expectation over the noise.

    ∫ φ(z) Π_j Φ(z + (l_true − l_j) / σ) dz over the other classes j, by Gauss–Hermite quadrature; σ is the noise's standard
    deviation in nats.
    """
    if noise == 0:
        return float((log_probabilities.argmax(1) == labels).mean())
    from scipy.special import log_ndtr

    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    lead = np.take_along_axis(log_probabilities, labels[:, None], axis=1) - log_probabilities
    right = np.zeros(len(labels))
    for node, weight in zip(nodes, weights, strict=True):
        ahead = log_ndtr(node + lead / noise)
        np.put_along_axis(ahead, labels[:, None], 0.0, axis=1)  # the class itself is no rival
        right += weight * np.exp(ahead.sum(1))
    return float(right.mean() / np.sqrt(2 * np.pi))


def find_noise(log_probabilities: np.ndarray, labels: np.ndarray, accuracy: float) -> float:
    """The noise at which `expected_accuracy` is ``accuracy``; 0 where it never was higher, and at most 10⁶ times the spread."""
    if expected_accuracy(log_probabilities, labels, 0.0) <= accuracy:
        return 0.0
    spread = float(log_probabilities.std()) or 1.0
    found = _bisect(
        lambda size: -expected_accuracy(log_probabilities, labels, size), -accuracy, 1e-4 * spread, 1e6 * spread
    )
    if abs(expected_accuracy(log_probabilities, labels, found) - accuracy) > 0.005:
        warn(f"kd_matched: no noise brings the CNN's accuracy to {accuracy:.1%}; it has come as near as it can")
    return found


def find_temperature(log_probabilities: np.ndarray, wanted: float) -> float:
    """The temperature at which the rows' mean entropy is ``wanted`` nats, from 10⁻³ to 10⁴."""
    found = _bisect(lambda size: entropy(log_softmax(log_probabilities / size)), wanted, 1e-3, 1e4)
    reached = entropy(log_softmax(log_probabilities / found))
    if abs(reached - wanted) > 0.01 * wanted:
        warn(
            f"kd_matched: no temperature gives an entropy of {wanted:.4g} nats; {reached:.4g} is as near as it can come"
        )
    return found


def _bisect(rising: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    """Where a rising function of a positive number has a value, between two bounds; bisection of the logarithm."""
    for _ in range(_ROUNDS):
        middle = float(np.sqrt(low * high))
        if rising(middle) < wanted:
            low = middle
        else:
            high = middle
    return float(np.sqrt(low * high))

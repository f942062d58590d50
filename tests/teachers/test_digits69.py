"""The figures that the real subject must reach, and those that noise must not: V1 to V3 looking at sixes and nines."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from braindistill.fmri.digits69 import load_digits69
from braindistill.fmri.responses import Responses
from braindistill.images import ImageSet, assemble, load_mnist
from braindistill.runtime import find_data
from braindistill.stages.train_teacher import all_labels
from braindistill.teachers.brain_teacher import BrainTeacher

Fit = Callable[..., BrainTeacher]


@pytest.fixture(scope="module")
def subject() -> Responses:
    if find_data("digits69/digit69.mat") is None or find_data("digits69/t10k-images-idx3-ubyte.gz") is None:
        pytest.skip("digits69/digit69.mat and MNIST's t10k files are not here")
    return load_digits69()


@pytest.fixture(scope="module")
def mnist(subject: Responses) -> ImageSet:
    folder = find_data("digits69")
    assert folder is not None
    return assemble(load_mnist(root=folder), None, classes=["6", "9"])


def accuracy(fit: Fit, subject: Responses, mnist: ImageSet, every: int = 1, **options: object) -> float:
    """Of a composed teacher with all labels, on (every so many of) the 1,967 sixes and nines of MNIST's test set."""
    teacher = fit("brain", subject, all_labels(subject), **options)
    rows = teacher.decode(teacher.reader.extract(mnist.test_images[::every]))
    return float((rows.argmax(1) == mnist.test_labels[::every]).mean())


def test_the_encoder_predicts_voxels_out_of_fold(fit: Fit, subject: Responses) -> None:
    score = fit("encoder", subject, n_folds=10).scores["encoder"]
    assert score["r_p95"] >= 0.6
    assert score["r_max"] > 0.8
    assert score["n_voxels"] == 3092
    assert score["scheme"] == "10 folds by stimulus, Pearson r pooled over folds"


def test_the_decoder_tells_six_from_nine(fit: Fit, subject: Responses) -> None:
    score = fit("decoder", subject, all_labels(subject), n_folds=10).scores["decoder"]
    assert score["accuracy"] >= 0.95
    assert (score["n_trials"], score["chance"]) == (100, 0.5)


def test_the_composed_teacher_reads_other_digits_and_shuffled_responses_do_not(
    fit: Fit, subject: Responses, mnist: ImageSet
) -> None:
    assert len(mnist.test_labels) == 1967
    real = [accuracy(fit, subject, mnist, seed=seed) for seed in range(10)]
    assert np.mean(real) >= 0.935
    shuffled = [accuracy(fit, subject, mnist, 6, seed=seed, control="shuffled_fmri") for seed in range(20)]
    assert abs(np.mean(shuffled) - 0.5) <= 2 * np.std(shuffled, ddof=1) / np.sqrt(20) + 0.02


def test_noise_makes_a_teacher_only_where_stimuli_are_shared(fit: Fit, subject: Responses, mnist: ImageSet) -> None:
    found: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(8):
        noise = np.random.default_rng(seed).normal(size=(100, 1000)).astype(np.float32)
        for disjoint, values in found.items():
            nothing = dataclasses.replace(subject, responses=noise)
            values.append(accuracy(fit, nothing, mnist, seed=seed, disjoint=disjoint, n_folds=3))
    assert abs(np.mean(found[True]) - 0.5) < 0.1
    assert np.mean(found[False]) > 0.8

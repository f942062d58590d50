"""Correlation with class means, against numpy.corrcoef."""

from __future__ import annotations

import numpy as np
import pytest

from braindistill.teachers.calibration import calibrate, log_softmax
from braindistill.teachers.prototype_decoder import PrototypeDecoder, _left_out, fit_prototypes


def trials(n: int, seed: int = 0, voxels: int = 30) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    centres = np.random.default_rng(99).normal(size=(3, voxels))
    return ((centres[labels] + rng.normal(0, 1.5, (n, voxels))) * 4 + 100).astype(np.float32), labels


def test_it_is_the_softmax_of_pearsons_r() -> None:
    responses, labels = trials(30)
    new, _ = trials(12, seed=1)
    model = fit_prototypes(responses, labels, 3)
    mean, deviation = responses.mean(0, dtype=float), responses.std(0, dtype=float)
    z = (responses - mean) / deviation
    centroids = np.stack([z[labels == k].mean(0) for k in range(3)])
    r = np.corrcoef((new - mean) / deviation, centroids)[:12, 12:]
    np.testing.assert_allclose(model.predict(new), log_softmax(model.beta * r), atol=1e-5)


@pytest.mark.parametrize("groups", [np.arange(30), np.arange(30) // 6], ids=["trials", "runs"])
def test_beta_is_chosen_on_means_without_the_trials_group(groups: np.ndarray) -> None:
    responses, labels = trials(30)
    model = fit_prototypes(responses, labels, 3, groups)
    z = (responses - responses.mean(0, dtype=float)) / responses.std(0, dtype=float)
    r = np.empty((30, 3))
    for i in range(30):
        others = groups != groups[i]
        centroids = np.stack([z[others & (labels == k)].mean(0) for k in range(3)])
        r[i] = np.corrcoef(z[i], centroids)[0, 1:]
    totals = np.stack([z[labels == k].sum(0) for k in range(3)])
    centred = [part - part.mean(1, keepdims=True) for part in (z, totals)]
    found = _left_out(centred[0], labels, centred[1], np.bincount(labels), groups)
    np.testing.assert_allclose(found, r, atol=1e-7)
    assert model.beta == pytest.approx(np.sqrt(30) / calibrate(np.sqrt(30) * r, labels), rel=1e-3)


def test_constant_voxels_have_no_say_and_absent_classes_are_floored() -> None:
    responses, labels = trials(30)
    responses[:, 4] = 7.0
    model = fit_prototypes(responses, np.array([0, 2, 4])[labels], 5)
    rows = model.predict(responses)
    assert (rows[:, [1, 3]] < -11).all()
    moved = responses.copy()
    moved[:, 4] = 1e5
    np.testing.assert_array_equal(model.predict(moved), rows)
    without = fit_prototypes(np.delete(responses, 4, 1), labels, 3)
    np.testing.assert_allclose(rows[:, [0, 2, 4]], without.predict(np.delete(responses, 4, 1)), atol=1e-4)


def test_one_trial_a_class_decodes_itself() -> None:
    responses, labels = trials(3)
    model = fit_prototypes(responses, labels, 3)
    assert model.predict(responses).argmax(1).tolist() == [0, 1, 2]
    assert model.beta == pytest.approx(np.sqrt(30)), "nothing to choose it on: noise has a logit of variance 1"


def test_going_on_is_as_if_all_trials_had_been_there() -> None:
    responses, labels = trials(30)
    more, names = trials(18, seed=2)
    more += 5 * np.random.default_rng(0).normal(size=30).astype(np.float32)  # another session's baseline
    names = np.where(names == 2, 3, names)
    first = fit_prototypes(responses, labels, 4)
    continued = fit_prototypes(more, names, 4, start=first)
    whole = fit_prototypes(np.concatenate([responses, more]), np.concatenate([labels, names]), 4)
    for name, value in whole.arrays().items():
        np.testing.assert_allclose(continued.arrays()[name], value, rtol=1e-5, err_msg=name)
    whole.beta = continued.beta  # which the new trials choose
    new, _ = trials(10, seed=4)
    np.testing.assert_allclose(continued.predict(new), whole.predict(new), atol=1e-4)
    assert isinstance(continued, PrototypeDecoder)

"""Going on from older weights: what little new data change, and what they leave."""

from __future__ import annotations

import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.teachers.linear_continuation import continue_linear_decoder
from braindistill.teachers.linear_decoder import LinearDecoder, fit_linear_decoder

KINDS = ["lda", "logistic", "ridge"]


def trials(
    n: int, seed: int, n_classes: int = 3, voxels: int = 40, shift: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    centres = np.random.default_rng(7).normal(size=(5, voxels))
    return (50 + shift + centres[labels] + rng.normal(0, 1.5, (n, voxels))).astype(np.float32), labels


@pytest.mark.parametrize("kind", KINDS)
def test_few_new_trials_add_to_what_was_known(kind: str) -> None:
    first = fit_linear_decoder(kind, *trials(90, 0), 3, 0.1)
    few = trials(9, 1)
    alone = fit_linear_decoder(kind, *few, 3, 0.1)
    before = {name: value.copy() for name, value in first.arrays().items()}
    continued = continue_linear_decoder(first, *few, 3, 0.1)
    responses, labels = trials(300, 9)
    right = {name: (model.predict(responses).argmax(1) == labels).mean() for name, model in
             {"alone": alone, "continued": continued}.items()}  # fmt: skip
    assert right["continued"] > right["alone"] + 0.1
    assert continued.counts is not None
    assert continued.counts.tolist() == [33, 33, 33]
    for name, value in first.arrays().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_without_new_trials_is_kept_and_a_new_one_is_learnt(kind: str) -> None:
    first = fit_linear_decoder(kind, *trials(90, 0), 5, 0.1)
    responses, labels = trials(60, 1)
    renamed = np.array([0, 1, 3])[labels]
    responses[labels == 2] += np.float32(2) * np.random.default_rng(5).normal(size=40).astype(np.float32)
    model = continue_linear_decoder(first, responses, renamed, 5, 0.1)
    fresh, truth = trials(60, 2)
    assert (model.predict(fresh)[truth == 2].argmax(1) == 2).mean() > 0.5
    assert (model.predict(responses).argmax(1) == renamed).mean() > 0.9
    assert (model.predict(fresh)[:, 4] < -11).all()


def test_lda_pools_means_by_their_numbers() -> None:
    old, new = trials(30, 0), trials(60, 1)
    model = continue_linear_decoder(fit_linear_decoder("lda", *old, 3, 0.1), *new, 3, 0.1)
    both = np.concatenate([old[0], new[0]]).astype(float), np.concatenate([old[1], new[1]])
    means = np.stack([both[0][both[1] == k].mean(0) for k in range(3)])
    assert model.means is not None
    np.testing.assert_allclose(model.means, means, rtol=1e-5)


@pytest.mark.parametrize("voxels", [10, 40])
def test_lda_with_the_same_trials_again_is_what_it_was(voxels: int) -> None:
    data = trials(30, 0, voxels=voxels)
    first = fit_linear_decoder("lda", *data, 3, 0.1)
    again = continue_linear_decoder(first, *data, 3, 0.1)
    np.testing.assert_allclose(again.predict(data[0]), first.predict(data[0]), atol=2e-3)


def test_logistic_from_nothing_is_logistic_regression() -> None:
    data = trials(45, 0)
    plain = fit_linear_decoder("logistic", *data, 3, 0.1)
    nothing = LinearDecoder(
        np.zeros((40, 3), np.float32), np.zeros(3, np.float32), np.ones(3, int), None, {"kind": "logistic"}
    )
    again = continue_linear_decoder(nothing, *data, 3, 0.1)
    np.testing.assert_allclose(again.predict(data[0]), plain.predict(data[0]), atol=5e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_other_voxels_and_classes_are_refused(kind: str) -> None:
    first = fit_linear_decoder(kind, *trials(30, 0), 3, 0.1)
    with pytest.raises(UserError, match=r"older decoder reads 40 voxels, these data have 20: .*resnet1d"):
        continue_linear_decoder(first, *trials(30, 0, voxels=20), 3, 0.1)
    with pytest.raises(UserError, match="older decoder tells 3 classes apart, the new labels have 4"):
        continue_linear_decoder(first, *trials(30, 0), 4, 0.1)

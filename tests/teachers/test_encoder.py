"""Ridge against closed forms, scikit-learn and himalaya called by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from braindistill.errors import UserError
from braindistill.teachers import encoder
from braindistill.teachers.encoder import ALPHAS, Ridge, correlate, fit_ridge


def problem(n: int, width: int, voxels: int = 6, noise: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(3, rng.uniform(0.5, 20, width), (n, width)).astype(np.float32)
    clean = (features - 3) @ rng.normal(0, 1 / 20, (width, voxels))
    return features, (5 + clean + noise * rng.normal(size=clean.shape)).astype(np.float32)


def scaled(model: Ridge, features: np.ndarray) -> np.ndarray:
    return ((features - model.mean) / model.scale).astype(np.float64)


@pytest.mark.parametrize(("n", "width"), [(40, 10), (30, 30), (25, 80)])
def test_predictions_equal_the_closed_form_at_the_chosen_penalties(n: int, width: int) -> None:
    features, responses = problem(n, width)
    model = fit_ridge(features, responses)
    assert (len(model.support) > 0) == (width > n), "the smaller Gram matrix"
    assert len(np.unique(model.alphas)) > 1, "a penalty a voxel"
    new = problem(7, width, seed=1)[0]
    inputs, wanted = scaled(model, features), np.empty((7, responses.shape[1]))
    for voxel, alpha in enumerate(model.alphas):
        target = responses[:, voxel] - responses[:, voxel].mean()
        slopes = np.linalg.solve(inputs.T @ inputs + alpha * np.eye(width), inputs.T @ target)
        wanted[:, voxel] = scaled(model, new) @ slopes + responses[:, voxel].mean()
    np.testing.assert_allclose(model.predict(new), wanted, rtol=1e-3, atol=1e-3)
    assert model.predict(new).dtype == np.float32


def test_the_dual_form_equals_the_primal_form(monkeypatch: pytest.MonkeyPatch) -> None:
    features, responses = problem(20, 20)
    primal = fit_ridge(features, responses)
    # a constant feature changes nothing but makes the kernel form the smaller one
    dual = fit_ridge(np.concatenate([features, np.full((20, 1), 7, np.float32)], 1), responses)
    assert len(primal.support) == 0
    assert len(dual.support) == 20
    np.testing.assert_array_equal(primal.alphas, dual.alphas)
    new = problem(9, 20, seed=2)[0]
    # whatever the constant feature is on a new image, it has no say
    padded = np.concatenate([new, np.full((9, 1), -300, np.float32)], 1)
    np.testing.assert_allclose(dual.predict(padded), primal.predict(new), rtol=1e-3, atol=1e-3)


def test_it_equals_scikit_learns_ridge() -> None:
    from sklearn.linear_model import Ridge as Reference

    features, responses = problem(30, 50)
    model = fit_ridge(features, responses)
    new = problem(8, 50, seed=1)[0]
    for voxel, alpha in enumerate(model.alphas):
        reference = Reference(alpha=alpha).fit(scaled(model, features), responses[:, voxel])
        np.testing.assert_allclose(
            model.predict(new)[:, voxel], reference.predict(scaled(model, new)), rtol=1e-3, atol=2e-3
        )


def test_it_equals_himalaya_called_by_hand() -> None:
    from himalaya.kernel_ridge import KernelRidgeCV

    from braindistill.runtime import numpy_generator

    features, responses = problem(30, 50)
    model = fit_ridge(features, responses, n_folds=4)
    order = numpy_generator(0, "inner folds").permutation(30)
    centred = features[order] - features.mean(0)
    inputs = centred / np.sqrt((centred.astype(float) ** 2).mean(0).sum())
    reference = KernelRidgeCV(alphas=ALPHAS * 30, kernel="linear", cv=4)
    reference.fit(inputs.astype(np.float32), responses[order] - responses.mean(0))
    np.testing.assert_allclose(model.alphas, reference.best_alphas_, rtol=1e-5)
    new = problem(8, 50, seed=1)[0]
    by_hand = reference.predict(scaled(model, new).astype(np.float32)) + responses.mean(0)
    np.testing.assert_allclose(model.predict(new), by_hand, rtol=1e-3, atol=1e-3)


def test_many_voxels_are_solved_in_batches_to_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    features, responses = problem(20, 10, voxels=23)
    at_once = fit_ridge(features, responses)
    monkeypatch.setattr(encoder, "_TARGETS_AT_ONCE", 5)
    in_batches = fit_ridge(features, responses)
    np.testing.assert_array_equal(in_batches.alphas, at_once.alphas)
    np.testing.assert_allclose(in_batches.coefficients, at_once.coefficients, atol=1e-5)


def test_a_planted_signal_is_recovered_and_noise_is_shrunk() -> None:
    features, clean = problem(500, 12, noise=0.0)
    seen, new = slice(0, 300), slice(300, 500)
    responses = clean + 0.1 * np.random.default_rng(3).normal(size=clean.shape).astype(np.float32)
    responses[:, 0] = np.random.default_rng(4).normal(size=500)
    model = fit_ridge(features[seen], responses[seen])
    r = correlate(model.predict(features[new]), clean[new])
    assert r[1:].min() > 0.99
    assert model.alphas[0] > 10 * model.alphas[1:].max(), "a voxel of noise gets a large penalty"
    assert model.predict(features[new])[:, 0].std() < 0.3


def test_units_and_offsets_do_not_matter() -> None:
    features, responses = problem(30, 15)
    model, other = fit_ridge(features, responses), fit_ridge(1e-4 * features + 2, 50 * responses - 3)
    np.testing.assert_allclose(other.alphas, model.alphas, rtol=1e-3)
    new = problem(5, 15, seed=1)[0]
    np.testing.assert_allclose((other.predict(1e-4 * new + 2) + 3) / 50, model.predict(new), rtol=0.02, atol=0.02)


def test_features_without_any_variance_predict_the_mean() -> None:
    _, responses = problem(12, 3)
    model = fit_ridge(np.full((12, 4), 0.1, np.float32), responses)
    np.testing.assert_allclose(
        model.predict(np.full((2, 4), 0.1, np.float32)), np.tile(responses.mean(0), (2, 1)), rtol=1e-4
    )


def test_two_stimuli_are_enough_and_one_is_not() -> None:
    features, responses = problem(2, 5)
    assert np.isfinite(fit_ridge(features, responses).predict(features)).all()
    with pytest.raises(UserError, match="at least 2 stimuli"):
        fit_ridge(features[:1], responses[:1])


def test_correlate_equals_scipy_and_is_zero_for_constants() -> None:
    rng = np.random.default_rng(0)
    predicted, measured = rng.normal(size=(2, 30, 5))
    wanted = [stats.pearsonr(predicted[:, voxel], measured[:, voxel]).statistic for voxel in range(5)]
    np.testing.assert_allclose(correlate(predicted, measured), wanted, atol=1e-12)
    predicted[:, 1], measured[:, 2] = 4.0, -1.0
    assert correlate(predicted, measured)[[1, 2]].tolist() == [0, 0]
    assert correlate(predicted, 3 * predicted - 2)[0] == pytest.approx(1)

"""Ridge against closed forms, scikit-learn and himalaya called by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from braindistill.errors import UserError
from braindistill.runtime import numpy_generator
from braindistill.teachers import penalties
from braindistill.teachers.encoder import Ridge, correlate, explained_variance, fit_ridge, load_ridge
from braindistill.teachers.penalties import ALPHAS
from braindistill.teachers.stimulus_features import StimulusFeatures


def problem(n: int, width: int, voxels: int = 6, noise: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(3, rng.uniform(0.5, 20, width), (n, width)).astype(np.float32)
    clean = (features - 3) @ rng.normal(0, 1 / 20, (width, voxels))
    return features, (5 + clean + noise * rng.normal(size=clean.shape)).astype(np.float32)


def fit(
    features: np.ndarray, responses: np.ndarray, bands: list[tuple[str, int]] | None = None, **options: object
) -> Ridge:
    return fit_ridge(StimulusFeatures.of(features, bands), np.arange(len(features)), responses, **options)  # type: ignore[arg-type]


def scaled(model: Ridge, features: np.ndarray) -> np.ndarray:
    return ((features - model.mean) / np.repeat(model.scale, model.widths)).astype(np.float64)


@pytest.mark.parametrize(("n", "width"), [(40, 10), (30, 30), (25, 80)])
def test_predictions_equal_the_closed_form_at_the_chosen_penalties(n: int, width: int) -> None:
    features, responses = problem(n, width)
    model = fit(features, responses)
    assert (model.support is not None) == (width > n), "the smaller Gram matrix"
    assert len(np.unique(model.alphas)) > 1, "a penalty a voxel"
    new = problem(7, width, seed=1)[0]
    inputs, wanted = scaled(model, features), np.empty((7, responses.shape[1]))
    assert np.square(inputs).mean(0).sum() == pytest.approx(1, rel=1e-4)
    for voxel, alpha in enumerate(model.alphas):
        target = responses[:, voxel] - responses[:, voxel].mean()
        slopes = np.linalg.solve(inputs.T @ inputs + alpha * np.eye(width), inputs.T @ target)
        wanted[:, voxel] = scaled(model, new) @ slopes + responses[:, voxel].mean()
    np.testing.assert_allclose(model.predict(new), wanted, rtol=1e-3, atol=1e-3)
    assert model.predict(new).dtype == np.float32


def test_the_dual_form_equals_the_primal_form() -> None:
    features, responses = problem(20, 20)
    primal = fit(features, responses)
    # a constant feature changes nothing but makes the kernel form the smaller one
    dual = fit(np.concatenate([features, np.full((20, 1), 7, np.float32)], 1), responses)
    assert primal.support is None
    assert dual.support is not None
    np.testing.assert_array_equal(primal.alphas, dual.alphas)
    new = problem(9, 20, seed=2)[0]
    # whatever the constant feature is on a new image, it has no say
    padded = np.concatenate([new, np.full((9, 1), -300, np.float32)], 1)
    np.testing.assert_allclose(dual.predict(padded), primal.predict(new), rtol=1e-3, atol=1e-3)


def test_some_rows_of_a_shared_gram_matrix_equal_a_fit_of_their_own() -> None:
    features, responses = problem(40, 25)  # 40 stimuli: a Gram matrix; 24 rows: the dual form
    shared = StimulusFeatures.of(features)
    assert shared.gram is not None
    rows = np.random.default_rng(5).permutation(40)[:24]
    new = problem(9, 25, seed=2)[0]
    for banded in (False, True):
        part = fit_ridge(shared, rows, responses[rows], banded=banded)
        alone = fit(features[rows], responses[rows], banded=banded)
        assert part.support is shared.values, "referred to, not copied"
        np.testing.assert_array_equal(part.alphas, alone.alphas)
        np.testing.assert_allclose(part.predict(new), alone.predict(new), rtol=1e-3, atol=1e-3)
    shared.gram = None
    without = fit_ridge(shared, rows, responses[rows])
    np.testing.assert_allclose(without.predict(new), alone.predict(new), rtol=1e-3, atol=1e-3)


def test_it_equals_scikit_learns_ridge_and_its_choice_of_penalty() -> None:
    from sklearn.linear_model import Ridge as Reference
    from sklearn.model_selection import GridSearchCV

    features, responses = problem(30, 50)
    model = fit(features, responses)
    new = problem(8, 50, seed=1)[0]
    for voxel, alpha in enumerate(model.alphas):
        search = GridSearchCV(
            Reference(fit_intercept=False),
            {"alpha": (30 * ALPHAS).tolist()},
            scoring="neg_mean_squared_error",
            cv=penalties._inner_folds(30, 5),
        )
        search.fit(scaled(model, features), responses[:, voxel] - responses[:, voxel].mean())
        assert alpha == pytest.approx(search.best_params_["alpha"], rel=1e-5)
        np.testing.assert_allclose(
            model.predict(new)[:, voxel] - model.intercept[voxel],
            search.predict(scaled(model, new)),
            rtol=1e-3,
            atol=2e-3,
        )


@given(
    n=st.integers(5, 14),
    width=st.integers(2, 20),
    banded=st.booleans(),
    voxels=st.integers(1, 4),
    seed=st.integers(0, 99),
)
@settings(max_examples=12, deadline=None)
def test_every_form_says_the_same(n: int, width: int, banded: bool, voxels: int, seed: int) -> None:
    features, responses = problem(n, width, voxels, seed=seed)
    model = fit(features, responses, [("a", 1), ("b", width - 1)], banded=banded)
    new = problem(5, width, seed=seed + 1)[0]
    wanted = model.predict(new)
    close = {"rtol": 1e-3, "atol": 1e-3 * float(np.abs(wanted).max())}
    np.testing.assert_allclose(model.respond(torch.from_numpy(new)).numpy() + model.intercept, wanted, **close)
    rng = np.random.default_rng(seed)
    weights, bias = rng.normal(size=(voxels, 3)), rng.normal(size=3)
    composed = model.compose(weights, bias)
    assert composed.coefficients.shape == (width, 3)
    np.testing.assert_allclose(composed.predict(new), wanted @ weights + bias, rtol=1e-2, atol=10 * close["atol"])
    again = load_ridge({name: value.astype(np.float32) for name, value in model.arrays().items()}, features)
    np.testing.assert_array_equal(again.predict(new), wanted)
    last = np.array([voxels - 1])
    np.testing.assert_allclose(model.columns(last).predict(new), wanted[:, last], **close)
    assert json.loads(json.dumps(model.describe()))["kind"] == "ridge"


@pytest.mark.parametrize("width", [6, 40])
def test_responses_are_differentiable(width: int) -> None:
    features, responses = problem(20, width)
    model = fit(features, responses, [("a", 2), ("b", width - 2)], banded=True)
    inputs = torch.from_numpy(features[:2]).requires_grad_()
    model.respond(inputs).sum().backward()
    assert inputs.grad is not None
    slopes = model.compose(np.ones((6, 1), np.float32), np.zeros(1)).coefficients[:, 0]
    np.testing.assert_allclose(inputs.grad[0], slopes, rtol=1e-3, atol=1e-4)


def test_many_voxels_are_solved_in_batches_to_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    for width in (10, 30):
        features, responses = problem(20, width, voxels=23)
        at_once = fit(features, responses)
        monkeypatch.setattr(penalties, "_BLOCK", 100)
        monkeypatch.setattr("braindistill.teachers.encoder._BLOCK", 100)
        monkeypatch.setattr("braindistill.teachers.encoder._COLUMNS", 7)
        in_batches = fit(features, responses)
        np.testing.assert_array_equal(in_batches.alphas, at_once.alphas)
        np.testing.assert_allclose(in_batches.coefficients, at_once.coefficients, rtol=1e-3, atol=1e-3)
        in_blocks = in_batches.predict(features)
        monkeypatch.undo()
        np.testing.assert_allclose(in_blocks, at_once.predict(features), rtol=1e-3, atol=1e-3)


def test_a_planted_signal_is_recovered_and_noise_is_shrunk() -> None:
    features, clean = problem(500, 12, noise=0.0)
    seen, new = slice(0, 300), slice(300, 500)
    responses = clean + 0.1 * np.random.default_rng(3).normal(size=clean.shape).astype(np.float32)
    responses[:, 0] = np.random.default_rng(4).normal(size=500)
    model = fit(features[seen], responses[seen])
    r = correlate(model.predict(features[new]), clean[new])
    assert r[1:].min() > 0.99
    assert model.alphas[0] > 10 * model.alphas[1:].max(), "a voxel of noise gets a large penalty"
    assert model.predict(features[new])[:, 0].std() < 0.3


def test_continuing_keeps_what_the_older_encoder_knew() -> None:
    for width in (12, 300):
        features, responses = problem(360, width, noise=0.3)
        old = fit(features[:240], responses[:240])
        few = slice(240, 260)
        fresh, continued = fit(features[few], responses[few]), fit(features[few], responses[few], start=old)
        errors = [np.square(model.predict(features[260:]) - responses[260:]).mean() for model in (fresh, continued)]
        assert errors[1] < 0.7 * errors[0]
        assert continued.coefficients.shape == (width, 6)
        nothing_new = fit(features[few], old.predict(features[few]), start=old)
        np.testing.assert_allclose(nothing_new.predict(features), old.predict(features), rtol=1e-2, atol=2e-2)
    with pytest.raises(UserError, match="continue from reads 300 features and answers for 6 voxels"):
        fit(features[few], responses[few, :5], start=old)


def test_units_and_offsets_do_not_matter() -> None:
    features, responses = problem(30, 15)
    model, other = fit(features, responses), fit(1e-4 * features + 2, 50 * responses - 3)
    np.testing.assert_allclose(other.alphas, model.alphas, rtol=1e-3)
    new = problem(5, 15, seed=1)[0]
    np.testing.assert_allclose((other.predict(1e-4 * new + 2) + 3) / 50, model.predict(new), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("width", [4, 30])
def test_features_without_any_variance_predict_the_mean(width: int) -> None:
    _, responses = problem(12, 3)
    model = fit(np.full((12, width), 0.1, np.float32), responses)
    np.testing.assert_allclose(
        model.predict(np.full((2, width), 0.1, np.float32)), np.tile(responses.mean(0), (2, 1)), rtol=1e-4
    )


def test_two_stimuli_are_enough_and_one_is_not() -> None:
    features, responses = problem(2, 5)
    assert np.isfinite(fit(features, responses).predict(features)).all()
    with pytest.raises(UserError, match="at least 2 stimuli"):
        fit(features[:1], responses[:1])


def test_correlate_equals_scipy_and_is_zero_for_constants() -> None:
    rng = np.random.default_rng(0)
    predicted, measured = rng.normal(size=(2, 30, 5))
    wanted = [stats.pearsonr(predicted[:, voxel], measured[:, voxel]).statistic for voxel in range(5)]
    np.testing.assert_allclose(correlate(predicted, measured), wanted, atol=1e-12)
    predicted[:, 1], measured[:, 2] = 4.0, -1.0
    assert correlate(predicted, measured)[[1, 2]].tolist() == [0, 0]
    assert correlate(predicted, 3 * predicted - 2)[0] == pytest.approx(1)


def test_explained_variance_equals_scikit_learns_r2_and_is_zero_for_constants() -> None:
    from sklearn.metrics import r2_score

    measured = numpy_generator(0, "measured").normal(size=(30, 4))
    predicted = measured + np.array([0.0, 0.3, 1.0, 2.0])
    wanted = r2_score(measured, predicted, multioutput="raw_values")
    np.testing.assert_allclose(explained_variance(predicted, measured), wanted, atol=1e-9)
    measured[:, 0] = 3
    assert explained_variance(predicted, measured)[0] == 0
    assert explained_variance(np.tile(measured.mean(0), (30, 1)), measured)[1:] == pytest.approx(0)

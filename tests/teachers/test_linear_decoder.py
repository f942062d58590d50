"""Linear decoders against scikit-learn in the full space of voxels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braindistill.teachers.linear_decoder import PENALTIES, calibrated_unit, column_scale, fit_linear_decoder, ridge


def trials(
    n: int, voxels: int, n_classes: int, seed: int = 0, separation: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    centres = separation * np.random.default_rng(99).normal(size=(n_classes, voxels))
    return (100 + centres[labels] + rng.normal(0, 2, (n, voxels))).astype(np.float32), labels


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("voxels", [15, 200])
@pytest.mark.parametrize("penalty", [0.03, 1.0])
def test_it_equals_logistic_regression_on_all_voxels(n_classes: int, voxels: int, penalty: float) -> None:
    from sklearn.linear_model import LogisticRegression

    responses, labels = trials(48, voxels, n_classes)
    model = fit_linear_decoder("logistic", responses, labels, n_classes, penalty)
    scale = responses.std(0, dtype=float) * np.sqrt(voxels)
    reference = LogisticRegression(C=1 / penalty, max_iter=5000, tol=1e-8)
    reference.fit((responses - responses.mean(0, dtype=float)) / scale, labels)
    new, _ = trials(30, voxels, n_classes, seed=1)
    wanted = reference.predict_proba((new - responses.mean(0, dtype=float)) / scale)
    np.testing.assert_allclose(np.exp(model.predict(new)), wanted, atol=2e-3)


def test_scaling_columns_together_equals_it_too() -> None:
    from sklearn.linear_model import LogisticRegression

    responses, labels = trials(40, 60, 3)
    responses[:, :30] *= 50
    model = fit_linear_decoder("logistic", responses, labels, 3, 0.1, together=True)
    centred = responses - responses.mean(0, dtype=float)
    scale = np.sqrt((centred**2).mean(0).sum())
    reference = LogisticRegression(C=10, max_iter=5000, tol=1e-8).fit(centred / scale, labels)
    np.testing.assert_allclose(np.exp(model.predict(responses)), reference.predict_proba(centred / scale), atol=3e-3)


def test_absent_classes_are_floored() -> None:
    responses, labels = trials(40, 20, 2)
    model = fit_linear_decoder("logistic", responses, np.array([1, 3])[labels], 5, 0.1)
    rows = model.predict(responses)
    assert (rows[:, [0, 2, 4]] < -11).all()
    assert np.isfinite(rows).all()
    np.testing.assert_allclose(np.exp(rows).sum(1), 1, rtol=1e-5)
    alone = fit_linear_decoder("logistic", responses, labels, 2, 0.1).predict(responses)
    np.testing.assert_allclose(rows[:, [1, 3]], alone, atol=1e-4)


@pytest.mark.parametrize("kind", ["lda", "ridge"])
def test_a_floor_is_one_wherever_logits_lie(kind: str) -> None:
    """Classes far from the mean pattern have discriminants far below zero there, and yet absent ones stay below them."""
    responses, labels = trials(40, 20, 4, separation=20.0)
    model = fit_linear_decoder(kind, responses, labels, 6, 0.1)
    for patterns in (responses, responses.mean(0, keepdims=True)):
        rows = model.predict(patterns)
        assert (rows[:, 4:] < -11).all()
    alone = fit_linear_decoder(kind, responses, labels, 4, 0.1).predict(responses)
    np.testing.assert_allclose(model.predict(responses)[:, :4], alone, atol=1e-3)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([1e-9, 1e-3, 1e6]), st.floats(-50, 50))
def test_units_of_voxels_do_not_matter(unit: float, offset: float) -> None:
    responses, labels = trials(30, 10, 3)
    rows = fit_linear_decoder("logistic", responses, labels, 3, 0.1).predict(responses)
    moved = ((responses.astype(float) + offset) * unit).astype(np.float32)
    again = fit_linear_decoder("logistic", moved, labels, 3, 0.1).predict(moved)
    np.testing.assert_allclose(again, rows, atol=0.05)


def test_constant_voxels_have_no_say() -> None:
    responses, labels = trials(30, 10, 2)
    responses[:, 3] = 0.1  # whose float32 mean is not exactly itself
    model = fit_linear_decoder("logistic", responses, labels, 2, 0.1)
    assert (model.weights[3] == 0).all()
    moved = responses.copy()
    moved[:, 3] = 1e4
    np.testing.assert_array_equal(model.predict(moved), model.predict(responses))


def test_it_decodes_what_is_there() -> None:
    responses, labels = trials(80, 50, 4, separation=2.0)
    model = fit_linear_decoder("logistic", responses, labels, 4, 0.1)
    new, truth = trials(40, 50, 4, seed=1, separation=2.0)
    assert (model.predict(new).argmax(1) == truth).mean() > 0.95
    assert model.predict(new).dtype == np.float32


@pytest.mark.parametrize("voxels", [6, 200])
def test_lda_equals_scikit_learns_at_the_same_shrinkage(voxels: int) -> None:
    from sklearn.covariance import ledoit_wolf_shrinkage
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    responses = (rng.standard_normal((60, voxels)) + rng.standard_normal((3, voxels))[labels]) * 5 + 100
    z = (responses - responses.mean(0)) / responses.std(0)
    residuals = z - np.stack([z[labels == k].mean(0) for k in range(3)])[labels]
    shrinkage = ledoit_wolf_shrinkage(residuals, assume_centered=True)
    # pooled residuals of equal classes: scikit-learn's own covariance is the same where it is given our shrinkage
    reference = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=_Pooled(residuals, shrinkage)).fit(
        z, labels
    )
    new = rng.standard_normal((20, voxels)) * 5 + 100
    ours = fit_linear_decoder("lda", responses, labels, 3, 0.1).predict(new)
    theirs = reference.predict_log_proba((new - responses.mean(0)) / responses.std(0))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


class _Pooled:
    """A covariance estimator for scikit-learn that knows the answer."""

    def __init__(self, residuals: np.ndarray, shrinkage: float) -> None:
        covariance = residuals.T @ residuals / len(residuals)
        identity = np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        self.covariance_ = (1 - shrinkage) * covariance + shrinkage * identity

    def fit(self, x: np.ndarray) -> _Pooled:
        return self


def test_lda_with_one_trial_a_class_is_the_nearest_mean() -> None:
    rng = np.random.default_rng(1)
    responses = rng.standard_normal((4, 30))
    model = fit_linear_decoder("lda", responses, np.arange(4), 4, 0.1)
    assert model.predict(responses).argmax(1).tolist() == [0, 1, 2, 3]
    assert np.isfinite(model.predict(rng.standard_normal((10, 30)))).all()


def test_lda_survives_more_voxels_than_trials_and_constant_voxels() -> None:
    rng = np.random.default_rng(2)
    labels = np.arange(40) % 2
    responses = rng.standard_normal((40, 500)) + 1.0 * labels[:, None] * (np.arange(500) < 50)
    responses[:, 7] = 3.0
    rows = fit_linear_decoder("lda", responses[:30], labels[:30], 2, 0.1).predict(responses[30:])
    assert (rows.argmax(1) == labels[30:]).mean() >= 0.9


def principal_axes(responses: np.ndarray) -> np.ndarray:
    mean, scale = column_scale(responses, together=False)
    left, values, _ = np.linalg.svd((responses - mean) / scale, full_matrices=False)
    return left * values


@pytest.mark.parametrize("voxels", [20, 150])
@pytest.mark.parametrize("n_classes", [2, 5])
def test_ridge_chooses_and_predicts_as_scikit_learn(voxels: int, n_classes: int) -> None:
    from sklearn.linear_model import RidgeClassifierCV

    responses, labels = trials(60, voxels, n_classes, separation=0.8)
    mean, scale = column_scale(responses, together=False)
    inputs = (responses - mean) / scale
    penalties = PENALTIES * (inputs**2).sum() / np.linalg.matrix_rank(inputs)
    reference = RidgeClassifierCV(penalties).fit(inputs, labels)
    model = fit_linear_decoder("ridge", responses, labels, n_classes, 0.0)
    assert model.description["penalty"] == pytest.approx(reference.alpha_, rel=1e-4)
    new, _ = trials(200, voxels, n_classes, seed=1)
    said = model.predict(new)
    assert (said.argmax(1) == reference.predict((new - mean) / scale)).all()
    if n_classes > 2:  # scikit-learn's classes are ±1
        scores = reference.decision_function((new - mean) / scale)
        logits = (scores - scores.mean(1, keepdims=True)) / 2 / model.description["unit"]
        np.testing.assert_allclose(
            said - said.mean(1, keepdims=True), logits - logits.mean(1, keepdims=True), atol=1e-3
        )


@pytest.mark.parametrize("size", [1, 5])
def test_what_is_left_out_equals_a_fit_without_it(size: int) -> None:
    responses, labels = trials(40, 25, 3)
    groups = np.arange(40) // size
    axes, targets = principal_axes(responses), np.eye(3)[labels]
    found = ridge(axes, targets, groups)
    for number in (0, 3):
        held = groups == number
        centre = axes[~held].mean(0)
        inputs, wanted = axes[~held] - centre, targets[~held] - targets[~held].mean(0)
        slopes = np.linalg.solve(inputs.T @ inputs + found.penalty * np.eye(axes.shape[1]), inputs.T @ wanted)
        by_hand = (axes[held] - centre) @ slopes + targets[~held].mean(0)
        np.testing.assert_allclose(found.left_out[held], by_hand, atol=1e-8)


def test_ridge_leaves_groups_out_whole_to_choose_its_penalty() -> None:
    """Trials of a group share noise: a fit that leaves single trials out would trust it, and shrink too little."""
    rng = np.random.default_rng(3)
    labels, groups = np.arange(80) % 2, np.repeat(np.arange(20), 4) * 2 + np.arange(80) % 2
    shared = rng.normal(0, 3, (40, 60))[groups]
    responses = shared + rng.normal(0, 0.5, (80, 60)) + 0.4 * labels[:, None]
    whole = fit_linear_decoder("ridge", responses, labels, 2, 0.0, groups)
    single = fit_linear_decoder("ridge", responses, labels, 2, 0.0)
    assert whole.description["penalty"] > single.description["penalty"]
    assert np.abs(whole.predict(responses)).max() < np.abs(single.predict(responses)).max(), "and is less sure"


def test_the_unit_of_ridge_is_calibrated() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 3))
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (rng.random((20_000, 1)) > chances.cumsum(1)).sum(1)
    assert calibrated_unit(logits * 0.004, labels) == pytest.approx(0.004, rel=0.05)
    assert np.isfinite(calibrated_unit(np.zeros((4, 2)), np.array([0, 1, 0, 1])))

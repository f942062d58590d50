"""The decoder against scikit-learn in the full space of voxels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braindistill.errors import UserError
from braindistill.teachers.decoder import calibrate, fit_decoder_model, log_softmax


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
    model = fit_decoder_model("logistic", responses, labels, n_classes, penalty)
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
    model = fit_decoder_model("logistic", responses, labels, 3, 0.1, together=True)
    centred = responses - responses.mean(0, dtype=float)
    scale = np.sqrt((centred**2).mean(0).sum())
    reference = LogisticRegression(C=10, max_iter=5000, tol=1e-8).fit(centred / scale, labels)
    np.testing.assert_allclose(np.exp(model.predict(responses)), reference.predict_proba(centred / scale), atol=3e-3)


def test_absent_classes_are_floored() -> None:
    responses, labels = trials(40, 20, 2)
    model = fit_decoder_model("logistic", responses, np.array([1, 3])[labels], 5, 0.1)
    rows = model.predict(responses)
    assert (rows[:, [0, 2, 4]] < -11).all()
    assert np.isfinite(rows).all()
    np.testing.assert_allclose(np.exp(rows).sum(1), 1, rtol=1e-5)
    alone = fit_decoder_model("logistic", responses, labels, 2, 0.1).predict(responses)
    np.testing.assert_allclose(rows[:, [1, 3]], alone, atol=1e-4)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([1e-9, 1e-3, 1e6]), st.floats(-50, 50))
def test_units_of_voxels_do_not_matter(unit: float, offset: float) -> None:
    responses, labels = trials(30, 10, 3)
    rows = fit_decoder_model("logistic", responses, labels, 3, 0.1).predict(responses)
    moved = ((responses.astype(float) + offset) * unit).astype(np.float32)
    again = fit_decoder_model("logistic", moved, labels, 3, 0.1).predict(moved)
    np.testing.assert_allclose(again, rows, atol=0.05)


def test_constant_voxels_have_no_say() -> None:
    responses, labels = trials(30, 10, 2)
    responses[:, 3] = 0.1  # whose float32 mean is not exactly itself
    model = fit_decoder_model("logistic", responses, labels, 2, 0.1)
    assert (model.weights[3] == 0).all()
    moved = responses.copy()
    moved[:, 3] = 1e4
    np.testing.assert_array_equal(model.predict(moved), model.predict(responses))


def test_it_decodes_what_is_there() -> None:
    responses, labels = trials(80, 50, 4, separation=2.0)
    model = fit_decoder_model("logistic", responses, labels, 4, 0.1)
    new, truth = trials(40, 50, 4, seed=1, separation=2.0)
    assert (model.predict(new).argmax(1) == truth).mean() > 0.95
    assert model.predict(new).dtype == np.float32


def test_one_class_and_unknown_decoders_are_refused() -> None:
    responses, labels = trials(10, 5, 2)
    with pytest.raises(UserError, match="at least two classes"):
        fit_decoder_model("logistic", responses, np.zeros(10, int), 2, 0.1)
    with pytest.raises(UserError, match=r"teacher\.decoder=logistc.*logistic"):
        fit_decoder_model("logistc", responses, labels, 2, 0.1)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_calibration_recovers_a_known_temperature(temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 5))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(1)  # drawn from softmax(logits)
    assert calibrate(log_softmax(logits * temperature), labels) == pytest.approx(temperature, rel=0.03)


def test_calibration_stays_within_bounds() -> None:
    certain = log_softmax(np.array([[5.0, 0.0], [0.0, 5.0]]))
    assert 950 < calibrate(certain, np.array([1, 0])) <= 1000
    assert 0.05 <= calibrate(certain / 1000, np.array([0, 1])) < 0.06


@pytest.mark.parametrize(("n", "confidence"), [(4, 0.9), (40, 0.9878)])
def test_a_few_right_answers_are_not_taken_for_certainty(n: int, confidence: float) -> None:
    """All right and all alike: confidence ends where one row of doubt puts it, (n + 1 / K) / (n + 1)."""
    labels = np.arange(n) % 2
    rows = log_softmax(3 * np.eye(2)[labels])
    calibrated = log_softmax(rows / calibrate(rows, labels))
    np.testing.assert_allclose(np.exp(calibrated).max(1), confidence, atol=2e-3)


def test_log_softmax_is_normalised_and_stable() -> None:
    rows = log_softmax(np.array([[1e4, 0.0, -1e4], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(rows[1], -np.log(3), rtol=1e-6)
    assert rows[0].tolist() == [0, -1e4, -2e4]


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
    ours = fit_decoder_model("lda", responses, labels, 3, 0.1).predict(new)
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
    model = fit_decoder_model("lda", responses, np.arange(4), 4, 0.1)
    assert model.predict(responses).argmax(1).tolist() == [0, 1, 2, 3]
    assert np.isfinite(model.predict(rng.standard_normal((10, 30)))).all()


def test_lda_survives_more_voxels_than_trials_and_constant_voxels() -> None:
    rng = np.random.default_rng(2)
    labels = np.arange(40) % 2
    responses = rng.standard_normal((40, 500)) + 1.0 * labels[:, None] * (np.arange(500) < 50)
    responses[:, 7] = 3.0
    rows = fit_decoder_model("lda", responses[:30], labels[:30], 2, 0.1).predict(responses[30:])
    assert (rows.argmax(1) == labels[30:]).mean() >= 0.9

"""Scores of encoders against numbers worked out by hand, and against a subject whose ceiling is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from braindistill.teachers.scoring import CEILING_FLOOR, score_encoder, summarise_scores

#: four stimuli, three voxels: the first follows the prediction, the second goes against it, the third never changes
MEASURED = np.array([[1.0, 4.0, 5.0], [2.0, 3.0, 5.0], [3.0, 2.0, 5.0], [6.0, 1.0, 5.0]])
PREDICTED = np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 0.0], [3.0, 3.0, 1.0], [4.0, 4.0, 1.0]])
TOGETHER = np.zeros(4, int)


def test_r_and_r2_by_hand() -> None:
    found = score_encoder(PREDICTED, PREDICTED, MEASURED, None, TOGETHER)
    # deviations of voxel 0: measured −2 −1 0 3, predicted −1.5 −0.5 0.5 1.5: r = 8 / √(14 · 5)
    np.testing.assert_allclose(found["r"], [8 / np.sqrt(70), -1, 0], rtol=1e-6)
    # residuals 0 0 0 2 of a total of 14; −3 −1 1 3 of a total of 5; a voxel that never changes has nothing to explain
    np.testing.assert_allclose(found["r2"], [1 - 4 / 14, 1 - 20 / 5, 0], rtol=1e-6)
    assert set(found) == {"r", "r2", "r_fold"}
    assert {values.dtype for values in found.values()} == {np.dtype(np.float32)}


def test_normalised_scores_are_ratios_to_the_ceiling_unclipped_and_none_under_the_floor() -> None:
    ceiling = np.array([0.25, CEILING_FLOOR, CEILING_FLOOR - 1e-3])
    found = score_encoder(PREDICTED, PREDICTED, MEASURED, ceiling, TOGETHER)
    np.testing.assert_allclose(found["r_normalised"][:2], [8 / np.sqrt(70) / 0.5, -1 / np.sqrt(0.05)], rtol=1e-6)
    np.testing.assert_allclose(found["r2_normalised"][:2], [(10 / 14) / 0.25, -3 / 0.05], rtol=1e-6)
    assert found["r_normalised"][0] > 1, "more than the ceiling says can be explained is shown as it is"
    assert np.isnan(found["r_normalised"][2])
    assert np.isnan(found["r2_normalised"][2])
    np.testing.assert_allclose(found["ceiling_r2"], ceiling, rtol=1e-6)
    unknown = score_encoder(PREDICTED, PREDICTED, MEASURED, np.array([np.nan, 0.5, -0.2]), TOGETHER)
    assert np.isnan(unknown["r_normalised"]).tolist() == [True, False, True]


def test_r_of_each_fold_and_of_all_without_the_folds_own_means() -> None:
    rng = np.random.default_rng(0)
    measured = rng.normal(size=(11, 4))
    deviation = measured + rng.normal(size=(11, 4))
    fold = np.array([0] * 5 + [1] * 4 + [2] * 2)
    shifted = deviation + np.array([10.0, -10.0, 5.0])[fold][:, None]
    found = score_encoder(shifted, deviation, measured, None, fold)
    assert found["r_fold"].shape == (3, 4)
    for voxel in range(4):
        pooled = np.corrcoef(deviation[:, voxel], measured[:, voxel])[0, 1]
        assert found["r"][voxel] == pytest.approx(pooled, abs=1e-6), "intercepts of folds don't enter"
        for k in range(2):
            own = np.corrcoef(deviation[fold == k, voxel], measured[fold == k, voxel])[0, 1]
            assert found["r_fold"][k, voxel] == pytest.approx(own, abs=1e-6)
    assert np.isnan(found["r_fold"][2]).all(), "two stimuli always lie on a line"


def test_a_summary_names_its_units_and_looks_at_its_own_voxels() -> None:
    rng = np.random.default_rng(1)
    measured = rng.normal(size=(30, 50))
    predicted = measured + rng.normal(size=(30, 50))
    ceiling = np.linspace(0, 0.9, 50)
    fold = np.r_[np.arange(28) % 3, [3, 3]]
    found = score_encoder(predicted, predicted, measured, ceiling, fold)
    index = np.arange(5, 25)
    summary = summarise_scores(found, index, "4 folds by stimulus")
    assert list(summary) == [
        "r_median", "r_p95", "r_max", "r2_median", "r_median_per_fold", "n_voxels", "scheme", "ceiling_r2_median",
        "ceiling_floor_r2", "n_voxels_above_floor", "r_normalised_median", "r2_normalised_median",
    ]  # fmt: skip
    assert summary["r_median"] == pytest.approx(np.median(found["r"][index]))
    assert summary["r_p95"] == pytest.approx(np.percentile(found["r"][index].astype(float), 95))
    assert summary["r_max"] == found["r"][index].max()
    assert summary["r2_median"] == pytest.approx(np.median(found["r2"][index]))
    assert summary["r_median_per_fold"][:3] == pytest.approx(np.median(found["r_fold"][:3, index], 1).tolist())
    assert summary["r_median_per_fold"][3] is None, "JSON has no NaN"
    assert summary["n_voxels"] == 20
    assert summary["scheme"] == "4 folds by stimulus, Pearson r pooled over folds"
    above = index[ceiling[index] >= CEILING_FLOOR]
    assert summary["n_voxels_above_floor"] == len(above) == 20 + 5 - 5 - 0
    assert summary["r_normalised_median"] == pytest.approx(np.median(found["r"][above] / np.sqrt(ceiling[above])))
    assert summary["r2_normalised_median"] == pytest.approx(np.median(found["r2"][above] / ceiling[above]), rel=1e-5)
    bare = summarise_scores(score_encoder(predicted, predicted, measured, None, fold), index, "x")
    assert list(bare) == list(summary)[:7]
    nothing = summarise_scores(score_encoder(predicted, predicted, measured, ceiling * 0, fold), index, "x")
    assert nothing["n_voxels_above_floor"] == 0
    assert "r_normalised_median" not in nothing


@pytest.mark.parametrize("ceiling", [0.2, 0.5, 0.8])
def test_the_true_model_reaches_a_planted_ceiling(ceiling: float) -> None:
    """Signal of variance 1 and noise of variance 1 / ceiling − 1: the truth explains exactly the ceiling."""
    rng = np.random.default_rng(2)
    signal = rng.normal(size=(400, 60))
    measured = signal + rng.normal(size=(400, 60)) * np.sqrt(1 / ceiling - 1)
    found = score_encoder(signal, signal, measured, np.full(60, ceiling), np.arange(400) % 5)
    summary = summarise_scores(found, np.arange(60), "planted")
    assert summary["r_normalised_median"] == pytest.approx(1, abs=0.03)
    assert summary["r2_normalised_median"] == pytest.approx(1, abs=0.05)
    assert (found["r_normalised"] > 1).any(), "half of the voxels lie above by chance"


def test_a_fitted_encoder_is_normalised_by_the_ceiling_of_its_data(fit: Callable, make_subject: Callable) -> None:
    subject = make_subject(60, 2, repeats=3)
    subject.ceiling = np.linspace(0.01, 0.8, 30).astype(np.float32)
    teacher = fit("encoder", subject, n_folds=4)
    kept = ~subject.rois["nuisance"]
    scores = teacher.voxel_scores
    np.testing.assert_array_equal(scores["ceiling_r2"], subject.ceiling[kept])
    usable = scores["ceiling_r2"] >= CEILING_FLOOR
    np.testing.assert_array_equal(np.isnan(scores["r_normalised"]), ~usable)
    expected = scores["r"][usable] / np.sqrt(scores["ceiling_r2"][usable])
    np.testing.assert_allclose(scores["r_normalised"][usable], expected, rtol=1e-5)
    assert teacher.scores["roi"]["left"]["encoder"]["n_voxels_above_floor"] == usable[:15].sum()
    assert len(teacher.scores["encoder"]["r_median_per_fold"]) == 4

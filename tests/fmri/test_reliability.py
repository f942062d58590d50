from __future__ import annotations

import numpy as np
import pytest

import braindistill.fmri
from braindistill.fmri.reliability import explainable_variance, ncsnr, noise_ceiling, split_half


def simulate(
    counts: np.ndarray, signal: float, noise: float, voxels: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Trials in random order with known signal and noise variances."""
    generator = np.random.default_rng(seed)
    stimulus = generator.permutation(np.repeat(np.arange(len(counts)), counts))
    patterns = generator.normal(size=(len(counts), voxels)) * np.sqrt(signal)
    trials = patterns[stimulus] + generator.normal(size=(len(stimulus), voxels)) * np.sqrt(noise) + 3
    return trials.astype(np.float32), np.array([f"s{i}" for i in stimulus])


@pytest.mark.parametrize(("signal", "noise"), [(1.0, 1.0), (1.0, 4.0), (4.0, 1.0)])
def test_the_ceiling_of_unequal_repeats_is_known(signal: float, noise: float) -> None:
    counts = np.random.default_rng(1).integers(2, 11, size=300)
    ceiling = noise_ceiling(*simulate(counts, signal, noise, voxels=400))
    assert ceiling is not None
    truth = signal / (signal + noise * np.mean(1 / counts))
    assert ceiling.mean() == pytest.approx(truth, rel=0.02)
    assert ceiling.std() < 0.06


def test_the_ceiling_is_unbiased_where_few_stimuli_repeat_often() -> None:
    counts = np.full(30, 10)  # the uncorrected total variance would be 3 % short of signal
    ratio = [noise_ceiling(*simulate(counts, 1.0, 1.0, voxels=2000, seed=seed)) for seed in range(2)]
    assert np.mean(ratio) == pytest.approx(1 / 1.1, rel=0.01)


def test_single_trials_count_for_the_signal_and_the_mean_of_repeats() -> None:
    counts = np.array([1] * 200 + [3] * 200)
    ceiling = noise_ceiling(*simulate(counts, 1.0, 1.0, voxels=300))
    assert np.mean(ceiling) == pytest.approx(1 / (1 + (1 + 1 / 3) / 2), rel=0.02)


def test_the_ceiling_is_the_explainable_variance_of_the_mean() -> None:
    generator = np.random.default_rng(2)
    stimulus = np.repeat(np.arange(500), 4)
    pattern = generator.normal(size=(500, 50))
    trials = pattern[stimulus] + 2 * generator.normal(size=(2000, 50))
    mean = trials.reshape(500, 4, 50).mean(axis=1)
    reached = [np.corrcoef(a, b)[0, 1] ** 2 for a, b in zip(pattern.T, mean.T, strict=True)]  # by the true model
    ceiling = noise_ceiling(trials, stimulus.astype(str))
    assert np.mean(ceiling) == pytest.approx(np.mean(reached), abs=0.02)


def test_single_trial_data_have_no_ceiling() -> None:
    assert noise_ceiling(np.ones((4, 2), np.float32), np.array(list("abcd"))) is None
    assert split_half(np.ones((4, 2), np.float32), np.array(list("abcd"))) is None


def test_noise_has_a_ceiling_near_zero_and_a_perfect_voxel_one() -> None:
    trials, ids = simulate(np.full(200, 5), 0.0, 1.0, voxels=50)
    trials[:, 0] = np.unique(ids, return_inverse=True)[1]
    trials[:, 1] = 5
    ceiling = noise_ceiling(trials, ids)
    assert ceiling is not None
    assert ceiling[0] == pytest.approx(1)
    assert ceiling[1] == 0
    assert ceiling[2:].min() >= 0
    assert ceiling[2:].mean() < 0.1


def test_ceilings_do_not_depend_on_scale_order_or_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    trials, ids = simulate(np.full(20, 3), 1.0, 1.0, voxels=11)
    expected, halves = noise_ceiling(trials, ids), split_half(trials, ids, n_splits=5)
    order = np.random.default_rng(0).permutation(len(ids))
    np.testing.assert_allclose(noise_ceiling(trials[order] * 8 + 16, ids[order]), expected, rtol=1e-4)
    monkeypatch.setattr("braindistill.fmri.reliability.BLOCK", 3 * len(ids))
    monkeypatch.setattr("braindistill.fmri.reliability.COLUMNS", 3 * len(ids))
    np.testing.assert_allclose(noise_ceiling(trials, ids), expected, rtol=1e-5)
    np.testing.assert_allclose(split_half(trials, ids, n_splits=5), halves)


def test_split_half_matches_the_ceiling_of_equal_repeats() -> None:
    trials, ids = simulate(np.full(200, 4), 1.0, 1.0, voxels=200)
    reliability = split_half(trials, ids, n_splits=20)
    assert np.mean(reliability) == pytest.approx(1 / (1 + 1 / 4), abs=0.01)


def test_two_repeats_are_corrected_by_spearman_brown() -> None:
    trials, ids = simulate(np.full(50, 2), 1.0, 1.0, voxels=3)
    order = np.argsort(ids, kind="stable")
    pairs = trials[order].reshape(50, 2, 3)
    r = np.array([np.corrcoef(pairs[:, 0, v], pairs[:, 1, v])[0, 1] for v in range(3)])
    reliability = split_half(trials, ids, n_splits=200)
    np.testing.assert_allclose(reliability, 2 * r / (1 + r), atol=0.03)


def test_splits_follow_the_seed() -> None:
    trials, ids = simulate(np.full(20, 4), 1.0, 1.0, voxels=3)
    first = split_half(trials, ids, n_splits=3, seed=1)
    np.testing.assert_array_equal(first, split_half(trials, ids, n_splits=3, seed=1))
    assert not np.array_equal(first, split_half(trials, ids, n_splits=3, seed=2))


def test_two_repeated_stimuli_give_no_correlation() -> None:
    assert split_half(np.random.default_rng(0).normal(size=(4, 2)), np.array(list("aabb"))) is None


def test_the_package_exports_them() -> None:
    assert braindistill.fmri.noise_ceiling is noise_ceiling
    assert {"noise_ceiling", "split_half", "load_bids", "Responses"} <= set(dir(braindistill.fmri))


@pytest.mark.parametrize(("signal", "noise"), [(1.0, 1.0), (1.0, 4.0), (4.0, 1.0)])
def test_every_estimate_of_2_to_10_unequal_repeats_is_within_2_percent(signal: float, noise: float) -> None:
    counts = np.random.default_rng(1).integers(2, 11, size=300)
    trials, ids = simulate(counts, signal, noise, voxels=400)
    explained, snr = explainable_variance(trials, ids), ncsnr(trials, ids)
    assert explained is not None
    assert explained.mean() == pytest.approx(signal / (signal + noise), rel=0.02)
    assert np.mean(snr) == pytest.approx(np.sqrt(signal / noise), rel=0.02)
    reliability = split_half(trials[:, :100], ids, n_splits=10)
    assert np.mean(reliability) == pytest.approx(signal / (signal + noise * np.mean(1 / counts)), rel=0.02)


def test_explainable_variance_is_the_voxelwise_formula_for_equal_repeats() -> None:
    generator = np.random.default_rng(0)
    runs = generator.normal(size=(50, 7)) + generator.normal(size=(4, 50, 7))  # repeats × stimuli × voxels
    total = runs.mean(axis=0).var(axis=0, ddof=1) + 0.75 * runs.var(axis=0, ddof=1).mean(axis=0)
    biased = runs.mean(axis=0).var(axis=0, ddof=1) / total
    found = explainable_variance(runs.reshape(200, 7), np.tile(np.arange(50).astype(str), 4))
    np.testing.assert_allclose(found, biased - (1 - biased) / 3, rtol=1e-4)


def test_noise_explains_nothing_on_average_and_single_trials_yield_none() -> None:
    trials, ids = simulate(np.full(200, 3), 0.0, 1.0, voxels=400)
    trials[:, 0] = 5
    explained = explainable_variance(trials, ids)
    assert explained is not None
    assert abs(explained.mean()) < 0.01
    assert explained.min() < 0
    assert explained[0] == 0
    assert explainable_variance(trials, np.arange(600).astype(str)) is None
    assert ncsnr(trials, np.arange(600).astype(str)) is None


def test_some_trials_are_those_trials_alone() -> None:
    trials, ids = simulate(np.full(30, 4), 1.0, 1.0, voxels=5)
    chosen = np.flatnonzero(np.random.default_rng(0).random(120) < 0.6)
    np.testing.assert_allclose(
        noise_ceiling(trials, ids, chosen), noise_ceiling(trials[chosen], ids[chosen]), rtol=1e-5
    )
    np.testing.assert_allclose(split_half(trials, ids, chosen), split_half(trials[chosen], ids[chosen]))

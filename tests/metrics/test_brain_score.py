from __future__ import annotations

import numpy as np
import pytest

from braindistill.metrics.brain_score import brain_score


def planted(seed: int = 0, images: int = 120, features: int = 20, voxels: int = 6, noise: float = 1.0):
    """Features, responses that are linear in them but for noise, and folds."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(images, features)) * np.linspace(0.3, 2, features) + rng.normal(size=features)
    signal = (x - x.mean(0)) @ rng.normal(size=(features, voxels))
    signal /= signal.std(axis=0)
    return x, signal + noise * rng.normal(size=signal.shape) + 3, rng.permutation(np.arange(images) % 5)


@pytest.mark.parametrize("features", [20, 300])  # fewer than rows, and more
def test_sklearn_predicts_the_same_at_the_chosen_penalties(features: int) -> None:
    from sklearn.linear_model import Ridge

    x, y, folds = planted(features=features)
    found = brain_score(x, y, folds)
    deviation, whole = np.empty_like(y), np.empty_like(y)
    for k in range(5):
        train = folds != k
        size = ((x[train] - x[train].mean(0)) ** 2).sum() / train.sum()
        for voxel in range(y.shape[1]):
            ridge = Ridge(found.penalty[k, voxel] * train.sum() * size).fit(x[train], y[train, voxel])
            whole[~train, voxel] = ridge.predict(x[~train])
            deviation[~train, voxel] = whole[~train, voxel] - y[train, voxel].mean()
    r = [np.corrcoef(deviation[:, v], y[:, v])[0, 1] for v in range(y.shape[1])]
    assert found.r == pytest.approx(np.array(r), abs=1e-8)
    assert found.r2 == pytest.approx(1 - ((y - whole) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0), abs=1e-8)


def test_the_penalty_is_that_of_least_leave_one_out_error() -> None:
    from sklearn.linear_model import Ridge

    x, y, folds = planted(images=30, features=8, voxels=2, noise=2.0)
    alphas = [0.01, 0.1, 1.0, 10.0]
    found = brain_score(x, y, folds, alphas=alphas)
    train = folds != 0
    a, b, n = x[train], y[train], int(train.sum())
    size = ((a - a.mean(0)) ** 2).sum() / n  # the scale is that of all training rows, as there
    errors = np.zeros((len(alphas), 2))
    for row, alpha in enumerate(alphas):
        for out in range(n):
            rest = np.arange(n) != out
            ridge = Ridge(alpha * n * size).fit(a[rest], b[rest])
            errors[row] += (b[out] - ridge.predict(a[out : out + 1])[0]) ** 2
    assert found.penalty[0].tolist() == [alphas[best] for best in errors.argmin(0)]


def test_a_planted_signal_reaches_its_ceiling_and_noise_reaches_nothing() -> None:
    x, y, folds = planted(images=600, noise=1.0)
    y[:, 3:] = np.random.default_rng(9).normal(size=(600, 3))
    found = brain_score(x, y, folds, reliability=[0.5, 0.5, 0.5, 0.5, 0.01, -0.1])
    assert found.ceiling_r == pytest.approx([np.sqrt(0.5)] * 4 + [0.1, np.nan], nan_ok=True)
    assert found.normalised_r[:3] == pytest.approx([1, 1, 1], abs=0.12)
    assert found.normalised_r[0] == pytest.approx(found.r[0] / np.sqrt(0.5))
    assert np.abs(found.r[3:]).max() < 5 / np.sqrt(600)
    assert np.isnan(found.normalised_r[4:]).all()  # under the floor
    assert np.abs(found.penalty[:, :3]).max() < found.penalty[:, 3:].max()
    summary = found.summary()
    assert summary["n_voxels_above_floor"] == 4
    assert summary["r_normalised_median"] == pytest.approx(np.median(found.normalised_r[:4]))


def test_normalised_scores_are_not_clipped() -> None:
    x, y, folds = planted(noise=0.01)
    found = brain_score(x, y, folds, reliability=np.full(6, 0.25))
    assert (found.normalised_r > 1.5).all()


def test_voxels_that_nothing_predicts_lean_below_zero_by_no_more_than_stated() -> None:
    for images, width, n_folds in ((100, 10, 5), (40, 100, 8)):
        means = []
        for seed in range(10):
            rng = np.random.default_rng(seed)
            x, y = rng.normal(size=(images, width)), rng.normal(size=(images, 40))
            means.append(brain_score(x, y, np.arange(images) % n_folds).r.mean())
        assert -1.2 / np.sqrt(images) < np.mean(means) < 0.2 / np.sqrt(images)  # with the intercept about twice as low


def test_unit_shift_and_size_of_features_and_responses_do_not_matter() -> None:
    x, y, folds = planted()
    found, other = brain_score(x, y, folds), brain_score(1e4 * x + 50, 1e-3 * y + 7, folds)
    assert other.r == pytest.approx(found.r, abs=1e-6)
    assert other.r2 == pytest.approx(found.r2, abs=1e-6)
    single = brain_score(x.astype(np.float32), y.astype(np.float32), np.array(list("abcde"))[folds])
    assert single.r == pytest.approx(found.r, abs=1e-4)


def test_constant_features_and_voxels_score_nothing() -> None:
    x, y, folds = planted()
    flat = brain_score(np.full_like(x, 0.1), y, folds)
    assert flat.r.tolist() == [0] * 6
    assert (flat.r2 <= 0).all()
    y[:, 0] = 4
    assert brain_score(x, y, folds).r[0] == 0
    summary = brain_score(x, y, folds).summary()
    assert summary["r_normalised_median"] is None
    assert summary["n_voxels_above_floor"] == 0


def test_blocks_of_voxels_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from braindistill.metrics import brain_score as module

    x, y, folds = planted()
    whole = brain_score(x, y, folds)
    monkeypatch.setattr(module, "_BLOCK", 200)
    assert brain_score(x, y, folds).r == pytest.approx(whole.r, abs=1e-12)


def test_what_cannot_be_scored_is_refused() -> None:
    x, y, folds = planted()
    with pytest.raises(ValueError, match="equally many rows"):
        brain_score(x[:-1], y, folds)
    with pytest.raises(ValueError, match="NaN"):
        brain_score(x, y * np.nan, folds)
    with pytest.raises(ValueError, match="folds"):
        brain_score(x, y, np.zeros(len(x)))
    with pytest.raises(ValueError, match="reliability"):
        brain_score(x, y, folds, reliability=[0.5])
    with pytest.raises(ValueError, match="floor_r2"):
        brain_score(x, y, folds, floor_r2=0)

"""The penalties that himalaya chooses: the same as by hand, the right band, on either backend."""

from __future__ import annotations

import numpy as np
import pytest

from braindistill import fmri
from braindistill.runtime import find_data
from braindistill.teachers import penalties
from braindistill.teachers.encoder import Ridge, fit_ridge
from braindistill.teachers.penalties import ALPHAS
from braindistill.teachers.stimulus_features import StimulusFeatures


def fit(
    features: np.ndarray, responses: np.ndarray, bands: list[tuple[str, int]] | None = None, **options: object
) -> Ridge:
    return fit_ridge(StimulusFeatures.of(features, bands), np.arange(len(features)), responses, **options)  # type: ignore[arg-type]


def scaled(model: Ridge, features: np.ndarray) -> np.ndarray:
    return ((features - model.mean) / np.repeat(model.scale, model.widths)).astype(np.float64)


def problem(n: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    features = rng.normal(3, rng.uniform(0.5, 20, width), (n, width)).astype(np.float32)
    clean = (features - 3) @ rng.normal(0, 1 / 20, (width, 6))
    return features, (5 + clean + rng.normal(size=clean.shape)).astype(np.float32)


def test_digits69_equals_himalaya_and_scikit_learn_called_by_hand_on_the_same_folds() -> None:
    from himalaya.kernel_ridge import KernelRidgeCV
    from sklearn.linear_model import Ridge as Reference

    if find_data("digits69/digit69.mat") is None:
        pytest.skip("digits69 is not here; scripts/download_data.py gets it")
    data = fmri.load("digits69")
    assert data.images is not None
    responses, names = data.average()
    assert data.image_id is not None
    place = {name: row for row, name in enumerate(data.image_id.tolist())}
    pixels = data.images[[place[name] for name in names.tolist()]].reshape(len(names), -1).astype(np.float32) / 255
    stimuli = StimulusFeatures.of(pixels)
    for k in range(3):
        held = np.arange(len(names)) % 5 == k
        rows = np.flatnonzero(~held)
        model = fit_ridge(stimuli, rows, responses[rows])
        centred = pixels[rows] - pixels[rows].mean(0)
        scale = np.sqrt(np.square(centred, dtype=np.float64).mean(0).sum())
        new = (pixels[held] - pixels[rows].mean(0)) / scale
        by_hand = KernelRidgeCV(
            alphas=ALPHAS * len(rows),
            cv=penalties._inner_folds(len(rows), 5),
            solver_params={"n_targets_batch": None},
        )
        by_hand.fit((centred / scale).astype(np.float32), responses[rows] - responses[rows].mean(0))
        np.testing.assert_allclose(model.alphas, by_hand.best_alphas_, rtol=1e-4)
        wanted = by_hand.predict(new.astype(np.float32)) + responses[rows].mean(0)
        assert np.abs(model.predict(pixels[held]) - wanted).max() < 1e-4
        alpha = np.unique(model.alphas)[0]
        voxels = model.alphas == alpha
        reference = Reference(alpha=float(alpha)).fit(centred.astype(float) / scale, responses[rows][:, voxels])
        assert np.abs(model.predict(pixels[held])[:, voxels] - reference.predict(new.astype(float))).max() < 1e-4


def test_the_backend_of_torch_gives_the_same_and_himalayas_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from himalaya.backend import get_backend, set_backend

    before = get_backend().name
    fitted = {}
    for name in ("numpy", "torch"):
        # the GPU's backend is the same code on another device
        monkeypatch.setattr("himalaya.backend.set_backend", lambda chosen, name=name: set_backend(name))
        for width in (10, 30):
            features, responses = problem(20, width)
            model = fit(features, responses, [("a", 4), ("b", width - 4)], banded=True)
            fitted[name, width] = (model.alphas, model.predict(features))
        monkeypatch.undo()
        set_backend(before)
    for width in (10, 30):
        for mine, other in zip(fitted["numpy", width], fitted["torch", width], strict=True):
            np.testing.assert_allclose(mine, other, rtol=2e-3, atol=2e-3)
    set_backend("torch")
    try:
        fit(*problem(12, 3))
        assert get_backend().name == "torch"
    finally:
        set_backend(before)


@pytest.mark.parametrize(("n", "width"), [(80, 40), (60, 300)])
def test_banded_ridge_recovers_which_band_drives_which_voxel(n: int, width: int) -> None:
    rng = np.random.default_rng(7)
    features = rng.normal(size=(n, width)).astype(np.float32)
    features[:, width // 2 :] *= 30  # another unit
    drives = np.arange(100) % 2
    weights = rng.normal(size=(width, 100))
    weights[: width // 2, drives == 1] = 0
    weights[width // 2 :, drives == 0] = 0
    clean = features @ weights
    clean /= clean.std(0)
    responses = (clean + 0.5 * rng.normal(size=clean.shape)).astype(np.float32)
    bands = [("first", width // 2), ("second", width - width // 2)]
    model = fit(features, responses, bands, banded=True)
    assert (model.mixture.argmax(0) == drives).mean() > 0.95
    np.testing.assert_allclose(model.mixture.sum(0), 1, rtol=1e-5)
    parts = scaled(model, features)
    np.testing.assert_allclose(
        [np.square(parts[:, : width // 2]).mean(0).sum(), np.square(parts[:, width // 2 :]).mean(0).sum()], 1, rtol=1e-4
    )
    # predictions are those of the closed form with a penalty a band
    voxel = 3
    penalty = np.repeat(model.alphas[voxel] / model.mixture[:, voxel].astype(float), model.widths)
    target = responses[:, voxel] - responses[:, voxel].mean()
    slopes = np.linalg.solve(parts.T @ parts + np.diag(penalty), parts.T @ target)
    new = rng.normal(size=(7, width)).astype(np.float32)
    wanted = scaled(model, new) @ slopes + responses[:, voxel].mean()
    np.testing.assert_allclose(model.predict(new)[:, voxel], wanted, rtol=1e-2, atol=1e-2)

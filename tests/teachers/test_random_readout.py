"""Random readouts share with the voxels all that does not come from the brain: spectrum, variances, noise and ceilings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braindistill.errors import UserError
from braindistill.fmri.reliability import noise_ceiling
from braindistill.fmri.responses import Responses
from braindistill.teachers.controls import control_responses
from braindistill.teachers.options import VoxelOptions
from braindistill.teachers.random_readout import random_readout
from braindistill.teachers.stimulus_features import StimulusFeatures

Make = Callable[..., Responses]


def plant(
    seed: int, n: int = 60, voxels: int = 40, repeats: int = 3, shared_noise: float = 1.0, snr: float = 1.0
) -> tuple[Responses, np.ndarray]:
    """A subject whose voxels differ in their ceiling and share noise, and the truth: each voxel's ceiling."""
    rng = np.random.default_rng(seed)
    depth = np.exp(-4 * np.arange(n) / n)
    signal = (rng.normal(size=(n, n)) * depth) @ rng.normal(size=(n, voxels)) / np.sqrt(depth @ depth)
    size = snr * rng.uniform(0.2, 2, voxels)
    ids = np.array([f"s{row:03d}" for row in rng.permutation(n)])
    order = np.concatenate([rng.permutation(n) for _ in range(repeats)])
    noise = rng.normal(size=(len(order), voxels)) + shared_noise * rng.normal(size=(len(order), 1))
    responses = (10 + signal[order] * size + noise).astype(np.float32)
    power = size**2
    truth = power / (power + (1 + shared_noise**2) / repeats)
    runs = np.array([f"r{place % 3}" for place in range(len(order))])
    return Responses(responses, ids[order], run=runs, rois={"V1": np.arange(voxels) < 20}), truth


def features_of(responses: Responses, width: int, seed: int = 9) -> StimulusFeatures:
    names = np.unique(responses.stimulus_id)
    values = np.random.default_rng(seed).normal(size=(len(names), width)) * np.exp(-3 * np.arange(width) / width)
    return StimulusFeatures.of((5 + values).astype(np.float32), stimulus_id=names)


def patterns(responses: Responses) -> np.ndarray:
    averaged, names = responses.average()
    averaged = averaged[np.argsort(names)].astype(np.float64)
    return averaged - averaged.mean(0)


def spectrum(responses: Responses) -> np.ndarray:
    return np.linalg.svd(patterns(responses), compute_uv=False) ** 2


def residuals(responses: Responses) -> np.ndarray:
    averaged, names = responses.average()
    order = np.argsort(names)
    return responses.responses - averaged[order][np.searchsorted(names[order], responses.stimulus_id)]


def share_of(stimuli: StimulusFeatures, control: Responses) -> np.ndarray:
    """The share of each voxel's variance over stimuli that a regression on the features explains."""
    inputs = stimuli.values - stimuli.values.mean(0)
    averaged = patterns(control)
    left = averaged - inputs @ np.linalg.lstsq(inputs, averaged, rcond=None)[0]
    return 1 - (left**2).sum(0) / (averaged**2).sum(0)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 1000),
    voxels=st.sampled_from([20, 40, 90]),
    repeats=st.sampled_from([2, 4]),
    width=st.sampled_from([60, 200]),
    shared=st.sampled_from([0.0, 2.0]),
)
def test_spectrum_variances_and_ceilings_are_those_of_the_voxels(
    seed: int, voxels: int, repeats: int, width: int, shared: float
) -> None:
    subject, _ = plant(seed, 40, voxels, repeats, shared)
    control = random_readout(subject, features_of(subject, width), seed)
    wanted, found = spectrum(subject), spectrum(control)
    counted = wanted > 1e-5 * wanted[0]
    np.testing.assert_allclose(found[counted], wanted[counted], rtol=0.01)
    np.testing.assert_allclose(patterns(control).var(0), patterns(subject).var(0), rtol=1e-3)
    np.testing.assert_allclose((residuals(control) ** 2).sum(0), (residuals(subject) ** 2).sum(0), rtol=1e-3)
    ceilings = [noise_ceiling(each.responses, each.stimulus_id) for each in (subject, control)]
    np.testing.assert_allclose(ceilings[1], ceilings[0], atol=1e-3)
    np.testing.assert_allclose(control.responses.mean(0), subject.responses.mean(0), atol=1e-3)
    assert control.preparation is not None
    assert control.preparation["random_readout"]["ceilings"] == "repeats"


@pytest.mark.parametrize("width", [12, 40])
def test_the_share_that_features_explain_is_the_ceiling_of_each_voxel(width: int) -> None:
    """Not only by the estimate from repeats: a regression on the true features explains as much, and no more.

    Twelve features are too few for the spectrum; ceilings hold all the same.
    """
    subject, truth = plant(1, n=400, voxels=60)
    stimuli = features_of(subject, width)
    control = random_readout(subject, stimuli, 0)
    explained = share_of(stimuli, control)
    ceiling = noise_ceiling(subject.responses, subject.stimulus_id)
    assert ceiling is not None
    by_chance = (1 - ceiling) * width / 400
    assert abs(explained - ceiling - by_chance).max() < 0.06
    assert np.corrcoef(explained, truth)[0, 1] > 0.97
    assert explained.mean() == pytest.approx(truth.mean(), abs=0.06)


def test_nothing_of_the_responses_is_left_but_the_noise_keeps_its_correlations() -> None:
    subject, _ = plant(2, n=150, voxels=30, shared_noise=2.0)
    control = random_readout(subject, features_of(subject, 300), 0)
    same = [np.corrcoef(a, b)[0, 1] for a, b in zip(patterns(subject).T, patterns(control).T, strict=True)]
    assert np.abs(same).max() < 4.5 / np.sqrt(150)
    both = [np.corrcoef(residuals(each).T)[np.triu_indices(30, 1)] for each in (subject, control)]
    assert both[0].mean() > 0.7
    assert both[1].mean() == pytest.approx(both[0].mean(), abs=0.05)


def test_trials_ids_runs_and_masks_stay(make_subject: Make) -> None:
    subject = make_subject(20, 2, repeats=3, runs=3)
    control = random_readout(subject, features_of(subject, 10), 0)
    for name in ("stimulus_id", "run", "label", "images", "image_id", "rois"):
        assert getattr(control, name) is getattr(subject, name), name
    assert (control.responses.shape, control.responses.dtype) == (subject.responses.shape, np.float32)
    control.check()


def test_it_is_redrawn_with_the_seed_and_does_not_depend_on_more_stimuli_having_features() -> None:
    subject, _ = plant(3, n=30)
    stimuli = features_of(subject, 8)
    first = random_readout(subject, stimuli, 4).responses
    np.testing.assert_array_equal(random_readout(subject, stimuli, 4).responses, first)
    other = random_readout(subject, stimuli, 5).responses
    assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.5
    more = StimulusFeatures.of(
        np.concatenate([stimuli.values[:1] + 3, stimuli.values]),
        stimulus_id=np.concatenate([np.array(["a"]), stimuli.stimulus_id]),
    )
    np.testing.assert_allclose(random_readout(subject, more, 4).responses, first, atol=1e-2)


def test_the_gram_matrix_and_the_values_give_readouts_of_the_same_features() -> None:
    subject, _ = plant(4, n=30)
    stimuli = features_of(subject, 100)
    assert stimuli.gram is not None
    without = dataclasses.replace(stimuli, gram=None)
    both = [spectrum(random_readout(subject, each, 0)) for each in (stimuli, without)]
    np.testing.assert_allclose(both[0], both[1], rtol=0.01, atol=1e-3)


def test_without_repeats_there_is_signal_only_and_it_says_so() -> None:
    subject, _ = plant(5, n=40, repeats=1)
    control = random_readout(subject, features_of(subject, 60), 0)
    assert control.preparation is not None
    assert control.preparation["random_readout"]["ceilings"] == "no ceilings: signal only"
    np.testing.assert_allclose(control.responses.var(0), subject.responses.var(0), rtol=1e-3)
    wanted = spectrum(subject)
    np.testing.assert_allclose(
        spectrum(control)[wanted > 1e-5 * wanted[0]], wanted[wanted > 1e-5 * wanted[0]], rtol=0.01
    )


def test_single_trials_take_the_ceilings_of_the_data() -> None:
    subject, _ = plant(6, n=200, repeats=1)
    subject.ceiling = np.linspace(0.05, 0.95, 40)
    stimuli = features_of(subject, 10)
    control = random_readout(subject, stimuli, 0)
    assert abs(share_of(stimuli, control) - subject.ceiling).max() < 0.1


def test_features_that_are_too_narrow_are_warned_about(capsys: pytest.CaptureFixture) -> None:
    subject, _ = plant(7, n=40, repeats=1)
    random_readout(subject, features_of(subject, 5), 0)
    assert "% only: the features have 5 dimensions, the voxels 39" in capsys.readouterr().err


def test_it_is_a_control_of_a_teachers_voxels() -> None:
    subject, _ = plant(8, n=30)
    stimuli = features_of(subject, 20)
    options = VoxelOptions(roi="V1", control="random_readout")
    control = control_responses(subject, options, 0, stimuli)
    assert control.responses.shape == (90, 20)
    np.testing.assert_array_equal(control.responses, random_readout(subject.select("V1"), stimuli, 0).responses)
    with pytest.raises(UserError, match=r"random_readout reads the features of an encoder.*teacher=brain"):
        control_responses(subject, options, 0)
    some = StimulusFeatures.of(stimuli.values[1:], stimulus_id=stimuli.stimulus_id[1:])
    with pytest.raises(UserError, match="1 stimuli have no features: s000"):
        control_responses(subject, options, 0, some)
    two = subject.without(np.unique(subject.stimulus_id)[2:])
    with pytest.raises(UserError, match="2 stimuli are too few"):
        random_readout(two, stimuli, 0)

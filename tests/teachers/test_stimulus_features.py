"""Features of stimuli: joined on ids, their Gram matrices, and back from disk."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.teachers import stimulus_features
from braindistill.teachers.options import FeatureOptions
from braindistill.teachers.stimulus_features import StimulusFeatures, extract_stimuli


def subject(n: int = 5) -> Responses:
    rng = np.random.default_rng(0)
    names = np.array(["e", "b", "d", "a", "c"][:n])
    images = rng.integers(0, 256, (n + 1, 1, 6, 6)).astype(np.uint8)
    trials = np.concatenate([names, names[::-1]])
    return Responses(np.zeros((2 * n, 3), np.float32), trials, images=images, image_id=np.array(["unseen", *names]))


def centred_gram(values: np.ndarray) -> np.ndarray:
    centred = values.astype(np.float64) - values.mean(0, dtype=np.float64)
    return centred @ centred.T


def test_rows_are_the_pictures_of_the_sorted_stimuli() -> None:
    data = subject()
    stimuli = extract_stimuli(data, FeatureOptions("pixels"))
    assert stimuli.stimulus_id.tolist() == ["a", "b", "c", "d", "e"]
    assert data.images is not None
    np.testing.assert_allclose(stimuli.values, data.images[[4, 2, 5, 3, 1]].reshape(5, 36) / 255, rtol=1e-6)
    assert stimuli.bands == [("pixels", 36)]
    assert stimuli.gram is not None
    np.testing.assert_allclose(stimuli.gram[0], centred_gram(stimuli.values), rtol=1e-4, atol=1e-5)


def test_layers_are_bands_with_gram_matrices_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stimulus_features, "_LEAST_COLUMNS", 3)
    options = FeatureOptions("network", "small_cnn", ["0", "3"], image_size=8)
    stimuli = extract_stimuli(subject(), options)
    assert stimuli.bands == [("0", 64), ("3", 64)]
    assert stimuli.gram is not None
    for gram, columns in zip(stimuli.gram, (slice(0, 64), slice(64, 128)), strict=True):
        np.testing.assert_allclose(gram, centred_gram(stimuli.values[:, columns]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("width", "there"), [(5, False), (6, True)])
def test_narrow_features_have_no_gram_matrix(width: int, there: bool) -> None:
    stimuli = StimulusFeatures.of(np.random.default_rng(0).normal(size=(10, width)).astype(np.float32))
    assert (stimuli.gram is not None) == there
    assert stimuli.stimulus_id.tolist() == sorted(stimuli.stimulus_id.tolist())
    assert len(set(stimuli.stimulus_id.tolist())) == 10


@pytest.mark.parametrize("kind", ["hog", "images", "bare", "narrow"])
def test_they_come_back_from_disk_as_memory_maps(tmp_path: Path, kind: str) -> None:
    if kind in ("bare", "narrow"):
        values = np.random.default_rng(0).normal(size=(20, 30 if kind == "bare" else 4)).astype(np.float32)
        stimuli = StimulusFeatures.of(values, [("x", 1), ("y", values.shape[1] - 1)])
    else:
        stimuli = extract_stimuli(subject(), FeatureOptions(kind))  # type: ignore[arg-type]
    stimuli.save(tmp_path / "features")
    again = StimulusFeatures.load(tmp_path / "features")
    assert isinstance(again.values, np.memmap)
    assert again.values.dtype == (np.uint8 if kind == "images" else np.float32)
    np.testing.assert_array_equal(again.values, stimuli.values)
    np.testing.assert_array_equal(again.stimulus_id, stimuli.stimulus_id)
    assert again.bands == stimuli.bands
    assert again.reader == stimuli.reader
    assert (again.gram is None) == (stimuli.gram is None) == (kind in ("images", "narrow"))
    if stimuli.gram is not None:
        np.testing.assert_array_equal(again.gram, stimuli.gram)


def test_the_gram_matrix_takes_little_more_than_its_own_memory() -> None:
    values = np.random.default_rng(0).normal(size=(400, 20_000)).astype(np.float32)
    tracemalloc.start()
    stimuli = StimulusFeatures.of(values)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert stimuli.gram is not None
    assert most < 5 * stimuli.gram.nbytes < values.nbytes / 5


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    data = subject()
    with pytest.raises(UserError, match="needs the pictures of the stimuli"):
        extract_stimuli(Responses(data.responses, data.stimulus_id), FeatureOptions())
    data.image_id = np.array(["unseen", "x", "y", "d", "a", "c"])
    with pytest.raises(UserError, match=r"2 of 5 stimuli have no picture \(first: b\)"):
        extract_stimuli(data, FeatureOptions())
    with pytest.raises(UserError, match="bands that add up"):
        StimulusFeatures.of(np.zeros((3, 4), np.float32), [("a", 3)])
    with pytest.raises(UserError, match="with 2 stimulus ids"):
        StimulusFeatures.of(np.zeros((3, 4), np.float32), stimulus_id=np.array(["a", "b"]))
    with pytest.raises(UserError, match=r"features\.json is missing"):
        StimulusFeatures.load(tmp_path)

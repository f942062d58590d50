from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from braindistill import fmri
from braindistill.errors import UserError
from braindistill.fmri.digit_split import digit_images, digit_roles
from braindistill.fmri.reliability import noise_ceiling
from braindistill.fmri.simulated import load_simulated

SMALL = {"n_stimuli": 30, "n_early": 3, "n_category": 4, "n_nuisance": 5, "n_runs": 3}


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_data_set_is_complete_and_the_same_every_time(tmp_path: Path) -> None:
    load_simulated(tmp_path / "a", **SMALL)
    load_simulated(tmp_path / "b", **SMALL)
    assert digests(tmp_path / "a/dataset") == digests(tmp_path / "b/dataset")
    names = set(digests(tmp_path / "a/dataset"))
    assert {"func/sub-01_task-digits_run-03_betas.nii.gz", "func/sub-01_task-digits_run-03_events.tsv"} <= names
    assert {"masks/sub-01_early_mask.nii.gz", "truth.npz", "dataset_description.json"} <= names
    assert sum(name.startswith("stimuli/") for name in names) == 30
    assert json.loads((tmp_path / "a/dataset/dataset_description.json").read_text())["DatasetType"] == "derivative"


def test_the_seed_changes_responses_but_not_stimuli(tmp_path: Path) -> None:
    first, second = load_simulated(tmp_path / "a", **SMALL), load_simulated(tmp_path / "b", **SMALL, seed=1)
    assert set(first.stimulus_id) == set(second.stimulus_id)
    assert first.stimulus_id.tolist() != second.stimulus_id.tolist()
    assert not np.array_equal(first.responses, second.responses)


def test_what_is_read_is_what_was_shown() -> None:
    read = load_simulated(**SMALL)
    images, labels, ids = digit_images()
    shown = digit_roles()["stimuli"][:30]
    place = {stimulus: index for index, stimulus in enumerate(ids.tolist())}
    assert sorted(read.image_id) == sorted(ids[shown])
    np.testing.assert_array_equal(read.images, images[[place[name] for name in read.image_id]])
    assert read.label.tolist() == [str(labels[place[name]]) for name in read.stimulus_id]
    assert {name: int(mask.sum()) for name, mask in read.rois.items()} == {"early": 3, "category": 4, "nuisance": 5}
    assert [np.count_nonzero(read.run == run) for run in ("01", "02", "03")] == [20, 20, 20]
    assert sorted(read.stimulus_id[:30]) == sorted(read.stimulus_id[30:])


def test_ceilings_and_variances_are_those_of_the_truth(tmp_path: Path) -> None:
    read = load_simulated(tmp_path, snr=0.5, n_repeats=3)
    truth = np.load(tmp_path / "dataset/truth.npz")
    signal = ~read.rois["nuisance"]
    np.testing.assert_allclose(truth["ceiling"][signal], 1 / (1 + 1 / 1.5))
    np.testing.assert_array_equal(truth["ceiling"][~signal], 0)
    ceiling = noise_ceiling(read.responses, read.stimulus_id)
    assert ceiling is not None
    assert ceiling[signal].mean() == pytest.approx(0.6, rel=0.02)
    assert ceiling[~signal].mean() < 0.06
    np.testing.assert_allclose(read.responses[:, signal].var(axis=0).mean(), 3, rtol=0.03)
    np.testing.assert_allclose(read.responses[:, ~signal].var(axis=0).mean(), 3, rtol=0.03)
    np.testing.assert_allclose(truth["signal"][:, signal].var(axis=0), 1, rtol=1e-5)


def test_noise_is_added_to_the_signal_of_the_stimulus_shown(tmp_path: Path) -> None:
    read = load_simulated(tmp_path, **SMALL, snr=1e8)
    truth = np.load(tmp_path / "dataset/truth.npz")
    row = {stimulus: index for index, stimulus in enumerate(truth["stimulus_id"].tolist())}
    expected = truth["signal"][[row[stimulus] for stimulus in read.stimulus_id]]
    signal = ~read.rois["nuisance"]
    np.testing.assert_allclose(read.responses[:, signal], expected[:, signal], atol=1e-3)


def test_category_voxels_decode_and_nuisance_voxels_do_not() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    read = load_simulated()
    label = dict(zip(read.stimulus_id.tolist(), read.label.tolist(), strict=True))
    score = {}
    for roi in ("category", "nuisance"):
        mean, ids = read.select(roi).average()
        decoder = LogisticRegression(C=0.1, max_iter=200)
        score[roi] = cross_val_score(decoder, mean, [label[name] for name in ids.tolist()], cv=4).mean()
    assert score["category"] > 0.85
    assert score["nuisance"] < 0.2


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"snr": 0.0}, r"fmri\.snr=0\.0: expected a number above 0"),
        ({"n_repeats": 0}, r"fmri\.n_repeats=0"),
        ({"n_stimuli": 401}, r"fmri\.n_stimuli=401: expected 10 to 400"),
        ({"n_stimuli": 10, "n_runs": 21}, r"fmri\.n_runs=21: expected 1 to 20"),
        ({"n_early": -1}, r"fmri\.n_early=-1"),
        ({"n_early": 0, "n_category": 0, "n_nuisance": 0}, r"expected none below 0 and one above"),
    ],
)
def test_options_out_of_range_are_named(option: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_simulated(**option)


def test_an_roi_may_be_left_out_and_another_span_slices() -> None:
    read = load_simulated(n_stimuli=20, n_early=0, n_category=130, n_nuisance=2, n_runs=1)
    assert {name: int(mask.sum()) for name, mask in read.rois.items()} == {"category": 130, "nuisance": 2}


def test_a_workspace_is_not_written_over(tmp_path: Path) -> None:
    load_simulated(tmp_path, **SMALL)
    with pytest.raises(UserError, match="already holds a data set"):
        load_simulated(tmp_path, **SMALL)


def test_load_passes_the_workspace_on(tmp_path: Path) -> None:
    read = fmri.load("simulated", workspace=tmp_path / "w", **SMALL)
    assert (tmp_path / "w/dataset/truth.npz").exists()
    assert read.ceiling is not None

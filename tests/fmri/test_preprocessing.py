from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braindistill.errors import UserError
from braindistill.fmri.preprocessing import join_labels, preprocess, standardise
from braindistill.fmri.reliability import noise_ceiling, split_half
from braindistill.fmri.responses import Responses
from braindistill.fmri.storage import allocate


def trials(seed: int = 0, count: int = 24, voxels: int = 6, **parts: np.ndarray) -> Responses:
    generator = np.random.default_rng(seed)
    ids = np.array([f"s{i % 6}" for i in range(count)])
    values = generator.normal(size=(6, voxels))[np.arange(count) % 6] + generator.normal(size=(count, voxels)) + 100
    run = np.repeat(["1", "2", "3", "4"], count // 4)
    return dataclasses.replace(Responses(values.astype(np.float32), ids, run=run), **parts)


@pytest.mark.parametrize("on_disk", [True, False])
def test_each_run_is_z_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_disk: bool) -> None:
    monkeypatch.setattr("braindistill.fmri.storage.BLOCK", 12)
    data = trials()
    expected = np.concatenate([(part - part.mean(0)) / part.std(0) for part in np.split(data.responses, 4)])
    if on_disk:
        array = allocate(tmp_path, *data.responses.shape)
        array[:] = data.responses
        data.responses = array
    done = preprocess(data, tmp_path, zscore="run")
    np.testing.assert_allclose(done.responses, expected, atol=2e-5)
    assert done.preparation is not None
    assert done.preparation["zscore"] == {"groups": 4, "training_trials": 24, "own": []}
    assert isinstance(done.responses, np.memmap) == on_disk


def test_run_1_of_two_sessions_is_two_runs() -> None:
    data = trials(run=np.array(["1"] * 24), session=np.repeat(["a", "b"], 12))
    done = preprocess(data, zscore="run")
    np.testing.assert_allclose(done.responses[:12].mean(axis=0), 0, atol=1e-5)


def test_statistics_come_from_training_trials_only() -> None:
    split = np.array(["train"] * 16 + ["test"] * 4 + ["imagery"] * 4)
    data, other = trials(split=split), trials(split=split)
    other.responses[16:] += 50
    fitted = data.responses[:16].copy()
    done, changed = (preprocess(each, zscore="all") for each in (data, other))
    np.testing.assert_allclose(done.responses[:16], (fitted - fitted.mean(0)) / fitted.std(0), atol=3e-5)
    np.testing.assert_array_equal(done.responses[:16], changed.responses[:16])
    np.testing.assert_allclose(
        changed.responses[16:] - done.responses[16:], 50 / fitted.std(0) * np.ones((8, 1)), rtol=1e-3
    )


def test_a_run_without_training_trials_uses_its_own() -> None:
    done = preprocess(trials(split=np.repeat(["train", "test"], 12)), zscore="run")
    np.testing.assert_allclose(done.responses[18:].mean(axis=0), 0, atol=1e-5)
    assert done.preparation is not None
    assert done.preparation["zscore"]["own"] == ["run 3", "run 4"]


def test_runs_that_are_not_named_cannot_be_z_scored() -> None:
    with pytest.raises(UserError, match=r"fmri\.zscore=session: the data set names no sessions; take one of run, all"):
        preprocess(trials(), zscore="session")
    with pytest.raises(UserError, match=r"run 9 has a single trial"):
        preprocess(trials(run=np.array(["1"] * 23 + ["9"])), zscore="run")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.integers(2, 5))
def test_z_scores_do_not_depend_on_scale_and_offset(seed: int, groups: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(20, 3)).astype(np.float32)
    names = np.array([str(i % groups) for i in range(20)])
    first, second = values.copy(), values * np.float32(7) + np.float32(30)
    for each in (first, second):
        assert standardise(each, names, np.ones(20, bool))[0].all()
    np.testing.assert_allclose(first, second, atol=1e-4)


def test_unusable_voxels_go_with_their_counts(capsys: pytest.CaptureFixture) -> None:
    data = trials(split=np.repeat(["train", "test"], 12))
    data.responses[:, 1] = 4
    data.responses[:, 2] = np.nan
    data.responses[:12, 3] = 5  # varies in the test trials only
    done = preprocess(data, zscore="all")
    assert done.preparation is not None
    assert done.preparation["dropped"] == {"constant": 1, "nan": 1, "constant in training": 1}
    assert done.responses.shape == (24, 3)
    assert done.ceiling is not None
    assert np.isfinite(done.ceiling).all()
    said = capsys.readouterr().err
    assert "1 of 6 voxels that are constant" in said
    assert "1 of 6 voxels that are NaN" in said
    data = trials()
    data.responses[3, 2] = np.nan
    with pytest.raises(UserError, match="1 of 144 responses are NaN or infinite, the first in trial 3"):
        preprocess(data)
    with pytest.raises(UserError, match="all 6 voxels are constant"):
        preprocess(trials(responses=np.ones((24, 6), np.float32)))


@pytest.mark.parametrize("on_disk", [True, False])
def test_repeats_are_averaged_within_split(tmp_path: Path, on_disk: bool) -> None:
    split = np.repeat(["train", "test"], 12)
    data = trials(split=split, label=np.array([f"c{i % 2}" for i in range(24)]))
    values = data.responses.copy()
    if on_disk:
        data.responses = allocate(tmp_path, 24, 6)
        data.responses[:] = values
    ceiling = noise_ceiling(values, data.stimulus_id)
    done = preprocess(data, tmp_path, average=True)
    assert done.stimulus_id.tolist() == [f"s{i}" for i in range(6)] * 2
    assert done.split is not None
    assert done.split.tolist() == ["train"] * 6 + ["test"] * 6
    assert done.run is None  # repeats were in different runs
    np.testing.assert_allclose(done.responses[0], values[[0, 6]].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(done.responses[7], values[[13, 19]].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(done.ceiling, ceiling)
    done.check("x")
    done.save(tmp_path / "saved")
    assert Responses.load(tmp_path / "saved").preparation == done.preparation


def test_runs_stay_where_repeats_share_them() -> None:
    data = trials(run=np.array(["1", "2", "3"] * 8))
    done = preprocess(data, average=True)
    assert done.run is not None
    assert done.run.tolist() == ["1", "2", "3"] * 2


@pytest.mark.parametrize("by", ["ceiling", "correlation"])
def test_the_best_voxels_are_chosen_on_training_trials(by: str) -> None:
    generator = np.random.default_rng(0)
    patterns = generator.normal(size=(8, 20))
    ids = np.tile(np.arange(8), 10)
    values = patterns[ids] * np.linspace(0, 3, 20) + generator.normal(size=(80, 20))
    split = np.repeat(["train", "test"], 40)
    values[split == "test", :5] = 9 * patterns[ids[split == "test"], :5]  # reliable in the test trials only
    data = Responses(values.astype(np.float32), ids.astype(str), split=split, rois={"low": np.arange(20) < 5})
    done = preprocess(data, top_voxels=6, top_by=by)  # type: ignore[arg-type]
    training = np.flatnonzero(split == "train")
    score = (noise_ceiling if by == "ceiling" else split_half)(values, data.stimulus_id, training)
    assert score is not None
    best = np.sort(np.argsort(-score)[:6])
    np.testing.assert_array_equal(done.responses, values.astype(np.float32)[:, best])
    assert best.min() >= 5
    assert "low" not in done.rois


def test_the_best_voxels_need_repeats() -> None:
    data = trials(split=np.array(["train"] * 6 + ["test"] * 18))
    for by in ("ceiling", "correlation"):
        with pytest.raises(
            UserError, match=rf"top_by={by} needs stimuli that repeat among the training trials; 0 of 6"
        ):
            preprocess(data, top_voxels=2, top_by=by)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"top_voxels=0: expected 1 or more"):
        preprocess(trials(), top_voxels=0)
    assert preprocess(trials(), top_voxels=99).responses.shape[1] == 6


def test_labels_come_from_a_table(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("stimulus_id,label\n" + "".join(f"s{i},c{i % 2}\n" for i in (3, 1, 0, 4, 2)) + "x,c0\ny,c1\n")
    done, counts = join_labels(trials(), table)
    assert done.label is not None
    assert done.label[:7].tolist() == ["c0", "c1", "c0", "c1", "c0", "", "c0"]
    assert counts == {"labelled": 5, "unlabelled": 1, "unknown": 2}
    said = capsys.readouterr().err
    assert "2 ids are no stimulus of the data set: x, y" in said
    assert "1 of 6 stimuli have no row" in said
    assert preprocess(trials(), labels=table).preparation["labels"] == counts  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stimulus_id\tlabel\na\tb\n", r"none of its 1 ids is a stimulus .* names a, the data s0, s1, s2"),
        ("stimulus_id\tlabel\ns0\tb\ns0\tc\n", r"line 3: stimulus s0 has the labels 'b' and 'c'"),
        ("stimulus\tlabel\ns0\tb\n", r"no column stimulus_id; found: stimulus, label"),
        ("", r"no column stimulus_id and label; found: none"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.tsv").write_text(text)
    with pytest.raises(UserError, match=message):
        join_labels(trials(), tmp_path / "labels.tsv")
    with pytest.raises(UserError, match="no such file"):
        join_labels(trials(), tmp_path / "absent.tsv")

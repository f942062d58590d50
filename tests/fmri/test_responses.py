from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses


def test_a_complete_subject_passes(subject: Responses) -> None:
    before = subject.responses.copy()
    subject.check("x")
    assert np.array_equal(subject.responses, before), "checked, not changed"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stimulus_id": np.array(["a"] * 4)}, r"x: stimulus_id has 4 entries, but there are 6 trials"),
        ({"run": np.array(["1"] * 5)}, r"x: run has 5 entries, but there are 6 trials"),
        ({"stimulus_id": np.arange(6)}, r"stimulus_id is int64 \(6,\); expected a string"),
        ({"responses": np.zeros((6, 5))}, r"responses are float64 \(6, 5\); expected a float32"),
        ({"responses": np.zeros(6, np.float32)}, r"float32 \(6,\)"),
        ({"responses": np.zeros((6, 0), np.float32)}, r"6 trials × 0 voxels"),
        ({"rois": {"V1": np.ones(4, bool)}}, r"ROI V1 is bool \(4,\); expected a bool mask over the 5 voxels"),
        ({"rois": {"V1": np.ones(5)}}, r"ROI V1 is float64"),
        ({"rois": {"all": np.ones(5, bool)}}, r"called 'all'"),
        ({"voxel_coordinates": np.zeros((5, 2))}, r"voxel_coordinates has shape \(5, 2\); expected \(5, 3\)"),
        ({"affine": np.eye(3)}, r"affine has shape \(3, 3\)"),
        ({"ceiling": np.ones(6)}, r"ceiling has shape \(6,\); expected \(5,\)"),
        (
            {"label": np.array(["u", "v", "w", "z", "u", "w"])},
            r"stimulus a has the label 'v' in one trial and 'z' in trial 3",
        ),
        ({"images": None}, r"come together"),
        ({"images": np.zeros((3, 1, 2, 2))}, r"images are float64"),
        ({"images": np.zeros((3, 2, 2, 3), np.uint8)}, r"channels \(1 or 3\)"),
        ({"image_id": np.array(["a", "b"])}, r"image_id has 2 entries, but there are 3 images"),
        ({"image_id": np.array(["a", "b", "b"])}, r"1 image ids occur more than once: b"),
        ({"image_id": np.array(["a", "x", "y"])}, r"2 stimuli have no image: b, c"),
    ],
)
def test_contradictions_are_named(subject: Responses, change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataclasses.replace(subject, **change).check("x")


def test_values_that_are_not_finite_are_counted_and_placed(subject: Responses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("braindistill.fmri.storage.BLOCK", 10)  # two trials a block
    subject.responses[3, 2] = np.nan
    subject.responses[5, :2] = np.inf
    with pytest.raises(UserError, match=r"x: 3 of 30 responses .* trial 3 \(stimulus a\), voxel 2"):
        subject.check("x")


def test_only_the_first_five_stimuli_without_image_are_listed(subject: Responses) -> None:
    names = np.array([f"s{i}" for i in range(6)])
    with pytest.raises(UserError, match=r"6 stimuli have no image: s0, s1, s2, s3, s4;"):
        dataclasses.replace(subject, stimulus_id=names).check("x")


def test_constant_voxels_go_with_all_that_belongs_to_them(subject: Responses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("braindistill.fmri.storage.BLOCK", 10)
    subject.responses[:, [0, 4]] = 7
    kept, dropped = subject.drop_constant()
    assert dropped == 2
    np.testing.assert_array_equal(kept.responses, subject.responses[:, 1:4])
    np.testing.assert_array_equal(kept.rois["V1"], [True, False, False])
    assert "nuisance" not in kept.rois  # its only voxel is gone
    np.testing.assert_array_equal(kept.ceiling, subject.ceiling[1:4])
    np.testing.assert_array_equal(kept.voxel_coordinates, subject.voxel_coordinates[1:4])
    kept.check("x")
    assert kept.drop_constant()[1] == 0


def test_a_voxel_that_varies_in_one_trial_stays(subject: Responses) -> None:
    subject.responses[:, 2] = 1
    subject.responses[4, 2] = 2
    assert subject.drop_constant()[1] == 0


def test_all_leaves_the_nuisance_voxels_out(subject: Responses) -> None:
    np.testing.assert_array_equal(subject.select("all").responses, subject.responses[:, :4])
    np.testing.assert_array_equal(subject.select("all", nuisance="FFA").responses, subject.responses[:, [0, 2, 4]])
    np.testing.assert_array_equal(subject.select("all", nuisance="none").responses, subject.responses)
    np.testing.assert_array_equal(subject.select("nuisance").responses, subject.responses[:, 4:])


def test_a_list_is_a_union(subject: Responses) -> None:
    chosen = subject.select(["V1", "FFA"])
    np.testing.assert_array_equal(chosen.responses, subject.responses[:, [0, 1, 3]])
    np.testing.assert_array_equal(chosen.rois["FFA"], [False, True, True])
    assert chosen.responses.flags.c_contiguous


def test_an_unknown_roi_is_an_error_with_the_nearest(subject: Responses) -> None:
    with pytest.raises(UserError, match=r"'FAA' is not in .* did you mean 'FFA'\? known: FFA, V1, all, nuisance"):
        subject.select(["V1", "FAA"])


def test_an_empty_selection_is_an_error(subject: Responses) -> None:
    with pytest.raises(UserError, match="has no voxel"):
        subject.select([])


def test_neighbouring_voxels_are_a_view(subject: Responses) -> None:
    assert np.shares_memory(subject.select("V1").responses, subject.responses)


@st.composite
def subjects(draw: st.DrawFn) -> Responses:
    trials, voxels = draw(st.integers(1, 8)), draw(st.integers(1, 6))
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    rois = {name: generator.random(voxels) < 0.5 for name in ("A", "B", "nuisance")}
    ids = np.array([f"s{i}" for i in generator.integers(0, 4, trials)])
    return Responses(generator.normal(size=(trials, voxels)).astype(np.float32), ids, rois=rois)


@settings(max_examples=60, deadline=None)
@given(subjects(), st.lists(st.sampled_from(["A", "B", "nuisance", "all"]), min_size=1))
def test_selection_is_the_union_of_masks_in_voxel_order(data: Responses, names: list[str]) -> None:
    masks = {**data.rois, "all": ~data.rois["nuisance"]}
    mask = np.logical_or.reduce([masks[name] for name in names])
    if not mask.any():
        with pytest.raises(UserError):
            data.select(names)
        return
    chosen = data.select(names)
    np.testing.assert_array_equal(chosen.responses, data.responses[:, mask])
    assert {roi: kept.tolist() for roi, kept in chosen.rois.items()} == {
        roi: kept[mask].tolist() for roi, kept in data.rois.items() if kept[mask].any()
    }
    chosen.check("x")


@settings(max_examples=60, deadline=None)
@given(subjects())
def test_the_average_of_each_stimulus_in_order_of_first_appearance(data: Responses) -> None:
    mean, ids = data.average()
    assert ids.tolist() == list(dict.fromkeys(data.stimulus_id.tolist()))
    assert mean.dtype == np.float32
    for row, stimulus in zip(mean, ids, strict=True):
        np.testing.assert_allclose(row, data.responses[data.stimulus_id == stimulus].mean(axis=0), rtol=1e-4, atol=1e-6)
    counts = np.array([(data.stimulus_id == stimulus).sum() for stimulus in ids])
    np.testing.assert_allclose(counts @ mean, data.responses.sum(axis=0), rtol=1e-3, atol=1e-4)


def test_what_is_saved_is_loaded(subject: Responses, tmp_path: Path) -> None:
    subject.save(tmp_path / "a")
    loaded = Responses.load(tmp_path / "a")
    loaded.check("x")
    for field in dataclasses.fields(Responses):
        if field.name not in ("rois", "preparation"):
            before, after = getattr(subject, field.name), getattr(loaded, field.name)
            assert before.dtype == after.dtype
            np.testing.assert_array_equal(before, after)
    assert list(loaded.rois) == list(subject.rois)
    for roi, mask in subject.rois.items():
        np.testing.assert_array_equal(loaded.rois[roi], mask)
    assert isinstance(loaded.responses, np.memmap)
    assert isinstance(loaded.images, np.memmap)
    assert not loaded.responses.flags.writeable


def test_absent_parts_stay_absent_and_old_images_go(subject: Responses, tmp_path: Path) -> None:
    subject.save(tmp_path)
    dataclasses.replace(subject, images=None, image_id=None, label=None).save(tmp_path)
    loaded = Responses.load(tmp_path)
    assert loaded.images is None
    assert loaded.image_id is None
    assert loaded.label is None
    assert sorted(file.name for file in tmp_path.iterdir()) == ["arrays.npz", "responses.npy"]


def test_equal_subjects_are_equal_files(subject: Responses, tmp_path: Path) -> None:
    subject.save(tmp_path / "a")
    Responses.load(tmp_path / "a").save(tmp_path / "b")
    for name in ("responses.npy", "images.npy", "arrays.npz"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_loaded_subject_can_be_saved_over_itself(subject: Responses, tmp_path: Path) -> None:
    subject.save(tmp_path)
    Responses.load(tmp_path).select("FFA").save(tmp_path)
    np.testing.assert_array_equal(Responses.load(tmp_path).responses, subject.responses[:, [1, 3]])


def test_a_folder_that_holds_no_responses_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(str(tmp_path)) + ": no responses.npy and arrays.npz"):
        Responses.load(tmp_path)

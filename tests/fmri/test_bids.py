from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from braindistill.errors import UserError
from braindistill.fmri.bids import load_bids
from braindistill.fmri.bold import average_events, merge_blocks
from braindistill.fmri.events import Event
from braindistill.runtime import find_data

AFFINE = np.array([[-3.0, 0, 0, 10], [0, 3, 0, -20], [0, 0, 4, 5], [0, 0, 0, 1]])
SHAPE = (4, 5, 3)


def save(
    path: Path, values: np.ndarray, affine: np.ndarray = AFFINE, tr: float | None = None, unit: str = "sec"
) -> Path:
    image = nibabel.Nifti1Image(values, affine)
    if tr is not None:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr))
        image.header.set_xyzt_units("mm", unit)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def write_events(path: Path, rows: list[list[Any]], columns: str = "onset duration trial_type stim_file") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join("\t".join(map(str, row)) for row in [columns.split(), *rows]) + "\n")


def mask(*places: tuple[int, int, int]) -> np.ndarray:
    values = np.zeros(SHAPE, np.uint8)
    values[tuple(np.transpose(places))] = 1
    return values


@pytest.fixture
def betas(tmp_path: Path) -> Path:
    """Two runs of three trials, two masks, three pictures."""
    root = tmp_path / "data"
    for run in (1, 2):
        values = np.random.default_rng(run).normal(size=(*SHAPE, 3)).astype(np.float32)
        stem = f"func/sub-07_ses-02_task-x_run-{run}"
        save(root / f"{stem}_betas.nii.gz", values)
        names = ["a", "b", "c"] if run == 1 else ["c", "a", "b"]
        write_events(root / f"{stem}_events.tsv", [[i, 1, f"class-{n}", f"{n}.png"] for i, n in enumerate(names)])
    save(root / "masks/sub-07_V1_mask.nii.gz", mask((0, 0, 0), (1, 2, 1)))
    save(root / "masks/FFA.nii", mask((3, 4, 2), (1, 2, 1)))
    (root / "stimuli").mkdir()
    for grey, name in enumerate("abc"):
        Image.fromarray(np.full((6, 7), grey, np.uint8)).save(root / f"stimuli/{name}.png")
    return root


def test_beta_maps_are_read_inside_the_union_of_masks(betas: Path) -> None:
    read = load_bids(root=betas)
    places = [(0, 0, 0), (1, 2, 1), (3, 4, 2)]
    for run in (1, 2):
        volume = nibabel.load(betas / f"func/sub-07_ses-02_task-x_run-{run}_betas.nii.gz").get_fdata()
        expected = volume[tuple(np.transpose(places))].T
        np.testing.assert_array_equal(read.responses[read.run == str(run)], expected.astype(np.float32))
    assert read.stimulus_id.tolist() == ["a", "b", "c", "c", "a", "b"]
    assert read.label.tolist() == [f"class-{name}" for name in read.stimulus_id]
    assert set(read.session) == {"02"}
    assert {roi: kept.tolist() for roi, kept in read.rois.items()} == {
        "FFA": [False, True, True],
        "V1": [True, True, False],
    }
    np.testing.assert_allclose(read.voxel_coordinates[1], [10 - 3, -20 + 6, 5 + 4])
    np.testing.assert_array_equal(read.affine, AFFINE)
    assert read.images.shape == (3, 1, 6, 7)
    assert dict(zip(read.image_id.tolist(), read.images[:, 0, 0, 0].tolist(), strict=True)) == {"a": 0, "b": 1, "c": 2}


def test_scaled_integers_are_read_in_blocks(betas: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = nibabel.Nifti1Image(np.zeros((*SHAPE, 3)), AFFINE)
    image.set_data_dtype(np.int16)
    data = np.random.default_rng(0).normal(size=(*SHAPE, 3)) * 50
    nibabel.save(
        nibabel.Nifti1Image(data, AFFINE, image.header), betas / "func/sub-07_ses-02_task-x_run-1_betas.nii.gz"
    )
    whole = load_bids(root=betas).responses
    monkeypatch.setattr("braindistill.fmri.nifti.BLOCK", 60)  # a volume a block
    np.testing.assert_array_equal(load_bids(root=betas).responses, whole)
    np.testing.assert_allclose(whole[:3, 0], data[0, 0, 0], atol=0.01)


def test_one_mask_file_will_do(betas: Path) -> None:
    read = load_bids(root=betas, masks=betas / "masks/FFA.nii")
    assert list(read.rois) == ["FFA"]
    assert read.responses.shape == (6, 2)


def test_colour_pictures_and_ids_without_files(betas: Path) -> None:
    for path in (betas / "func").glob("*_events.tsv"):
        path.write_text(path.read_text().replace("stim_file", "stimulus_id").replace(".png", ""))
    Image.fromarray(np.full((6, 7, 3), (9, 8, 7), np.uint8)).save(betas / "stimuli/b.png")
    read = load_bids(root=betas)
    assert read.images.shape == (3, 3, 6, 7)
    assert read.images[:, :, 0, 0].tolist() == [[0, 0, 0], [9, 8, 7], [2, 2, 2]]


def test_runs_of_several_sessions_keep_apart(betas: Path) -> None:
    for file in list((betas / "func").iterdir()):
        copy = betas / "ses-03/func" / file.name.replace("ses-02", "ses-03")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    read = load_bids(root=betas)
    assert len(read.responses) == 12
    assert len(set(read.run)) == 4
    assert set(read.session) == {"02", "03"}


def shift(root: Path) -> None:
    save(root / "masks/V4.nii.gz", mask((0, 0, 0)), AFFINE + np.eye(4)[:, [3, 0, 1, 2]])


def regrid(root: Path) -> None:
    save(root / "masks/V4.nii.gz", np.ones((4, 5, 2), np.uint8))


def empty(root: Path) -> None:
    save(root / "masks/V4.nii.gz", np.zeros(SHAPE, np.uint8))


def four_axes(root: Path) -> None:
    save(root / "masks/V4.nii.gz", np.ones((*SHAPE, 2), np.uint8))


def same_name(root: Path) -> None:
    save(root / "masks/FFA_mask.nii.gz", mask((0, 0, 0)))


def extra_event(root: Path) -> None:
    path = root / "func/sub-07_ses-02_task-x_run-1_events.tsv"
    path.write_text(path.read_text() + "3\t1\tclass-a\ta.png\n")


def no_events(root: Path) -> None:
    (root / "func/sub-07_ses-02_task-x_run-2_events.tsv").unlink()


def truncate(root: Path) -> None:
    path = root / "func/sub-07_ses-02_task-x_run-2_betas.nii.gz"
    path.write_bytes(path.read_bytes()[:-30])


def truncate_header(root: Path) -> None:
    path = root / "func/sub-07_ses-02_task-x_run-2_betas.nii.gz"
    path.write_bytes(path.read_bytes()[:40])


def three_axes(root: Path) -> None:
    save(root / "func/sub-07_ses-02_task-x_run-2_betas.nii.gz", np.zeros(SHAPE, np.float32))


def other_run_grid(root: Path) -> None:
    save(root / "func/sub-07_ses-02_task-x_run-2_betas.nii.gz", np.zeros((4, 5, 4, 3), np.float32))


def two_subjects(root: Path) -> None:
    save(root / "func/sub-08_run-1_betas.nii.gz", np.zeros((*SHAPE, 3), np.float32))


def large_picture(root: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(root / "stimuli/c.png")


def lost_picture(root: Path) -> None:
    (root / "stimuli/c.png").unlink()


def broken_picture(root: Path) -> None:
    (root / "stimuli/c.png").write_bytes(b"no picture")


def change_events(old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / "func/sub-07_ses-02_task-x_run-1_events.tsv"
        path.write_text(path.read_text().replace(old, new))

    return change


def header_only(root: Path) -> None:
    write_events(root / "func/sub-07_ses-02_task-x_run-1_events.tsv", [])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shift, r"V4\.nii\.gz has the affine \[\[.*\]\], but .*run-1_betas.nii.gz \[\["),
        (regrid, r"V4\.nii\.gz has the shape \(4, 5, 2\), but .*run-1_betas.nii.gz \(4, 5, 3\)"),
        (empty, r"V4\.nii\.gz: no voxel is above zero"),
        (four_axes, r"V4\.nii\.gz: shape \(4, 5, 3, 2\); expected one volume"),
        (same_name, r"a second mask for the ROI FFA"),
        (extra_event, r"run-1_betas.nii.gz: 3 beta maps, but 4 events"),
        (no_events, r"run-2_events\.tsv: no such file"),
        (truncate, r"run-2_betas\.nii\.gz: the data cannot be read .* cut short"),
        (truncate_header, r"run-2_betas\.nii\.gz: not a readable NIfTI file"),
        (three_axes, r"run-2_betas\.nii\.gz: shape \(4, 5, 3\); expected four axes"),
        (other_run_grid, r"run-2_betas\.nii\.gz has the shape \(4, 5, 4\), but .*run-1"),
        (two_subjects, r"files of subjects 07, 08; expected one subject"),
        (large_picture, r"a\.png is 7 × 6, but c\.png is 8 × 8 pixels"),
        (lost_picture, r"1 stimuli have no picture: c"),
        (broken_picture, r"c\.png: not a readable picture"),
        (change_events("onset", "begin"), r"run-1_events\.tsv: no column onset; columns found: begin, duration"),
        (change_events("0\t1\t", "0\tlong\t"), r"run-1_events\.tsv, line 2: duration is 'long'; expected a number"),
        (change_events("class-b\tb.png", "n/a\tn/a"), r"line 3: no trial_type, stim_file or stimulus_id"),
        (change_events("class-b", "class-z"), r"stimulus b has the label 'class-z' in one trial and 'class-b'"),
        (change_events("a.png", "deep/b.png"), r"stimulus b is .*deep/b\.png and .*file names must differ"),
        (header_only, r"no events; expected a header"),
    ],
)
def test_mistakes_are_named_in_one_line(betas: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(betas)
    with pytest.raises(UserError, match=message) as caught:
        load_bids(root=betas)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_that_is_not_compressed_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "run-1_betas.nii", np.ones((*SHAPE, 3), np.float32))
    write_events(tmp_path / "run-1_events.tsv", [[0, 1, "a"]] * 3, "onset duration trial_type")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"run-1_betas\.nii: the data cannot be read"):
        load_bids(root=tmp_path)


def test_missing_folders_are_named(betas: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fmri\.root=.*none: no such folder"):
        load_bids(root=tmp_path / "none")
    with pytest.raises(UserError, match=r"fmri\.masks=.*none: no such file or folder"):
        load_bids(root=betas, masks=tmp_path / "none")
    with pytest.raises(UserError, match=r"fmri\.masks=.*stimuli: no \.nii"):
        load_bids(root=betas, masks=betas / "stimuli")
    with pytest.raises(UserError, match=r"fmri\.stimuli=.*none: no such folder"):
        load_bids(root=betas, stimuli=tmp_path / "none")
    (tmp_path / "bids/sub-03/func").mkdir(parents=True)
    with pytest.raises(UserError, match=r"no \*_betas.*choose one subject: fmri\.root=.*sub-03"):
        load_bids(root=tmp_path / "bids")


def bold(folder: Path, volumes: np.ndarray, rows: list[list[Any]], tr: float = 2.0, unit: str = "sec") -> Path:
    save(folder / "sub-1_run-01_desc-preproc_bold.nii.gz", volumes, tr=tr, unit=unit)
    write_events(folder / "sub-1_run-01_events.tsv", rows, "onset duration trial_type")
    return folder


def test_bold_is_detrended_standardised_and_averaged_after_the_lag(tmp_path: Path) -> None:
    time = np.arange(20)
    course = np.where((time >= 5) & (time < 8), 3.0, 0.0)  # the answer to an event at 6 s, 4 s later
    volumes = np.full((*SHAPE, 20), 10.0)  # dark background, where nothing happens
    volumes[:2] = 1000 + 5 * time + 10 * course
    volumes[0] += np.random.default_rng(0).normal(size=(*SHAPE[1:], 20))
    root = bold(tmp_path, volumes.astype(np.float32), [[6, 6, "face"], [20, 10, "house"]])
    read = load_bids(root=root, lag=4.0)
    assert read.responses.shape == (2, 30)  # the guess at what is brain: the first two planes
    assert read.label.tolist() == read.stimulus_id.tolist() == ["face", "house"]
    line = np.polynomial.Polynomial.fit(time, course, 1)(time)
    expected = (course - line) / (course - line).std()
    np.testing.assert_allclose(read.responses[0, 15:], expected[5:8].mean(), rtol=1e-3)
    np.testing.assert_allclose(read.responses[1, 15:], expected[12:17].mean(), rtol=1e-3)


def test_a_linear_or_constant_voxel_becomes_zero(tmp_path: Path) -> None:
    volumes = np.ones((*SHAPE, 12), np.float32) * np.linspace(1000.1, 1300.3, 12, dtype=np.float32)
    volumes[0] = 1000.1
    read = load_bids(root=bold(tmp_path, volumes, [[0, 4, "a"]]), lag=0.0)
    np.testing.assert_array_equal(read.responses, 0)


def test_milliseconds_in_the_header_are_understood(tmp_path: Path) -> None:
    volumes = 100 + np.random.default_rng(0).normal(size=(*SHAPE, 12)).astype(np.float32)
    rows = [[4, 6, "a"]]
    seconds = load_bids(root=bold(tmp_path / "s", volumes, rows)).responses
    np.testing.assert_array_equal(
        load_bids(root=bold(tmp_path / "ms", volumes, rows, 2000.0, "msec")).responses, seconds
    )


def test_a_header_without_repetition_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no repetition time"):
        load_bids(
            root=bold(
                tmp_path, np.ones((*SHAPE, 5), np.float32) * np.arange(1, 6, dtype=np.float32), [[0, 4, "a"]], 0.0
            )
        )


def average(onset: float, duration: float, lag: float = 5.0) -> float:
    """Mean number of the volumes (TR 2.5 s, 10 of them) that belong to an event."""
    volumes = np.arange(10, dtype=np.float32)[:, None]
    return float(average_events(volumes, [Event(onset, duration, "a", "a", "")], 2.5, lag, "run")[0, 0])


def test_the_window_is_closed_at_its_start_and_open_at_its_end() -> None:
    assert average(0, 7.5) == pytest.approx(np.mean([2, 3, 4]))
    assert average(0, 7.6) == pytest.approx(np.mean([2, 3, 4, 5]))
    assert average(0.1, 7.5) == pytest.approx(np.mean([3, 4, 5]))
    assert average(0, 2.5, lag=0) == 0
    assert average(15, 10) == pytest.approx(np.mean([8, 9]))  # the lag reaches past the end; what there is counts


@pytest.mark.parametrize(
    ("onset", "duration", "message"),
    [
        (30, 5, "outside the run of 25 s"),
        (20, 7.5, "outside the run"),
        (-1, 5, "outside the run"),
        (21, 2, "outside the run"),
        (1, 1, "over between two volumes"),
        (5, 0, "over between two volumes"),
    ],
)
def test_events_without_volumes_are_refused(onset: float, duration: float, message: str) -> None:
    with pytest.raises(UserError, match=rf"run: event 1 \(a, {onset} s.*{message}"):
        average(onset, duration)


def test_pictures_of_a_block_are_joined(tmp_path: Path) -> None:
    rows = [
        Event(onset, 0.5, label, label, "") for onset, label in [(12, "a"), (14, "a"), (16, "a"), (30, "a"), (31, "b")]
    ]
    found = [(block.onset, block.duration, block.label) for block in merge_blocks(rows[::-1], 2.0)]
    assert found == [(12, 4.5, "a"), (30, 0.5, "a"), (31, 0.5, "b")]
    volumes = 100 + np.random.default_rng(0).normal(size=(*SHAPE, 20)).astype(np.float32)
    listed = bold(tmp_path / "listed", volumes, [[4 + 2 * i, 0.5, "a"] for i in range(4)])
    block = bold(tmp_path / "block", volumes, [[4, 6.5, "a"]])
    np.testing.assert_array_equal(load_bids(root=listed, block_gap=1.5).responses, load_bids(root=block).responses)


def test_real_runs_decode_as_well_as_published(capsys: pytest.CaptureFixture) -> None:
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import LeaveOneGroupOut, cross_val_score

    root = find_data("haxby2001-1slice")
    if root is None:
        pytest.skip("haxby2001-1slice is not here")
    read = load_bids(root=root)
    assert "voxels that look like brain" in capsys.readouterr().err
    assert read.responses.shape[0] == 96
    assert sorted(set(read.run)) == [f"{run:02d}" for run in range(1, 13)]
    score = cross_val_score(RidgeClassifier(), read.responses, read.label, groups=read.run, cv=LeaveOneGroupOut())
    assert score.mean() >= 0.72

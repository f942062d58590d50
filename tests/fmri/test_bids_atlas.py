"""Masks and label atlases of fmri=bids, tables of trials, and the choice of ROIs and conditions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.fmri.atlas import read_label_names
from braindistill.fmri.bids import load_bids

SHAPE = (4, 5, 3)
LABELS = np.zeros(SHAPE, np.int16)
LABELS[0, 0, 0] = 1
LABELS[1, :2, 1] = 2
LABELS[2, 0, 0] = 17
LABELS[3, 0, 0] = 5  # a label without a name


def save(path: Path, values: np.ndarray, tr: float | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(values, np.eye(4))
    if tr:
        image.header.set_zooms((1, 1, 1, tr))
        image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)
    return path


def volumes(seed: int, count: int | None = None) -> np.ndarray:
    shape = SHAPE if count is None else (*SHAPE, count)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def write_table(path: Path, header: str, *rows: str) -> None:
    ending = "," if path.suffix == ".csv" else "\t"
    path.write_text("\n".join(ending.join(row.split()) for row in (header, *rows)) + "\n")


@pytest.fixture
def single(tmp_path: Path) -> Path:
    """Four 3-D files, one a trial, with a table of trials, and an atlas of named labels."""
    for trial in range(4):
        save(tmp_path / f"betas/trial{trial}.nii.gz", volumes(trial))
    write_table(
        tmp_path / "trials.tsv",
        "file stim_file trial_type run session",
        "betas/trial2.nii.gz a.png face 1 s1",
        "betas/trial0.nii.gz b.png house 1 s1",
        "betas/trial1.nii.gz c.png face 1 s2",
        "betas/trial3.nii.gz d.png n/a 1 s2",
    )
    save(tmp_path / "masks/sub-1_atlas.nii.gz", LABELS)
    write_table(tmp_path / "masks/sub-1_atlas.tsv", "index name", "1 V1", "2 V2", "17 V1", "99 V9")
    return tmp_path


def test_one_file_a_trial_in_the_order_of_the_table(single: Path) -> None:
    read = load_bids(root=single)
    places = np.isin(LABELS, [1, 2, 17])
    np.testing.assert_array_equal(read.responses, [volumes(trial)[places] for trial in (2, 0, 1, 3)])
    assert read.stimulus_id.tolist() == list("abcd")
    assert read.label.tolist() == ["face", "house", "face", ""]
    assert read.session.tolist() == ["s1", "s1", "s2", "s2"]
    assert len(set(read.run.tolist())) == 2  # run 1 of either session


def test_a_label_is_an_roi_and_equal_names_are_one(single: Path) -> None:
    read = load_bids(root=single)
    assert {name: np.flatnonzero(mask).tolist() for name, mask in read.rois.items()} == {"V1": [0, 3], "V2": [1, 2]}


def test_a_table_of_volumes_in_one_file(single: Path) -> None:
    save(single / "all.nii.gz", volumes(9, 4))
    write_table(
        single / "other.csv", "file,stimulus_id".replace(",", " "), *[f"all.nii.gz s{row % 2}" for row in range(4)]
    )
    read = load_bids(root=single, trials=single / "other.csv", roi="V2")
    np.testing.assert_array_equal(read.responses, volumes(9, 4)[LABELS == 2].T)
    assert read.stimulus_id.tolist() == ["s0", "s1", "s0", "s1"]
    assert read.run is None
    assert read.session is None
    assert read.label is None


def test_without_masks_single_volumes_have_their_brain_guessed(single: Path) -> None:
    for file in (single / "masks").iterdir():
        file.unlink()
    (single / "masks").rmdir()
    for trial in range(4):
        values = np.full(SHAPE, 0.01, np.float32)
        values[:2] = 3 + volumes(trial)[:2]
        save(single / f"betas/trial{trial}.nii.gz", values)
    assert load_bids(root=single).responses.shape == (4, 30)


def test_responses_are_filled_into_the_workspace(single: Path, tmp_path: Path) -> None:
    read = load_bids(tmp_path / "work", root=single)
    assert isinstance(read.responses, np.memmap)
    np.testing.assert_array_equal(np.load(tmp_path / "work/responses.npy"), load_bids(root=single).responses)


def test_conditions_leave_out_other_events(single: Path) -> None:
    read = load_bids(root=single, conditions=["face"])
    np.testing.assert_array_equal(read.responses, load_bids(root=single).responses[[0, 2]])
    assert read.label.tolist() == ["face", "face"]
    assert read.session.tolist() == ["s1", "s2"]
    with pytest.raises(
        UserError, match=r"fmri\.conditions=hose: no event has .*did you mean 'house'\? known: face, house"
    ):
        load_bids(root=single, conditions=["face", "hose"])


def test_conditions_of_bold_runs(tmp_path: Path) -> None:
    values = 100 + volumes(0, 20)
    save(tmp_path / "run-1_bold.nii.gz", values, tr=2.0)
    write_table(
        tmp_path / "run-1_events.tsv", "onset duration trial_type", "0 4 face", "8 4 rest", "36 4 late", "16 4 face"
    )
    read = load_bids(root=tmp_path, conditions=["face", "rest"], lag=4.0)
    assert read.label.tolist() == ["face", "rest", "face"]
    with pytest.raises(UserError, match="outside the run of 40 s"):
        load_bids(root=tmp_path, lag=4.0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.tsv", "index\tname\tcolor\n0\tbackground\t#fff\n1\tV1\t#000\n17\tV1\t#000\n2\tV2\t#0f0\n"),
        ("x.csv", "name,label\nV1,1\nV1,17\nV2,2\n"),
        ("x.tsv", "1\tV1\n17\tV1\n2\tV2\n"),
        ("x.txt", "# labels\n1 V1\n17 V1 # again\n\n2 V2\n"),
        ("x.ctab", "0 Unknown 0 0 0 0\n1 V1 1 2 3 0\n17 V1 1 2 3 0\n2 V2 4 5 6 0\n"),
        ("x.json", '{"1": "V1", "17": "V1", "2": "V2"}'),
    ],
)
def test_tables_of_names_in_every_form(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert read_label_names(tmp_path / name) == {1: "V1", 17: "V1", 2: "V2"}


def test_a_sidecar_is_no_table_of_names(single: Path) -> None:
    save(single / "masks/brain.nii.gz", (LABELS > 0).astype(np.uint8))
    (single / "masks/brain.json").write_text('{"Type": "Brain"}')
    assert load_bids(root=single).rois["brain"].tolist() == [True] * 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("index\tname\n1\tV1\n1\tV2\n", r"the label 1 is V1 and V2"),
        ("index\tname\n50\tV1\n", r"sub-1_atlas\.nii\.gz: none of its labels \(0, 1, 2, 5, 17\) is in the table"),
        ("index\tname\none\tV1\n", r"row 1 below the header: \['one', 'V1'\]; expected a whole number"),
        ("colour\tsize\nred\t1\n", r"columns colour, size; expected index and name"),
        ("index\tname\n", r"no label and its name"),
    ],
)
def test_wrong_tables_of_names(single: Path, content: str, message: str) -> None:
    (single / "masks/sub-1_atlas.tsv").write_text(content)
    with pytest.raises(UserError, match=message):
        load_bids(root=single)


def fractions(root: Path) -> None:
    save(root / "masks/sub-1_atlas.nii.gz", LABELS + np.float32(0.5))


def name_twice(root: Path) -> None:
    save(root / "masks/V1.nii.gz", (LABELS == 1).astype(np.uint8))


def lost_file(root: Path) -> None:
    (root / "betas/trial1.nii.gz").unlink()


def four_axes(root: Path) -> None:
    save(root / "betas/trial1.nii.gz", volumes(1, 2))


def other_grid(root: Path) -> None:
    save(root / "betas/trial1.nii.gz", np.zeros((4, 5, 2), np.float32))


def change_table(old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / "trials.tsv").write_text((root / "trials.tsv").read_text().replace(old, new))

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (fractions, r"atlas\.nii\.gz: a table of names lies beside it, but its values are no whole numbers"),
        (name_twice, r"atlas\.nii\.gz: a second mask for the ROI V1|a second mask for the ROI V1"),
        (lost_file, r"trials\.tsv: 1 files are not in .*: betas/trial1\.nii\.gz"),
        (four_axes, r"trial1\.nii\.gz: shape \(4, 5, 3, 2\), but 1 rows of trials\.tsv name it"),
        (other_grid, r"trial1\.nii\.gz has the shape \(4, 5, 2\), but .*trial2\.nii\.gz \(4, 5, 3\)"),
        (change_table("trial1", "trial0"), r"trial0\.nii\.gz: shape \(4, 5, 3\), but 2 rows"),
        (change_table("file\tstim", "path\tstim"), r"trials\.tsv: no column file"),
        (change_table("stim_file\ttrial_type", "x\ty"), r"no column stimulus_id, stim_file, label or trial_type; columns"),
        (change_table("d.png", "n/a"), r"trials\.tsv, line 5: no stimulus_id, stim_file or label"),
        (change_table("face\t1\ts1", "face\tn/a\ts1"), r"3 of 4 rows have a run; give it to all"),
    ],
)  # fmt: skip
def test_mistakes_are_named_in_one_line(single: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(single)
    with pytest.raises(UserError, match=message) as caught:
        load_bids(root=single)
    assert "\n" not in str(caught.value)


def test_unknown_rois_and_missing_tables_are_named(single: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fmri\.roi=V3: .*has no such ROI; .*known: V1, V2"):
        load_bids(root=single, roi=["V1", "V3"])
    with pytest.raises(UserError, match=r"none\.tsv: no such file; expected a table of trials"):
        load_bids(root=single, trials=tmp_path / "none.tsv")
    for file in (single / "masks").iterdir():
        file.unlink()
    (single / "masks").rmdir()
    with pytest.raises(UserError, match=r"fmri\.roi=V1: .* has no masks"):
        load_bids(root=single, roi="V1")

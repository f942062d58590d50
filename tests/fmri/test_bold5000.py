"""A miniature BOLD5000 release 2, with its files spread over folders as users have them."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from braindistill.errors import UserError
from braindistill.fmri import load
from braindistill.fmri.bold5000 import load_bold5000

SHAPE = (4, 3, 2)
AFFINE = np.array([[-2.0, 0, 0, 70], [0, 2, 0, -90], [0, 0, 2, -60], [0, 0, 0, 1]])
STEM = "CSI1_GLMbetas-TYPED-FITHRF-GLMDENOISE-RR"
LENGTHS = (74, 37)
PLACES = np.arange(24).reshape(SHAPE)
FILES = ["n01440764_10026.JPEG", "COCO_train2014_000000000036.jpg", "concert5.jpg", "rep_concert6.jpg"]
STIMULI = ["n01440764_10026", "COCO_train2014_000000000036", "concert5", "concert6"]


def volume(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)


def betas(session: int) -> np.ndarray:
    return np.random.default_rng(session).normal(size=(*SHAPE, LENGTHS[session - 1])).astype(np.float32)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for session in (1, 2):  # the affine in the headers of the betas is wrong in the release too
        volume(tmp_path / f"betas/{STEM}_ses-{session:02d}.nii.gz", betas(session), np.eye(4))
        volume(tmp_path / f"betas/CSI1_GLMbetas-TYBEB-FITHRF_ses-{session:02d}.nii.gz", -betas(session), np.eye(4))
    volume(tmp_path / "CSI1_brainmask.nii.gz", (PLACES > 3).astype(np.uint8))
    masks = {"LHPPA": (4, 9), "RHPPA": (9, 11), "LHLO": (11, 14), "RHRRSC": (14, 15), "LHOPA": (0, 0)}
    for name, (first, stop) in masks.items():
        mask = np.isin(PLACES, np.arange(first, stop))
        volume(tmp_path / f"derivatives/spm/sub-CSI1/sub-CSI1_mask-{name}.nii.gz", mask.astype(np.int16))
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/CSI1_imgnames.txt").write_text(
        "\n".join(FILES[trial % 4] for trial in range(sum(LENGTHS))) + "\n"
    )
    for value, name in enumerate(FILES):
        folder = tmp_path / f"BOLD5000_Stimuli/Scene_Stimuli/Presented_Stimuli/{value % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 9, 3), 50 * value, np.uint8)).save(folder / name.removeprefix("rep_"), quality=100)
    return tmp_path


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("roi", [None, "LHPPA", "PPA", ["LOC", "RHRSC"]])
def test_betas_equal_a_plain_read(root: Path, tmp_path: Path, roi: str | list[str] | None, mapped: bool) -> None:
    first, stop = {"None": (4, 24), "LHPPA": (4, 9), "PPA": (4, 11), "['LOC', 'RHRSC']": (11, 15)}[str(roi)]
    inside = np.isin(PLACES, np.arange(first, stop))
    read = load_bold5000(tmp_path / "out" if mapped else None, root=root, roi=roi)
    np.testing.assert_array_equal(read.responses, np.concatenate([betas(n)[inside].T for n in (1, 2)]))
    assert isinstance(read.responses, np.memmap) == mapped
    np.testing.assert_allclose(read.voxel_coordinates[0], AFFINE[:3, :3] @ np.argwhere(inside)[0] + AFFINE[:3, 3])
    read.check()


def test_trials_carry_stimulus_session_run_label_and_picture(root: Path) -> None:
    read = load_bold5000(root=root)
    assert read.stimulus_id.tolist() == [STIMULI[trial % 4] for trial in range(111)]
    assert read.session.tolist() == ["01"] * 74 + ["02"] * 37
    assert read.run.tolist() == ["01-01"] * 37 + ["01-02"] * 37 + ["02-01"] * 37
    assert read.label[:4].tolist() == ["n01440764", "", "concert", "concert"]
    assert read.images.shape == (4, 3, 64, 64)
    shades = dict(zip(read.image_id.tolist(), read.images[:, 0, 5, 5].tolist(), strict=True))
    assert [round(shades[name] / 50) for name in STIMULI] == [0, 1, 2, 3]
    assert set(read.rois) == {"LHPPA", "RHPPA", "PPA", "LHLOC", "LOC", "RHRSC", "RSC"}


def test_voxels_without_data_in_a_session_are_left_out_by_load(root: Path) -> None:
    values = betas(2)
    values[3, 2, 1], values[3, 2, 0] = np.nan, 0
    volume(root / f"betas/{STEM}_ses-02.nii.gz", values, np.eye(4))
    read = load_bold5000(root=root)
    lost = [22 - 4, 23 - 4]
    assert np.flatnonzero(np.isnan(read.responses).all(axis=0)).tolist() == lost
    assert np.isfinite(np.delete(read.responses, lost, axis=1)).all()
    assert load("bold5000", root=root).responses.shape == (111, 18)


def test_another_version_and_fewer_sessions(root: Path) -> None:
    read = load_bold5000(root=root, betas="FITHRF", sessions=1)
    np.testing.assert_array_equal(read.responses, -betas(1)[PLACES > 3].T)
    with pytest.raises(UserError, match=r"no CSI1_GLMbetas-TYPE\?-RR_ses-NN.*: FITHRF, FITHRF-GLMDENOISE-RR$"):
        load_bold5000(root=root, betas="RR")


@pytest.mark.parametrize("roi", [None, "PPA", "RHLOC"])
def test_roi_arrays_stand_in_for_volumes(root: Path, tmp_path: Path, roi: str | None) -> None:
    for path in (root / "betas").iterdir():
        path.unlink()
    arrays = {}
    for name, voxels in (("LHPPA", 3), ("RHPPA", 2), ("RHLOC", 4)):
        arrays[name] = np.random.default_rng(voxels).normal(size=(111, voxels)).astype(np.float32)
        np.save(root / f"betas/{STEM}_allses_{name}.npy", arrays[name])
    wanted = {None: ["LHPPA", "RHLOC", "RHPPA"], "PPA": ["LHPPA", "RHPPA"], "RHLOC": ["RHLOC"]}[roi]
    read = load_bold5000(tmp_path / "out", root=root, roi=roi)
    np.testing.assert_array_equal(read.responses, np.concatenate([arrays[name] for name in wanted], axis=1))
    assert read.session is None
    assert read.run.tolist() == ["001"] * 37 + ["002"] * 37 + ["003"] * 37
    assert read.rois[wanted[-1]].sum() == arrays[wanted[-1]].shape[1]
    np.save(root / f"betas/{STEM}_allses_LHPPA.npy", arrays["LHPPA"][:100])
    with pytest.raises(UserError, match=r"LHPPA\.npy: float32 \(100, 3\); expected a row for each of the 111"):
        load_bold5000(root=root)


def test_counts_must_agree(root: Path) -> None:
    (root / f"betas/{STEM}_ses-02.nii.gz").unlink()
    with pytest.raises(UserError, match=r"74 trials in 1 sessions, but CSI1_imgnames\.txt names 111 pictures"):
        load_bold5000(root=root)
    assert len(load_bold5000(root=root, sessions=1).responses) == 74
    volume(root / f"betas/{STEM}_ses-03.nii.gz", betas(2))
    with pytest.raises(UserError, match=r"no file of ses-02, but of 2 sessions up to ses-03"):
        load_bold5000(root=root)
    with pytest.raises(UserError, match="sessions=0: expected 1 or more"):
        load_bold5000(root=root, sessions=0)


def test_grids_must_agree(root: Path) -> None:
    other = np.zeros((4, 3, 3), np.int16)
    mask = root / "derivatives/spm/sub-CSI1/sub-CSI1_mask-LHPPA.nii.gz"
    volume(mask, other[..., :2], np.diag([3.0, 3, 3, 1]))
    with pytest.raises(UserError, match=r"mask-LHPPA\.nii\.gz has the affine \[\[3\.0.*, but .*brainmask.*\[\[-2\.0"):
        load_bold5000(root=root)
    volume(mask, other)
    with pytest.raises(UserError, match=r"mask-LHPPA\.nii\.gz: shape \(4, 3, 3\), but .*ses-01.* \(4, 3, 2\)"):
        load_bold5000(root=root)
    volume(root / f"betas/{STEM}_ses-02.nii.gz", np.zeros((4, 3, 3, 37), np.float32))
    with pytest.raises(UserError, match=r"ses-02\.nii\.gz: shape \(4, 3, 3, 37\), but .*ses-01.* \(4, 3, 2, 74\)"):
        load_bold5000(root=root)


def test_missing_and_damaged_files_are_named(root: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(UserError, match=r"no CSI4_imgnames\.txt below it; found files of CSI1"):
        load_bold5000(root=root, subject=4)
    with pytest.raises(UserError, match=r"nowhere: no such folder"):
        load_bold5000(root=Path("nowhere"))
    with pytest.raises(
        UserError, match=r"lists: 4 stimuli have no picture: COCO_train2014_000000000036, concert5, con"
    ):
        load_bold5000(root=root, stimuli=root / "lists")
    next(root.rglob("concert5.jpg")).unlink()
    with pytest.raises(UserError, match=r"1 stimuli have no picture: concert5; add them"):
        load_bold5000(root=root)
    for path in [*root.rglob("*.jpg"), *root.rglob("*.JPEG")]:
        path.unlink()
    assert load_bold5000(root=root).images is None
    assert "no pictures below fmri.root" in capsys.readouterr().err
    path = root / f"betas/{STEM}_ses-02.nii.gz"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"ses-02\.nii\.gz: .*cut short"):
        load_bold5000(root=root)


def test_rois_are_masks_enough_without_a_brain(root: Path) -> None:
    (root / "CSI1_brainmask.nii.gz").unlink()
    assert load_bold5000(root=root).responses.shape == (111, 11)
    for path in (root / "derivatives/spm/sub-CSI1").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"no CSI1_brainmask\.nii\.gz and no sub-CSI1_mask-LHPPA"):
        load_bold5000(root=root)


def test_unknown_and_empty_rois_are_refused(root: Path) -> None:
    with pytest.raises(UserError, match=r"fmri\.roi=LHFFA: BOLD5000 CSI1 has no such ROI; did you mean 'LH"):
        load_bold5000(root=root, roi="LHFFA")
    with pytest.raises(UserError, match=r"fmri\.roi=LHOPA: this ROI has no voxel in BOLD5000 CSI1"):
        load_bold5000(root=root, roi=["PPA", "LHOPA"])

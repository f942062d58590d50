"""A miniature NSD in the true layout: 750 int16 trials a session, a design counted from 1, pictures counted from 0."""

from __future__ import annotations

from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
from scipy.io import savemat

from braindistill.errors import UserError
from braindistill.fmri.nsd import load_nsd

SHAPE = (4, 5, 3)
AFFINE = np.diag([1.8, 1.8, 1.8, 1])
BETAS = "nsddata_betas/ppdata/subj02/func1pt8mm/betas_fithrf_GLMdenoise_RR"
SURFACE = "nsddata_betas/ppdata/subj02/fsaverage/betas_fithrf_GLMdenoise_RR"
ROI = "nsddata/ppdata/subj02/func1pt8mm/roi"
DESIGN = "nsddata/experiments/nsd/nsd_expdesign.mat"
STIMULI = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
PICTURES = 600


def volume(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)


def surface(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.MGHImage(values, np.eye(4)), path)


def raw(session: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(session).integers(-3000, 3000, size=(*shape, 750)).astype(np.int16)


def write_design(root: Path, **change: np.ndarray) -> None:
    draw = np.random.default_rng(7)
    design = {
        "subjectim": np.stack([draw.permutation(PICTURES)[:500] + 1 for _ in range(3)]),
        "masterordering": draw.permutation(np.repeat(np.arange(1, 501), 3))[None],
        "stimpattern": np.zeros((2, 12, 75), np.uint8),
    }
    for run in range(12):
        design["stimpattern"][:, run, : 63 - run % 2] = 1
    path = root / DESIGN
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, design | change)


def images_of(root: Path, subject: int = 2) -> np.ndarray:
    """Each trial's picture, counted from 0, written as the manual does."""
    from scipy.io import loadmat

    design = loadmat(root / DESIGN)
    return np.array([design["subjectim"][subject - 1, place - 1] - 1 for place in design["masterordering"][0]])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for session in (1, 2):
        volume(tmp_path / BETAS / f"betas_session{session:02d}.nii.gz", raw(session))
    volume(tmp_path / BETAS / "ncsnr.nii.gz", np.linspace(0, 2, 60, dtype=np.float32).reshape(SHAPE))
    labels = np.arange(60).reshape(SHAPE)
    volume(tmp_path / ROI / "nsdgeneral.nii.gz", np.where(labels % 3 == 0, 1, -1).astype(np.float32))
    volume(tmp_path / ROI / "prf-visualrois.nii.gz", np.where(labels < 40, labels // 10, -1).astype(np.float32))
    volume(tmp_path / ROI / "lh.prf-visualrois.nii.gz", np.zeros(SHAPE, np.float32))
    volume(tmp_path / ROI / "Kastner2015.nii.gz", (labels == 59).astype(np.float32))
    volume(tmp_path / ROI.replace("/roi", "") / "brainmask.nii.gz", (labels > 1).astype(np.int16))
    tables = tmp_path / "nsddata/freesurfer/subj02/label"
    tables.mkdir(parents=True)
    (tables / "prf-visualrois.mgz.ctab").write_text("0 Unknown\n1 V1v\n2 V1d\n3 V2v\n4 V2d\n")
    (tables / "Kastner2015.mgz.ctab").write_text("0 Unknown\n1 V1v\n")
    write_design(tmp_path)
    (tmp_path / STIMULI).parent.mkdir(parents=True)
    with h5py.File(tmp_path / STIMULI, "w") as file:
        values = np.zeros((PICTURES, 8, 8, 3), np.uint8)
        values[..., 0], values[..., 1] = np.divmod(np.arange(PICTURES), 256)[0][:, None, None], 9
        values[..., 2] = (np.arange(PICTURES) % 256)[:, None, None]
        file["imgBrick"] = values
    return tmp_path


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("roi", ["nsdgeneral", "V1v", ["V1v", "V2v"], None])
def test_betas_equal_a_plain_read(root: Path, tmp_path: Path, roi: str | list[str] | None, mapped: bool) -> None:
    labels = np.arange(60).reshape(SHAPE)
    inside = {
        "nsdgeneral": labels % 3 == 0,
        "V1v": labels // 10 == 1,
        "['V1v', 'V2v']": np.isin(labels // 10, (1, 3)),
        "None": labels > 1,
    }[str(roi)]
    read = load_nsd(tmp_path / "out" if mapped else None, root=root, subject=2, roi=roi)
    plain = np.concatenate(
        [np.asanyarray(nibabel.load(root / BETAS / f"betas_session0{n}.nii.gz").dataobj)[inside].T for n in (1, 2)]
    )
    np.testing.assert_allclose(read.responses, plain / 300, rtol=1e-6)
    assert isinstance(read.responses, np.memmap) == mapped
    np.testing.assert_allclose(read.voxel_coordinates, np.argwhere(inside) * 1.8)
    read.check()


def test_every_trial_is_joined_with_its_picture(root: Path) -> None:
    read = load_nsd(root=root, subject=2)
    images = images_of(root)
    assert read.stimulus_id.tolist() == [f"nsd-{image:05d}" for image in images]
    assert read.images.shape == (len(set(images.tolist())), 3, 64, 64)
    for trial in (0, 800, 1499):
        picture = read.images[read.image_id.tolist().index(read.stimulus_id[trial])].astype(int)
        assert (picture[0] * 256 + picture[2] == images[trial]).all()
        assert (picture[1] == 9).all()
    assert read.session.tolist() == ["01"] * 750 + ["02"] * 750
    runs = [read.run.tolist().count(f"02-{run:02d}") for run in range(1, 13)]
    assert runs == [63, 62] * 6
    assert read.run[62] == "01-01"
    assert read.run[63] == "01-02"


def test_the_ceiling_is_that_of_the_repeats_that_were_read(root: Path) -> None:
    inside = np.arange(60) % 3 == 0
    ncsnr = np.linspace(0, 2, 60)[inside]
    full = load_nsd(root=root, subject=2).ceiling
    np.testing.assert_allclose(full, ncsnr**2 / (ncsnr**2 + 1 / 3), rtol=1e-5)
    counts = np.unique(images_of(root)[:750], return_counts=True)[1]
    half = load_nsd(root=root, subject=2, sessions=1).ceiling
    np.testing.assert_allclose(half, ncsnr**2 / (ncsnr**2 + np.mean(1 / counts)), rtol=1e-5)
    (root / BETAS / "ncsnr.nii.gz").unlink()
    assert load_nsd(root=root, subject=2).ceiling is None


def test_rois_keep_their_names_and_atlases_are_read_when_asked_for(root: Path) -> None:
    read = load_nsd(root=root, subject=2)
    assert set(read.rois) == {"nsdgeneral", "V1v", "V1d", "V2v"}
    assert read.rois["V1v"].sum() == sum(10 <= voxel < 20 for voxel in range(0, 60, 3))
    atlas = load_nsd(root=root, subject=2, roi="Kastner2015:V1v")
    assert atlas.rois["Kastner2015:V1v"].tolist() == [True]
    assert load_nsd(root=root, subject=2, roi="prf-visualrois").responses.shape[1] == 30


def test_floats_are_percent_already_and_a_header_scale_is_applied(root: Path) -> None:
    path = root / BETAS / "betas_session01.nii.gz"
    plain = load_nsd(root=root, subject=2, sessions=1, roi=None).responses
    volume(path, raw(1).astype(np.float32) / 300)
    np.testing.assert_allclose(load_nsd(root=root, subject=2, sessions=1, roi=None).responses, plain, rtol=1e-6)
    image = nibabel.Nifti1Image(raw(1), AFFINE)
    image.header.set_slope_inter(2, 30)
    nibabel.save(image, path)
    scaled = np.asanyarray(nibabel.load(path).dataobj)[np.arange(60).reshape(SHAPE) > 1].T / 300
    np.testing.assert_allclose(load_nsd(root=root, subject=2, sessions=1, roi=None).responses, scaled, atol=1e-4)


def test_the_surface_is_read_from_both_hemispheres(root: Path, tmp_path: Path) -> None:
    values = {}
    labels = root / "nsddata/freesurfer/fsaverage/label"
    for side, count in (("lh", 6), ("rh", 5)):
        values[side] = np.random.default_rng(count).normal(size=(count, 1, 1, 750)).astype(np.float32)
        surface(root / SURFACE / f"{side}.betas_session01.mgh", values[side])
        surface(root / SURFACE / f"{side}.ncsnr.mgh", np.ones((count, 1, 1), np.float32))
        surface(labels / f"{side}.nsdgeneral.mgz", (np.arange(count) > 2).astype(np.float32)[:, None, None])
        surface(labels / f"{side}.streams.mgz", (np.arange(count) == 3).astype(np.float32)[:, None, None] * 5)
        surface(labels / f"{side}.curvature.mgz", np.ones((count, 1, 1), np.float32))
    (labels / "streams.mgz.ctab").write_text("0 Unknown 0 0 0 0\n5 ventral 255 0 0 0\n")
    read = load_nsd(tmp_path / "out", root=root, subject=2, space="fsaverage")
    plain = np.concatenate([values[side][3:, 0, 0].T for side in ("lh", "rh")], axis=1)
    np.testing.assert_array_equal(read.responses, plain)
    assert {name: mask.tolist() for name, mask in read.rois.items()} == {
        "nsdgeneral": [True] * 5,
        "ventral": [True, False, False, True, False],
    }
    assert read.voxel_coordinates is None
    assert load_nsd(root=root, subject=2, space="fsaverage", roi=None).responses.shape == (750, 11)
    truncate(root / SURFACE / "rh.betas_session01.mgh")
    with pytest.raises(UserError, match=r"rh\.betas_session01\.mgh: .*cut short"):
        load_nsd(root=root, subject=2, space="fsaverage")
    (root / SURFACE / "rh.betas_session01.mgh").write_bytes(b"")
    with pytest.raises(UserError, match=r"rh\.betas_session01\.mgh: not a readable"):
        load_nsd(root=root, subject=2, space="fsaverage")


def test_without_pictures_it_says_so(root: Path, capsys: pytest.CaptureFixture) -> None:
    (root / STIMULI).rename(root / "moved.hdf5")
    read = load_nsd(root=root, subject=2)
    assert read.images is None
    assert read.image_id is None
    assert "no pictures" in capsys.readouterr().err
    assert load_nsd(root=root, subject=2, stimuli=root / "moved.hdf5", image_size=None).images.shape[1:] == (3, 8, 8)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_missing_and_damaged_files_are_named(root: Path) -> None:
    with pytest.raises(UserError, match=r"subj03.*no such folder; expected betas_session01\.nii\.gz"):
        load_nsd(root=root, subject=3)
    with pytest.raises(UserError, match=r"betas_session03\.nii\.gz: no such file; found 2 sessions"):
        load_nsd(root=root, subject=2, sessions=3)
    with pytest.raises(UserError, match="sessions=0: expected 1 or more"):
        load_nsd(root=root, subject=2, sessions=0)
    with pytest.raises(UserError, match=r"fmri\.stimuli=.*nowhere: no such file"):
        load_nsd(root=root, subject=2, stimuli=Path("nowhere"))
    truncate(root / STIMULI)
    with pytest.raises(UserError, match=r"nsd_stimuli\.hdf5.*(truncated|cut short)"):
        load_nsd(root=root, subject=2)
    truncate(root / BETAS / "betas_session02.nii.gz")
    with pytest.raises(UserError, match=r"betas_session02\.nii\.gz: .*cut short"):
        load_nsd(root=root, subject=2)
    truncate(root / DESIGN)
    with pytest.raises(UserError, match=r"nsd_expdesign\.mat: not a readable MATLAB"):
        load_nsd(root=root, subject=2)
    (root / DESIGN).unlink()
    with pytest.raises(UserError, match=r"nsd_expdesign\.mat: no such file"):
        load_nsd(root=root, subject=2)


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("masterordering", np.arange(1500)[None] % 500, r"masterordering goes from 0 to 499; expected 1 to 500"),
        ("masterordering", np.arange(1500)[None] % 501 + 1, r"masterordering goes from 1 to 501; expected 1 to 500"),
        ("masterordering", np.ones((1, 750)), r"masterordering has 750 trials, but session 2 ends with 1500"),
        ("subjectim", np.zeros((3, 500)), r"subjectim goes from 0 to 0; expected 1 to 73000, counted from 1"),
        ("subjectim", np.full((3, 500), 601), r"imgBrick has 600 images, counted from 0, but a trial shows 600"),
        ("subjectim", np.ones((1, 500)), r"fmri\.subject=2: .* has the subjects 1 to 1"),
    ],
)
def test_indices_out_of_range_are_refused(root: Path, key: str, change: np.ndarray, message: str) -> None:
    write_design(root, **{key: change})
    with pytest.raises(UserError, match=message):
        load_nsd(root=root, subject=2)


def test_grids_and_counts_must_agree(root: Path) -> None:
    path = root / BETAS / "betas_session02.nii.gz"
    volume(path, raw(2, (4, 5, 4)))
    with pytest.raises(UserError, match=r"betas_session02.*shape \(4, 5, 4\), but .*betas_session01.* \(4, 5, 3\)"):
        load_nsd(root=root, subject=2)
    volume(path, raw(2)[..., :700])
    with pytest.raises(UserError, match=r"betas_session02\.nii\.gz: 700 trials; expected the 750"):
        load_nsd(root=root, subject=2)
    volume(root / ROI / "nsdgeneral.nii.gz", np.ones((4, 5, 4), np.float32))
    with pytest.raises(UserError, match=r"nsdgeneral\.nii\.gz: shape \(4, 5, 4\), but the betas have \(4, 5, 3\)"):
        load_nsd(root=root, subject=2, sessions=1)


def test_unknown_and_empty_rois_are_refused(root: Path) -> None:
    with pytest.raises(UserError, match=r"fmri\.roi=V1x: NSD subj02 .* did you mean 'V1d'|'V1v'\?.*Kastner2015:V1v"):
        load_nsd(root=root, subject=2, roi="V1x")
    with pytest.raises(UserError, match=r"fmri\.roi=V2d: this ROI has no voxel"):
        load_nsd(root=root, subject=2, roi=["V1v", "V2d"])
    with pytest.raises(UserError, match=r"name at least one ROI"):
        load_nsd(root=root, subject=2, roi=[])

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.fmri import nifti
from braindistill.fmri.bids import load_bids

SHAPE = (4, 5, 3)
AFFINE = np.diag([3.0, 3, 4, 1])


def save(path: Path, values: np.ndarray, tr: float | None = None) -> Path:
    image = nibabel.Nifti1Image(values, AFFINE)
    if tr:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr))
        image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)
    return path


def test_volumes_of_three_and_four_axes_are_read_inside_a_mask(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(*SHAPE, 7)).astype(np.float32)
    inside = values[..., 0] > 0
    series = nifti.open_nifti(save(tmp_path / "series.nii.gz", values))
    single = nifti.open_nifti(save(tmp_path / "single.nii.gz", values[..., 2]))
    np.testing.assert_array_equal(nifti.read_voxels(series, tmp_path, inside), values[inside].T)
    np.testing.assert_array_equal(nifti.read_voxels(single, tmp_path, inside), values[inside, 2][None])
    assert (nifti.count_volumes(series), nifti.count_volumes(single)) == (7, 1)


def test_brain_is_where_the_magnitude_is(tmp_path: Path) -> None:
    values = np.full((*SHAPE, 4), 0.1, np.float32)
    values[1:3] = -5.0
    values[0, 0, 0] = np.nan
    paths = [save(tmp_path / f"{name}.nii", values) for name in "ab"]
    paths.append(save(tmp_path / "c.nii", values[..., 0]))
    found = nifti.find_brain(paths)
    assert found[1:3].all()
    assert not found[[0, 3]].any()


def test_repetition_time_needs_a_header_that_gives_it(tmp_path: Path) -> None:
    values = np.zeros((*SHAPE, 2), np.float32)
    path = save(tmp_path / "tr.nii", values, tr=2.5)
    assert nifti.repetition_time(nifti.open_nifti(path), path) == 2.5


def test_a_file_that_is_no_nifti_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.nii.gz").write_bytes(b"no")
    with pytest.raises(UserError, match=r"x\.nii\.gz: not a readable NIfTI file"):
        nifti.open_nifti(tmp_path / "x.nii.gz")


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    """Two runs of raw BOLD with one mask."""
    generator = np.random.default_rng(0)
    for run in (1, 2):
        drift = np.linspace(0, 20 * run, 30)
        volumes = 1000 + drift + 10 * generator.normal(size=(*SHAPE, 30))
        save(tmp_path / f"run-{run}_bold.nii.gz", volumes.astype(np.float32), tr=2.0)
        # an event a volume, so that the responses are the standardised volumes themselves
        rows = [f"{2 * volume}\t2\tv{volume}" for volume in range(30)]
        (tmp_path / f"run-{run}_events.tsv").write_text("\n".join(["onset\tduration\ttrial_type", *rows]) + "\n")
    (tmp_path / "masks").mkdir()
    save(tmp_path / "masks/V1.nii.gz", (generator.random(SHAPE) > 0.5).astype(np.uint8))
    return tmp_path


def test_masking_agrees_with_nilearn(masked: Path) -> None:
    maskers = pytest.importorskip("nilearn.maskers")
    plain = maskers.NiftiMasker(masked / "masks/V1.nii.gz", standardize=None, dtype="float32").fit()
    inside = nibabel.load(masked / "masks/V1.nii.gz").get_fdata() > 0
    for run in (1, 2):
        path = masked / f"run-{run}_bold.nii.gz"
        theirs = plain.transform(path)
        assert theirs.dtype == np.float32
        np.testing.assert_array_equal(nifti.read_voxels(nifti.open_nifti(path), path, inside), theirs)


def test_detrending_and_z_scores_agree_with_nilearn(masked: Path) -> None:
    maskers = pytest.importorskip("nilearn.maskers")
    theirs = maskers.NiftiMasker(masked / "masks/V1.nii.gz", detrend=True, standardize="zscore_sample").fit()
    read = load_bids(root=masked, lag=0.0)
    for run in ("1", "2"):
        expected = theirs.transform(masked / f"run-{run}_bold.nii.gz") * np.sqrt(30 / 29)  # they divide by n − 1
        np.testing.assert_allclose(read.responses[read.run == run], expected, atol=2e-5)

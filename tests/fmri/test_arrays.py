from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.fmri.arrays import load_arrays


def content(**change: Any) -> dict[str, Any]:
    full = {
        "responses": np.arange(12.0).reshape(4, 3),
        "stimulus_id": np.array([7, 8, 7, 8]),
        "run": np.array([1, 1, 2, 2]),
        "session": np.array(["a", "a", "b", "b"]),
        "label": np.array([3, 5, 3, 5]),
        "split": np.array([b"train"] * 4),
        "voxel_coordinates": np.eye(3),
        "affine": np.eye(4),
        "roi_V1": np.array([1, 0, 1]),
        "images": np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3),
        "image_id": np.array([7, 8]),
    }
    return {key: value for key, value in (full | change).items() if value is not None}


def write(path: Path, **change: Any) -> Path:
    np.savez(path, **content(**change))
    return path


def test_everything_is_read_and_names_become_strings(tmp_path: Path) -> None:
    read = load_arrays(path=write(tmp_path / "a.npz"))
    assert read.responses.dtype == np.float32
    np.testing.assert_array_equal(read.responses, np.arange(12).reshape(4, 3))
    assert read.stimulus_id.tolist() == ["7", "8", "7", "8"]
    assert [read.run.tolist(), read.label.tolist(), read.split[0]] == [
        ["1", "1", "2", "2"],
        ["3", "5", "3", "5"],
        "train",
    ]
    np.testing.assert_array_equal(read.rois["V1"], [True, False, True])
    np.testing.assert_array_equal(read.images[1, 2], content()["images"][1, :, :, 2])
    assert read.image_id.tolist() == ["7", "8"]
    np.testing.assert_array_equal(read.affine, np.eye(4))


def test_two_keys_are_enough_and_grey_images_get_a_channel(tmp_path: Path) -> None:
    bare = {key: None for key in content() if key not in ("responses", "stimulus_id")}
    read = load_arrays(path=write(tmp_path / "a.npz", **bare))
    assert (read.run, read.images, read.rois) == (None, None, {})
    grey = load_arrays(path=write(tmp_path / "b.npz", images=np.ones((2, 4, 5), np.uint8)))
    assert grey.images.shape == (2, 1, 4, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stimulus_id": None}, r"no key stimulus_id; keys found: responses, run"),
        ({"responses": np.zeros(4)}, r"responses has shape \(4,\); expected trials × voxels"),
        ({"responses": np.zeros((4, 3), complex)}, r"responses has type complex128"),
        ({"responses": np.full((4, 3), 1e300)}, r"12 of 12 responses are NaN or infinite"),
        ({"stimulus_id": np.zeros((4, 1), int)}, r"stimulus_id has shape \(4, 1\)"),
        ({"stimulus_id": np.array([1.5] * 4)}, r"stimulus_id has type float64"),
        ({"stimulus_id": np.array(["a"] * 3)}, r"stimulus_id has 3 entries, but there are 4 trials"),
        ({"label": np.array(["a", "b", 1, None], dtype=object)}, r"label is an array of Python objects"),
        ({"label": np.array([3, 5, 4, 5])}, r"stimulus 7 has the label '3' in one trial and '4' in trial 2"),
        ({"images": np.zeros((2, 4, 5, 3))}, r"images has type float64; expected uint8"),
        ({"images": np.zeros((2, 3, 4, 5), np.uint8)}, r"images has shape \(2, 3, 4, 5\); expected stimuli × H"),
        ({"image_id": None}, r"image_id is missing"),
        ({"images": None}, r"images is missing"),
        ({"image_id": np.array([7, 9])}, r"1 stimuli have no image: 8"),
        ({"roi_V1": np.array([0, 2, 1])}, r"roi_V1 has type int64; expected True or False"),
        ({"roi_V1": np.array([True])}, r"ROI V1 is bool \(1,\)"),
        ({"affine": np.eye(3)}, r"affine has shape \(3, 3\)"),
    ],
)
def test_mistakes_are_named_in_one_line(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_arrays(path=write(tmp_path / "a.npz", **change))
    assert "\n" not in str(caught.value)
    assert "a.npz" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fmri\.path=.*none\.npz: no such file"):
        load_arrays(path=tmp_path / "none.npz")


def test_another_format_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(UserError, match=r"not an \.npz"):
        load_arrays(path=tmp_path / "a.npy")


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.npz",
        responses=np.random.default_rng(0).normal(size=(4, 300)),
        roi_V1=None,
        voxel_coordinates=None,
    )
    damaged = bytearray(path.read_bytes())
    damaged[3000] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r"responses cannot be read .*damaged"):
        load_arrays(path=path)


def test_an_unknown_key_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    load_arrays(path=write(tmp_path / "a.npz", lable=np.zeros(4)))
    assert "ignored unknown keys lable" in capsys.readouterr().err

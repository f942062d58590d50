from __future__ import annotations

import dataclasses
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.fmri.storage import allocate, compact, is_stored

Usage = namedtuple("Usage", "total used free")


def test_room_on_disk_or_in_memory(tmp_path: Path) -> None:
    array = allocate(tmp_path / "new", 3, 2)
    array[:] = 7
    array.flush()  # type: ignore[attr-defined]
    np.testing.assert_array_equal(np.load(tmp_path / "new/responses.npy"), np.full((3, 2), 7, np.float32))
    assert type(allocate(None, 3, 2)) is np.ndarray
    assert allocate(tmp_path, 0, 2).shape == (0, 2)


def test_what_is_needed_is_said_and_a_small_disk_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    allocate(tmp_path, 1000, 50, session_trials=10)
    assert "1,000 trials × 50 voxels need 0.2 MB of disk" in capsys.readouterr().err
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 10**5))
    with pytest.raises(UserError, match=r"need 0\.2 MB of disk, but .* has 0\.1 MB left; choose fewer voxels"):
        allocate(tmp_path / "b", 1000, 50)
    assert not (tmp_path / "b/responses.npy").exists()


@pytest.mark.parametrize("on_disk", [True, False])
def test_voxels_and_repeats_are_kept_block_by_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_disk: bool
) -> None:
    monkeypatch.setattr("braindistill.fmri.storage.BLOCK", 12)
    values = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    array = allocate(tmp_path if on_disk else None, 7, 5)
    array[:] = values
    columns = np.array([1, 0, 1, 1, 0], bool)
    kept = compact(array, columns)
    np.testing.assert_array_equal(kept, values[:, columns])
    np.testing.assert_array_equal(array, values)  # the old map is still good
    groups = [np.array([0, 3, 6]), np.array([1]), np.array([2, 5]), np.array([4])]
    averaged = compact(kept, np.array([1, 0, 1], bool), groups)
    expected = np.stack([values[rows][:, [0, 3]].mean(axis=0) for rows in groups])
    np.testing.assert_allclose(averaged, expected, rtol=1e-6, atol=1e-7)
    if on_disk:
        np.testing.assert_array_equal(np.load(tmp_path / "responses.npy"), averaged)
        assert [file.name for file in tmp_path.iterdir()] == ["responses.npy"]


def test_a_subject_that_lies_in_its_folder_is_not_copied(subject: Responses, tmp_path: Path) -> None:
    array = allocate(tmp_path, *subject.responses.shape)
    array[:] = subject.responses
    stored = dataclasses.replace(subject, responses=array)
    inode = (tmp_path / "responses.npy").stat().st_ino
    stored.save(tmp_path)
    assert (tmp_path / "responses.npy").stat().st_ino == inode
    np.testing.assert_array_equal(Responses.load(tmp_path).responses, subject.responses)
    stored.save(tmp_path / "other")
    np.testing.assert_array_equal(Responses.load(tmp_path / "other").responses, subject.responses)


def test_only_the_whole_writable_map_counts_as_stored(tmp_path: Path) -> None:
    array = allocate(tmp_path, 4, 3)
    file = tmp_path / "responses.npy"
    assert is_stored(array, file)
    assert not is_stored(array[:2], file)
    assert not is_stored(array.T, file)
    assert not is_stored(np.array(array), file)
    assert not is_stored(np.load(file, mmap_mode="r"), file)
    assert not is_stored(array, tmp_path / "other.npy")


def test_constant_voxels_leave_a_memory_map_without_a_copy_in_memory(subject: Responses, tmp_path: Path) -> None:
    array = allocate(tmp_path, *subject.responses.shape)
    array[:] = subject.responses
    array[:, [0, 4]] = [3, np.nan]
    kept, dropped = dataclasses.replace(subject, responses=array).drop_constant()
    assert dropped == 2
    assert isinstance(kept.responses, np.memmap)
    assert is_stored(kept.responses, tmp_path / "responses.npy")
    np.testing.assert_array_equal(kept.responses, subject.responses[:, 1:4])

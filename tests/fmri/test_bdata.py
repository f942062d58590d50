from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braindistill.errors import UserError
from braindistill.fmri.bdata import open_bdata
from braindistill.fmri.hdf5 import pieces

KEYS = {"VoxelData": [1, 1, 1, np.nan], "ROI_V1": [1, 0, 1, np.nan], "Run": [np.nan, np.nan, np.nan, 1]}
VALUES = np.arange(20.0).reshape(5, 4) / 3


def write(
    path: Path, old: bool = False, keys: dict[str, list[float]] = KEYS, values: np.ndarray = VALUES, text: bool = False
) -> Path:
    """A BData file in the spelling of bdpy, or in that of older files."""
    with h5py.File(path, "w") as file:
        file["dataSet" if old else "dataset"] = values
        group = file.create_group("metaData" if old else "metadata")
        names = list(keys)
        group["key"] = names if text else [name.encode() for name in names]
        group["description"] = [b""] * len(names)
        group["value"] = np.array(list(keys.values()), dtype=float)
        file["header/note"] = b"made by a test"
        file["vmap/Run/1.0"] = b"first"
    return path


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("text", [False, True])
def test_both_spellings_and_both_kinds_of_strings_are_read(tmp_path: Path, old: bool, text: bool) -> None:
    with open_bdata(write(tmp_path / "a.h5", old, text=text)) as data:
        np.testing.assert_array_equal(data.select("ROI_V1"), VALUES[:, [0, 2]])
        np.testing.assert_array_equal(data.select("Run"), VALUES[:, [3]])
        assert data.select("Run").dtype == np.float64


def test_rows_and_columns_are_read_into_float32(tmp_path: Path) -> None:
    out = np.empty((2, 2), dtype=np.float32)
    with open_bdata(write(tmp_path / "a.h5")) as data:
        data.read(np.array([1, 4]), np.array([0, 3]), out)
    np.testing.assert_array_equal(out, VALUES[np.ix_([1, 4], [0, 3])].astype(np.float32))


def test_small_pieces_make_the_same_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50, 120))
    rows, columns = (np.flatnonzero(rng.random(n) < 0.3) for n in values.shape)
    path = write(tmp_path / "a.h5", keys={"VoxelData": [1] * 120}, values=values)
    monkeypatch.setattr("braindistill.fmri.bdata.BLOCK", 640)  # ten columns, then few rows, at a time
    out = np.empty((len(rows), len(columns)))
    with open_bdata(path) as data:
        data.read(rows, columns, out)
    np.testing.assert_array_equal(out, values[np.ix_(rows, columns)])


@given(st.sets(st.integers(0, 300)), st.integers(1, 40), st.integers(0, 5))
def test_pieces_cover_the_index_once_and_stay_short(chosen: set[int], longest: int, gap: int) -> None:
    index = np.array(sorted(chosen), dtype=int)
    covered: list[int] = []
    for there, here in pieces(index, longest, gap):
        inside = index[here]
        assert (there.start, there.stop) == (inside[0], inside[-1] + 1)
        assert there.stop - there.start <= longest
        assert (np.diff(inside) <= gap + 1).all()
        covered += inside.tolist()
    assert covered == index.tolist()


def test_every_column_equals_what_bdpy_selects(tmp_path: Path) -> None:
    bdpy = pytest.importorskip("bdpy", reason="bdpy (the format's own writer and reader) is not installed")
    rng = np.random.default_rng(0)
    made = bdpy.BData()
    made.add(rng.normal(size=(6, 7)), "VoxelData")
    made.add(1518878 + rng.integers(0, 60000, (6, 1)) / 1e6, "stimulus_id")
    made.add(np.arange(6.0)[:, None], "Run")
    made.add_metadata("ROI_V1", np.array([1, 0, 1, 1, 0, 0, 1.0]), "", where="VoxelData")
    made.add_metadata("voxel_x", rng.normal(size=7), "", where="VoxelData")
    made.save(str(tmp_path / "a.h5"))
    theirs = bdpy.BData(str(tmp_path / "a.h5"))
    with open_bdata(tmp_path / "a.h5") as ours:
        assert list(ours.metadata) == list(theirs.metadata.key)
        for key in ours.metadata:
            np.testing.assert_array_equal(ours.metadata[key], theirs.get_metadata(key))
            if key != "voxel_x":
                np.testing.assert_array_equal(ours.select(key), theirs.select(key))


def test_what_cannot_be_read_is_one_clear_line(tmp_path: Path) -> None:
    def refuse(path: Path, words: str) -> None:
        with pytest.raises(UserError, match=words) as raised, open_bdata(path) as data:
            data.select("ROI_V1")
        assert "\n" not in str(raised.value)

    whole = write(tmp_path / "whole.h5")
    (tmp_path / "cut.h5").write_bytes(whole.read_bytes()[:-600])
    (tmp_path / "text.h5").write_text("not HDF5")
    refuse(tmp_path / "cut.h5", r"cut\.h5: not readable as HDF5, truncated")
    refuse(tmp_path / "text.h5", r"text\.h5: not readable as HDF5")
    refuse(tmp_path / "none.h5", r"none\.h5: no such file")
    refuse(write(tmp_path / "b.h5", keys={"ROI_V2": [1, 0, 0, 0]}), "no key ROI_V1; did you mean 'ROI_V2'")
    refuse(write(tmp_path / "c.h5", keys={"ROI_V1": [1, 0, 0]}), r"is \(1, 3\).*expected keys × columns \(1, 4\)")
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["other"] = 1
    refuse(tmp_path / "d.h5", "no /dataset; expected a BData file; it holds other")

"""THINGS-fMRI in the true layout: 6 concepts × 3 training images once, 3 test images × 4, 10 voxels."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from braindistill import fmri
from braindistill.errors import UserError
from braindistill.fmri.frames import open_frame
from braindistill.fmri.things import load_things

VOXELS = 10
HEADER = ["trial_type", "session", "run", "subject_id", "trial_id", "stimulus", "concept"]


def make_trials() -> list[list[str]]:
    rng = np.random.default_rng(1)
    shown = [("train", f"concept{c}", f"concept{c}_0{i}b.jpg") for c in range(6) for i in range(3)]
    shown += [("test", f"concept{c}", f"concept{c}_14s.jpg") for c in range(3)] * 4
    shown = [shown[row] for row in rng.permutation(len(shown))]
    return [
        [kind, str(1 + t // 15), str(1 + t % 15 // 5), "1", str(t), file, c] for t, (kind, c, file) in enumerate(shown)
    ]


TRIALS = make_trials()
PATTERNS = np.random.default_rng(2).normal(size=(6, VOXELS))
BETAS = PATTERNS[[int(t[6][-1]) for t in TRIALS]].T + np.random.default_rng(3).normal(0, 0.4, (VOXELS, len(TRIALS)))
VOXEL_ID = np.arange(VOXELS)[::-1]  # the rows of the table lie in another order than the metadata


def write_fixed(path: Path, betas: np.ndarray = BETAS, ids: np.ndarray = VOXEL_ID) -> None:
    """As pandas' fixed format lies on the disk: the pickled axis of mixed names, and a block a type."""
    with h5py.File(path, "w") as file:
        group = file.create_group("ResponseData")
        group.attrs["pandas_type"] = np.bytes_("frame")
        group.attrs["encoding"] = np.bytes_("UTF-8")
        pickled = group.create_dataset("axis0", (1,), dtype=h5py.vlen_dtype(np.uint8))
        pickled[0] = np.frombuffer(b"never to be unpickled", dtype=np.uint8)
        group["axis1"] = np.arange(len(betas))
        group["block0_values"] = betas
        group["block1_values"] = ids[:, None]
        group["block1_items"] = np.array([b"voxel_id"])


def write_tables(folder: Path, trials: list[list[str]] = TRIALS, voxels: int = VOXELS) -> None:
    with (folder / "sub-01_StimulusMetadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *trials])
    names = ["voxel_id", "subject_id", "voxel_x", "voxel_y", "voxel_z", "nc_singletrial", "nc_testset"]
    names += ["splithalf_corrected", "prf-size", "V1", "LO1 (prf)", "glasser-p9-\n46v", "lFFA"]
    rows = [
        [v, 1, v % 3, v, 30 + v, 2.5 * v, 9.0 * v, "", 0, int(v < 4), int(v in (3, 7)), int(v == 9), 0]
        for v in range(voxels)
    ]
    with (folder / "sub-01_VoxelMetadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([names, *rows])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "things/betas_csv"
    folder.mkdir(parents=True)
    write_fixed(folder / "sub-01_ResponseData.h5")
    write_tables(folder)
    return tmp_path / "things"


def test_trials_and_voxels_are_joined_with_their_tables(root: Path) -> None:
    read = load_things(root=root)
    np.testing.assert_array_equal(read.responses, BETAS.T.astype(np.float32))
    assert read.stimulus_id.tolist() == [trial[5].removesuffix(".jpg") for trial in TRIALS]
    assert read.label.tolist() == [trial[6] for trial in TRIALS]
    assert read.split.tolist() == [trial[0] for trial in TRIALS]
    assert read.run.tolist() == [f"{trial[1]}-{trial[2]}" for trial in TRIALS]
    assert read.session.tolist() == [trial[1] for trial in TRIALS]
    # voxel_id joins the columns, which are in the order of the response file
    assert {roi: VOXEL_ID[mask].tolist() for roi, mask in read.rois.items()} == {
        "V1": [3, 2, 1, 0],
        "LO1 (prf)": [7, 3],
        "glasser-p9-46v": [9],
    }
    np.testing.assert_allclose(read.ceiling, 0.09 * VOXEL_ID)
    np.testing.assert_array_equal(read.voxel_coordinates, [[v % 3, v, 30 + v] for v in VOXEL_ID])
    read.check()


@pytest.mark.parametrize("split", ["train", "test"])
def test_split_and_roi_restrict_what_is_read(root: Path, split: Any, tmp_path: Path) -> None:
    read = load_things(tmp_path / "new", root=root / "betas_csv", split=split, roi=["V1", "LO1 (prf)"])
    rows = [row for row, trial in enumerate(TRIALS) if trial[0] == split]
    lines = [line for line, voxel in enumerate(VOXEL_ID) if voxel in (0, 1, 2, 3, 7)]
    assert isinstance(read.responses, np.memmap)
    np.testing.assert_array_equal(read.responses, BETAS[np.ix_(lines, rows)].T.astype(np.float32))
    assert set(read.split) == {split}
    np.testing.assert_allclose(read.ceiling, (0.09 if split == "test" else 0.025) * VOXEL_ID[lines])


def test_small_blocks_make_the_same_whole(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load_things(root=root).responses
    monkeypatch.setattr("braindistill.fmri.things.BLOCK", 3 * len(TRIALS))
    np.testing.assert_array_equal(load_things(root=root).responses, whole)


def test_a_shuffled_stimulus_table_is_joined_on_trial_id(root: Path) -> None:
    write_tables(root / "betas_csv", TRIALS[::-1])
    read = load_things(root=root)
    assert read.stimulus_id.tolist() == [trial[5].removesuffix(".jpg") for trial in TRIALS]


def test_planted_signal_is_decoded_on_ids_and_not_on_positions(root: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    read = load_things(root=root)
    model = LogisticRegression(max_iter=500)
    by_position = np.sort(read.label)  # as the pictures lie in their folders
    accuracy = [cross_val_score(model, read.responses, labels, cv=3).mean() for labels in (read.label, by_position)]
    assert accuracy[0] > 0.8
    assert accuracy[1] < 0.45  # the commonest concept is 7 of 30


@pytest.mark.parametrize("nested", [False, True])
def test_pictures_lie_in_one_folder_or_in_one_a_concept(root: Path, nested: bool) -> None:
    for place, trial in enumerate(TRIALS):
        folder = root / "images" / (trial[6] if nested else "")
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / trial[5]).exists():
            Image.new("RGB", (6 + place % 3, 8), (8 * place, 0, 0)).save(folder / trial[5], "PNG")
    read = load_things(root=root, stimuli=root / "images", image_size=4)
    first = {trial[5].removesuffix(".jpg"): place for place, trial in reversed(list(enumerate(TRIALS)))}
    assert read.image_id.tolist() == list(dict.fromkeys(read.stimulus_id.tolist()))
    assert read.images[:, 0, 0, 0].tolist() == [8 * first[name] for name in read.image_id.tolist()]
    (root / "images" / (TRIALS[0][6] if nested else "") / TRIALS[0][5]).unlink()
    with pytest.raises(UserError, match="1 stimuli have no picture"):
        load_things(root=root, stimuli=root / "images", image_size=4)


@pytest.mark.parametrize("layout", ["mixed names", "text names", "one type", "float32", "compressed", "table"])
def test_what_pandas_writes_is_read(tmp_path: Path, layout: str) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas (which wrote the original files) is not installed")
    pytest.importorskip("tables", reason="tables (with which pandas writes HDF5) is not installed")
    frame = pandas.DataFrame(BETAS.astype(np.float32) if layout == "float32" else BETAS)
    frame.insert(0, "voxel_id", VOXEL_ID)
    if layout in ("text names", "table", "one type"):
        frame.columns = frame.columns.astype(str)
    if layout == "one type":
        frame = frame.astype(float)
    path = tmp_path / "sub-01_ResponseData.h5"
    more = {"table": {"format": "table"}, "compressed": {"complevel": 5}}.get(layout, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas says that it pickles the names
        frame.to_hdf(path, key="ResponseData", **more)
    write_tables(tmp_path)
    read = load_things(root=tmp_path)
    np.testing.assert_array_equal(read.responses, BETAS.T.astype(np.float32))
    np.testing.assert_array_equal(read.voxel_coordinates[:, 1], VOXEL_ID)
    with open_frame(path, "ResponseData", "voxel_id") as ours:
        np.testing.assert_array_equal(ours.ids, pandas.read_hdf(path)["voxel_id"])


def test_what_does_not_fit_is_one_clear_line(root: Path, tmp_path: Path) -> None:
    def refuse(words: str, **options: Any) -> None:
        with pytest.raises(UserError, match=words) as raised:
            fmri.load("things", **({"root": root} | options))
        assert "\n" not in str(raised.value)

    folder = root / "betas_csv"
    table, numbers = folder / "sub-01_StimulusMetadata.csv", folder / "sub-01_ResponseData.h5"
    refuse("nowhere: no such folder; expected betas_csv/sub-01_ResponseData.h5", root=tmp_path / "nowhere")
    refuse(r"sub-02_StimulusMetadata\.csv: no such file; expected betas_csv", subject=2)
    refuse("fmri.roi=V2: no such ROI.*did you mean 'V1'", roi="V2")
    refuse("fmri.roi=lFFA: this ROI has no voxel", roi="lFFA")
    refuse("fmri.stimuli=.*: no such folder", stimuli=tmp_path / "nowhere")
    write_tables(folder, TRIALS[:-2])
    refuse("30 trials, but sub-01_StimulusMetadata.csv has 28 rows")
    write_tables(folder, [["pause", *trial[1:]] for trial in TRIALS])
    refuse("trial_type is 'pause'; expected train, test or catch")
    write_tables(folder, [["test", *trial[1:]] for trial in TRIALS])
    refuse("fmri.split=train: .* has no such trials", split="train")
    table.write_text("trial_type,session\ntrain,1\n")
    refuse("no column run and stimulus and concept")
    table.write_text(",".join(HEADER) + "\n")
    refuse("no rows below the header")
    table.write_text(",".join(HEADER) + "\ntrain,1,1\n")
    refuse("row 1 has 3 cells, the header 7")
    write_tables(folder, voxels=8)
    refuse(r"10 voxels, but sub-01_VoxelMetadata\.csv has 8")
    write_tables(folder)
    write_fixed(numbers, ids=np.zeros(VOXELS, dtype=int))
    refuse("9 voxel_id are there twice")
    with h5py.File(numbers, "w") as file:
        file["other"] = 1
    refuse("no data frame ResponseData; it holds other")
    write_fixed(numbers)
    numbers.write_bytes(numbers.read_bytes()[:-500])
    refuse(r"sub-01_ResponseData\.h5: not readable as HDF5, truncated")

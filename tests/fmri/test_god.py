"""A made GOD file in the true layout: 8 training categories × 4 images, 3 test images × 5, and imagery; rows shuffled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from braindistill import fmri
from braindistill.errors import UserError
from braindistill.fmri.god import load_god
from braindistill.fmri.imagenet_names import Name, match_names

VOXELS = 12
#: image numbers that lose zeros (14910, 10000), have few digits (65) or all of them
NUMBERS = [14910, 65, 10000, 10042]
TRAIN = [(1518878 + 1000 * c, image) for c in range(8) for image in NUMBERS]
TEST = [(9000000 + c, 20 * (c + 1)) for c in range(3)]


def write_subject(path: Path, old: bool = False, **changes: Any) -> dict[str, np.ndarray]:
    """Write the file; ``changes`` replace or (None) leave out columns. Gives back what it holds, row by row."""
    rng = np.random.default_rng(3)
    shown = [(1, *name) for name in TRAIN] + [(2, *name) for name in TEST * 5] + [(3, c, 0) for c, _ in TEST * 4]
    shown = [shown[row] for row in rng.permutation(len(shown))]
    kind = np.array([row[0] for row in shown], dtype=float)
    by_name = {k: sorted({f"n{c:08d}_{i}" for d, c, i in shown if d == k}) for k in (1, 2, 3)}
    by_category = {k: sorted({c for d, c, _ in shown if d == k}) for k in (1, 2, 3)}
    columns = {
        "DataType": kind,
        "stimulus_id": np.array([float(f"{c}.{i:06d}") for _, c, i in shown]),
        "Run": np.arange(len(shown)) % 4 + 1.0,
        "category_index": np.array([by_category[k].index(c) + 1.0 for k, c, _ in shown]),
        "image_index": np.array([by_name[k].index(f"n{c:08d}_{i}") + 1.0 for k, c, i in shown]),
    } | changes
    columns = {key: value.reshape(len(shown), -1) for key, value in columns.items() if value is not None}
    pattern = {category: rng.normal(size=VOXELS) for category in sorted({c for _, c, _ in shown})}
    voxels = np.stack([pattern[c] for _, c, _ in shown]) + rng.normal(0, 0.5, (len(shown), VOXELS))
    widths = {key: value.shape[1] for key, value in columns.items()}
    total = VOXELS + sum(widths.values())
    metadata = {"VoxelData": np.arange(total) < VOXELS, "ROI_V1": np.isin(np.arange(total), [0, 1, 5, 9])}
    metadata |= {"ROI_LOC": np.isin(np.arange(total), [9, 10]), "ROI_FFA": np.zeros(total)}
    metadata |= {f"voxel_{axis}": np.arange(total) + step for step, axis in enumerate("xyz")}
    value = np.array([np.where(np.arange(total) < VOXELS, row, np.nan) for row in metadata.values()])
    for start, (key, width) in zip(np.cumsum([VOXELS, *widths.values()]), widths.items(), strict=False):
        metadata[key] = np.isin(np.arange(total), np.arange(start, start + width))
        value = np.concatenate([value, np.where(metadata[key], 1.0, np.nan)[None]])
    with h5py.File(path, "w") as file:
        file["dataSet" if old else "dataset"] = np.concatenate([voxels, *columns.values()], axis=1)
        group = file.create_group("metaData" if old else "metadata")
        group["key"] = [key.encode() for key in metadata]
        group["description"] = [b""] * len(metadata)
        group["value"] = value
    names = [f"n{c:08d}_{i}" if i else f"n{c:08d}" for _, c, i in shown]
    return {"voxels": voxels.astype(np.float32), "name": np.array(names), "kind": kind, "run": columns["Run"][:, 0]}


def write_pictures(folder: Path, names: list[tuple[int, int]]) -> Path:
    for order, (category, image) in enumerate(names):
        (folder / f"n{category:08d}").mkdir(parents=True, exist_ok=True)
        file = folder / f"n{category:08d}/n{category:08d}_{image}.JPEG"
        Image.fromarray(np.full((8, 8, 3), (order, 0, 90), np.uint8)).save(file, "PNG")
    return folder


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(("split", "kinds"), [("train", [1]), ("test", [2]), ("imagery", [3]), ("perception", [1, 2])])
def test_rows_of_a_split_are_read_with_their_names(tmp_path: Path, old: bool, split: Any, kinds: list[int]) -> None:
    made = write_subject(tmp_path / "Subject2.h5", old)
    read = load_god(root=tmp_path, subject=2, split=split)
    rows = np.isin(made["kind"], kinds)
    np.testing.assert_array_equal(read.responses, made["voxels"][rows])
    assert read.stimulus_id.tolist() == made["name"][rows].tolist()
    assert read.label.tolist() == [name.split("_")[0] for name in made["name"][rows]]
    word = {1: "train", 2: "test", 3: "imagery"}
    assert read.split.tolist() == [word[int(kind)] for kind in made["kind"][rows]]
    expected = [f"{word[int(k)]}-{int(r)}" for k, r in zip(made["kind"][rows], made["run"][rows], strict=True)]
    assert read.run.tolist() == expected
    assert (read.session, read.images) == (None, None)
    read.check()


def test_an_roi_restricts_the_voxels_and_empty_ones_are_left_out(tmp_path: Path) -> None:
    made = write_subject(tmp_path / "Subject1.h5")
    read = load_god(root=tmp_path / "Subject1.h5", roi=["V1", "LOC"])
    kept = [0, 1, 5, 9, 10]
    np.testing.assert_array_equal(read.responses, made["voxels"][made["kind"] == 1][:, kept])
    assert {roi: np.flatnonzero(mask).tolist() for roi, mask in read.rois.items()} == {
        "V1": [0, 1, 2, 3],
        "LOC": [3, 4],
    }
    np.testing.assert_array_equal(read.voxel_coordinates, [[k, k + 1, k + 2] for k in kept])


def test_a_workspace_gets_the_memory_map(tmp_path: Path) -> None:
    write_subject(tmp_path / "Subject1.h5")
    read = load_god(tmp_path / "new", root=tmp_path, roi="V1")
    assert isinstance(read.responses, np.memmap)
    np.testing.assert_array_equal(read.responses, load_god(root=tmp_path, roi="V1").responses)


def test_every_id_and_value_equals_what_bdpy_selects(tmp_path: Path) -> None:
    bdpy = pytest.importorskip("bdpy", reason="bdpy (the format's own reader) is not installed")
    write_subject(tmp_path / "Subject1.h5")
    read = load_god(root=tmp_path)
    theirs = bdpy.BData(str(tmp_path / "Subject1.h5"))
    rows = theirs.select("DataType")[:, 0] == 1
    np.testing.assert_array_equal(read.responses, theirs.select("VoxelData")[rows].astype(np.float32))
    np.testing.assert_array_equal(read.select("V1").responses, theirs.select("ROI_V1")[rows].astype(np.float32))
    ids = [f"{value:.6f}".split(".") for value in theirs.select("stimulus_id")[rows, 0]]
    assert read.stimulus_id.tolist() == [f"n{int(wnid):08d}_{int(image)}" for wnid, image in ids]
    assert [f"train-{run:g}" for run in theirs.select("Run")[rows, 0]] == read.run.tolist()


def test_old_files_keep_the_id_in_the_first_column_of_label(tmp_path: Path) -> None:
    made = write_subject(tmp_path / "Subject1.h5")
    ids = np.array([float(f"{n[1:9]}.{int(n[10:] or 0):06d}") for n in made["name"]])
    made = write_subject(tmp_path / "Subject1.h5", True, stimulus_id=None, Label=np.stack([ids, ids * 0 + 7], 1))
    read = load_god(root=tmp_path)
    assert read.stimulus_id.tolist() == made["name"][made["kind"] == 1].tolist()


def test_pictures_are_joined_on_the_id_whatever_their_order(tmp_path: Path) -> None:
    write_subject(tmp_path / "Subject1.h5")
    read = load_god(root=tmp_path, stimuli=write_pictures(tmp_path / "images", TRAIN), image_size=4)
    order = {f"n{c:08d}_{i}": place for place, (c, i) in enumerate(TRAIN)}
    assert read.images.shape == (32, 3, 4, 4)
    assert read.image_id.tolist() == list(dict.fromkeys(read.stimulus_id.tolist()))
    assert read.images[:, 0, 0, 0].tolist() == [order[name] for name in read.image_id.tolist()]
    imagined = load_god(root=tmp_path, stimuli=tmp_path / "images", split="imagery")
    assert imagined.images is None


def test_planted_signal_is_decoded_on_ids_and_not_on_positions(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    write_subject(tmp_path / "Subject1.h5")
    read = load_god(root=tmp_path, stimuli=write_pictures(tmp_path / "images", TRAIN))
    by_id = read.label
    by_position = np.array([f"n{category:08d}" for category, _ in TRAIN])  # as the pictures lie in their folder
    model = LogisticRegression(max_iter=500)
    accuracy = [cross_val_score(model, read.responses, labels, cv=4).mean() for labels in (by_id, by_position)]
    assert accuracy[0] > 0.8
    assert accuracy[1] < 0.3  # chance is 1/8
    known = dict(zip(read.image_id.tolist(), read.images[:, 0, 0, 0].tolist(), strict=True))
    assert [f"n{TRAIN[known[name]][0]:08d}" for name in read.stimulus_id.tolist()] == by_id.tolist()


def test_wrong_indices_are_said_and_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = write_subject(tmp_path / "Subject1.h5")
    right = load_god(root=tmp_path)
    assert "contradicts" not in "".join(capsys.readouterr())
    shifted = np.arange(len(made["kind"])) % 7 + 1.0
    write_subject(tmp_path / "Subject1.h5", image_index=shifted)
    wrong = load_god(root=tmp_path)
    said = "".join(capsys.readouterr())
    assert "image_index contradicts stimulus_id for 32 of 32" in said
    assert "category_index" not in said
    assert wrong.stimulus_id.tolist() == right.stimulus_id.tolist()


def test_lost_zeros_are_found_when_only_one_image_can_be_meant() -> None:
    a, short, long = Name(1518878, 65), Name(1518878, 1491), Name(1518878, 14910)
    assert match_names([a, short], [a, long, Name(2, 1491)], Path("p")) == {a: a, short: long}
    assert match_names([short], [short, long], Path("p")) == {short: short}
    with pytest.raises(UserError, match="n01518878_1491 is ambiguous, it could be n01518878_14910 or n01518878_149100"):
        match_names([short], [long, Name(1518878, 149100)], Path("p"))
    with pytest.raises(UserError, match="are both nearest to n01518878_14910"):
        match_names([short, long], [long], Path("p"))
    assert Name.from_number(1518878.01491) == long
    assert str(Name.from_number(float(np.float64("1518878.000065")))) == "n01518878_65"


def test_pictures_may_be_named_by_number_and_a_table_only_checks(tmp_path: Path) -> None:
    write_subject(tmp_path / "Subject1.h5")
    (tmp_path / "images").mkdir()
    for category, image in TRAIN:
        name = f"{category}.{image:06d}".rstrip("0")
        Image.new("RGB", (4, 4)).save(tmp_path / f"images/{name}.png")
    assert load_god(root=tmp_path, stimuli=tmp_path / "images").images.shape == (32, 3, 4, 4)
    table = tmp_path / "imageID_training.csv"
    table.write_text("".join(f'{c}.{i:06d},"n{c:08d}_{i}.JPEG"\n' for c, i in TRAIN))
    assert load_god(root=tmp_path, stimuli=table).images is None
    table.write_text("".join(f"n{c:08d}_{i}.JPEG\n" for c, i in TRAIN[7:]))
    with pytest.raises(UserError, match="7 stimuli have no picture"):
        load_god(root=tmp_path, stimuli=table)


def test_what_does_not_fit_is_one_clear_line(tmp_path: Path) -> None:
    def refuse(words: str, **options: Any) -> None:
        with pytest.raises(UserError, match=words) as raised:
            fmri.load("god", **({"root": tmp_path} | options))
        assert "\n" not in str(raised.value)

    refuse(r"Subject1\.h5: no such file; expected Subject1\.h5 … Subject5\.h5")
    made = write_subject(tmp_path / "Subject1.h5")
    refuse(r"Subject3\.h5: no such file.*found Subject1\.h5", subject=3)
    refuse("fmri.roi=V7: no such ROI.*did you mean 'V1'", roi="V7")
    refuse("fmri.roi=FFA: this ROI has no voxel", roi="FFA")
    refuse("no such folder; expected pictures named like n01518878_10042.JPEG", stimuli=tmp_path / "nowhere")
    few = write_pictures(tmp_path / "few", TRAIN[6:])
    refuse("6 stimuli have no picture: n0", stimuli=few)
    (few / "again").mkdir()
    Image.new("RGB", (4, 4)).save(few / "again" / "n01520878_65.png")
    write_pictures(few, [(1520878, 65)])
    refuse("are both n01520878_65; remove one", stimuli=few)
    write_subject(tmp_path / "Subject1.h5", DataType=np.ones(len(made["kind"])))
    refuse("fmri.split=test: .* has no such trials", split="test")
    write_subject(tmp_path / "Subject1.h5", DataType=None)
    refuse("no key DataType")
    write_subject(tmp_path / "Subject1.h5", stimulus_id=np.full(len(made["kind"]), np.nan))
    refuse("32 stimulus ids are no ImageNet ids")
    write_subject(tmp_path / "Subject1.h5")
    with h5py.File(tmp_path / "Subject1.h5", "r+") as file:
        values = file["dataset"][()].astype(np.float32)
        del file["dataset"]
        file["dataset"] = values
    refuse("stored as float32, which merges the images of a category")
    (tmp_path / "Subject1.h5").write_bytes((tmp_path / "Subject1.h5").read_bytes()[:-2000])
    refuse(r"Subject1\.h5: not readable as HDF5, truncated")
    refuse("a MATLAB file; download the .h5", root=tmp_path / "Subject1.mat")

"""A miniature Algonauts 2023 tree in the true layout, and what its pickled tables of names may hold."""

from __future__ import annotations

import io
import os
import pickle  # to write what RestrictedUnpickler must refuse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from braindistill.errors import UserError
from braindistill.fmri.algonauts2023 import load_algonauts2023
from braindistill.fmri.named_rois import read_pickled_names

IDS = (13, 27, 4, 72999, 500)
NAMES = {0: "Unknown", 1: "V1v", 2: "V1d", 3: "V2v"}
LABELS = {"lh": [0, 1, 1, 2, 0, 0], "rh": [2, 0, 1, 0]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "subj01"
    for part in ("training_split/training_fmri", "training_split/training_images", "roi_masks"):
        (folder / part).mkdir(parents=True)
    for side, labels in LABELS.items():
        values = np.random.default_rng(len(labels)).normal(size=(len(IDS), len(labels))).astype(np.float32)
        np.save(fmri(tmp_path, side), values)
        np.save(folder / f"roi_masks/{side}.prf-visualrois_challenge_space.npy", np.array(labels))
        np.save(folder / f"roi_masks/{side}.streams_challenge_space.npy", np.arange(len(labels)) % 2)
        np.save(folder / f"roi_masks/{side}.all-vertices_fsaverage_space.npy", np.ones(20))
    np.save(folder / "roi_masks/mapping_prf-visualrois.npy", NAMES)  # numpy pickles it, as the challenge did
    np.save(folder / "roi_masks/mapping_streams.npy", {0: "Unknown", 1: "early"})
    for row, image in enumerate(IDS, start=1):
        picture = Image.fromarray(np.full((10, 10, 3), row, np.uint8))
        picture.save(folder / f"training_split/training_images/train-{row:04d}_nsd-{image:05d}.png")
    return tmp_path


def fmri(root: Path, side: str) -> Path:
    return root / f"subj01/training_split/training_fmri/{side}_training_fmri.npy"


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("roi", [None, "V1v", ["V1d", "lh_V1v"], "rh"])
def test_responses_equal_a_plain_read(root: Path, tmp_path: Path, roi: str | list[str] | None, mapped: bool) -> None:
    labels = np.array(LABELS["lh"] + LABELS["rh"])
    right = np.arange(10) > 5
    inside = {
        "None": labels >= 0,
        "V1v": labels == 1,
        "['V1d', 'lh_V1v']": (labels == 2) | ((labels == 1) & ~right),
        "rh": right,
    }[str(roi)]
    read = load_algonauts2023(tmp_path / "out" if mapped else None, root=root, roi=roi)
    plain = np.concatenate([np.load(fmri(root, side)) for side in ("lh", "rh")], axis=1)
    np.testing.assert_array_equal(read.responses, plain[:, inside])
    assert isinstance(read.responses, np.memmap) == mapped
    for name, mask in (("V1v", labels == 1), ("V1d", labels == 2), ("rh", right)):
        np.testing.assert_array_equal(read.rois.get(name, np.zeros(inside.sum(), bool)), mask[inside])
    read.check()


def test_rows_and_pictures_are_joined_by_file_name(root: Path) -> None:
    read = load_algonauts2023(root=root, image_size=4)
    assert read.stimulus_id.tolist() == ["nsd-00013", "nsd-00027", "nsd-00004", "nsd-72999", "nsd-00500"]
    assert read.images.shape == (5, 3, 4, 4)
    assert read.images[:, 0, 0, 0].tolist() == [1, 2, 3, 4, 5]
    assert set(read.split) == {"train"}
    assert set(read.rois) == {"lh", "rh", "V1v", "V1d", "early"}
    assert read.ceiling is None


def test_rows_must_match_the_pictures(root: Path) -> None:
    np.save(fmri(root, "rh"), np.zeros((4, 4), np.float32))
    with pytest.raises(UserError, match=r"rh_training_fmri\.npy: 4 rows, but 5 pictures"):
        load_algonauts2023(root=root)
    next((root / "subj01/training_split/training_images").glob("train-0002*")).unlink()
    with pytest.raises(UserError, match=r"train-0003_nsd-00004\.png: picture 2 of 4.*expected the name train-0002_nsd"):
        load_algonauts2023(root=root)


def test_missing_and_damaged_files_are_named(root: Path) -> None:
    with pytest.raises(UserError, match=r"subj02: no such folder; .* has subj01; expected subjNN/training_split"):
        load_algonauts2023(root=root, subject=2)
    masks = root / "subj01/roi_masks"
    np.save(masks / "lh.streams_challenge_space.npy", np.zeros(7, int))
    with pytest.raises(
        UserError, match=r"lh\.streams_challenge_space\.npy: 7 vertices, but lh_training_fmri\.npy has 6"
    ):
        load_algonauts2023(root=root)
    (masks / "mapping_prf-visualrois.npy").unlink()
    with pytest.raises(UserError, match=r"mapping_prf-visualrois\.npy: no such file"):
        load_algonauts2023(root=root)
    fmri(root, "lh").write_bytes(fmri(root, "lh").read_bytes()[:-8])
    with pytest.raises(UserError, match=r"lh_training_fmri\.npy: not a readable \.npy"):
        load_algonauts2023(root=root)
    fmri(root, "lh").unlink()
    with pytest.raises(UserError, match=r"lh_training_fmri\.npy: no such file"):
        load_algonauts2023(root=root)


def test_unknown_and_empty_rois_are_refused(root: Path) -> None:
    with pytest.raises(UserError, match=r"fmri\.roi=V1: .*did you mean 'V1[vd]'\?"):
        load_algonauts2023(root=root, roi="V1")
    with pytest.raises(UserError, match=r"fmri\.roi=V2v: this ROI has no voxel in Algonauts subj01"):
        load_algonauts2023(root=root, roi="V2v")


class Harmful:
    def __reduce__(self) -> Any:
        return os.mkdir, ("harmed",)


def numpy_file(content: bytes, header: str = "{'descr': '|O', 'fortran_order': False, 'shape': (), }") -> bytes:
    text = header.ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


@pytest.mark.parametrize("protocol", [0, 2, 3, 4])
def test_tables_of_every_numpy_are_read(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "mapping_x.npy"
    for content in (np.array(NAMES, dtype=object), NAMES):
        path.write_bytes(numpy_file(pickle.dumps(content, protocol)))
        if protocol >= 3 or content is NAMES:  # older protocols encode bytes by a call, which is refused
            assert read_pickled_names(path) == NAMES
    old = pickle.dumps(np.array(NAMES, dtype=object), 3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    path.write_bytes(numpy_file(old))
    assert read_pickled_names(path) == NAMES


@pytest.mark.parametrize(
    "content",
    [
        {1: Harmful()},
        [1, 2],
        {1: ["V1"]},
        {"V1": 1},
        {1: b"V1"},
        {True: "V1"},
        {1: 2.5},
        np.float64(1),
        np.array([NAMES, NAMES], dtype=object),
        len,
    ],
    ids=lambda content: type(content).__name__,
)
def test_anything_but_a_dict_of_ints_and_strings_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mapping_x.npy"
    for stored in (content, np.array(content, dtype=object)):
        path.write_bytes(numpy_file(pickle.dumps(stored, 4)))
        with pytest.raises(UserError, match=r"mapping_x\.npy: refused; expected numpy's file of one dict") as caught:
            read_pickled_names(path)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "harmed").exists()


def test_damaged_tables_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mapping_x.npy"
    whole = io.BytesIO()
    np.save(whole, NAMES)
    table = whole.getvalue()
    greedy = numpy_file(b"\x80\x04Nr\xff\xff\xff\x7f.")  # a memo of two thousand million entries
    nested = numpy_file(b"(" * 100_000 + b"t" * 100_000 + b".")
    files = [
        b"",
        b"junk",
        table[:100],
        table[:-5],
        numpy_file(b"("),
        numpy_file(b"\x80\x04N."),
        b"x" * 2**21,
        greedy,
        nested,
    ]
    for damaged in files:
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="refused"):
            read_pickled_names(path)
    np.save(path, np.arange(3))
    with pytest.raises(UserError, match=r"refused.*an array of int64 \(3,\)"):
        read_pickled_names(path)

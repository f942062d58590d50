from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.cifti2 import BrainModelAxis, ScalarAxis, SeriesAxis
from nibabel.gifti import GiftiDataArray, GiftiImage, GiftiLabel, GiftiLabelTable

from braindistill.errors import UserError
from braindistill.fmri.surface import load_surface
from braindistill.fmri.surface_files import hemisphere

LEFT, RIGHT = 6, 5
NAMES = ["a", "b", "c", "a", "c", "b"]


def frames(side: str, run: int, count: int = 3) -> np.ndarray:
    size = LEFT if side == "lh" else RIGHT
    return np.random.default_rng([run, size]).normal(size=(count, size)).astype(np.float32)


def both(run: int) -> np.ndarray:
    return np.hstack([frames("lh", run), frames("rh", run)])


def write_mgh(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    volumes = values.T[:, None, None, :] if len(values) > 1 else values.T[:, None, :]
    nibabel.save(nibabel.MGHImage(np.ascontiguousarray(volumes), np.eye(4)), path)


def write_gifti(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(GiftiImage(darrays=[GiftiDataArray(row, intent="NIFTI_INTENT_TIME_SERIES") for row in values]), path)


def write_table(path: Path, rows: list[dict[str, str]]) -> None:
    columns = list(rows[0])
    path.write_text("\n".join("\t".join(row) for row in [columns, *[list(row.values()) for row in rows]]) + "\n")


def trials() -> list[dict[str, str]]:
    return [
        {"stimulus_id": name, "label": f"class-{name}", "run": str(1 + place // 3), "session": "1"}
        for place, name in enumerate(NAMES)
    ]


@pytest.fixture
def mgh(tmp_path: Path) -> Path:
    """Two runs of three frames in FreeSurfer's format, a mask, an atlas with its colour table and an annotation."""
    root = tmp_path / "data"
    for run in (1, 2):
        for side in ("lh", "rh"):
            write_mgh(root / f"{side}.betas_run-{run}.mgh", frames(side, run))
    write_table(root / "trials.tsv", trials())
    write_mgh(root / "masks/lh.FFA.mgh", np.array([[0, 0, 1, 1, 0, 0]], np.float32))
    write_mgh(root / "masks/rh.visual.mgz", np.array([[1, 1, 2, 0, 7]], np.int32))
    (root / "masks/rh.visual.mgz.ctab").write_text("0 Unknown 0 0 0 0\n1 V1 255 0 0 0\n2 V2 0 255 0 0\n")
    nibabel.freesurfer.write_annot(
        root / "masks/lh.early.annot",
        np.array([1, 1, 0, 0, 0, 0]),
        np.array([[25, 5, 25, 0, 0], [200, 10, 20, 0, 0]]),
        ["unknown", "V1"],
        fill_ctab=True,
    )
    return root


def test_mgh_hemispheres_are_joined_left_first(mgh: Path) -> None:
    read = load_surface(root=mgh, roi=["lh", "rh"])
    np.testing.assert_array_equal(read.responses, np.vstack([both(1), both(2)]))
    assert read.stimulus_id.tolist() == NAMES
    assert read.label.tolist() == [f"class-{name}" for name in NAMES]
    assert read.run.tolist() == list("111222")
    assert read.session.tolist() == ["1"] * 6
    assert read.rois["lh"].tolist() == [True] * LEFT + [False] * RIGHT
    assert read.rois["rh"].tolist() == [False] * LEFT + [True] * RIGHT


def test_masks_atlases_and_annotations_become_rois(mgh: Path) -> None:
    read = load_surface(root=mgh)
    kept = [0, 1, 2, 3, LEFT, LEFT + 1, LEFT + 2]  # V1 and FFA of the left, V1 and V2 of the right
    np.testing.assert_array_equal(read.responses[:3], both(1)[:, kept])
    found = {name: np.flatnonzero(mask).tolist() for name, mask in read.rois.items()}
    assert found == {"V1": [0, 1, 4, 5], "FFA": [2, 3], "V2": [6], "lh": [0, 1, 2, 3], "rh": [4, 5, 6]}


def test_only_the_vertices_of_the_roi_are_read(mgh: Path) -> None:
    read = load_surface(root=mgh, roi="V1")
    np.testing.assert_array_equal(read.responses[3:], both(2)[:, [0, 1, LEFT, LEFT + 1]])
    assert set(read.rois) == {"V1", "lh", "rh"}


def test_responses_are_filled_into_the_workspace(mgh: Path, tmp_path: Path) -> None:
    read = load_surface(tmp_path / "work", root=mgh)
    np.testing.assert_array_equal(np.load(tmp_path / "work/responses.npy"), load_surface(root=mgh).responses)
    assert isinstance(read.responses, np.memmap)


def test_gifti_with_label_files(tmp_path: Path) -> None:
    for run in (1, 2):
        for side, letter in (("lh", "L"), ("rh", "R")):
            write_gifti(tmp_path / f"func/sub-1_run-{run}_hemi-{letter}_betas.func.gii", frames(side, run))
    write_table(
        tmp_path / "trials.tsv",
        [
            {"file": f"sub-1_run-{1 + place // 3}_hemi-R_betas.func.gii", "trial_type": name}
            for place, name in reversed(list(enumerate(NAMES)))
        ],
    )
    table = GiftiLabelTable()
    for key, name in ((0, "???"), (3, "PPA")):
        label = GiftiLabel(key)
        label.label = name
        table.labels.append(label)
    places = np.array([0, 3, 3, 0, 0], np.int32)
    (tmp_path / "masks").mkdir()
    image = GiftiImage(darrays=[GiftiDataArray(places, intent="NIFTI_INTENT_LABEL")], labeltable=table)
    nibabel.save(image, tmp_path / "masks/sub-1_hemi-R_places.label.gii")
    read = load_surface(root=tmp_path, pattern="func/*.func.gii")
    np.testing.assert_array_equal(read.responses, np.vstack([both(1), both(2)])[:, [LEFT + 1, LEFT + 2]])
    assert read.label.tolist() == ["c", "b", "a", "b", "c", "a"]  # the rows of each file in the table's order
    assert read.run is None
    assert set(read.rois) == {"PPA", "rh"}


def cifti(path: Path, values: np.ndarray, series: bool = False) -> None:
    """A cortex whose medial wall (vertex 0) is left out, and two voxels of the thalamus."""
    cortex = BrainModelAxis.from_mask(np.arange(LEFT) > 0, "cortex_left")
    cortex += BrainModelAxis.from_mask(np.arange(RIGHT) > 0, "cortex_right")
    thalamus = np.zeros((2, 2, 2), bool)
    thalamus[0, 0] = True
    columns = cortex + BrainModelAxis.from_mask(thalamus, "thalamus_left", np.eye(4))
    rows = SeriesAxis(0, 1, len(values)) if series else ScalarAxis([f"trial {row}" for row in range(len(values))])
    whole = np.hstack([values, np.full((len(values), 2), 99, np.float32)])
    nibabel.save(nibabel.Cifti2Image(whole, header=(rows, columns)), path)


@pytest.mark.parametrize("series", [False, True])
def test_cifti_gives_its_cortex(tmp_path: Path, series: bool) -> None:
    values = np.hstack([frames("lh", 1)[:, 1:], frames("rh", 1)[:, 1:]])
    cifti(tmp_path / f"betas.d{'tseries' if series else 'scalar'}.nii", values, series)
    write_table(tmp_path / "trials.tsv", trials()[:3])
    (tmp_path / "masks").mkdir()
    nibabel.freesurfer.write_annot(
        tmp_path / "masks/rh.x.annot", np.array([1, 1, 0, 0, 0]), np.array([[1, 1, 1, 0, 0], [2, 2, 2, 0, 0]]),
        ["unknown", "V1"], fill_ctab=True,
    )  # fmt: skip
    read = load_surface(root=tmp_path, roi=["lh", "V1"])
    np.testing.assert_array_equal(read.responses, values[:, [0, 1, 2, 3, 4, 5]])  # vertex 1 is the right's first
    assert np.flatnonzero(read.rois["V1"]).tolist() == [5]
    np.testing.assert_array_equal(load_surface(root=tmp_path, roi=["lh", "rh"]).responses, values)


@pytest.mark.parametrize(
    ("name", "side", "rest"),
    [
        ("lh.betas.mgh", "lh", "*.betas.mgh"),
        ("sub-L_hemi-R_x.func.gii", "rh", "sub-L_hemi-*_x.func.gii"),
        ("S1.L.x.func.gii", "lh", "S1.*.x.func.gii"),
        ("sub-1_rh_x.mgz", "rh", "sub-1_*_x.mgz"),
    ],
)
def test_hemispheres_are_told_by_name(name: str, side: str, rest: str) -> None:
    assert hemisphere(Path(name)) == (side, rest)


def lone_hemisphere(root: Path) -> None:
    (root / "rh.betas_run-2.mgh").unlink()


def other_frames(root: Path) -> None:
    write_mgh(root / "rh.betas_run-2.mgh", frames("rh", 2, 4))


def other_vertices(root: Path) -> None:
    write_mgh(root / "rh.betas_run-2.mgh", np.zeros((3, 7), np.float32))


def extra_row(root: Path) -> None:
    write_table(root / "trials.tsv", [*trials(), trials()[0]])


def unknown_file(root: Path) -> None:
    write_table(root / "trials.tsv", [{"file": "lh.betas_run-9.mgh"} | row for row in trials()])


def uneven_files(root: Path) -> None:
    write_table(root / "trials.tsv", [{"file": "lh.betas_run-1.mgh"} | row for row in trials()])


def no_table(root: Path) -> None:
    (root / "trials.tsv").unlink()


def truncated(root: Path) -> None:
    path = root / "lh.betas_run-2.mgh"
    path.write_bytes(path.read_bytes()[:300])


def no_surface_file(root: Path) -> None:
    (root / "lh.betas_run-2.mgh").write_bytes(b"nothing")


def short_mask(root: Path) -> None:
    write_mgh(root / "masks/lh.FFA.mgh", np.ones((1, 4), np.float32))


def empty_mask(root: Path) -> None:
    write_mgh(root / "masks/lh.FFA.mgh", np.zeros((1, LEFT), np.float32))


def unnamed_side(root: Path) -> None:
    write_mgh(root / "masks/FFA.mgh", np.ones((1, LEFT), np.float32))


def far_vertex(root: Path) -> None:
    (root / "masks/lh.x.label").write_text("#!ascii label\n1\n9 0.0 0.0 0.0 0.0\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lone_hemisphere, r"lh\.betas_run-2\.mgh: lh only, but other runs have lh and rh"),
        (other_frames, r"rh\.betas_run-2\.mgh: 4 frames, but .*lh\.betas_run-2\.mgh has 3"),
        (other_vertices, r"lh\.betas_run-2\.mgh: 7 vertices in rh, but .*run-1\.mgh 5"),
        (extra_row, r"trials\.tsv: 7 rows, but 6 frames in 2 files"),
        (unknown_file, r"trials\.tsv, line 2: lh\.betas_run-9\.mgh is none of the files read; did you mean"),
        (uneven_files, r"lh\.betas_run-1\.mgh: 3 frames, but 6 rows of trials\.tsv name it"),
        (no_table, r"trials\.tsv: no such file; expected a table of trials"),
        (truncated, r"lh\.betas_run-2\.mgh: the data cannot be read"),
        (no_surface_file, r"lh\.betas_run-2\.mgh: not a readable surface file"),
        (short_mask, r"lh\.FFA\.mgh: 4 vertices, but the data have 6"),
        (empty_mask, r"lh\.FFA\.mgh: no label has a vertex; an empty mask is no ROI"),
        (unnamed_side, r"masks/FFA\.mgh: the name tells no hemisphere"),
        (far_vertex, r"lh\.x\.label: vertex 9, but the data have 6"),
    ],
)
def test_mistakes_are_named_in_one_line(mgh: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(mgh)
    with pytest.raises(UserError, match=message) as caught:
        load_surface(root=mgh)
    assert "\n" not in str(caught.value)


def test_unknown_rois_folders_and_patterns_are_named(mgh: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fmri\.roi=V3: .* no such ROI; .*known: FFA, V1, V2, lh, rh"):
        load_surface(root=mgh, roi="V3")
    with pytest.raises(UserError, match=r"fmri\.root=.*none: no such folder"):
        load_surface(root=tmp_path / "none")
    with pytest.raises(UserError, match=r"no \.mgh, .* file matches fmri\.pattern=\*\.gii"):
        load_surface(root=mgh, pattern="*.gii")
    with pytest.raises(UserError, match=r"fmri\.masks=.*none: no such file or folder"):
        load_surface(root=mgh, masks=tmp_path / "none")

"""Dissimilarity matrices to look at: which stimuli, in which order, and of which arms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from braindistill.metrics.rdms import rdm
from braindistill.verdict.rdms import make_rdms, read_rdms, take_evenly

RNG = np.random.default_rng(5)
IDS = np.array([f"picture-{row:03d}" for row in range(90)])
LABELS = np.array(["dog", "cat", ""])[np.arange(90) % 3]


def store(folder: Path, arms: list[str], stimuli: np.ndarray = IDS, regions: int = 2) -> dict[str, Path]:
    folders = {}
    for number, arm in enumerate(arms):
        folders[arm] = folder / arm
        folders[arm].mkdir()
        brain = {f"V{roi}": np.random.default_rng(roi).normal(size=(90, 7)) for roi in range(1, regions + 1)}
        student = np.random.default_rng(100 + number).normal(size=(90, 5))
        np.savez(folders[arm] / "rdms.npz", **make_rdms(stimuli, LABELS, student, brain))
    return folders


def test_matrices_are_of_evenly_chosen_stimuli_with_classes_side_by_side() -> None:
    student, brain = RNG.normal(size=(90, 5)), RNG.normal(size=(90, 7))
    found = make_rdms(IDS, LABELS, student, {"V1": brain})
    assert list(found) == ["stimuli", "labels", "student", "roi/V1"]
    assert found["labels"].tolist() == ["cat"] * 20 + ["dog"] * 20 + [""] * 20
    rows = np.searchsorted(IDS, found["stimuli"])
    assert LABELS[rows].tolist() == found["labels"].tolist()
    assert (np.diff(rows[:20]) > 0).all(), "by id inside a class"
    for name, values in (("student", student), ("roi/V1", brain)):
        assert (found[name].dtype, found[name].shape) == (np.float16, (60, 60))
        np.testing.assert_allclose(found[name], rdm(values[rows]), atol=1e-3)


def test_without_classes_stimuli_are_in_the_order_of_their_ids() -> None:
    shuffled = RNG.permutation(IDS)
    for labels in (None, np.full(90, "")):
        found = make_rdms(shuffled, labels, RNG.normal(size=(90, 5)), {})
        assert list(found) == ["stimuli", "student"]
        assert found["stimuli"].tolist() == take_evenly(IDS, 60).tolist()


def test_what_has_no_correlation_distance_is_left_out() -> None:
    found = make_rdms(
        IDS[:20], None, np.ones((20, 4)), {"one": RNG.normal(size=(20, 1)), "V1": RNG.normal(size=(20, 3))}
    )
    assert list(found) == ["stimuli", "roi/V1"]
    assert found["roi/V1"].shape == (20, 20), "all, where there are no more"


def test_the_brain_comes_first_then_all_arms_where_they_are_few(tmp_path: Path) -> None:
    folders = store(tmp_path, ["baseline", "kd", "brain"])
    found = read_rdms(folders | {"failed": tmp_path / "nowhere"})
    assert list(found) == ["V1 (brain)", "V2 (brain)", "baseline", "kd", "brain", "stimuli", "labels", "left_out"]
    assert found["left_out"].tolist() == []
    with np.load(folders["kd"] / "rdms.npz") as stored:
        assert np.array_equal(found["kd"], stored["student"])
        assert np.array_equal(found["V2 (brain)"], stored["roi/V2"])
    assert read_rdms({"failed": tmp_path / "nowhere"}) == {}


@pytest.mark.parametrize(
    ("arms", "regions", "shown"),
    [
        (
            ["a", "baseline", "kd", "features", "brain_voxels", "brain", "b", "c"],
            3,
            "baseline kd features brain_voxels",
        ),
        (["baseline", "kd", "features", "brain"], 12, "baseline kd features brain"),
        ([f"own-{number}" for number in range(12)], 1, "own-0 own-1 own-2 own-3"),
    ],
)
def test_never_more_than_nine(tmp_path: Path, arms: list[str], regions: int, shown: str) -> None:
    found = read_rdms(store(tmp_path, arms, regions=regions))
    names = [name for name, matrix in found.items() if matrix.ndim == 2]
    assert [name for name in names if not name.endswith("(brain)")] == shown.split()
    assert len(names) == min(9, 4 + regions)
    assert names[0] == "V1 (brain)"


def test_arms_of_other_stimuli_are_named_not_mixed_in(tmp_path: Path) -> None:
    folders = store(tmp_path, ["baseline", "brain"])
    other = store(tmp_path, ["labels_matched"], np.char.add("other-", IDS))
    found = read_rdms({"baseline": folders["baseline"], **other, "brain": folders["brain"]})
    assert "labels_matched" not in found
    assert found["left_out"].tolist() == ["labels_matched"]
    assert {"baseline", "brain"} <= set(found)

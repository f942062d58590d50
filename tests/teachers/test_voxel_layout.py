"""Every voxel once, by ROI and then by place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braindistill.errors import UserError
from braindistill.teachers.voxel_layout import voxel_layout


def masks(n: int, **members: list[int]) -> dict[str, np.ndarray]:
    return {name: np.isin(np.arange(n), voxels) for name, voxels in members.items()}


def test_order_is_by_roi_and_the_first_of_several_counts() -> None:
    rois = masks(8, V2=[6, 1], V1=[1, 0, 4], LVC=[0, 1, 4, 6])
    one = voxel_layout(rois, None, 8)
    assert one.index.tolist() == [[1, 6, 0, 4, 2, 3, 5, 7]]
    assert one.channels == ("all",)
    several = voxel_layout(rois, None, 8, "roi")
    assert several.channels == ("V2", "V1", "rest"), "LVC has no voxel of its own"
    assert several.index.tolist() == [[1, 6, -1, -1], [0, 4, -1, -1], [2, 3, 5, 7]]
    assert several.n_voxels == 8


def test_inside_an_roi_voxels_follow_a_z_order_curve() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    order = voxel_layout({}, grid * 3.1 - 40, 64).index[0]
    assert grid[order[:8]].tolist() == [
        [0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1],
    ]  # fmt: skip
    for start in range(0, 64, 8):  # each eighth of the line is a cube
        block = grid[order[start : start + 8]]
        assert (np.ptp(block, 0) == 1).all()


def test_padding_reads_as_zero() -> None:
    layout = voxel_layout(masks(5, A=[3], B=[0, 1]), None, 5, "roi")
    rows = np.arange(1, 11, dtype=np.float32).reshape(2, 5)
    assert layout.arrange(rows).tolist() == [
        [[4, 0], [1, 2], [3, 5]],
        [[9, 0], [6, 7], [8, 10]],
    ]
    assert layout.arrange(rows).dtype == np.float32


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(0, 4), st.booleans(), st.integers(0, 100))
def test_each_voxel_stands_somewhere_once(n: int, n_rois: int, located: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rois = {str(k): rng.random(n) < 0.3 for k in range(min(n_rois, n))}
    coordinates = rng.normal(0, 50, (n, 3)) if located else None
    for channels in ("one", "roi") if any(mask.any() for mask in rois.values()) else ("one",):
        layout = voxel_layout(rois, coordinates, n, channels)
        assert sorted(layout.index[layout.index >= 0].tolist()) == list(range(n))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_the_order_of_the_file_does_not_matter_where_places_are_known(seed: int) -> None:
    rng = np.random.default_rng(seed)
    coordinates = rng.permutation(1000)[:30, None] // [1, 10, 100] % 10 * 2.5
    rois = {"A": coordinates[:, 0] < 8, "B": coordinates[:, 1] < 12}
    mixed = rng.permutation(30)
    there = voxel_layout(rois, coordinates, 30).index[0]
    again = voxel_layout({name: mask[mixed] for name, mask in rois.items()}, coordinates[mixed], 30).index[0]
    np.testing.assert_array_equal(coordinates[there], coordinates[mixed][again])


def test_more_rois_than_voxels_and_none_at_all_are_refused() -> None:
    rois = {name: np.ones(2, bool) for name in "ABC"}
    with pytest.raises(UserError, match=r"more ROIs \(3\) than voxels \(2\)"):
        voxel_layout(rois, None, 2)
    with pytest.raises(UserError, match=r"teacher\.channels=roi: the data have no ROIs"):
        voxel_layout({}, None, 2, "roi")
    rois = masks(2, A=[0], B=[], C=[])
    assert voxel_layout(rois, None, 2).index.tolist() == [[0, 1]], "masks without voxels do no harm"

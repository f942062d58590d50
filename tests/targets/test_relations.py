"""Relations as a target: similarities of any two images, from patterns or from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.images import ImageSet, Split
from braindistill.targets.relations import Relations, export_relations
from braindistill.teachers.answer import UNSEEN

ANY = Path("any")


def export(image_set: ImageSet, split: Split, **options: Any) -> Relations:
    return export_relations(ANY, image_set, split, "cpu", **options)


def patterns(image_set: ImageSet, teacher: Any) -> np.ndarray:
    return teacher.voxels(image_set.train_ids[:12], image_set.train_images[:12], "cpu", False).rows.astype(float)


@pytest.mark.parametrize("n_voxels", [5, 40])
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("float16", 2e-3)])
def test_blocks_are_the_correlations_of_the_teachers_patterns(
    image_set: ImageSet, split: Split, teacher: Any, tmp_path: Path, n_voxels: int, precision: str, tolerance: float
) -> None:
    teacher.n_voxels = n_voxels
    export(image_set, split, precision=precision).save(tmp_path)
    target = Relations.load(tmp_path)
    assert target.similarity is None
    assert target.patterns.dtype == precision
    assert target.patterns.shape[1] <= min(12, n_voxels), "no wider than there are images"
    expected = np.corrcoef(patterns(image_set, teacher))
    np.testing.assert_allclose(target.block(np.arange(12)), expected, atol=tolerance)
    rows, found = target.rows_for(np.array(["image-07", "other", "image-02"]))
    assert found.tolist() == [True, False, True]
    np.testing.assert_allclose(target.block(rows[found]), expected[[7, 2]][:, [7, 2]], atol=tolerance)
    assert target.record["similarity"] == "correlation"
    assert target.fold.tolist() == [0, 1, 2] * 3 + [UNSEEN] * 3


def test_cosine_and_roi(image_set: ImageSet, split: Split, teacher: Any) -> None:
    target = export(image_set, split, similarity="cosine", roi="V1", precision="float32")
    rows = patterns(image_set, teacher)[:, :4]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(target.block(np.arange(12)), rows @ rows.T, atol=1e-5)


def test_blocks_of_tensors_are_the_same(image_set: ImageSet, split: Split, teacher: Any) -> None:
    import torch

    rows = np.array([3, 8, 3, 0])
    for target in (
        export(image_set, split),
        Relations(image_set.train_ids[:12], None, np.random.default_rng(0).random((12, 12))),
    ):
        block = target.blocks_on("cpu")(torch.from_numpy(rows))
        assert block.dtype == torch.float32
        np.testing.assert_allclose(block.numpy(), target.block(rows), atol=1e-6)


@pytest.fixture
def rdm(image_set: ImageSet) -> dict[str, np.ndarray]:
    """Dissimilarities of images 2 to 15, in another order."""
    order = np.random.default_rng(3).permutation(np.arange(2, 16))
    points = np.random.default_rng(4).normal(size=(14, 3))
    return {"rdm": 1 - np.corrcoef(points), "image_id": image_set.train_ids[order]}


def write(folder: Path, parts: dict[str, Any]) -> Path:
    np.savez(folder / "rdm.npz", **parts)
    return folder / "rdm.npz"


def test_a_file_needs_no_teacher(
    image_set: ImageSet, split: Split, rdm: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, rdm)
    export_relations(None, image_set, split, "cpu", rdm=file, precision="float32").save(tmp_path)
    target = Relations.load(tmp_path)
    assert target.patterns is None
    assert target.image_id.tolist() == image_set.train_ids[2:12].tolist()
    assert (target.record["n_without"], target.record["n_unused"]) == (2, 4)
    assert "no row for 2 training images (first: image-00, image-01)" in capsys.readouterr().err
    assert target.record["sources"] == {"file": 10}
    rows, found = target.rows_for(np.array(["image-09", "image-00", "image-03"]))
    assert found.tolist() == [True, False, True]
    place = {name: row for row, name in enumerate(rdm["image_id"].tolist())}
    dissimilarity = rdm["rdm"][place["image-09"], place["image-03"]]
    np.testing.assert_allclose(target.block(rows[found])[0, 1], 1 - dissimilarity, rtol=1e-6)
    similarities = write(tmp_path, rdm | {"rdm": 1 - rdm["rdm"]})
    again = export_relations(None, image_set, split, "cpu", rdm=similarities, precision="float32")
    np.testing.assert_allclose(again.similarity, target.similarity, atol=1e-6)


def changed(matrix: np.ndarray, place: tuple[int, int], value: float) -> np.ndarray:
    matrix = matrix.copy()
    matrix[place] = value
    return matrix


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, ids: (m[:, :9], ids), "rdm must be a square matrix of numbers; found float64, 14 × 9"),
        (lambda m, ids: (m.astype(str), ids), "rdm must be a square matrix of numbers; found <U"),
        (lambda m, ids: (changed(m, (2, 5), 9.0), ids), r"not symmetric: image-\d\d, image-\d\d is .* one way and "),
        (lambda m, ids: (m + 0.5 * np.eye(14), ids), r"the diagonal must be 0 .* or 1 .*; image-\d\d has 0\.5"),
        (lambda m, ids: (changed(m, (1, 1), np.nan), ids), r"1 entries are not finite \(first: image"),
        (lambda m, ids: (m, ids[:9]), "image_id names 9 rows, but rdm has 14"),
        (lambda m, ids: (m, np.repeat(ids[:7], 2)), "image_id names 7 images more than once"),
        (lambda m, ids: (m, np.char.add("x-", ids)), "names 0 of the 12 training images, .*its ids are like x-image-"),
    ],
)
def test_what_is_no_rdm_of_these_images_is_refused(
    image_set: ImageSet, split: Split, rdm: dict[str, np.ndarray], tmp_path: Path, change: Any, message: str
) -> None:
    matrix, ids = change(rdm["rdm"], rdm["image_id"])
    file = write(tmp_path, {"rdm": matrix, "image_id": ids})
    with pytest.raises(UserError, match=message) as caught:
        export_relations(None, image_set, split, "cpu", rdm=file)
    assert str(caught.value).startswith(f"target.rdm={file}: ")
    assert "\n" not in str(caught.value)


def test_files_that_hold_none(image_set: ImageSet, split: Split, rdm: dict[str, np.ndarray], tmp_path: Path) -> None:
    file = write(tmp_path, {"rdm": rdm["rdm"]})
    with pytest.raises(UserError, match="lacks 'image_id'; found rdm"):
        export_relations(None, image_set, split, "cpu", rdm=file)
    file.write_bytes(b"PK nothing")
    with pytest.raises(UserError, match="can't be read"):
        export_relations(None, image_set, split, "cpu", rdm=file)
    with pytest.raises(UserError, match=r"none\.npz: no such file"):
        export_relations(None, image_set, split, "cpu", rdm=tmp_path / "none.npz")
    np.save(tmp_path / "rdm.npy", rdm["rdm"])
    with pytest.raises(UserError, match=r"expected an \.npz file with rdm and image_id"):
        export_relations(None, image_set, split, "cpu", rdm=tmp_path / "rdm.npy")
    with pytest.raises(UserError, match=r"needs a brain teacher \(teacher=…\) or target\.rdm=FILE"):
        export_relations(None, image_set, split, "cpu")

"""Responses as a target: in the teacher's units, weighted by how far a voxel can be trusted, whole or reduced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.images import ImageSet, Split
from braindistill.targets.voxels import Voxels, export_voxels, trust, z_score
from braindistill.teachers.answer import UNSEEN

ANY = Path("any")


def export(image_set: ImageSet, split: Split, **options: Any) -> Voxels:
    return export_voxels(ANY, image_set, split, "cpu", **options)


def answer(image_set: ImageSet, teacher: Any, measured: bool = False) -> np.ndarray:
    return teacher.voxels(image_set.train_ids[:12], image_set.train_images[:12], "cpu", measured).rows


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("float16", 2e-3)])
def test_rows_are_the_teachers_in_its_own_units(
    image_set: ImageSet, split: Split, teacher: Any, tmp_path: Path, precision: str, tolerance: float
) -> None:
    export(image_set, split, precision=precision).save(tmp_path)
    target = Voxels.load(tmp_path)
    assert target.rows.dtype == precision
    asked = np.array(["image-05", "other", "image-11"])
    rows, found = target.rows_for(asked)
    assert found.tolist() == [True, False, True]
    expected = answer(image_set, teacher)[[5, 11]]
    assert np.abs(expected).min() > 300, "an offset that half precision could not hold to a thousandth of the deviation"
    np.testing.assert_allclose((rows[found] - expected) / expected.std(), 0, atol=tolerance)
    assert (rows[1] == 0).all()
    np.testing.assert_allclose(np.asarray(target.rows, float).mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(np.asarray(target.rows, float).std(0), 1, atol=1e-3)
    assert target.record["sources"] == {"predicted": 12}
    assert target.record["folds"] == {"-1": 3, "0": 3, "1": 3, "2": 3}
    assert (target.weight == 1).all()


def test_measured_responses_where_there_are_any(image_set: ImageSet, split: Split, teacher: Any) -> None:
    target = export(image_set, split, responses="measured", precision="float32")
    np.testing.assert_allclose(target.rows_for(target.image_id)[0], answer(image_set, teacher, True), rtol=1e-5)
    assert target.source.tolist() == ["measured"] * 9 + ["predicted"] * 3
    assert target.fold.tolist() == [0, 1, 2] * 3 + [UNSEEN] * 3


def test_the_teacher_is_asked_in_batches(
    image_set: ImageSet, split: Split, teacher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = export(image_set, split)
    monkeypatch.setattr("braindistill.targets.asking._BATCH", 5)
    parts = export(image_set, split)
    assert teacher.asked == [12, 5, 5, 2]
    np.testing.assert_allclose(parts.rows.astype(float), whole.rows.astype(float), atol=2e-3)
    assert (parts.fold == whole.fold).all()


def test_weights_are_ceilings_or_out_of_fold_scores(teacher: Any) -> None:
    assert trust(teacher, 3).tolist() == [1, 1, 1]
    teacher.voxel_scores = {"r2": np.array([-3.0, 0.25, np.nan], np.float32)}
    assert trust(teacher, 3).tolist() == pytest.approx([0.01, 0.25, 0.01])
    teacher.voxel_scores["ceiling_r2"] = np.array([0.2, 0.4, 0.0])
    assert trust(teacher, 3).tolist() == [0.2, 0.4, 0.01], "the same for a control, whose encoder predicts nothing"


def test_weights_reach_the_target_with_mean_one(image_set: ImageSet, split: Split, teacher: Any) -> None:
    teacher.voxel_scores = {"r2": np.linspace(0.1, 0.9, 10)}
    weight = export(image_set, split).weight
    assert weight.mean() == pytest.approx(1)
    np.testing.assert_allclose(weight / weight[-1], np.linspace(1, 9, 10) / 9, atol=1e-6)


def test_the_error_over_components_is_the_weighted_error_over_voxels(
    image_set: ImageSet, split: Split, teacher: Any
) -> None:
    weight = np.linspace(0.1, 0.9, 10)
    teacher.voxel_scores = {"r2": weight}
    target = export(image_set, split, reduce="pca", components=10, precision="float32")
    assert target.names == [f"pc{number}" for number in range(1, 11)]
    assert target.record["explained_variance"]["total"] == pytest.approx(1, abs=1e-5)
    share = np.array(target.record["explained_variance"]["components"])
    assert (np.diff(share) <= 0).all()
    np.testing.assert_allclose(target.weight, share * 10, atol=1e-4)
    standard, _, _ = z_score(answer(image_set, teacher))
    rows = np.asarray(target.rows, float)
    for one, other in ((0, 1), (3, 11)):
        voxels = (weight * (standard[one] - standard[other]) ** 2).sum() / weight.sum()
        components = (target.weight * (rows[one] - rows[other]) ** 2).mean()
        assert components == pytest.approx(voxels, rel=1e-3)


def test_components_are_fitted_on_predicted_responses(image_set: ImageSet, split: Split, teacher: Any) -> None:
    target = export(image_set, split, responses="measured", reduce="pca", components=2, precision="float32")
    predicted = target.source == "predicted"
    rows, _ = target.rows_for(target.image_id)
    np.testing.assert_allclose(rows[predicted].mean(0), 0, atol=1e-4)
    assert np.abs(rows[~predicted].mean(0)).max() > 1, "measured responses lie 100 units higher"


def test_there_are_no_more_components_than_voxels(image_set: ImageSet, split: Split, teacher: Any) -> None:
    target = export(image_set, split, reduce="pca")
    assert target.names == [f"pc{number}" for number in range(1, 11)]
    assert target.record["explained_variance"]["total"] == pytest.approx(1)
    with pytest.raises(UserError, match=r"target\.components=0"):
        export(image_set, split, reduce="pca", components=0)


def test_roi_means(image_set: ImageSet, split: Split, teacher: Any) -> None:
    teacher.voxel_scores = {"r2": np.array([0.4] * 4 + [0.1] * 6)}
    teacher.rois |= {"empty": np.array([], int), "mask": np.arange(10) == 7}
    target = export(image_set, split, reduce="roi", precision="float32")
    assert target.names == ["V1", "V2", "mask"]
    standard, _, _ = z_score(answer(image_set, teacher))
    rows, _ = target.rows_for(target.image_id)
    expected = [standard[:, :4].mean(1), standard[:, 4:].mean(1), standard[:, 7]]
    np.testing.assert_allclose(rows, np.stack(expected, 1), atol=1e-5)
    np.testing.assert_allclose(target.weight, np.array([0.4, 0.1, 0.1]) / 0.2, rtol=1e-5)
    teacher.rois = {}
    with pytest.raises(UserError, match=r"belong to no named ROI; take target\.reduce=pca"):
        export(image_set, split, reduce="roi")


def test_a_column_that_does_not_vary_is_kept_as_it_is() -> None:
    rows = np.array([[500.0, 1.0], [500.0, 3.0]], np.float32)
    standard, centre, scale = z_score(rows)
    assert standard.tolist() == [[0, -1], [0, 1]]
    assert (centre.tolist(), scale.tolist()) == ([500, 2], [1, 1])


def test_a_teacher_without_voxels(image_set: ImageSet, split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    class Network:
        name = "cnn"

    monkeypatch.setattr("braindistill.targets.asking.load_teacher", lambda folder: Network())
    with pytest.raises(UserError, match="teacher=cnn has no voxels to learn from; take teacher=encoder or brain"):
        export(image_set, split)

"""A row for an image is the teacher's answer about that image, whatever the order; and what the shuffles keep."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from braindistill import targets
from braindistill.errors import UserError
from braindistill.images import ImageSet, Split
from braindistill.targets import load_target

KINDS = ("soft_labels", "voxels", "relations")
ANY = Path("any")


def export(kind: str, image_set: ImageSet, split: Split, **options: Any) -> Any:
    return getattr(targets, f"export_{kind}")(ANY, image_set, split, "cpu", precision="float32", **options)


def content(target: Any, image_id: np.ndarray, classes: list[str]) -> np.ndarray:
    """A row an image: of relations, its similarities to the images asked for."""
    if target.kind == "relations":
        rows, found = target.rows_for(image_id)
        rows = target.block(rows)
    else:
        rows, found = target.rows_for(image_id, *([classes] if target.kind == "soft_labels" else []))
    assert found.all()
    return rows


def stored(target: Any) -> np.ndarray:
    parts = {"soft_labels": "log_probabilities", "voxels": "rows", "relations": "patterns"}
    return np.asarray(getattr(target, parts[target.kind]), float)


def answers(kind: str, teacher: Any, image_set: ImageSet, rows: np.ndarray) -> np.ndarray:
    """The teacher asked about each image alone."""
    asked = [(image_set.train_ids[[row]], image_set.train_images[[row]], "cpu") for row in rows]
    if kind == "soft_labels":
        return np.concatenate([teacher.soft_labels(*question).rows for question in asked])
    responses = np.concatenate([teacher.voxels(*question, False).rows for question in asked])
    return responses if kind == "voxels" else np.corrcoef(responses)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_the_teachers_answer_about_that_image(
    kind: str, image_set: ImageSet, split: Split, teacher: Any, tmp_path: Path
) -> None:
    order = np.random.default_rng(0).permutation(16)
    shuffled = dataclasses.replace(
        image_set,
        train_images=image_set.train_images[order],
        train_ids=image_set.train_ids[order],
        train_labels=image_set.train_labels[order],
    )
    place = np.argsort(order)
    moved = Split(labelled=place[split.labelled[::-1]], pool=place[split.pool[:4]], val=place[split.val])
    export(kind, shuffled, moved).save(tmp_path)
    target = load_target(tmp_path)
    rows = np.random.default_rng(1).permutation(10)
    expected = answers(kind, teacher, image_set, rows)
    np.testing.assert_allclose(
        content(target, image_set.train_ids[rows], ["a", "b", "c"]), expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("control", ["shuffled_within", "shuffled_across"])
@pytest.mark.parametrize("kind", KINDS)
def test_shuffles_deal_rows_to_other_images(
    kind: str, control: str, image_set: ImageSet, split: Split, teacher: Any
) -> None:
    ids, classes = image_set.train_ids[:6], image_set.classes
    plain = export(kind, image_set, split, images="labelled")
    dealt = export(kind, image_set, split, images="labelled", control=control, seed=1)
    giver = np.array([int(np.abs(stored(plain) - row).max(1).argmin()) for row in stored(dealt)])
    assert sorted(giver.tolist()) == list(range(6))
    assert (giver != np.arange(6)).all(), "no image keeps its own"
    labels = image_set.train_labels[:6]
    assert (labels[giver] == labels).all() == (control == "shuffled_within")
    expected = content(plain, ids[giver], classes)
    np.testing.assert_allclose(content(dealt, ids, classes), expected, atol=1e-4)
    assert (dealt.fold == plain.fold[giver]).all()
    assert dealt.record["control"] == control


@pytest.mark.parametrize("kind", KINDS)
def test_shuffles_within_need_labels_and_company(kind: str, image_set: ImageSet, split: Split, teacher: Any) -> None:
    with pytest.raises(
        UserError, match=r"target\.control=shuffled_within needs each image's true class.*images=labelled"
    ):
        export(kind, image_set, split, control="shuffled_within")
    few = dataclasses.replace(split, labelled=np.array([0, 3, 1]))
    with pytest.raises(
        UserError, match=r"class 'b' has a single labelled image, .* \(1 such classes\); raise images\.n_train"
    ):
        export(kind, image_set, few, images="labelled", control="shuffled_within")
    assert not teacher.asked
    across = export(kind, image_set, split, control="shuffled_across")
    assert across.record["n_images"] == 12, "needs no labels"

"""Measures from stored predictions, of answers that were made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.images import ImageSet
from braindistill.verdict import Measures, calibration

CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
ANIMALS = {"bird", "cat", "deer", "dog", "frog", "horse"}


def make_set(classes: list[str], n: int = 200) -> ImageSet:
    labels = np.arange(n) % len(classes)
    images = np.zeros((n, 1, 2, 2), np.uint8)
    ids = np.array([f"test/{row:04d}.png" for row in range(n)])
    return ImageSet(images[:0], ids[:0], labels[:0], images, ids, labels, classes)


def say(chosen: np.ndarray, n_classes: int, sure: Any) -> np.ndarray:
    """Log-probabilities of which the chosen class has ``sure`` and the others share the rest."""
    rows = np.repeat((1 - np.broadcast_to(sure, chosen.shape))[:, None] / (n_classes - 1), n_classes, 1)
    rows[np.arange(len(chosen)), chosen] = sure
    return np.log(rows)


def measure(image_set: ImageSet, said: list[np.ndarray], held_out: Any = None, **options: Any) -> tuple[Any, Any]:
    measures = Measures(options, image_set)
    found = measures.of_arm("arm", said, calibration(said, image_set.test_labels), held_out, [])
    return found, measures.skipped


def test_calibration_over_seeds() -> None:
    image_set = make_set(CIFAR)
    truth = image_set.test_labels
    wrong = np.where(np.arange(len(truth)) % 4 == 0, (truth + 1) % 10, truth)
    found, skipped = measure(image_set, [say(truth, 10, 0.7), say(wrong, 10, 0.7)], measures=["calibration"])
    right, rest = 0.3**2 * (1 + 1 / 9), 0.3 / 9
    missed = 0.7**2 + (1 - rest) ** 2 + 8 * rest**2
    assert found["brier"]["per_seed"] == pytest.approx([right, 0.75 * right + 0.25 * missed])
    assert found["nll"]["per_seed"][0] == pytest.approx(-np.log(0.7))
    assert found["ece"]["per_seed"] == pytest.approx([0.3, 0.05])
    assert found["top5"]["per_seed"][0] == 1
    assert 0.75 <= found["top5"]["per_seed"][1] < 1
    curve = found["reliability"]
    assert (curve["confidence"], curve["accuracy"], curve["share"]) == (
        pytest.approx([0.7]),
        pytest.approx([0.875]),
        [1],
    )
    assert skipped == {}
    few, _ = measure(make_set(["a", "b", "c"]), [say(np.arange(200) % 3, 3, 0.7)], measures=["calibration"])
    assert "top5" not in few, "with three classes it would always be 1"
    assert measure(image_set, [say(truth, 10, 0.7)], measures=[]) == ({}, {})


def test_severity_by_the_built_in_hierarchy() -> None:
    """Every fourth answer is wrong: of these, as planted, two thirds stay among animals or among vehicles."""
    image_set = make_set(CIFAR, 1200)
    truth = image_set.test_labels
    inside = {name: next(o for o in CIFAR if o != name and (o in ANIMALS) == (name in ANIMALS)) for name in CIFAR}
    outside = {name: next(o for o in CIFAR if (o in ANIMALS) != (name in ANIMALS)) for name in CIFAR}
    said = truth.copy()
    for number, row in enumerate(range(0, 1200, 4)):
        table = outside if number % 3 == 0 else inside
        said[row] = CIFAR.index(table[CIFAR[truth[row]]])
    found, skipped = measure(image_set, [say(said, 10, 0.9)], measures=["severity"])
    assert skipped == {}
    assert found.keys() == {"severity"}
    assert found["severity"]["mild"]["mean"] == pytest.approx(2 / 3)
    assert found["severity"]["severe"]["mean"] == pytest.approx(1 / 3)
    assert found["severity"]["lca_height"]["mean"] == pytest.approx(2 / 3 * 1 + 1 / 3 * 2)


def test_severity_by_a_table(tmp_path: Path) -> None:
    image_set = make_set(["a", "b", "c"], 30)
    (tmp_path / "table.csv").write_text("class, group\na, x\nb, x\nc, y\n")
    said = np.where(image_set.test_labels == 0, 1, image_set.test_labels)
    found, _ = measure(image_set, [say(said, 3, 0.9)], measures=["severity"], hierarchy=tmp_path / "table.csv")
    assert found["severity"]["mild"]["mean"] == 1
    perfect, _ = measure(
        image_set, [say(image_set.test_labels, 3, 0.9)], measures=["severity"], hierarchy=tmp_path / "table.csv"
    )
    assert perfect["severity"]["mild"]["mean"] is None, "no mistake is neither mild nor severe"
    (tmp_path / "table.csv").write_text("a, x\nb, x\n")
    with pytest.raises(UserError, match=r"^eval\.hierarchy=.*lacks c"):
        measure(image_set, [], measures=["severity"], hierarchy=tmp_path / "table.csv")
    with pytest.raises(UserError, match=r"^eval\.hierarchy: .*cannot be read"):
        measure(image_set, [], measures=["selective"], hierarchy=tmp_path / "absent.csv")


def test_a_threshold_that_was_chosen_on_validation_images() -> None:
    """Sure answers are right and unsure ones wrong, on both sets: the threshold tells them apart."""
    image_set = make_set(CIFAR)
    truth = image_set.test_labels
    sure = np.arange(len(truth)) % 5 > 0
    said = say(np.where(sure, truth, (truth + 5) % 10), 10, np.where(sure, 0.9, 0.6))
    val_labels = np.arange(50) % 10
    val_sure = np.arange(50) % 5 > 0
    held_out = [
        (say(np.where(val_sure, val_labels, (val_labels + 1) % 10), 10, np.where(val_sure, 0.8, 0.6)), val_labels)
    ]
    found, skipped = measure(image_set, [said], held_out, measures=["selective"])
    scores = {key: value["mean"] for key, value in found["selective"].items()}
    assert scores["threshold"] == pytest.approx(0.8), "the least sure answer of the validation images that were right"
    assert (scores["precision"], scores["coverage"]) == (1, pytest.approx(0.8))
    assert (scores["severe"], scores["mild"]) == (0, 0)
    assert scores["aurc"] == pytest.approx(np.mean(np.cumsum(np.arange(200) >= 160) / np.arange(1, 201)), abs=0.005)
    assert skipped == {}
    assert "images.n_val=0" in measure(image_set, [said], None, measures=["selective"])[1]["selective"]


def test_selective_without_groups_has_no_severe_mistakes_and_says_why() -> None:
    image_set = make_set(["a", "b"])
    said = [say(image_set.test_labels, 2, 0.9)]
    held_out = [(said[0][:20], image_set.test_labels[:20])]
    found, skipped = measure(image_set, said, held_out, measures=["selective"])
    assert found["selective"].keys() == {"threshold", "precision", "coverage", "aurc"}
    assert skipped.keys() == {"selective: severe and mild mistakes"}


def test_agreement_with_people_is_joined_on_ids(tmp_path: Path) -> None:
    image_set = make_set(["a", "b", "c"], 30)
    truth = image_set.test_labels
    order = np.random.default_rng(0).permutation(30)[:20]  # people have seen twenty, in another order
    counts = np.zeros((20, 4), int)
    columns = ["c", "b", "other", "a"]
    for row, image in enumerate(order):
        counts[row, columns.index(["a", "b", "c"][truth[image]])] = 8
        counts[row, columns.index(["a", "b", "c"][(truth[image] + 1) % 3])] = 2
    ids = np.array([name.removesuffix(".png") for name in image_set.test_ids[order]])
    np.savez(tmp_path / "people.npz", image_id=ids, classes=np.array(columns), counts=counts)
    copy = np.full((30, 3), 1e-12)
    copy[np.arange(30), truth], copy[np.arange(30), (truth + 1) % 3] = 0.8, 0.2
    options: dict[str, Any] = {"measures": ["human"], "people": tmp_path / "people.npz"}
    found, skipped = measure(image_set, [np.log(copy), say((truth + 1) % 3, 3, 0.9)], **options)
    assert skipped == {}
    assert found["human"]["kl"]["per_seed"][0] == pytest.approx(0, abs=1e-6)
    assert found["human"]["kl"]["per_seed"][1] > 1
    assert found["human"]["top1_agreement"]["per_seed"] == [1, 0]
    assert found["human"]["entropy_correlation"]["per_seed"] == [None, None], "people doubt equally everywhere"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image_id,a,b\ntest/0000.png,1,2\n", "^eval.people=.*no column for class 'c'"),
        ("image_id,a,b,c\ntest/0000.png,1,x,2\n", "^eval.people=.*numbers"),
        (None, "^eval.people=.*no such file"),
    ],
)
def test_an_unfit_table_of_people_is_one_line(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "people.csv"
    if content:
        file.write_text(content)
    with pytest.raises(UserError, match=message):
        measure(make_set(["a", "b", "c"]), [], measures=["human"], people=file)


def test_people_who_saw_other_images_are_no_reference(tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text("image_id,a,b\ntrain/0000.png,1,2\n")
    image_set = make_set(["a", "b"])
    found, skipped = measure(image_set, [say(image_set.test_labels, 2, 0.9)], measures=["human"], people=file)
    assert found == {}
    assert "none of the 200 test images has a row" in skipped["human"]
    assert "'train/0000.png'" in skipped["human"]


def test_a_reason_names_the_arms_unless_it_is_that_of_all() -> None:
    image_set = make_set(CIFAR)
    said = [say(image_set.test_labels, 10, 0.9)]
    measures = Measures({"measures": ["selective", "brain_score"]}, image_set)
    measures.of_arm("one", said, {}, [(said[0], image_set.test_labels)], [])
    measures.of_arm("two", said, {}, None, [])
    measures.of_arm("three", said, {}, None, [])
    assert measures.skipped == {
        "selective": "two, three: no validation images to choose the threshold on (images.n_val=0)",
        "brain_score": "students were not measured, or that has failed",
    }

"""Tables of people's answers are joined to images on ids, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.images import ImageSet
from braindistill.runtime import find_data
from braindistill.teachers.artifact import load_teacher
from braindistill.teachers.human import TableTeacher, fit_human

CLASSES = ["cat", "dog", "eel"]
COUNTS = np.array([[3, 0, 0], [0, 2, 1], [1, 1, 1], [0, 0, 3], [0, 3, 0], [2, 0, 1]], np.uint8)
IDS = np.array([f"train/{CLASSES[row % 3]}/{row:04d}" for row in range(6)])


def pictures(ids: np.ndarray, labels: np.ndarray, classes: list[str] = CLASSES) -> ImageSet:
    blank = np.zeros((len(ids), 1, 1, 1), np.uint8)
    return ImageSet(blank, ids, labels, blank[:0], ids[:0], labels[:0], classes)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    np.savez(tmp_path / "table.npz", image_id=IDS, counts=COUNTS, classes=np.array(CLASSES))
    return tmp_path / "table.npz"


def test_rows_are_joined_on_ids_though_everything_is_shuffled(table: Path, tmp_path: Path) -> None:
    order = np.array([4, 1, 5, 0, 3, 2])
    classes = ["eel", "cat", "dog"]
    shuffled = pictures(IDS[order], np.array([1, 2, 0])[order % 3], classes)
    teacher = fit_human(shuffled, path=table, smoothing=0.5)
    teacher.save(tmp_path)
    for each in (teacher, load_teacher(tmp_path)):
        assert isinstance(each, TableTeacher)
        answer = each.soft_labels(shuffled.train_ids, shuffled.train_images, "cpu")
        wanted = (COUNTS[order][:, [2, 0, 1]] + 0.5) / (3 + 1.5)
        np.testing.assert_allclose(np.exp(answer.rows), wanted, rtol=1e-5)
        assert set(answer.source.tolist()) == {"table"}
        assert set(answer.fold.tolist()) == {-1}
        assert each.classes == classes
        assert each.scores["table"]["n_images"] == 6


def test_endings_of_files_do_not_matter(tmp_path: Path) -> None:
    named = np.array([f"{name}.{'JPG' if row % 2 else 'png'}" for row, name in enumerate(IDS)])
    np.savez(tmp_path / "a.npz", image_id=named, counts=COUNTS, classes=np.array(CLASSES))
    np.savez(tmp_path / "b.npz", image_id=IDS, counts=COUNTS, classes=np.array(CLASSES))
    labels = np.arange(6) % 3
    rows = [
        fit_human(pictures(ids, labels), path=tmp_path / f"{name}.npz").soft_labels(ids, np.zeros(6), "cpu").rows
        for ids, name in ((IDS, "a"), (named, "b"), (IDS, "b"))
    ]
    np.testing.assert_array_equal(rows[0], rows[2])
    np.testing.assert_array_equal(rows[1], rows[2])
    np.savez(tmp_path / "c.npz", image_id=np.append(IDS[1:], IDS[1] + ".png"), counts=COUNTS, classes=np.array(CLASSES))
    with pytest.raises(UserError, match=r"1 ids occur twice: train/dog/0001"):
        fit_human(pictures(IDS, labels), path=tmp_path / "c.npz")
    dotted = np.array([f"s.{row}" for row in range(6)])
    np.savez(tmp_path / "d.npz", image_id=dotted, counts=COUNTS, classes=np.array(CLASSES))
    assert fit_human(pictures(dotted, labels), path=tmp_path / "d.npz").image_id.tolist() == dotted.tolist()


def test_images_and_rows_without_a_partner_are_counted_and_named(table: Path, capsys: pytest.CaptureFixture) -> None:
    ids = np.concatenate([IDS[:4], ["train/cat/9999", "x"]])
    shown = pictures(ids, np.array([0, 1, 2, 0, 0, -1]))
    teacher = fit_human(shown, path=table)
    said = capsys.readouterr().err
    assert "2 training images without a row: train/cat/9999, x" in said
    assert "2 rows without a training image: train/dog/0004, train/eel/0005" in said
    score = teacher.scores["table"]
    assert score["images_without_row"] == {"n": 2, "first": ["train/cat/9999", "x"]}
    assert score["rows_without_image"]["n"] == 2
    # majorities: cat, dog, cat (the first of three), eel; labels: cat, dog, eel, cat
    assert (score["accuracy"], score["n_images"]) == (0.5, 4)
    with pytest.raises(UserError, match=r"2 of 6 images have no row in the table: train/cat/9999, x;"):
        teacher.soft_labels(ids, shown.train_images, "cpu")
    with pytest.raises(UserError, match=r"none of its 6 ids .* like 'train/cat/0000', the images' like 'x'"):
        fit_human(pictures(np.array(["x"]), np.array([0])), path=table)


def test_classes_are_restricted_by_name(table: Path) -> None:
    two = fit_human(pictures(IDS[:3], np.array([1, 0, -1]), ["dog", "cat"]), path=table, smoothing=0.25)
    assert len(two.image_id) == 5, "a row whose answers are all of other classes says nothing"
    np.testing.assert_allclose(np.exp(two.soft_labels(IDS[1:2], np.zeros(1), "cpu").rows), [[2.25 / 2.5, 0.25 / 2.5]])
    with pytest.raises(UserError, match=r"no column for class 'cats'; did you mean 'cat'"):
        fit_human(pictures(IDS[:1], np.array([0]), ["cats"]), path=table)


@pytest.mark.parametrize(("ending", "mark"), [("csv", ","), ("tsv", "\t")])
def test_text_tables_and_probabilities(tmp_path: Path, ending: str, mark: str) -> None:
    file = tmp_path / f"table.{ending}"
    lines = [["dog", "image_id", "cat"], ["0.25", "a", "0.75"], ["1", "b.png", "0"]]
    file.write_text("\n".join(mark.join(line) for line in lines) + "\n\n")
    shown = pictures(np.array(["b", "a"]), np.array([1, 0]), ["cat", "dog"])
    rows = fit_human(shown, path=file, smoothing=0.05).soft_labels(shown.train_ids, shown.train_images, "cpu").rows
    np.testing.assert_allclose(np.exp(rows), [[0.05 / 1.1, 1.05 / 1.1], [0.8 / 1.1, 0.3 / 1.1]], rtol=1e-5)
    np.savez(
        tmp_path / "p.npz",
        image_id=np.array(["a", "b"]),
        probabilities=np.array([[0.25, 0.75], [0.5, 0.5]]),
        classes=np.array(["dog", "cat"]),
    )
    rows = (
        fit_human(shown, path=tmp_path / "p.npz", smoothing=0.0).soft_labels(np.array(["a"]), np.zeros(1), "cpu").rows
    )
    np.testing.assert_allclose(np.exp(rows), [[0.75, 0.25]], rtol=1e-5)


def test_no_answer_without_smoothing_is_refused(table: Path) -> None:
    with pytest.raises(
        UserError, match=r"teacher\.smoothing=0: 5 rows give a class no answer.*teacher\.smoothing=0\.01"
    ):
        fit_human(pictures(IDS, np.arange(6) % 3), path=table, smoothing=0.0)
    with pytest.raises(UserError, match=r"teacher\.smoothing=-1"):
        fit_human(pictures(IDS, np.arange(6) % 3), path=table, smoothing=-1)


def test_unreadable_tables_are_named(tmp_path: Path) -> None:
    shown = pictures(IDS, np.arange(6) % 3)

    def refused(name: str) -> str:
        with pytest.raises(UserError) as caught:
            fit_human(shown, path=tmp_path / name)
        assert "\n" not in str(caught.value)
        return str(caught.value).removeprefix(f"teacher.path={tmp_path / name}: ")

    assert refused("nowhere.npz").startswith("no such file")
    (tmp_path / "a.xls").write_text("")
    assert refused("a.xls") == "a table is .npz, .csv or .tsv, found '.xls'"
    (tmp_path / "a.npz").write_bytes(b"PK\3\4 nonsense")
    assert refused("a.npz").startswith("not an npz of plain arrays")
    np.savez(tmp_path / "b.npz", image_id=np.array([{}], object), counts=COUNTS, classes=np.array(CLASSES))
    assert refused("b.npz").startswith("not an npz of plain arrays")
    np.savez(tmp_path / "c.npz", image_id=IDS, votes=COUNTS)
    assert "found image_id, votes" in refused("c.npz")
    np.savez(tmp_path / "d.npz", image_id=IDS[:5], counts=COUNTS, classes=np.array(CLASSES))
    assert refused("d.npz").startswith("(6, 3) values, 5 ids and 3 classes")
    empty = COUNTS.astype(float)
    empty[2], empty[3, 0] = 0, -1
    np.savez(tmp_path / "e.npz", image_id=IDS, counts=empty, classes=np.array(CLASSES))
    assert refused("e.npz") == "2 rows are empty, negative or not finite, the first that of train/eel/0002"
    for content, message in (
        ("", "no column image_id"),
        ("id,cat\n", "no column image_id"),
        ("image_id,cat\na,x\n", "a row that"),
    ):
        (tmp_path / "t.csv").write_text(content)
        assert refused("t.csv").startswith(message)


def test_the_majority_of_three_people_on_cifar10() -> None:
    """CIFAR-10N's table against the classes, which are in the ids."""
    path = find_data("cifar10/cifar10n-human-counts.npz")
    if path is None:
        pytest.skip("cifar10/cifar10n-human-counts.npz is not in a data folder")
    with np.load(path, allow_pickle=False) as stored:
        ids, classes = stored["image_id"], sorted(stored["classes"].tolist())
    ids = np.random.default_rng(0).permutation(ids)
    labels = np.array([classes.index(name.split("/")[1]) for name in ids.tolist()])
    teacher = fit_human(pictures(ids, labels, classes), path=path)
    score = teacher.scores["table"]
    assert (score["n_images"], score["images_without_row"]["n"], score["rows_without_image"]["n"]) == (50_000, 0, 0)
    assert score["accuracy"] == pytest.approx(0.912, abs=0.0006)
    rows = teacher.soft_labels(ids, np.zeros((50_000, 0)), "cpu").rows
    assert (rows.argmax(1) == labels).mean() == score["accuracy"]

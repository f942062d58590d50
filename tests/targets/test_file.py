"""Soft labels that a user brings: probabilities in one of three kinds of file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.images import ImageSet, Split
from braindistill.targets.file import export_file


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(3), 16).astype(np.float32)


def test_an_npy_is_in_data_set_order(image_set: ImageSet, split: Split, rows: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", rows)
    target = export_file(None, image_set, split, "cpu", path=tmp_path / "t.npy")
    assert target.image_id.tolist() == image_set.train_ids[:12].tolist()
    np.testing.assert_allclose(np.exp(target.log_probabilities), rows[:12], rtol=1e-5)
    assert target.record["sources"] == {"file": 12}
    assert target.record["teacher"] == "file"
    assert target.record["accuracy_labelled"] == (rows[:6].argmax(1) == image_set.train_labels[:6]).mean()
    labelled = export_file(None, image_set, split, "cpu", path=tmp_path / "t.npy", images="labelled")
    assert labelled.image_id.tolist() == image_set.train_ids[:6].tolist()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_an_npz_names_its_rows_and_columns(
    image_set: ImageSet, split: Split, rows: np.ndarray, tmp_path: Path, dtype: type
) -> None:
    order = np.random.default_rng(1).permutation(16)
    np.savez(
        tmp_path / "t.npz",
        anything=rows[order][:, [2, 0, 1]].astype(dtype),
        image_id=image_set.train_ids[order],
        classes=np.array(["c", "a", "b"]),
    )
    target = export_file(None, image_set, split, "cpu", path=tmp_path / "t.npz")
    found, has = target.rows_for(image_set.train_ids[:12], image_set.classes)
    assert has.all()
    np.testing.assert_allclose(np.exp(found), rows[:12], atol=2e-3 if dtype == np.float16 else 1e-6)


def test_safetensors_will_do(image_set: ImageSet, split: Split, rows: np.ndarray, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"probabilities": rows}, tmp_path / "t.safetensors")
    target = export_file(None, image_set, split, "cpu", path=tmp_path / "t.safetensors")
    np.testing.assert_allclose(np.exp(target.log_probabilities), rows[:12], rtol=1e-5)


def test_zeros_become_small_and_not_infinite(image_set: ImageSet, split: Split, tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.eye(3, dtype=np.float32)[np.arange(16) % 3])
    target = export_file(None, image_set, split, "cpu", path=tmp_path / "t.npy")
    assert sorted(np.unique(target.log_probabilities).tolist()) == [-30, 0]
    assert target.record["accuracy_pool"] == 1.0
    assert target.record["entropy"] == pytest.approx(0, abs=1e-6)


def changed(rows: np.ndarray, place: tuple[int, ...], value: float) -> np.ndarray:
    rows = rows.copy()
    rows[place] = value
    return rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: changed(rows, (3, 0), rows[3, 0] + 0.5),
            r"row 3 sums to 1\.5.*not logits \(1 of 16 rows are off\)",
        ),
        (lambda rows: np.log(rows), r"must be finite and not negative \(smallest: -"),
        (lambda rows: changed(rows, (5, 1), np.nan), "must be finite"),
        (lambda rows: rows[:, :2], "2 columns, but there are 3 classes"),
        (lambda rows: rows[:9], "9 rows without image_id, but there are 16 training images"),
        (lambda rows: rows[0], r"found float32 of shape \(3,\), expected floats of images × classes"),
        (lambda rows: rows[:0], r"found float32 of shape \(0, 3\)"),
        (lambda rows: rows.argmax(1)[:, None], r"found int64 of shape \(16, 1\)"),
    ],
)
def test_what_is_no_table_of_probabilities_is_refused(
    image_set: ImageSet, split: Split, rows: np.ndarray, tmp_path: Path, change: object, message: str
) -> None:
    np.save(tmp_path / "t.npy", change(rows))  # type: ignore[operator]
    with pytest.raises(UserError, match=message) as caught:
        export_file(None, image_set, split, "cpu", path=tmp_path / "t.npy")
    assert str(tmp_path / "t.npy") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"image_id": [f"image-{row:02d}" for row in range(4, 20)]}, r"no row for 4 of 12 .* \(first: image-00, "),
        ({"image_id": ["image-00"] * 16}, "image_id must name each of the 16 rows once"),
        ({"image_id": ["image-00"]}, "image_id must name each of the 16 rows once"),
        ({"classes": ["a", "b"]}, "3 columns, but there are 2 classes"),
        ({"classes": ["a", "b", "x"]}, "the target's classes are a, b, x, the student's are a, b, c"),
        ({"second": np.zeros((2, 2))}, r"expected one array of images × classes, found .*'second'"),
    ],
)
def test_names_that_do_not_fit_are_refused(
    image_set: ImageSet, split: Split, rows: np.ndarray, tmp_path: Path, parts: dict, message: str
) -> None:
    np.savez(tmp_path / "t.npz", rows=rows, **{key: np.array(value) for key, value in parts.items()})
    with pytest.raises(UserError, match=message):
        export_file(None, image_set, split, "cpu", path=tmp_path / "t.npz")


def test_files_that_are_not_what_their_name_says_are_refused(
    image_set: ImageSet, split: Split, rows: np.ndarray, tmp_path: Path
) -> None:
    def export(name: str) -> None:
        export_file(None, image_set, split, "cpu", path=tmp_path / name)

    np.savez(tmp_path / "whole.npz", rows=rows)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:-40])
    (tmp_path / "zip.npy").write_bytes((tmp_path / "whole.npz").read_bytes())
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "objects.npz", rows=np.array([[{"a": 1}]], dtype=object))
    for name in ("text.npy", "text.npz", "text.safetensors", "text.csv"):
        (tmp_path / name).write_text("0.2,0.8\n")
    for name in ("cut.npz", "zip.npy", "objects.npy", "objects.npz", "text.npy", "text.npz", "text.safetensors"):
        with pytest.raises(UserError, match=f"{name}: can't be read"):
            export(name)
    with pytest.raises(UserError, match=r"text\.csv: expected a \.npy, \.npz or \.safetensors file"):
        export("text.csv")
    with pytest.raises(UserError, match=r"none\.npy: no such file"):
        export("none.npy")

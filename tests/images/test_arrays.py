from __future__ import annotations

import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.images.arrays import load_arrays

GREY = {
    "train_images": np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5),
    "train_labels": np.array([9, -1, 6]),
    "test_images": np.ones((2, 4, 5), np.uint8),
    "test_labels": np.array([6, 9]),
}


def write(path, **changes):
    arrays = {key: value for key, value in {**GREY, **changes}.items() if value is not None}
    np.savez(path, **arrays)
    return path


def test_integer_labels_without_classes_are_their_own_names(tmp_path):
    images = load_arrays(path=write(tmp_path / "a.npz"))
    assert images.classes == ["6", "9"]
    assert images.train_labels.tolist() == [1, -1, 0]
    assert images.test_labels.tolist() == [0, 1]
    assert images.train_ids.tolist() == ["train-00000", "train-00001", "train-00002"]
    assert images.test_ids[-1] == "test-00001"
    np.testing.assert_array_equal(images.train_images[:, 0], GREY["train_images"])


def test_integer_labels_index_given_classes(tmp_path):
    names = np.array(["zero", "one"])
    images = load_arrays(
        path=write(tmp_path / "a.npz", classes=names, train_labels=np.array([1, 0, -1]), test_labels=[1, 1])
    )
    assert images.classes == ["zero", "one"]
    assert images.train_labels.tolist() == [1, 0, -1]
    with pytest.raises(UserError, match="train labels must be int64 from -1 to 1; found int64, 9, 6"):
        load_arrays(path=write(tmp_path / "b.npz", classes=names))


def test_text_labels_and_colour_and_ids(tmp_path):
    colour = np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3)
    path = write(
        tmp_path / "a.npz",
        train_images=colour,
        test_images=colour[:2],
        train_labels=np.array(["dog", "", "cat"]),
        test_labels=np.array(["cat", "dog"]),
        train_ids=np.array([7, 8, 9]),
    )
    images = load_arrays(path=path)
    assert images.classes == ["cat", "dog"]
    assert images.train_labels.tolist() == [1, -1, 0]
    assert images.train_ids.tolist() == ["7", "8", "9"]
    np.testing.assert_array_equal(images.train_images[1, 2], colour[1, :, :, 2])
    images = load_arrays(
        path=write(
            tmp_path / "b.npz",
            train_labels=np.array(["dog", "", "cat"]),
            test_labels=np.array(["cat", "dog"]),
            classes=np.array(["dog", "cat"]),
        )
    )
    assert images.train_labels.tolist() == [0, -1, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_labels": None}, "key test_labels is missing; found train_images, train_labels, test_images"),
        ({"train_images": np.zeros((3, 4, 5))}, "train_images must be uint8.*float64"),
        ({"train_images": np.zeros((3, 5), np.uint8)}, "found 3 × 5"),
        ({"train_images": np.zeros((3, 4, 5, 2), np.uint8)}, "found 3 × 4 × 5 × 2"),
        ({"train_labels": np.array([6, 9])}, "train_images has 3 rows and train_labels 2"),
        ({"train_labels": np.array([6.0, 9.0, 6.0])}, "integers or strings, found float64"),
        ({"test_labels": np.array(["6", "9"])}, "use one"),
        ({"test_labels": np.array([6, -1])}, "test labels must be int64 from 0"),
        ({"train_ids": np.array([{}, 1, 2], dtype=object)}, "key train_ids holds pickled objects"),
        ({"train_ids": np.array(["x", "x", "y"])}, "repeated: x"),
        (
            {
                "train_labels": np.array(["a", "b", "c"]),
                "test_labels": np.array(["a", "b"]),
                "classes": np.array(["a", "b"]),
            },
            "labels that are not in classes: c",
        ),
    ],
)
def test_faults_are_named(tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        load_arrays(path=write(tmp_path / "a.npz", **changes))
    assert "\n" not in str(caught.value)
    assert "a.npz" in str(caught.value)


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_arrays(path=tmp_path / "none.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(UserError, match=r"not an .npz"):
        load_arrays(path=tmp_path / "one.npy")
    whole = write(tmp_path / "a.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"not an .npz"):
        load_arrays(path=tmp_path / "cut.npz")
    flipped = bytearray(whole)
    flipped[whole.index(GREY["train_images"].tobytes()) + 5] ^= 0xFF
    (tmp_path / "flipped.npz").write_bytes(flipped)
    with pytest.raises(UserError, match="key train_images is damaged"):
        load_arrays(path=tmp_path / "flipped.npz")

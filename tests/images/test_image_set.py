from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.images.image_set import ImageSet


def make(n_train: int = 4, n_test: int = 3, shape: tuple[int, int, int] = (1, 5, 6)) -> ImageSet:
    rng = np.random.default_rng(0)
    return ImageSet(
        train_images=rng.integers(0, 256, (n_train, *shape), dtype=np.uint8),
        train_ids=np.array([f"a{row}" for row in range(n_train)], dtype=str),
        train_labels=np.arange(n_train, dtype=np.int64) % 2,
        test_images=rng.integers(0, 256, (n_test, *shape), dtype=np.uint8),
        test_ids=np.array([f"b{row}" for row in range(n_test)], dtype=str),
        test_labels=np.arange(n_test, dtype=np.int64) % 2,
        classes=["cat", "döner"],
    )


@pytest.mark.parametrize("n_train", [4, 0])
def test_what_is_saved_comes_back_memory_mapped(tmp_path, n_train):
    images = make(n_train)
    images.save(tmp_path / "new")
    loaded = ImageSet.load(tmp_path / "new")
    for field in ("train_images", "train_ids", "train_labels", "test_images", "test_ids", "test_labels"):
        np.testing.assert_array_equal(getattr(loaded, field), getattr(images, field))
        assert getattr(loaded, field).dtype.kind == getattr(images, field).dtype.kind
    assert loaded.classes == images.classes
    assert isinstance(loaded.test_images, np.memmap)
    assert loaded.check("x").image_shape == (1, 5, 6)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("train_images", np.zeros((4, 1, 5, 6), np.float32), "uint8.*float32"),
        ("train_images", np.zeros((4, 5, 6, 3), np.uint8), "4 × 5 × 6 × 3"),
        ("train_images", np.zeros((4, 1, 6, 6), np.uint8), "1 × 6 × 6 and test images 1 × 5 × 6"),
        ("train_ids", np.array(["a", "b"]), "4 images, 2 ids"),
        ("train_ids", np.array(["a", "b", "b1", "c"]), "repeated: b1"),
        ("train_labels", np.array([0, 1, 2, 0]), "from -1 to 1; found int64, 2"),
        ("train_labels", np.zeros(4, np.int32), "int32"),
        ("test_labels", np.array([0, -1, 0]), "test labels.*from 0"),
        ("classes", ["a", "a"], "unique"),
    ],
)
def test_check_names_the_fault(field, value, message):
    with pytest.raises(UserError, match=f"^images=x: .*{message}"):
        replace(make(), **{field: value}).check("images=x")
    make().check("images=x")

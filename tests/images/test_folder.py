from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from braindistill.errors import UserError
from braindistill.images.folder import load_folder


def draw(root, name, value=0, size=(6, 4), mode="RGB"):
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(file)


@pytest.fixture
def root(tmp_path):
    draw(tmp_path, "train/dog/b.png", (1, 2, 3))
    draw(tmp_path, "train/cat/1.png", (4, 5, 6))
    draw(tmp_path, "train/cat/0.bmp", 7, mode="L")
    draw(tmp_path, "test/dog/x.png", (8, 8, 8))
    (tmp_path / "train/cat/.DS_Store").write_bytes(b"x")
    (tmp_path / "train/cat/notes.txt").write_text("x")
    return tmp_path


def test_ids_classes_and_pixels(root):
    images = load_folder(root=root)
    assert images.train_ids.tolist() == ["train/cat/0", "train/cat/1", "train/dog/b"]
    assert images.test_ids.tolist() == ["test/dog/x"]
    assert images.classes == ["cat", "dog"]
    assert images.train_labels.tolist() == [0, 0, 1]
    assert images.test_labels.tolist() == [1]
    assert images.image_shape == (3, 4, 6)
    assert images.train_images[:, :, 0, 0].tolist() == [[7, 7, 7], [4, 5, 6], [1, 2, 3]]


def test_grey_pictures_stay_grey_and_val_will_do(tmp_path):
    draw(tmp_path, "train/a/0.png", 5, mode="L")
    draw(tmp_path, "val/a/0.png", 6, mode="L")
    images = load_folder(root=tmp_path)
    assert images.image_shape == (1, 4, 6)
    assert images.test_ids.tolist() == ["val/a/0"]
    assert (images.test_images == 6).all()


def test_size_resizes_the_short_side_and_crops_the_centre(root):
    wide = np.zeros((10, 30), np.uint8)
    wide[:, 10:20] = 200
    Image.fromarray(wide).save(root / "test/dog/wide.png")
    images = load_folder(root=root, size=5)
    assert images.image_shape == (3, 5, 5)
    row = images.test_ids.tolist().index("test/dog/wide")
    assert (images.test_images[row, :, :, 1:4] == 200).all()


def test_faults_are_named(root):
    draw(root, "train/dog/big.png", size=(7, 4))
    with pytest.raises(UserError, match=r"train/dog/big.png is 4 × 7; set images.size"):
        load_folder(root=root)
    (root / "train/dog/big.png").write_bytes((root / "train/dog/b.png").read_bytes()[:40])
    with pytest.raises(UserError, match=r"train/dog/big.png: not a picture"):
        load_folder(root=root)
    (root / "train/dog/big.png").unlink()
    draw(root, "test/cow/0.png")
    with pytest.raises(UserError, match="class without training images: cow"):
        load_folder(root=root)


def test_missing_folders_are_named(tmp_path):
    with pytest.raises(UserError, match="no folder train"):
        load_folder(root=tmp_path)
    draw(tmp_path, "train/a/0.png")
    with pytest.raises(UserError, match="no folder test or val"):
        load_folder(root=tmp_path)
    (tmp_path / "val/a").mkdir(parents=True)
    with pytest.raises(UserError, match="no pictures in val"):
        load_folder(root=tmp_path)

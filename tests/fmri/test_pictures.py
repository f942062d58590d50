from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from braindistill.errors import UserError
from braindistill.fmri.pictures import read_pictures, resize_pictures


def write(folder: Path, name: str, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(folder / name)
    return folder / name


def test_colour_and_grey_come_in_the_order_of_paths(tmp_path: Path) -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    colour = np.random.default_rng(0).integers(0, 255, (3, 4, 3)).astype(np.uint8)
    files = [write(tmp_path, "b.png", grey), write(tmp_path, "a.png", grey[::-1])]
    np.testing.assert_array_equal(read_pictures(files), np.stack([grey, grey[::-1]])[:, None])
    read = read_pictures([*files, write(tmp_path, "c.png", colour)])
    assert read.shape == (3, 3, 3, 4)
    np.testing.assert_array_equal(read[0], np.stack([grey] * 3))
    np.testing.assert_array_equal(read[2], colour.transpose(2, 0, 1))


def test_the_short_side_is_resized_and_the_centre_cropped(tmp_path: Path) -> None:
    wide = np.zeros((20, 60), np.uint8)
    wide[:, 20:40] = 200
    read = read_pictures([write(tmp_path, "wide.png", wide), write(tmp_path, "same.png", wide[:, 20:40])], size=10)
    assert read.shape == (2, 1, 10, 10)
    assert read[0, 0, :, 2:8].min() > 190
    assert read[1].min() > 190
    np.testing.assert_array_equal(resize_pictures(wide[None], 10)[0], read[0])


def test_arrays_keep_their_size_without_one() -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (2, 5, 6, 3)).astype(np.uint8)
    np.testing.assert_array_equal(resize_pictures(pictures, None), pictures.transpose(0, 3, 1, 2))


def test_pictures_of_different_sizes_need_a_size(tmp_path: Path) -> None:
    files = [write(tmp_path, "a.png", np.zeros((3, 4), np.uint8)), write(tmp_path, "b.png", np.zeros((4, 4), np.uint8))]
    with pytest.raises(UserError, match=r"a\.png is 4 × 3, but b\.png is 4 × 4 pixels; .*image_size"):
        read_pictures(files)
    assert read_pictures(files, 2).shape == (2, 1, 2, 2)
    with pytest.raises(UserError, match=r"image_size=0: expected"):
        read_pictures(files, 0)


def test_missing_pictures_are_counted_and_five_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"7 stimuli have no picture: s0, s1, s2, s3, s4;"):
        read_pictures([tmp_path / f"s{i}" for i in range(7)])
    with pytest.raises(UserError, match="names no stimulus"):
        read_pictures([])


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    good = write(tmp_path, "good.png", np.random.default_rng(0).integers(0, 255, (40, 40)).astype(np.uint8))
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:200])
    for name in ("cut.png", "text.png"):
        (tmp_path / "text.png").write_text("hello")
        with pytest.raises(UserError, match=rf"{name}: not a readable picture"):
            read_pictures([good, tmp_path / name])

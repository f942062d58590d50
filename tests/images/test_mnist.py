from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.images.mnist import load_mnist
from braindistill.runtime import find_data


def write_part(folder, part, n, compress=True):
    images = np.random.default_rng(n).integers(0, 256, (n, 4, 3), dtype=np.uint8)
    labels = np.arange(n, dtype=np.uint8) % 10
    for name, header, array in (
        ("images-idx3", struct.pack(">4I", 0x803, n, 4, 3), images),
        ("labels-idx1", struct.pack(">2I", 0x801, n), labels),
    ):
        content = header + array.tobytes()
        file = folder / f"{part}-{name}-ubyte{'.gz' if compress else ''}"
        file.write_bytes(gzip.compress(content) if compress else content)
    return images, labels


@pytest.mark.parametrize("compress", [True, False])
def test_both_parts(tmp_path, compress):
    train, train_labels = write_part(tmp_path, "train", 6, compress)
    test, _ = write_part(tmp_path, "t10k", 3, compress)
    images = load_mnist(root=tmp_path)
    np.testing.assert_array_equal(images.train_images[:, 0], train)
    np.testing.assert_array_equal(images.test_images[:, 0], test)
    np.testing.assert_array_equal(images.train_labels, train_labels)
    assert images.train_ids[5] == "mnist-train-00005"
    assert images.test_ids[2] == "mnist-t10k-00002"
    assert images.classes == list("0123456789")


def test_training_files_may_be_absent(tmp_path):
    write_part(tmp_path, "t10k", 3)
    images = load_mnist(root=tmp_path)
    assert images.train_images.shape == (0, 1, 4, 3)
    assert len(images.test_ids) == 3


def test_faults_name_the_file(tmp_path):
    with pytest.raises(UserError, match="no file t10k-images-idx3-ubyte or"):
        load_mnist(root=tmp_path)
    with pytest.raises(UserError, match=r"no folder .*nowhere"):
        load_mnist(root=tmp_path / "nowhere")
    write_part(tmp_path, "t10k", 3, compress=False)
    file = tmp_path / "t10k-images-idx3-ubyte"
    whole = file.read_bytes()
    for content, message in (
        (whole[:-1], "35 bytes of data, its header says 36"),
        (whole[:10], "0 bytes of data"),
        (b"", "an empty file"),
        (b"\0\0\x08\x01" + whole[4:], "magic number 0x803 expected, found 0x801"),
    ):
        file.write_bytes(content)
        with pytest.raises(UserError, match=f"t10k-images-idx3-ubyte: .*{message}"):
            load_mnist(root=tmp_path)
    file.unlink()
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(whole)[:-9])
    with pytest.raises(UserError, match=r"idx3-ubyte\.gz: damaged or truncated"):
        load_mnist(root=tmp_path)


def test_official_test_files():
    if find_data("digits69/t10k-images-idx3-ubyte.gz") is None:
        pytest.skip("MNIST's test files are not in a data folder")
    images = load_mnist()
    assert images.test_images.shape == (10000, 1, 28, 28)
    assert np.isin(images.test_labels, [6, 9]).sum() == 1967

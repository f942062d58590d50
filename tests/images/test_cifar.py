"""The official binary archives of CIFAR, packed and unpacked, in miniature."""

from __future__ import annotations

import inspect
import tarfile
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from braindistill.errors import UserError
from braindistill.images import assemble, check_overlap, load_cifar10, load_cifar100, split

CONFIGS = Path(__file__).parents[2] / "configs"


def record(labels: list[int], value: int) -> bytes:
    """A picture whose red, green and blue planes are ``value``, + 1 and + 2, and whose first red pixel is 255."""
    planes = np.repeat(np.arange(3, dtype=np.uint8) + value, 1024)
    planes[0] = 255
    return bytes(labels) + planes.tobytes()


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "batches.meta.txt").write_text("airplane\nautomobile\nbird\n\n")
    for batch in range(1, 6):
        content = record([batch % 3], 10 * batch) + record([0], 10 * batch + 5)
        (folder / f"data_batch_{batch}.bin").write_bytes(content)
    (folder / "test_batch.bin").write_bytes(record([2], 100))
    return folder


@pytest.fixture
def hundred(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    (folder / "fine_label_names.txt").write_text("apple\naquarium_fish\nbaby\n")
    (folder / "coarse_label_names.txt").write_text("fruit\nfish\n")
    (folder / "train.bin").write_bytes(record([0, 0], 1) + record([1, 1], 2) + record([0, 2], 3))
    (folder / "test.bin").write_bytes(record([1, 2], 4))
    return folder


def pack(folder: Path, name: str) -> Path:
    archive = folder.parent / "packed" / name
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as members:
        members.add(folder, arcname=folder.name)
    return archive


def test_cifar10_packed_or_unpacked(ten: Path) -> None:
    archive = pack(ten, "cifar-10-binary.tar.gz")
    for root in (ten, archive, archive.parent, ten.parent):
        images = load_cifar10(root=root)
        assert images.train_images.shape == (10, 3, 32, 32)
        assert images.train_images[2, :, 5, 5].tolist() == [20, 21, 22]
        assert images.train_images[2, :, 0, 0].tolist() == [255, 21, 22]
        assert images.train_labels.tolist() == [1, 0, 2, 0, 0, 0, 1, 0, 2, 0]
        assert (images.train_ids[0], images.train_ids[9], images.test_ids[0]) == (
            "train/00000",
            "train/00009",
            "test/00000",
        )
        assert images.test_images[0, :, 9, 9].tolist() == [100, 101, 102]
        assert images.test_labels.tolist() == [2]
        assert images.classes == ["airplane", "automobile", "bird"]


def test_cifar100_fine_and_coarse(hundred: Path) -> None:
    for root in (hundred, pack(hundred, "cifar-100-binary.tar.gz")):
        fine, coarse = load_cifar100(root=root), load_cifar100(root=root, coarse=True)
        assert (fine.train_labels.tolist(), fine.test_labels.tolist()) == ([0, 1, 2], [2])
        assert (coarse.train_labels.tolist(), coarse.test_labels.tolist()) == ([0, 1, 0], [1])
        assert (fine.classes, coarse.classes) == (["apple", "aquarium_fish", "baby"], ["fruit", "fish"])
        assert fine.train_images[1, :, 1, 1].tolist() == [2, 3, 4]
        np.testing.assert_array_equal(fine.train_images, coarse.train_images)


def test_pickles_are_refused(tmp_path: Path, ten: Path) -> None:
    old = tmp_path / "old" / "cifar-10-batches-py"
    old.mkdir(parents=True)
    (old / "data_batch_1").write_bytes(b"pickle")
    with pytest.raises(UserError, match=r"holds the python version.*never read; get cifar-10-binary\.tar\.gz"):
        load_cifar10(root=tmp_path / "old")
    with pytest.raises(UserError, match="holds the python version"):
        load_cifar10(root=pack(old, "cifar-10-python.tar.gz"))
    (tmp_path / "hundred").mkdir()
    (tmp_path / "hundred" / "cifar-100-python.tar.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"get cifar-100-binary\.tar\.gz"):
        load_cifar100(root=tmp_path / "hundred")


def test_faults_name_the_file(tmp_path: Path, ten: Path, hundred: Path) -> None:
    with pytest.raises(
        UserError, match=r"images\.root=.*nowhere: not there; give the folder of cifar-10-binary\.tar\.gz"
    ):
        load_cifar10(root=tmp_path / "nowhere")
    (tmp_path / "other" / "train").mkdir(parents=True)
    with pytest.raises(UserError, match=r"neither cifar-100-binary\.tar\.gz nor test\.bin is in it"):
        load_cifar100(root=tmp_path / "other")
    (hundred / "train.bin").write_bytes(record([0, 0], 1)[:-1])
    with pytest.raises(UserError, match=r"train\.bin has 3073 bytes, no multiple of 3074"):
        load_cifar100(root=hundred)
    (hundred / "train.bin").write_bytes(record([7, 0], 1))
    with pytest.raises(UserError, match=r"train\.bin has the label 7, and there are \(2, 3\) classes"):
        load_cifar100(root=hundred)
    (ten / "data_batch_4.bin").unlink()
    with pytest.raises(UserError, match=r"no file data_batch_4\.bin beside the others"):
        load_cifar10(root=ten)
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(b"\x1f\x8b nonsense")
    with pytest.raises(UserError, match=r"broken\.tar\.gz: damaged, or no tar archive"):
        load_cifar10(root=broken)


@pytest.mark.parametrize("reader", [load_cifar10, load_cifar100])
def test_yaml_repeats_the_signature(reader) -> None:
    name = reader.__name__.removeprefix("load_")
    options = {
        parameter.name: "???" if parameter.default is parameter.empty else parameter.default
        for function in (reader, assemble, check_overlap, split)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    assert OmegaConf.to_container(OmegaConf.load(CONFIGS / "images" / f"{name}.yaml")) == {"name": name, **options}

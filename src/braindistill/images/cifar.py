"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in their official binary archives."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path

import numpy as np

from braindistill.errors import UserError
from braindistill.images.image_set import ImageSet

_PIXELS = 3 * 32 * 32


def load_cifar10(*, root: Path) -> ImageSet:
    """Read ``cifar-10-binary.tar.gz``: ids ``train/00000`` and ``test/00000``, in the order of the files.

    Parameters
    ----------
    root
        The archive, or a folder that holds it or what it unpacks to: ``data_batch_1.bin`` … ``test_batch.bin``.

    Raises
    ------
    UserError
        If a file is missing, truncated or of another format, or only the pickled version is there, which is never read.
    """
    files = _Files(Path(root), "cifar-10-binary.tar.gz", "test_batch.bin", "data_batch_1")
    classes = files.names("batches.meta.txt")
    parts = [files.records(f"data_batch_{batch}.bin", (len(classes),)) for batch in range(1, 6)]
    train_images, train_labels = (np.concatenate(both) for both in zip(*parts, strict=True))
    test_images, test_labels = files.records("test_batch.bin", (len(classes),))
    return _image_set(train_images, train_labels[:, 0], test_images, test_labels[:, 0], classes, root)


def load_cifar100(*, root: Path, coarse: bool = False) -> ImageSet:
    """Read ``cifar-100-binary.tar.gz``: ids ``train/00000`` and ``test/00000``, in the order of the files.

    Parameters
    ----------
    root
        The archive, or a folder that holds it or what it unpacks to: ``train.bin`` and ``test.bin``.
    coarse
        The 20 superclasses in the place of the 100 classes.

    Raises
    ------
    UserError
        If a file is missing, truncated or of another format, or only the pickled version is there, which is never read.
    """
    files = _Files(Path(root), "cifar-100-binary.tar.gz", "test.bin", "train")
    names = [files.names(f"{kind}_label_names.txt") for kind in ("coarse", "fine")]
    counts = (len(names[0]), len(names[1]))
    which = 0 if coarse else 1  # each record opens with the coarse label
    train_images, train_labels = files.records("train.bin", counts)
    test_images, test_labels = files.records("test.bin", counts)
    return _image_set(train_images, train_labels[:, which], test_images, test_labels[:, which], names[which], root)


class _Files:
    """The files of an archive, packed or unpacked."""

    def __init__(self, root: Path, archive: str, one: str, pickled: str) -> None:
        if not root.exists():
            raise UserError(f"images.root={root}: not there; give the folder of {archive}, or the archive itself")
        self.packed: dict[str, bytes] = {}
        self.folder = root
        if root.is_file():
            self._unpack(root)
        elif found := sorted(root.rglob(one)):
            self.folder = found[0].parent
        elif packed := sorted(root.rglob(archive)):
            self._unpack(packed[0])
        elif any(
            file.is_file() for name in (pickled, archive.replace("binary", "python")) for file in root.rglob(name)
        ):
            self._refuse_pickles(root, archive)
        else:
            raise UserError(f"images.root={root}: neither {archive} nor {one} is in it; put the binary version there")
        if self.packed and one not in self.packed and pickled in self.packed:
            self._refuse_pickles(root, archive)
        self.root = root

    def _unpack(self, archive: Path) -> None:
        try:
            with tarfile.open(archive) as members:
                for member in members:
                    if member.isfile() and (content := members.extractfile(member)):
                        self.packed[Path(member.name).name] = content.read()
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise UserError(f"{archive}: damaged, or no tar archive ({error}); download it again") from error

    @staticmethod
    def _refuse_pickles(root: Path, archive: str) -> None:
        raise UserError(
            f"images.root={root}: holds the python version, whose pickles could run code and are never read; get {archive}"
        )

    def read(self, name: str) -> bytes:
        if self.packed:
            if name in self.packed:
                return self.packed[name]
        elif (self.folder / name).is_file():
            return (self.folder / name).read_bytes()
        raise UserError(f"images.root={self.root}: no file {name} beside the others; unpack the archive again")

    def names(self, name: str) -> list[str]:
        """Class names, a line each."""
        return self.read(name).decode("utf-8", "replace").split()

    def records(self, name: str, n_classes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Pictures (images × 3 × 32 × 32) and labels (images × kinds) of a file of labels and pixels, a record an image."""
        content = self.read(name)
        size = len(n_classes) + _PIXELS
        if not content or len(content) % size:
            raise UserError(
                f"images.root={self.root}: {name} has {len(content)} bytes, no multiple of {size}; truncated, or of another "
                "data set: download it again"
            )
        rows = np.frombuffer(content, np.uint8).reshape(-1, size)
        labels = rows[:, : len(n_classes)].astype(np.int64)
        if (labels >= np.array(n_classes)).any():
            raise UserError(
                f"images.root={self.root}: {name} has the label {labels.max()}, and there are {n_classes} classes; not this file"
            )
        return rows[:, len(n_classes) :].reshape(-1, 3, 32, 32).copy(), labels


def _image_set(
    train_images: np.ndarray,
    train_labels: np.ndarray,
    test_images: np.ndarray,
    test_labels: np.ndarray,
    classes: list[str],
    root: Path,
) -> ImageSet:
    ids = [
        np.array([f"{part}/{row:05d}" for row in range(count)], str)
        for part, count in (("train", len(train_images)), ("test", len(test_images)))
    ]
    return ImageSet(train_images, ids[0], train_labels, test_images, ids[1], test_labels, classes).check(
        f"images.root={root}"
    )

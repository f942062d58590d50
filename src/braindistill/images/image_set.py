"""The container that every image reader returns: training and test images of one shape, with ids and class labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from braindistill.errors import UserError


@dataclass
class ImageSet:
    """A student's images, in memory (or memory-mapped) as uint8.

    Attributes
    ----------
    train_images, test_images : uint8 array, N × C × H × W, C being 1 or 3
    train_ids, test_ids : str array, N; unique over both parts
    train_labels : int64 array, N; an index into ``classes``, −1 where unlabelled
    test_labels : int64 array, N; an index into ``classes``
    classes : names of the classes
    """

    train_images: np.ndarray
    train_ids: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_ids: np.ndarray
    test_labels: np.ndarray
    classes: list[str]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """C, H, W."""
        channels, height, width = self.test_images.shape[1:]
        return int(channels), int(height), int(width)

    def check(self, name: str) -> ImageSet:
        """Return the set itself if it is consistent.

        Raises
        ------
        UserError
            Naming ``name`` (where the images come from) and the first thing that is wrong.
        """
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise UserError(f"{name}: class names must be unique and at least one; found {_some(self.classes)}")
        for part, images, ids, labels, lowest in (
            ("train", self.train_images, self.train_ids, self.train_labels, -1),
            ("test", self.test_images, self.test_ids, self.test_labels, 0),
        ):
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
                raise UserError(
                    f"{name}: {part} images must be uint8, N × 1 or 3 channels × H × W; "
                    f"found {images.dtype}, {_times(images.shape)}"
                )
            if not len(images) == len(ids) == len(labels):
                raise UserError(
                    f"{name}: {part} has {len(images)} images, {len(ids)} ids and {len(labels)} labels; "
                    "the three numbers must agree"
                )
            if labels.dtype != np.int64 or ((labels < lowest) | (labels >= len(self.classes))).any():
                bad = labels[(labels < lowest) | (labels >= len(self.classes))]
                raise UserError(
                    f"{name}: {part} labels must be int64 from {lowest} to {len(self.classes) - 1}; "
                    f"found {labels.dtype}, {_some(bad) or 'in range'}"
                )
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise UserError(
                f"{name}: training images are {_times(self.train_images.shape[1:])} and test images "
                f"{_times(self.test_images.shape[1:])} (C × H × W); make them equal"
            )
        ids, counts = np.unique(np.concatenate([self.train_ids, self.test_ids]).astype(str), return_counts=True)
        if (counts > 1).any():
            raise UserError(f"{name}: image ids must be unique over train and test; repeated: {_some(ids[counts > 1])}")
        return self

    def save(self, folder: Path) -> None:
        """Write ``train_images.npy``, ``test_images.npy`` and ``image_set.npz`` into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "train_images.npy", self.train_images)
        np.save(folder / "test_images.npy", self.test_images)
        np.savez(
            folder / "image_set.npz",
            train_ids=self.train_ids.astype(str),
            train_labels=self.train_labels,
            test_ids=self.test_ids.astype(str),
            test_labels=self.test_labels,
            classes=np.array(self.classes, dtype=str),
        )

    @classmethod
    def load(cls, folder: Path) -> ImageSet:
        """Read what :meth:`save` wrote; the images are memory-mapped, read-only."""
        with np.load(folder / "image_set.npz", allow_pickle=False) as rest:
            fields = {key: rest[key] for key in rest.files}
        for part in ("train_images", "test_images"):
            fields[part] = np.load(folder / f"{part}.npy", mmap_mode="r", allow_pickle=False)
        return cls(**{**fields, "classes": [str(name) for name in fields["classes"]]})


def _some(values: object, count: int = 5) -> str:
    """The first few values, and how many there are."""
    listed = [str(value) for value in np.asarray(values).ravel()]
    return ", ".join(listed[:count]) + (f" … ({len(listed)} in all)" if len(listed) > count else "")


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))

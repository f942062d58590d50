"""From a data set to a student's images: restrict, join the stimuli, check overlap, and split by label budget."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from braindistill.errors import UserError, nearest
from braindistill.images.fitting import fit_pictures
from braindistill.images.image_set import ImageSet
from braindistill.runtime import numpy_generator, say, warn

#: options that say which images play which role (`split`); the others say which images there are
SPLIT = ("n_train", "n_pool", "n_val", "labels_matched")


@dataclass
class Stimuli:
    """The pictures of an fMRI data set: uint8 N × C × H × W, their ids, and class names ('' = unlabelled)."""

    images: np.ndarray
    ids: np.ndarray
    labels: np.ndarray


@dataclass
class Split:
    """Rows of the training images (int64, sorted, disjoint): with labels, without, and labelled ones for validation."""

    labelled: np.ndarray
    pool: np.ndarray
    val: np.ndarray


def assemble(
    image_set: ImageSet,
    shown: Stimuli | None,
    *,
    stimuli: bool = False,
    classes: list[str] | None = None,
    n_test: int | None = None,
) -> ImageSet:
    """Join the stimuli, restrict to classes, and choose the size of the test set, in this order.

    Parameters
    ----------
    image_set
        What a reader returned.
    shown
        The fMRI data set's own pictures, None if it has none.
    stimuli
        Whether they join the training images (resized and made grey or RGB as needed; an id that is there already is
        not duplicated).
    classes
        Names of the classes to keep, in this order; other labelled images are dropped, unlabelled ones stay. None: all.
    n_test
        Keep this many test images, equally many of each class and the first ones of it; the others join the training
        images. None: all stay.

    Raises
    ------
    UserError
        If a class is unknown, a stimulus's label is not a class of the set or contradicts it, or there are too few
        test images.
    """
    if stimuli:
        image_set = _join(image_set, shown)
    if classes is not None:
        image_set = _restrict(image_set, [str(name) for name in classes])
    if n_test is not None:
        image_set = _move_test(image_set, n_test)
    if not len(image_set.test_images):
        raise UserError("images: no test images are left; choose other images.classes or a larger images.n_test")
    return image_set.check("images")


def _join(image_set: ImageSet, shown: Stimuli | None) -> ImageSet:
    if shown is None or not len(shown.ids):
        raise UserError("images.stimuli=true: the fMRI data set holds no pictures; set images.stimuli=false")
    index = {name: position for position, name in enumerate(image_set.classes)} | {"": -1}
    unknown = sorted({str(label) for label in shown.labels} - set(index))
    if unknown:
        raise UserError(
            f"images.stimuli=true: stimulus labels that are no class of the images: {', '.join(unknown[:5])} "
            f"({len(unknown)} in all); {nearest(unknown[0], image_set.classes)}"
        )
    labels = np.array([index[str(label)] for label in shown.labels], dtype=np.int64)
    rows = {str(name): row for row, name in enumerate(image_set.train_ids)}
    train_labels = image_set.train_labels.copy()
    for name, label in zip(shown.ids, labels, strict=True):
        row = rows.get(str(name))
        if row is not None and label >= 0:
            if train_labels[row] not in (-1, label):
                raise UserError(
                    f"images.stimuli=true: {name} is '{image_set.classes[label]}' as a stimulus and "
                    f"'{image_set.classes[train_labels[row]]}' as a training image; mend one of the two"
                )
            train_labels[row] = label
    # A stimulus that is a test image stays one: check_overlap reports it.
    new = ~np.isin(shown.ids.astype(str), np.concatenate([image_set.train_ids, image_set.test_ids]).astype(str))
    if shown.images.shape[1:] != image_set.image_shape and new.any():
        say(f"stimuli {shown.images.shape[1:]} made {image_set.image_shape} (C, H, W) to join the training images")
    return replace(
        image_set,
        train_images=np.concatenate([image_set.train_images, fit_pictures(shown.images[new], image_set.image_shape)]),
        train_ids=np.concatenate([image_set.train_ids, shown.ids[new]]).astype(str),
        train_labels=np.concatenate([train_labels, labels[new]]),
    )


def _restrict(image_set: ImageSet, classes: list[str]) -> ImageSet:
    for name in classes:
        if name not in image_set.classes:
            raise UserError(f"images.classes: no class '{name}'; {nearest(name, image_set.classes)}")
    if not classes or len(set(classes)) != len(classes):
        raise UserError(f"images.classes={classes}: name each class once, and at least one")
    # One more entry, so that −1 (unlabelled) maps to itself; −2 marks a class that is dropped.
    renumber = np.array([classes.index(name) if name in classes else -2 for name in image_set.classes] + [-1])
    train, test = renumber[image_set.train_labels], renumber[image_set.test_labels]
    return ImageSet(
        train_images=image_set.train_images[train != -2],
        train_ids=image_set.train_ids[train != -2],
        train_labels=train[train != -2].astype(np.int64),
        test_images=image_set.test_images[test != -2],
        test_ids=image_set.test_ids[test != -2],
        test_labels=test[test != -2].astype(np.int64),
        classes=classes,
    )


def _move_test(image_set: ImageSet, n_test: int) -> ImageSet:
    found = len(image_set.test_images)
    if not 1 <= n_test <= found:
        raise UserError(f"images.n_test={n_test}: must be from 1 to {found}, the number of test images")
    # By class, not the first rows: files are often sorted by class.
    kept = np.sort(_deal(np.arange(found), image_set.test_labels, np.arange(found))[:n_test])
    moved = np.setdiff1d(np.arange(found), kept)
    say(f"images.n_test={n_test}: {len(moved)} of {found} test images join the {len(image_set.train_ids)} for training")
    return replace(
        image_set,
        train_images=np.concatenate([image_set.train_images, image_set.test_images[moved]]),
        train_ids=np.concatenate([image_set.train_ids, image_set.test_ids[moved]]),
        train_labels=np.concatenate([image_set.train_labels, image_set.test_labels[moved]]),
        test_images=image_set.test_images[kept],
        test_ids=image_set.test_ids[kept],
        test_labels=image_set.test_labels[kept],
    )


def check_overlap(
    image_set: ImageSet,
    stimulus_ids: Collection[str],
    stimulus_images: np.ndarray | None,
    *,
    allow_overlap: bool = False,
) -> list[str]:
    """Ids of the test images that were stimuli: by id, or pixel for pixel (in the shape of the image set).

    Parameters
    ----------
    image_set
        The assembled images.
    stimulus_ids, stimulus_images
        Ids (any number), and the pictures of the stimuli, uint8 N × C × H × W, if there are any.
    allow_overlap
        Warn instead of stopping.

    Raises
    ------
    UserError
        If there are any, unless ``allow_overlap``. Test images that equal a training image are only warned about,
        since real data sets have duplicates.
    """
    test = _digests(image_set.test_images)
    seen = set() if stimulus_images is None else set(_digests(fit_pictures(stimulus_images, image_set.image_shape)))
    known = {str(name) for name in stimulus_ids}
    ids = [str(name) for name, digest in zip(image_set.test_ids, test, strict=True) if name in known or digest in seen]
    if ids:
        message = f"{len(ids)} test images were shown to the subject: {', '.join(ids[:5])}{' …' if ids[5:] else ''}"
        if not allow_overlap:
            raise UserError(
                f"{message}; remove them from one side, or set images.allow_overlap=true (marks every table)"
            )
        warn(message)
    training = set(_digests(image_set.train_images))
    equal = sum(digest in training for digest in test)
    if equal:
        warn(f"{equal} of {len(test)} test images equal a training image pixel for pixel")
    return ids


def _digests(images: np.ndarray) -> list[bytes]:
    return [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]


def split(
    image_set: ImageSet,
    stimulus_ids: Collection[str],
    seed: int,
    *,
    n_train: int | None = None,
    n_pool: int = 0,
    n_val: int = 0,
    labels_matched: bool = False,
) -> Split:
    """Draw the label budget: ``n_val`` labelled images for validation, then ``n_train`` to learn from, then the pool.

    Labelled draws are class-balanced (counts differ by one at most). Training images and pool prefer images that were
    stimuli, validation images those that weren't. For one seed and ``n_val``, a larger ``n_train`` contains a smaller.

    Parameters
    ----------
    image_set
        The assembled images.
    stimulus_ids
        Ids of images with measured responses.
    seed
        The run's seed.
    n_train
        Labelled training images; None: all labelled ones that validation leaves.
    n_pool
        Further training images whose labels, if they have any, are not used.
    n_val
        Labelled images for tuning.
    labels_matched
        Add every labelled stimulus among the training images to the labelled ones: a baseline with all the labels that
        a decoder had.

    Raises
    ------
    UserError
        If a class has no training images, or fewer images are there than asked for.
    """
    for name, number in (("n_train", n_train or 0), ("n_pool", n_pool), ("n_val", n_val)):
        if number < 0:
            raise UserError(f"images.{name}={number}: must not be negative")
    labels = image_set.train_labels
    n_classes = len(image_set.classes)
    absent = [name for row, name in enumerate(image_set.classes) if not (labels == row).any()]
    if absent and (n_train != 0 or n_val):
        raise UserError(f"images: class without training images: {', '.join(absent[:5])} ({len(absent)} in all)")

    was_shown = np.isin(image_set.train_ids.astype(str), [str(name) for name in stimulus_ids])
    generator = numpy_generator(seed, "images", "split")
    # All keys are drawn whatever is asked for, so that one option doesn't change what another draws.
    val_key, train_key, pool_key = generator.random((3, len(labels)))
    rank = generator.permutation(n_classes)  # which classes get the remainder first

    rows = np.flatnonzero(labels >= 0)
    val = _draw(rows, labels, rank, was_shown + val_key, n_val, "n_val")
    if was_shown[val].any():
        warn(
            f"images.n_val={n_val}: {was_shown[val].sum()} validation images were shown to the subject; too few weren't"
        )
    rows = np.setdiff1d(rows, val)
    labelled = rows if n_train is None else _draw(rows, labels, rank, ~was_shown + train_key, n_train, "n_train")
    if labels_matched:
        if not was_shown[rows].any():
            raise UserError(
                "images.labels_matched=true: no labelled training image was a stimulus; set images.stimuli=true too"
            )
        labelled = np.union1d(labelled, rows[was_shown[rows]])
    left = np.setdiff1d(np.arange(len(labels)), np.concatenate([val, labelled]))
    if n_pool > len(left):
        raise UserError(
            f"images.n_pool={n_pool}: only {len(left)} of {len(labels)} training images are left after "
            f"{len(labelled)} labelled and {len(val)} for validation"
        )
    pool = np.sort(left[np.argsort((~was_shown + pool_key)[left])][:n_pool])
    return Split(labelled=labelled, pool=pool, val=val)


def _deal(rows: np.ndarray, labels: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Order rows so that every start of the order is balanced: the first of each class by key, the second of each …"""
    by_class = rows[np.lexsort((key[rows], labels[rows]))]
    sorted_labels = labels[by_class]
    turn = np.arange(len(rows)) - np.searchsorted(sorted_labels, sorted_labels)
    return by_class[np.lexsort((sorted_labels, turn))]


def _draw(
    rows: np.ndarray, labels: np.ndarray, rank: np.ndarray, key: np.ndarray, count: int, option: str
) -> np.ndarray:
    """The first ``count`` rows when classes take turns, ``rank`` being a class's place in the round."""
    if count > len(rows):
        raise UserError(f"images.{option}={count}: only {len(rows)} labelled training images are left")
    chosen = _deal(rows, rank[labels], key)[:count]
    counts = np.bincount(rank[labels[chosen]], minlength=len(rank))
    if counts.max() - counts.min() > 1:
        scarce = counts.min()
        raise UserError(
            f"images.{option}={count}: not class-balanced, since one class has only {scarce} labelled images left; "
            f"take at most {scarce * len(rank)}"
        )
    return np.sort(chosen)

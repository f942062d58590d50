"""Scikit-learn's 1,797 handwritten digits, and who may see which: the simulated observer, the scanner, the test."""

from __future__ import annotations

import numpy as np

from braindistill.runtime import numpy_generator

OBSERVER, STIMULI = 70, 40  # images a class; every other image is a test image


def digit_images() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scikit-learn's digits (UCI "Optical Recognition of Handwritten Digits", test part; Alpaydin & Kaynak 1998).

    Returns
    -------
    images : (1797, 1, 8, 8) uint8, 0 (paper) to 255 (ink)
    labels : (1797,) int64, 0 to 9
    ids : (1797,) str, ``digit-0000`` to ``digit-1796``
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    ids = np.array([f"digit-{index:04d}" for index in range(len(images))])
    return images, digits.target.astype(np.int64), ids


def digit_roles() -> dict[str, np.ndarray]:
    """Split the digits once and for all into disjoint roles.

    Each role takes the classes in turn (0, 1, …, 9, 0, 1, …), so that every beginning of it is class-balanced
    as far as the classes last.

    Returns
    -------
    dict of int64 index arrays: ``observer`` (700, 70 a class), ``stimuli`` (400, 40 a class), ``test`` (697)
    """
    _, labels, _ = digit_images()
    generator = numpy_generator(0, "digits", "roles")
    classes = [generator.permutation(np.flatnonzero(labels == digit)) for digit in range(10)]
    return {
        "observer": _in_turn([members[:OBSERVER] for members in classes]),
        "stimuli": _in_turn([members[OBSERVER : OBSERVER + STIMULI] for members in classes]),
        "test": _in_turn([members[OBSERVER + STIMULI :] for members in classes]),
    }


def _in_turn(classes: list[np.ndarray]) -> np.ndarray:
    place = np.concatenate([np.arange(len(members)) for members in classes])
    return np.concatenate(classes)[np.argsort(place, kind="stable")].astype(np.int64)

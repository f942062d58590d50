from __future__ import annotations

import hashlib

import numpy as np

from braindistill.fmri.digit_split import digit_images, digit_roles


def test_roles_share_no_digit_and_use_all() -> None:
    roles = digit_roles()
    assert {role: len(index) for role, index in roles.items()} == {"observer": 700, "stimuli": 400, "test": 697}
    assert sorted(np.concatenate(list(roles.values()))) == list(range(1797))


def test_every_beginning_of_a_role_is_balanced() -> None:
    labels = digit_images()[1]
    for index in digit_roles().values():
        for count in (10, 35, 200, 400):
            classes = np.bincount(labels[index[:count]], minlength=10)
            assert classes.max() - classes.min() <= 1
    assert set(np.bincount(labels[digit_roles()["observer"]])) == {70}
    assert set(np.bincount(labels[digit_roles()["stimuli"]])) == {40}


def test_roles_are_fixed_for_ever() -> None:
    text = ",".join(map(str, np.concatenate(list(digit_roles().values()))))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "8bc8bf3d709a6292"


def test_images_use_the_whole_range() -> None:
    images, labels, ids = digit_images()
    assert (images.shape, images.dtype, images.min(), images.max()) == ((1797, 1, 8, 8), np.uint8, 0, 255)
    assert labels.dtype == np.int64
    assert ids[[0, 1796]].tolist() == ["digit-0000", "digit-1796"]

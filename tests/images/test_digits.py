from __future__ import annotations

import numpy as np

from braindistill.fmri.digit_split import digit_images, digit_roles
from braindistill.images.digits import load_digits


def test_roles_become_parts_and_the_observers_images_none():
    images = load_digits()
    assert images.train_images.shape == (400, 1, 8, 8)
    assert images.test_images.shape == (697, 1, 8, 8)
    _, labels, ids = digit_images()
    used = np.concatenate([images.train_ids, images.test_ids])
    assert not np.isin(ids[digit_roles()["observer"]], used).any()
    label_of = dict(zip(ids, labels, strict=True))
    assert [label_of[name] for name in images.test_ids] == images.test_labels.tolist()

"""Sixteen pictures of three classes (six labelled, six in the pool, four neither), and the subject that saw twelve of them."""

from __future__ import annotations

import numpy as np
import pytest

from braindistill.fmri.responses import Responses
from braindistill.images import ImageSet, Split


@pytest.fixture
def image_set() -> ImageSet:
    rng = np.random.default_rng(0)
    labels = np.arange(16) % 3
    images = rng.integers(0, 256, (16, 1, 4, 4)).astype(np.uint8)
    ids = np.array([f"image-{row:02d}" for row in range(16)])
    return ImageSet(
        images, ids, labels, images[:3] + np.uint8(1), np.array(["t0", "t1", "t2"]), labels[:3], list("abc")
    )


@pytest.fixture
def split() -> Split:
    return Split(labelled=np.arange(6), pool=np.arange(6, 12), val=np.arange(12, 14))


@pytest.fixture
def subject(image_set: ImageSet) -> Responses:
    """Two repeats of the first nine images."""
    rng = np.random.default_rng(1)
    classes = np.tile(image_set.train_labels[:9], 2)
    responses = rng.normal(0, 1, (3, 10))[classes] + rng.normal(0, 0.5, (18, 10))
    return Responses(
        responses.astype(np.float32),
        np.tile(image_set.train_ids[:9], 2),
        label=np.array(list("abc"))[classes],
        images=image_set.train_images[:9],
        image_id=image_set.train_ids[:9],
    )

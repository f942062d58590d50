"""A small, complete subject."""

from __future__ import annotations

import numpy as np
import pytest

from braindistill.fmri.responses import Responses


@pytest.fixture
def subject() -> Responses:
    """Six trials of three stimuli in five voxels, with everything that a data set can have."""
    generator = np.random.default_rng(0)
    return Responses(
        responses=generator.normal(size=(6, 5)).astype(np.float32),
        stimulus_id=np.array(["b", "a", "c", "a", "b", "c"]),
        run=np.array(["1", "1", "1", "2", "2", "2"]),
        session=np.array(["s"] * 6),
        label=np.array(["cat", "dog", "", "dog", "cat", ""]),
        split=np.array(["train"] * 6),
        rois={
            "V1": np.array([1, 1, 0, 0, 0], bool),
            "FFA": np.array([0, 1, 0, 1, 0], bool),
            "nuisance": np.eye(5)[4] > 0,
        },
        voxel_coordinates=np.arange(15.0).reshape(5, 3),
        affine=np.diag([2.0, 2.0, 2.0, 1.0]),
        ceiling=np.linspace(0, 0.8, 5),
        images=np.arange(3 * 4, dtype=np.uint8).reshape(3, 1, 2, 2),
        image_id=np.array(["a", "b", "c"]),
    )

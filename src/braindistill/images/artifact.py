"""The student's pictures on disk, with the names of the stimuli among them: what every later stage starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from braindistill.images.assembly import Split, split
from braindistill.images.image_set import ImageSet


def save_images(image_set: ImageSet, stimulus_id: np.ndarray, folder: Path) -> None:
    """Write an `ImageSet` folder, and in ``stimuli.npz`` the ids that were shown in the scanner."""
    image_set.save(folder)
    np.savez(folder / "stimuli.npz", stimulus_id=np.unique(stimulus_id))


def open_images(folder: Path, options: dict[str, Any], seed: int) -> tuple[ImageSet, Split]:
    """Read what `save_images` wrote, and draw the images' roles (`split` with ``options``) under a seed."""
    image_set = ImageSet.load(folder)
    with np.load(folder / "stimuli.npz", allow_pickle=False) as stored:
        stimuli = stored["stimulus_id"].tolist()
    return image_set, split(image_set, stimuli, seed, **options)

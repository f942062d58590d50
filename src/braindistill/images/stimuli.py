"""The fMRI data set's own pictures as the student's images, split within each class."""

from __future__ import annotations

import numpy as np

from braindistill.errors import UserError
from braindistill.images.assembly import Stimuli
from braindistill.images.image_set import ImageSet
from braindistill.runtime import numpy_generator


def load_stimuli(shown: Stimuli, *, test_per_class: int = 1) -> ImageSet:
    """Train on some pictures that were shown in the scanner and test on others, of the same classes.

    Which pictures are for testing is the same for all seeds. Teachers are not fitted on the responses to them.

    Parameters
    ----------
    shown : the pictures, with a label or '' each; unlabelled ones join the training images
    test_per_class : pictures of each class that are kept for testing

    Raises
    ------
    UserError
        No labels; a class with too few pictures.
    """
    classes = sorted({str(label) for label in shown.labels} - {""})
    if len(classes) < 2:
        raise UserError(
            f"images=stimuli: the stimuli have {len(classes)} class(es), at least 2 are needed; bring labels with "
            "fmri.labels=TABLE"
        )
    order = np.argsort(shown.ids)
    ids, labels = shown.ids[order].astype(str), shown.labels[order].astype(str)
    index = np.array([classes.index(label) if label else -1 for label in labels.tolist()], np.int64)
    generator = numpy_generator(0, "images", "stimuli", "test")
    test: list[int] = []
    for number, name in enumerate(classes):
        members = np.flatnonzero(index == number)
        if not 0 < test_per_class < len(members):
            raise UserError(
                f"images.test_per_class={test_per_class}: class {name} has {len(members)} picture(s), and at least one "
                "must be left to train on"
            )
        test += generator.permutation(members)[:test_per_class].tolist()
    held = np.isin(np.arange(len(ids)), test)
    pictures = np.asarray(shown.images)[order]
    return ImageSet(pictures[~held], ids[~held], index[~held], pictures[held], ids[held], index[held], classes)

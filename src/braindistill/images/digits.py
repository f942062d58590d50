"""scikit-learn's handwritten digits: the image set of the embedded demonstration."""

from __future__ import annotations

from braindistill.images.image_set import ImageSet


def load_digits() -> ImageSet:
    """Real 8 × 8 grey digits (Alpaydin & Kaynak 1998, UCI; shipped with scikit-learn).

    Training images are the 400 that the simulated subject saw, test images the 697 that nobody did. The 700 that
    trained the simulated observer appear in neither.
    """
    from braindistill.fmri.digit_split import digit_images, digit_roles

    images, labels, ids = digit_images()
    roles = digit_roles()
    train, test = roles["stimuli"], roles["test"]
    return ImageSet(
        train_images=images[train],
        train_ids=ids[train],
        train_labels=labels[train].astype("int64"),
        test_images=images[test],
        test_ids=ids[test],
        test_labels=labels[test].astype("int64"),
        classes=[str(digit) for digit in range(10)],
    ).check("images=digits")

"""Pictures of one size and colour made comparable with those of another."""

from __future__ import annotations

import numpy as np


def fit_pictures(images: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Bring uint8 pictures N × C × H × W to another (C, H, W).

    PIL's bilinear resizing; colour becomes grey by ITU-R 601 luminance, grey becomes colour by repetition. Pictures that
    fit already are returned as they are.
    """
    images = np.asarray(images)
    if images.shape[1:] == tuple(shape):
        return images
    from PIL import Image

    channels, height, width = shape
    fitted = np.empty((len(images), *shape), np.uint8)
    for row, image in enumerate(images):
        picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)) if len(image) == 3 else image[0])
        picture = picture.convert("RGB" if channels == 3 else "L").resize((width, height), Image.Resampling.BILINEAR)
        fitted[row] = np.asarray(picture).reshape(height, width, channels).transpose(2, 0, 1)
    return fitted

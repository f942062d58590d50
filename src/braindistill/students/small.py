"""A network of about ten thousand parameters, for images of a few pixels."""

from __future__ import annotations

from torch import nn

from braindistill.errors import UserError


def small_cnn(n_classes: int, image_shape: tuple[int, int, int], *, width: int = 16) -> nn.Sequential:
    """Three 3 × 3 convolutions with batch normalisation, a max-pool after the first, average pool to 2 × 2, linear.

    Pooling to 2 × 2 keeps where a stroke is: with 40 labels it is worth 4 points on 8 × 8 digits over a global pool.

    Parameters
    ----------
    n_classes
        Number of outputs.
    image_shape
        C, H, W; from 8 pixels on.
    width
        Channels of the first convolution; the other two have 3/2 of it. 16: 10 k parameters on grey images.

    Raises
    ------
    UserError
        If the images are smaller than 8 × 8.
    """
    channels, height, width_in_pixels = image_shape
    if min(height, width_in_pixels) < 8:
        raise UserError(f"student=small_cnn: images are {height} × {width_in_pixels}, at least 8 × 8 are needed")
    wide = width * 3 // 2
    return nn.Sequential(
        *_convolve(channels, width),
        nn.MaxPool2d(2),
        *_convolve(width, wide),
        *_convolve(wide, wide),
        # A plain pool, since the gradient of an adaptive one isn't deterministic on CUDA.
        nn.AvgPool2d((height // 4, width_in_pixels // 4)),
        nn.Flatten(),
        nn.Linear(4 * wide, n_classes),
    )


def _convolve(channels: int, width: int) -> tuple[nn.Module, ...]:
    # No bias: batch normalisation has its own.
    return nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()

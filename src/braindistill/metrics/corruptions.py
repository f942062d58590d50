"""The standard corruptions of images, by name and severity (Hendrycks & Dietterich 2019, ICLR).

A corruption's five severities are given for 32-pixel images (those of CIFAR-10-C) and for 224-pixel ones (those of
ImageNet-C). Between the two they are interpolated geometrically along the logarithm of the shorter side; smaller images
have those of 32 pixels, lengths included, since a blur of a quarter of a pixel is none.

Parameters are not the published ones where these would not do more harm at every step, or are of another method:
`elastic_transform` (not in order; here shares of the side), `glass_blur` (pixels are swapped, once or several times; here
read from a distance), `frost` (of six photographs; here crystals are grown from random numbers) and the fourth severity of
`motion_blur` at 32 pixels (that of the third, but for the length at which its tail is cut). Zooms of `zoom_blur` go as far
as the published ones, in ten equal steps. So numbers are comparable between students, and with published ones only in size.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from braindistill.errors import UserError, nearest
from braindistill.metrics.blurs import defocus_blur, glass_blur, motion_blur, zoom_blur
from braindistill.metrics.digital import contrast, elastic_transform, pixelate
from braindistill.metrics.jpeg import jpeg_compression
from braindistill.metrics.noises import gaussian_noise, impulse_noise, shot_noise
from braindistill.metrics.weather import brightness, fog, frost, snow

Five = tuple[float, float, float, float, float]

#: names of the corruptions, by family
CORRUPTIONS: dict[str, tuple[str, ...]] = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    function.__name__: function
    for function in (
        *(gaussian_noise, shot_noise, impulse_noise),
        *(defocus_blur, glass_blur, motion_blur, zoom_blur),
        *(snow, frost, fog, brightness),
        *(contrast, elastic_transform, pixelate, jpeg_compression),
    )
}
#: name → parameter → its severities 1 to 5 at 32 pixels, and at 224
_SEVERITIES: dict[str, dict[str, tuple[Five, Five]]] = {
    "gaussian_noise": {"scale": ((0.04, 0.06, 0.08, 0.09, 0.1), (0.08, 0.12, 0.18, 0.26, 0.38))},
    "shot_noise": {"photons": ((500, 250, 100, 75, 50), (60, 25, 12, 5, 3))},
    "impulse_noise": {"share": ((0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27))},
    "defocus_blur": {
        "radius": ((0.3, 0.4, 0.5, 1, 1.5), (3, 4, 6, 8, 10)),
        "softness": ((0.4, 0.5, 0.6, 0.2, 0.1), (0.1, 0.5, 0.5, 0.5, 0.5)),
    },
    "glass_blur": {
        "sigma": ((0.4,) * 5, (1,) * 5),
        "distance": ((0.5, 0.75, 1, 1.25, 1.5), (1.5, 2, 3, 4, 5)),
    },
    "motion_blur": {
        "sigma": ((1, 1.5, 2, 2.25, 2.5), (3, 5, 8, 12, 15)),
    },
    "zoom_blur": {"zoom": ((1.05, 1.1, 1.15, 1.2, 1.25), (1.1, 1.15, 1.2, 1.24, 1.3))},
    "snow": {
        "mean": ((0.1, 0.1, 0.15, 0.25, 0.3), (0.1, 0.2, 0.55, 0.55, 0.55)),
        "scale": ((0.2, 0.2, 0.3, 0.3, 0.3), (0.3, 0.3, 0.3, 0.3, 0.3)),
        "flake": ((1, 1, 1.75, 2.25, 1.25), (3, 2, 4, 4.5, 2.5)),
        "threshold": ((0.6, 0.5, 0.55, 0.6, 0.65), (0.5, 0.5, 0.9, 0.85, 0.85)),
        "sigma": ((3, 4, 4, 6, 12), (4, 4, 8, 8, 12)),
        "clear": ((0.95, 0.9, 0.9, 0.85, 0.8), (0.8, 0.7, 0.7, 0.65, 0.55)),
    },
    "frost": {
        "clear": ((1, 0.95, 0.9, 0.85, 0.8), (1, 0.9, 0.8, 0.7, 0.6)),
        "ice": ((0.2, 0.28, 0.36, 0.44, 0.52), (0.4, 0.52, 0.64, 0.76, 0.88)),
    },
    "fog": {
        "density": ((0.2, 0.5, 0.75, 1, 1.5), (1.5, 2, 2.5, 2.5, 3)),
        "decay": ((3, 3, 2.5, 2, 1.75), (2, 2, 1.7, 1.5, 1.4)),
    },
    "brightness": {"by": ((0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5))},
    "contrast": {"keep": ((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05))},
    "elastic_transform": {
        "bend": ((0.004, 0.008, 0.012, 0.016, 0.02),) * 2,
        "smoothness": ((0.06,) * 5,) * 2,
        "skew": ((0.01, 0.02, 0.03, 0.04, 0.05),) * 2,
    },
    "pixelate": {"scale": ((0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25))},
    "jpeg_compression": {"quality": ((80, 65, 58, 50, 40), (25, 18, 15, 10, 7))},
}
#: numbers that are worked on at a time
_BLOCK = 2**22


@torch.no_grad()
def corrupt(images: Tensor, name: str, severity: int, generator: torch.Generator) -> Tensor:
    """Images as they are seen through noise, blur, weather or a bad encoder.

    Parameters
    ----------
    images
        uint8, or float in 0 … 255, N × C × H × W, any size and number of channels, on any device.
    name
        One of the names in `CORRUPTIONS`.
    severity
        1 (slight) to 5.
    generator
        Source of all randomness; one on the CPU gives the same draws whatever the images' device. Each image gets its
        own draw, which depends on its place, so all students must be shown the same corrupted images.

    Returns
    -------
    Tensor
        uint8, of the same shape and on the same device.

    Raises
    ------
    UserError
        If there is no corruption of that name.
    """
    if images.ndim != 4 or not all(images.shape[1:]):
        raise ValueError(f"images: found shape {tuple(images.shape)}, expected N × C × H × W")
    options = corruption_options(name, severity, min(images.shape[2:]))
    out = torch.empty(images.shape, dtype=torch.uint8, device=images.device)
    step = max(1, _BLOCK // max(1, images[:1].numel()))
    for start in range(0, len(images), step):
        found = _FUNCTIONS[name](images[start : start + step].float() / 255, generator, **options)
        out[start : start + step] = found.clamp_(0, 1).mul_(255).round_().to(torch.uint8)
    return out


def corruption_options(name: str, severity: int, side: int) -> dict[str, float]:
    """Parameters of a corruption at a severity (1 to 5) for images whose shorter side is so many pixels.

    Raises
    ------
    UserError
        If there is no corruption of that name.
    """
    if name not in _SEVERITIES:
        raise UserError(f"no corruption is called {name}; {nearest(name, _SEVERITIES)}")
    if severity not in range(1, 6):
        raise ValueError(f"severity: found {severity}, expected 1 to 5")
    share = min(1.0, max(0.0, math.log(side / 32) / math.log(224 / 32)))
    return {
        option: float(small[severity - 1] ** (1 - share) * large[severity - 1] ** share)
        for option, (small, large) in _SEVERITIES[name].items()
    }

"""Where in a picture the predicted activity of a set of voxels comes from.

One question for all methods: what happens to the prediction where the picture is replaced by the *mean picture*? Black
would be an ordinary pixel value to an encoder; the mean picture is the one about which it has nothing to say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from braindistill.errors import UserError
from braindistill.runtime import progress

#: images at once, and pixel values of them: 64 of 224 × 224 in colour
_IMAGES, _VALUES = 512, 64 * 3 * 224 * 224


def attribute(
    respond: Callable[[Tensor], Tensor],
    images: np.ndarray,
    *,
    method: Literal["gradient", "gradcam", "occlusion"] = "gradient",
    weights: np.ndarray | None = None,
    layer: nn.Module | None = None,
    baseline: np.ndarray | None = None,
    patch: int | None = None,
    device: str = "cpu",
) -> np.ndarray:
    """Attribute predicted responses to pixels.

    What is explained of an image is one number: the root mean square over voxels, weighted, of its predicted deviations
    from each voxel's mean. Their plain mean would cancel voxels that go up against voxels that go down.

    - ``gradient``: |Σ over channels of (image − baseline) × gradient|. An encoder that is linear in the pixels is
      explained completely: before the absolute value, the products add up to the number explained.
    - ``gradcam``: the same at a layer's map, brought to the image's size: |Σ over channels of (map − map of the baseline)
      × gradient|. Grad-CAM (Selvaraju et al. 2017) averages the gradient over the map first, which forgets *where* a
      voxel's readout looks; with the element-wise gradient (HiResCAM, Draelos & Carin 2020) it doesn't, and both are one
      where the readout pools globally. Absolute, since a ROI that falls silent is as telling as one that responds.
    - ``occlusion``: one patch after the other is replaced by the baseline's (Zeiler & Fergus 2014); a pixel gets the root
      mean square change of the prediction.

    Parameters
    ----------
    respond : float images in 0 … 255 (n × channels × height × width) on the device → deviations (n × voxels)
    images : (n × channels × height × width) uint8, may be a memory map
    weights : (voxels), not negative; None: all equal
    layer : for ``gradcam``: a module within ``respond`` whose output is a map (n × channels × height × width)
    baseline : (channels × height × width) in 0 … 255; None: the mean of the images
    patch : for ``occlusion``: side in pixels; None: an eighth of the shorter side, so that a square image takes 64
    device : where it is computed

    Returns
    -------
    (n × height × width) float32
        Not negative; each map adds up to 1, and is uniform where nothing was found.

    Raises
    ------
    UserError
        ``gradcam`` without a layer, or with one that has no map.
    """
    if method == "gradcam" and layer is None:
        raise UserError(
            "target.attribution=gradcam needs a convolutional layer, and this encoder has none; take gradient or occlusion, or an "
            "encoder that has one: teacher.features=network or teacher.encoder=finetune"
        )
    average = images.mean(0, dtype=np.float64) if baseline is None and len(images) else baseline
    blank = torch.as_tensor(np.asarray(average, np.float32), device=device)[None]
    share = None if weights is None else torch.as_tensor(np.asarray(weights, np.float32), device=device)
    maps = np.empty((len(images), *images.shape[2:]), np.float32)
    size = max(1, min(_IMAGES, _VALUES // max(1, images[:1].size)))
    for start in progress(range(0, len(images), size), f"{method} maps"):
        batch = torch.from_numpy(np.array(images[start : start + size])).to(device).float()
        if method == "gradient":
            found = _gradient(respond, batch, blank, share)
        elif method == "gradcam":
            assert layer is not None
            found = _gradcam(respond, batch, blank, share, layer)
        else:
            found = _occlusion(respond, batch, blank, share, patch or -(-min(images.shape[2:]) // 8))
        maps[start : start + size] = normalise_maps(found.detach()).cpu().numpy()
    return maps


def normalise_maps(maps: Tensor) -> Tensor:
    """Maps (n × height × width), not negative, that add up to 1 each; uniform where there is nothing, or nothing finite."""
    largest = maps.amax((1, 2), keepdim=True)
    told = torch.isfinite(largest) & (largest > 0)
    scaled = torch.where(told, maps / torch.where(told, largest, 1), 1)
    return scaled / scaled.sum((1, 2), keepdim=True)


def resize_maps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring maps (n × height × width) to another size, bilinearly, each adding up to 1 again."""
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    return normalise_maps(F.interpolate(maps[:, None], size, mode="bilinear", antialias=True)[:, 0].clamp_min(0))


def _gradient(respond: Callable[[Tensor], Tensor], images: Tensor, blank: Tensor, share: Tensor | None) -> Tensor:
    from captum.attr import InputXGradient

    explained = InputXGradient(lambda change: _strength(respond(blank + change), share))
    return explained.attribute((images - blank).requires_grad_()).sum(1).abs()


def _gradcam(
    respond: Callable[[Tensor], Tensor], images: Tensor, blank: Tensor, share: Tensor | None, layer: nn.Module
) -> Tensor:
    # by hand: features end their forward pass at their last layer, before any hook that captum would append to it
    seen: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _layer, _inputs, output: seen.append(output), prepend=True)
    try:
        with torch.no_grad():
            respond(blank)
        # parameters are frozen, so it is from the pictures that gradients reach the layer
        strength = _strength(respond(images.requires_grad_()), share)
    finally:
        hook.remove()
    rest, maps = seen[0], seen[-1]
    if not isinstance(maps, Tensor) or maps.ndim != 4:
        raise UserError(
            "target.attribution=gradcam needs a layer with a map of channels × height × width, and the "
            f"{type(layer).__name__} it was given has none; end teacher.layers with a convolutional one"
        )
    (gradient,) = torch.autograd.grad(strength.sum(), maps)
    return resize_maps(((maps.detach() - rest) * gradient).sum(1).abs(), (images.shape[2], images.shape[3]))


@torch.no_grad()
def _occlusion(
    respond: Callable[[Tensor], Tensor], images: Tensor, blank: Tensor, share: Tensor | None, patch: int
) -> Tensor:
    from captum.attr import Occlusion

    def change(pictures: Tensor, whole: Tensor) -> Tensor:
        return _strength(respond(pictures) - whole, share)

    _, channels, height, width = images.shape
    window = (channels, min(patch, height), min(patch, width))
    found = Occlusion(change).attribute(images, window, window, blank, additional_forward_args=(respond(images),))
    return found[:, 0].abs()


def _strength(deviations: Tensor, share: Tensor | None) -> Tensor:
    """Root mean square over voxels (images); the floor keeps the root's slope finite at 0."""
    squares = deviations.float().square()
    mean = squares.mean(1) if share is None else squares @ (share / share.sum())
    return mean.clamp_min(1e-30).sqrt()

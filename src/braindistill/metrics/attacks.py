"""Small changes of an image that are made to mislead a student: what a white-box attack inside an L∞ ball can do."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Model = Callable[[Tensor], Tensor]


def fgsm(model: Model, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """The fast gradient sign method (Goodfellow, Shlens & Szegedy 2015, eq. of section 4): one step of size ε.

    Where the slope is zero a pixel stays as it is. On a linear two-class model no attack inside the ball does more harm.

    Parameters
    ----------
    model
        Takes float32 images in 0 … 255 (N × C × H × W), gives logits (N × classes), as `Student` does; in evaluation
        mode, since the images of a batch are attacked each for itself. Its parameters and their slopes are left alone.
    images
        uint8 or float in 0 … 255, N × C × H × W, on the model's device.
    labels
        True classes (N, int64).
    epsilon
        Largest change of a pixel, in units of the range [0, 1]: 8/255 is 8 grey levels of an 8-bit image.

    Returns
    -------
    Tensor
        float32 in 0 … 255, N × C × H × W, not rounded to whole grey levels; nowhere further than 255 · ε from ``images``,
        to the last bit.
    """
    start = images.detach().float()
    low, high = _box(start, epsilon)
    slope, _ = _slope(model, start, labels)
    return (start + 255 * epsilon * slope.sign()).clamp(low, high)


def pgd(
    model: Model,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    step: float | None = None,
    steps: int = 10,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Projected gradient ascent of the loss inside the ball (Madry et al. 2018), the most harmful point on the way.

    Each image keeps the point of highest loss among itself, the start and the results of all steps, so that its loss
    never falls; more steps from the same start never do less harm.

    Parameters
    ----------
    model, images, labels, epsilon
        As in `fgsm`.
    step
        Size of a step, in units of the range [0, 1]; 2.5 · ε / ``steps`` if not given, enough to cross the ball.
    steps
        Steps of the sign of the slope; each is clipped to the ball and to 0 … 255.
    generator
        For a start that is uniform in the ball, as in the paper; None starts at the image.

    Returns
    -------
    Tensor
        As in `fgsm`.
    """
    if steps < 1:
        raise ValueError(f"steps: found {steps}, expected at least 1")
    if step is None:
        step = 2.5 * epsilon / steps
    start = images.detach().float()
    low, high = _box(start, epsilon)
    point = start
    if generator is not None:
        drawn = torch.rand(start.shape, generator=generator, device=generator.device).to(start.device)
        point = (start + 255 * epsilon * (2 * drawn - 1)).clamp(low, high)
    worst, highest = start, _losses(model, start, labels)
    for _ in range(steps):
        slope, losses = _slope(model, point, labels)
        worst, highest = _worse(worst, highest, point, losses)
        point = (point + 255 * step * slope.sign()).clamp(low, high)
    return _worse(worst, highest, point, _losses(model, point, labels))[0]


def _box(images: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Lowest and highest float32 pixels (0 … 255) that are no further than 255 · ε from the images, in exact arithmetic."""
    if not epsilon >= 0:
        raise ValueError(f"epsilon: found {epsilon}, expected at least 0, in units of the range [0, 1]")
    centre, reach = images.double(), 255 * epsilon
    low, high = (centre - reach).clamp(min=0).float(), (centre + reach).clamp(max=255).float()
    # float32 may have rounded outwards: then its neighbour inside is meant
    low = torch.where(centre - low.double() > reach, low.nextafter(torch.full_like(low, torch.inf)), low)
    high = torch.where(high.double() - centre > reach, high.nextafter(torch.full_like(high, -torch.inf)), high)
    return low, high


def _slope(model: Model, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Slope of the loss at each image, and the losses (N), which are each image's own."""
    with torch.enable_grad():
        inputs = images.clone().requires_grad_()
        losses = F.cross_entropy(model(inputs).float(), labels, reduction="none")
        (slope,) = torch.autograd.grad(losses.sum(), inputs)
    return slope, losses.detach()


@torch.no_grad()
def _losses(model: Model, images: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(model(images).float(), labels, reduction="none")


def _worse(one: Tensor, one_losses: Tensor, other: Tensor, other_losses: Tensor) -> tuple[Tensor, Tensor]:
    """Image by image the one with the higher loss, and that loss."""
    higher = other_losses > one_losses
    return torch.where(higher.view(-1, *[1] * (one.ndim - 1)), other, one), torch.where(
        higher, other_losses, one_losses
    )

"""Mixup and CutMix: a batch mixed with a permutation of itself, and what belongs to it mixed in the same way."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from braindistill.errors import UserError


@dataclass(frozen=True)
class Mix:
    """How a batch of N images is mixed.

    Attributes
    ----------
    partner : (N) int64, a permutation: the image that is mixed into each
    share : of an image itself, 0 to 1; for CutMix exactly the share of its pixels that stay
    box : CutMix's box (top, bottom, left, right), past the last row and column, that is pasted from the partner; None:
        mixup
    """

    partner: Tensor
    share: float
    box: tuple[int, int, int, int] | None


def draw_mix(
    n: int, height: int, width: int, generator: torch.Generator, *, mixup: float = 0.0, cutmix: float = 0.0
) -> Mix | None:
    """Draw how a batch is mixed: by mixup (Zhang et al. 2018) or CutMix (Yun et al. 2019); None where both are off.

    Parameters
    ----------
    n, height, width : images and their size
    generator : on the CPU; the partners, then (where both are on) which of the two, then the share, then the box
    mixup, cutmix : α of the Beta(α, α) that the share comes from; 0: off. With both on, each has one half of the batches

    Raises
    ------
    UserError
        An α is negative.
    """
    for option, value in (("mixup", mixup), ("cutmix", cutmix)):
        if not 0 <= value < math.inf:
            raise UserError(f"train.{option}={value}: the α of a Beta distribution, at least 0 (0: off)")
    if not (mixup or cutmix):
        return None
    from scipy.special import betaincinv

    partner = torch.randperm(n, generator=generator)
    pasted = bool(cutmix)
    if mixup and cutmix:
        pasted = bool(torch.randint(2, (), generator=generator))
    alpha = cutmix if pasted else mixup
    uniform = torch.rand((), generator=generator, dtype=torch.float64).item()
    share = float(betaincinv(alpha, alpha, uniform))  # the inverse of Beta's distribution function
    if not pasted:
        return Mix(partner, share, None)
    row, column = (int(torch.randint(length, (), generator=generator)) for length in (height, width))
    top, bottom = _clipped(row, height, math.sqrt(1 - share))
    left, right = _clipped(column, width, math.sqrt(1 - share))
    return Mix(partner, 1 - (bottom - top) * (right - left) / (height * width), (top, bottom, left, right))


def mix_images(inputs: Tensor, mix: Mix) -> Tensor:
    """Mix N × … × H × W inputs, or maps of their size; mixup wants floating-point ones."""
    if mix.box is None:
        return _blend(inputs, mix)
    top, bottom, left, right = mix.box
    mixed = inputs.clone()
    mixed[..., top:bottom, left:right] = inputs[..., top:bottom, left:right][mix.partner.to(inputs.device)]
    return mixed


def mix_rows(rows: Tensor, mix: Mix, log: bool) -> Tensor:
    """Mix N × … rows of a target, by the images' shares.

    Parameters
    ----------
    log : rows are log-probabilities, and the mixture is that of the probabilities: log(share·p + (1 − share)·q), which
        −∞ (p = 0) doesn't harm
    """
    if not log:
        return _blend(rows, mix)
    own, other = (math.log(share) if share > 0 else -math.inf for share in (mix.share, 1 - mix.share))
    exact = rows.float()
    return torch.logaddexp(exact + own, exact[mix.partner.to(rows.device)] + other).to(rows.dtype)


def _blend(values: Tensor, mix: Mix) -> Tensor:
    # the product comes first, so that the result keeps the layout of what is given
    return (values * mix.share).add_(values[mix.partner.to(values.device)], alpha=1 - mix.share)


def _clipped(middle: int, length: int, share: float) -> tuple[int, int]:
    side = round(length * share)
    start = middle - side // 2
    return max(start, 0), min(start + side, length)

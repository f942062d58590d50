from __future__ import annotations

import torch

from braindistill.images.augmentation import augment
from braindistill.images.colour import jitter
from braindistill.images.moves import draw_moves


def photographs(n: int, channels: int) -> torch.Tensor:
    return torch.randint(256, (n, channels, 6, 5), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


def test_follows_its_formula():
    images, factors = photographs(50, 3), 0.3 + 1.4 * torch.rand(50, 3, generator=torch.Generator().manual_seed(2))
    weights = torch.tensor([0.299, 0.587, 0.114]).double().view(3, 1, 1)
    for image, (brightness, contrast, saturation), ours in zip(
        images.double(), factors.double(), jitter(images, factors), strict=True
    ):
        bright = (image * brightness).clamp(0, 255)
        mean = (bright * weights).sum(0).mean()
        contrasted = (mean + contrast * (bright - mean)).clamp(0, 255)
        grey = (contrasted * weights).sum(0)
        expected = (grey + saturation * (contrasted - grey)).clamp(0, 255)
        torch.testing.assert_close(ours.double(), expected, atol=0.5001, rtol=0)


def test_grey_images_have_no_saturation():
    images = photographs(4, 1)
    colourless = torch.tensor([1.0, 1.0, 0.0]).expand(4, 3)
    assert torch.equal(jitter(images, colourless), images)
    grey = jitter(photographs(4, 3), colourless)
    assert torch.equal(grey, grey[:, :1].expand(-1, 3, -1, -1))
    assert torch.equal(jitter(photographs(4, 3), torch.ones(4, 3)), photographs(4, 3))


def test_factors_are_uniform_around_1():
    factors = draw_moves(4000, 2, 2, torch.Generator().manual_seed(0), colour=0.4).factors
    assert factors is not None
    assert factors.min() >= 0.6
    assert factors.max() <= 1.4
    torch.testing.assert_close(factors.mean(0), torch.ones(3), atol=0.02, rtol=0)
    torch.testing.assert_close(factors.std(0), torch.full((3,), 0.8 / 12**0.5), atol=0.01, rtol=0)
    assert factors.T.corrcoef().triu(1).abs().max() < 0.06, "each its own"


def test_channels_last_is_kept():
    images = photographs(4, 3).to(memory_format=torch.channels_last)
    moved = augment(images, torch.Generator().manual_seed(0), colour=0.5)
    assert moved.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(moved, augment(images.contiguous(), torch.Generator().manual_seed(0), colour=0.5))

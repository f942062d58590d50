from __future__ import annotations

import numpy as np
import pytest
import torch

from braindistill.errors import UserError
from braindistill.methods import mask_loss


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mask_formula(features: np.ndarray, masks: np.ndarray, floor: float) -> float:
    """KL between distributions over places, in plain loops; masks are twice as large as the features' maps."""
    total = 0.0
    for image, mask in zip(features, masks, strict=True):
        channels, height, width = image.shape
        attention = np.zeros((height, width))
        wanted = np.zeros((height, width))
        for row in range(height):
            for column in range(width):
                attention[row, column] = sum(image[c, row, column] ** 2 for c in range(channels)) / channels
                wanted[row, column] = mask[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean()
        a, m = ((1 - floor) * part / part.sum() + floor / part.size for part in (attention, wanted))
        total += (m * np.log(m / a)).sum()
    return total / len(features)


@pytest.mark.parametrize("floor", [0.01, 0.3])
def test_it_is_the_divergence_of_places(floor):
    features, masks = draw(3, 5, 4, 3), draw(3, 8, 6, seed=1).abs()
    expected = mask_formula(features.numpy(), masks.numpy(), floor)
    assert mask_loss(features, masks, floor=floor).item() == pytest.approx(expected, rel=1e-10)
    assert mask_loss(features.float(), masks.float(), floor=floor).item() == pytest.approx(expected, rel=1e-5)
    # the sizes of activations and of a map say nothing
    assert mask_loss(-3 * features, 7 * masks, floor=floor).item() == pytest.approx(expected, rel=1e-10)


def test_none_where_the_student_looks_there():
    features = draw(3, 5, 4, 3)
    attention = features.square().mean(1)
    assert mask_loss(features, attention).item() == pytest.approx(0, abs=1e-12)
    assert mask_loss(features, attention.flip(2)).item() > 0.01


def test_gradient():
    masks = draw(2, 8, 6, seed=1).abs()
    assert torch.autograd.gradcheck(lambda x: mask_loss(x, masks), draw(2, 3, 4, 3).requires_grad_())


def test_nothing_seen_teaches_nothing():
    features = draw(3, 2, 2, 2).requires_grad_()
    masks = draw(3, 4, 4, seed=1).abs()
    masks[1] = 0
    loss = mask_loss(features, masks)
    loss.backward()
    assert (features.grad[1] == 0).all()
    kept = torch.tensor([0, 2])
    assert loss.item() == pytest.approx(mask_loss(features[kept], masks[kept]).item(), rel=1e-12)
    dead = torch.zeros(2, 3, 2, 2, requires_grad=True)
    mask_loss(dead, masks[kept].float()).backward()
    assert torch.isfinite(dead.grad).all()
    assert mask_loss(features, torch.zeros(3, 4, 4)).item() == 0


def test_what_cannot_be_compared():
    with pytest.raises(UserError, match=r"method=mask: the student's features are of shape \(3, 4\), expected maps"):
        mask_loss(draw(3, 4), draw(3, 4, 4))
    with pytest.raises(UserError, match=r"method\.floor=0"):
        mask_loss(draw(3, 4, 2, 2), draw(3, 4, 4), floor=0)

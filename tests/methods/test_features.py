from __future__ import annotations

import numpy as np
import pytest
import torch

from braindistill.errors import UserError
from braindistill.methods import attention_loss, fitnet_loss


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def attention_map(maps: np.ndarray) -> np.ndarray:
    """Zagoruyko and Komodakis, in plain loops: one image, channels × height × width."""
    channels, height, width = maps.shape
    flat = np.zeros(height * width)
    for row in range(height):
        for column in range(width):
            flat[row * width + column] = sum(maps[c, row, column] ** 2 for c in range(channels)) / channels
    return flat / np.sqrt((flat**2).sum())


def test_attention_is_the_published_formula():
    student, teacher = draw(3, 4, 5, 6), draw(3, 7, 5, 6, seed=1)
    differences = [attention_map(s) - attention_map(t) for s, t in zip(student.numpy(), teacher.numpy(), strict=True)]
    expected = np.mean(np.square(differences))
    assert attention_loss(student, teacher).item() == pytest.approx(expected, rel=1e-10)
    assert attention_loss(student.float(), teacher.float()).item() == pytest.approx(expected, rel=1e-5)
    # an image's scale and the order of channels say nothing about where it is attended to
    assert attention_loss(5 * student.flip(1), teacher).item() == pytest.approx(expected, rel=1e-10)
    assert attention_loss(-2 * teacher, teacher).item() == pytest.approx(0, abs=1e-12)


def test_attention_of_unequal_sizes_is_that_of_the_smaller():
    large, small = draw(2, 3, 8, 8), draw(2, 5, 4, 2, seed=1)
    pooled = large.reshape(2, 3, 4, 2, 2, 4).mean((3, 5))
    expected = attention_loss(pooled, small).item()
    assert expected > 0
    assert attention_loss(large, small).item() == pytest.approx(expected, rel=1e-12)
    assert attention_loss(small, large).item() == pytest.approx(expected, rel=1e-12)


def test_fitnet_is_the_mean_squared_difference():
    student, teacher = draw(3, 4, 2, 2), draw(3, 4, 2, 2, seed=1)
    expected = np.mean([(s - t) ** 2 for s, t in zip(student.numpy().flat, teacher.numpy().flat, strict=True)])
    assert fitnet_loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)
    assert fitnet_loss(teacher, teacher).item() == 0


@pytest.mark.parametrize("loss", [attention_loss, fitnet_loss])
def test_gradient(loss):
    teacher = draw(2, 3, 3, 2, seed=1)
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher), draw(2, 3, 3, 2).requires_grad_())
    dead = torch.zeros(2, 3, 3, 2, requires_grad=True)
    loss(dead, teacher.float()).backward()
    assert torch.isfinite(dead.grad).all()


def test_what_cannot_be_compared():
    with pytest.raises(UserError, match=r"method=fitnet: .*\(2, 3\) and \(2, 4\); put an adapter"):
        fitnet_loss(draw(2, 3), draw(2, 4))
    with pytest.raises(
        UserError, match=r"method=attention: the teacher's features are of shape \(2, 3\), expected maps"
    ):
        attention_loss(draw(2, 3, 4, 4), draw(2, 3))

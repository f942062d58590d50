from __future__ import annotations

import numpy as np
import pytest
import torch

from braindistill.errors import UserError
from braindistill.methods import attention_loss, average_down, fitnet_loss, review_loss


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


def test_losses_of_several_layers_add_up():
    student = [draw(3, 4, 5, 6, seed=seed) for seed in (1, 2)]
    teacher = [draw(3, 4, 5, 6, seed=seed) for seed in (3, 4)]
    for loss in (fitnet_loss, attention_loss, review_loss):
        alone = [loss(s, t).item() for s, t in zip(student, teacher, strict=True)]
        assert loss(student, teacher).item() == pytest.approx(sum(alone), rel=1e-12)
        assert loss(teacher, teacher).item() == pytest.approx(0, abs=1e-24)
        with pytest.raises(ValueError, match="argument 2 is shorter"):
            loss(student, teacher[:1])


def test_fitnet_of_unequal_sizes_is_that_of_the_smaller():
    student, teacher = draw(2, 3, 4, 6), draw(2, 3, 2, 3, seed=1)
    blocks = student.numpy().reshape(2, 3, 2, 2, 3, 2).mean((3, 5))
    expected = np.mean((blocks - teacher.numpy()) ** 2)
    assert fitnet_loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)
    assert fitnet_loss(teacher, student).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("size", [(2, 3), (3, 4), (1, 1), (5, 6), (7, 7)])
def test_averaging_down_is_adaptive_pooling(size):
    maps = draw(2, 3, 5, 6).requires_grad_()
    torch.testing.assert_close(average_down(maps, size), torch.nn.functional.adaptive_avg_pool2d(maps, size))
    assert torch.autograd.gradcheck(lambda x: average_down(x, size), maps)


def review_formula(student: np.ndarray, teacher: np.ndarray) -> float:
    """Chen et al., the hierarchical context loss of one layer in plain loops: levels of the map, 4 × 4, 2 × 2, 1 × 1."""
    side = student.shape[2]
    total, weights, weight = np.mean((student - teacher) ** 2), 1.0, 1.0
    for level in (4, 2, 1):
        if level >= side:
            continue
        weight /= 2
        edges = [(part * side // level, -(-(part + 1) * side // level)) for part in range(level)]
        difference = 0.0
        for top, bottom in edges:
            for left, right in edges:
                means = [f[:, :, top:bottom, left:right].mean((2, 3)) for f in (student, teacher)]
                difference += np.sum((means[0] - means[1]) ** 2)
        total += weight * difference / (student.shape[0] * student.shape[1] * level**2)
        weights += weight
    return total / weights


@pytest.mark.parametrize("side", [1, 2, 4, 5, 8])
def test_review_is_the_published_formula(side):
    student, teacher = draw(3, 4, side, side), draw(3, 4, side, side, seed=1)
    expected = review_formula(student.numpy(), teacher.numpy())
    assert review_loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)
    assert review_loss(student.float(), teacher.float()).item() == pytest.approx(expected, rel=1e-5)
    assert torch.autograd.gradcheck(lambda x: review_loss(x, teacher), student.requires_grad_())


def test_review_takes_vectors_for_maps_of_one_place():
    student, teacher = draw(3, 4), draw(3, 4, seed=1)
    expected = ((student - teacher) ** 2).mean().item()
    assert review_loss(student[:, :, None, None], teacher).item() == pytest.approx(expected, rel=1e-12)

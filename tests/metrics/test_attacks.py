from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from braindistill.metrics.attacks import fgsm, pgd


class Network(nn.Module):
    """Takes images in 0 … 255, as a student does."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images.to(next(self.parameters()).dtype).flatten(1) / 255)


@pytest.fixture(scope="module")
def trained() -> tuple[Network, Tensor, Tensor]:
    """A small network that knows 8 × 8 digits, and 200 of them."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.from_numpy(data.images * 255 / 16).round().to(torch.uint8)[:, None]
    labels = torch.from_numpy(data.target)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Network(nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)))
    rule = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(60):
        rule.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        rule.step()
    rule.zero_grad()
    assert (network(images).argmax(1) == labels).float().mean() > 0.95
    return network.eval(), images[:200], labels[:200]


def losses(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        return F.cross_entropy(model(images), labels, reduction="none")


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_no_pixel_leaves_the_ball_or_the_range_by_a_bit(epsilon: float, step: float, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    model = Network(nn.Linear(12, 3))
    images = 255 * torch.rand(4, 3, 2, 2, generator=rng)
    images[0] = images[0].round()
    labels = torch.randint(0, 3, (4,), generator=rng)
    for found in (
        fgsm(model, images, labels, epsilon),
        pgd(model, images, labels, epsilon, step=step, steps=2, generator=rng),
    ):
        assert found.dtype == torch.float32
        assert (found.double() - images.double()).abs().max() <= 255 * epsilon
        assert found.min() >= 0
        assert found.max() <= 255


def test_fgsm_is_optimal_on_a_linear_model() -> None:
    generator_ = generator()
    model = Network(nn.Linear(16, 2).double())
    images = torch.randint(60, 200, (5, 1, 4, 4), generator=generator_, dtype=torch.uint8)
    labels = torch.tensor([0, 1, 0, 1, 1])
    epsilon = 8 / 255
    weight = model.body.weight.detach()  # type: ignore[union-attr]
    logits = model(images).detach()
    rows = torch.arange(5)
    margin = logits[rows, 1 - labels] - logits[rows, labels]
    # inside the ball the margin can grow by ε · ‖w_other − w_true‖₁, and the loss is log(1 + e^margin)
    worst = F.softplus(margin + epsilon * (weight[1 - labels] - weight[labels]).abs().sum(1))
    found = fgsm(model, images, labels, epsilon)
    assert losses(model, found, labels) == pytest.approx(worst, rel=1e-5)
    assert (found - images).abs().unique().tolist() == [8.0]
    again = pgd(model, images, labels, epsilon, step=epsilon / 2, steps=4, generator=generator())
    assert losses(model, again, labels) == pytest.approx(worst, rel=1e-5)


def test_attacks_harm_and_pgd_harms_no_less(trained: tuple[Network, Tensor, Tensor]) -> None:
    model, images, labels = trained
    clean = losses(model, images, labels)
    for epsilon in (0.02, 0.05, 0.1):
        quick = losses(model, fgsm(model, images, labels, epsilon), labels)
        slow = losses(model, pgd(model, images, labels, epsilon, steps=10), labels)
        assert (quick >= clean - 1e-6).float().mean() > 0.99
        assert quick.mean() > 1.5 * clean.mean()
        assert (slow >= clean).all()  # never less than the image itself
        assert slow.mean() >= quick.mean()
        assert (slow >= quick - 1e-4 - 0.01 * quick).float().mean() > 0.95


def test_more_steps_never_harm_less(trained: tuple[Network, Tensor, Tensor]) -> None:
    model, images, labels = trained
    few, many = (
        losses(model, pgd(model, images, labels, 0.1, step=0.03, steps=n, generator=generator()), labels)
        for n in (2, 8)
    )
    assert (many >= few).all()
    assert many.mean() > few.mean()


def test_images_of_a_batch_are_attacked_each_for_itself(trained: tuple[Network, Tensor, Tensor]) -> None:
    model, images, labels = trained
    whole = fgsm(model, images[:8], labels[:8], 0.05)
    single = torch.cat([fgsm(model, images[i : i + 1], labels[i : i + 1], 0.05) for i in range(8)])
    assert (whole != single).float().mean() < 0.02  # where a slope is all but zero its sign is chance


def test_without_room_nothing_changes_and_the_model_is_left_alone(trained: tuple[Network, Tensor, Tensor]) -> None:
    model, images, labels = trained
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():  # attacks turn slopes on for themselves
        assert torch.equal(fgsm(model, images, labels, 0), images.float())
        assert torch.equal(pgd(model, images, labels, 0, generator=generator()), images.float())
        fgsm(model, images, labels, 0.1)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    one, two = (pgd(model, images, labels, 0.1, generator=generator()) for _ in range(2))
    assert torch.equal(one, two)


def test_impossible_sizes_are_refused(trained: tuple[Network, Tensor, Tensor]) -> None:
    model, images, labels = trained
    for epsilon in (-0.1, float("nan")):
        with pytest.raises(ValueError, match="epsilon"):
            fgsm(model, images, labels, epsilon)
    with pytest.raises(ValueError, match="steps"):
        pgd(model, images, labels, 0.1, steps=0)

"""Rates, moving averages, sharpness-aware steps, accumulation and clipping, each against its definition."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from braindistill.errors import UserError
from braindistill.runtime import Runtime, seeded
from braindistill.training import Batch, Learner, TrainingSet, TrainOptions, train
from braindistill.training.optimisation import MovingAverage, ascended, rate

RUNTIME = Runtime(device="cpu", tensorboard=False, verbosity=0)
INPUTS = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(24) % 3


def make_network() -> nn.Module:
    with seeded(0, "network"):
        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def cross_entropy(logits: Tensor, batch: Batch) -> dict[str, Tensor]:
    return {"label": F.cross_entropy(logits, batch.labels)}


def fit(network: nn.Module, **options: Any) -> nn.Module:
    chosen = {"epochs": 3, "batch_size": 24, "warmup": 0.0, "momentum": 0.0, "weight_decay": 0.0} | options
    data = TrainingSet(INPUTS, LABELS, 24)
    train([Learner(network, data, None, cross_entropy, 0)], RUNTIME, TrainOptions(**chosen))
    return network


def by_hand(network: nn.Module, step: Any, steps: int = 3, lr: float = 0.1) -> nn.Module:
    for number in range(steps):
        options = TrainOptions(epochs=steps, warmup=0.0, lr=lr)
        network.zero_grad()
        step(network, lr * rate(number, 1, options))
    return network


def descend(network: nn.Module, lr: float) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter -= lr * parameter.grad


def close(one: nn.Module, other: nn.Module, atol: float = 1e-5) -> None:
    for ours, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=atol)


def test_a_step_schedule_falls_at_its_milestones() -> None:
    options = TrainOptions(epochs=10, schedule="step", milestones=[4, 8], decay=0.1, warmup=0.0)
    assert [rate(step, 2, options) for step in (0, 7, 8, 15, 16, 19)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    constant = TrainOptions(epochs=10, schedule="constant", warmup=0.5)
    assert [rate(step, 1, constant) for step in (0, 4, 5, 9)] == pytest.approx([1 / 6, 5 / 6, 1, 1])


def test_gradients_are_clipped_by_their_common_norm() -> None:
    def step(network: nn.Module, lr: float) -> None:
        F.cross_entropy(network(INPUTS), LABELS).backward()
        norm = torch.cat([parameter.grad.flatten() for parameter in network.parameters()]).norm()
        assert norm > 0.05
        for parameter in network.parameters():
            parameter.grad *= 0.05 / norm
        descend(network, lr)

    close(fit(make_network(), clip=0.05), by_hand(make_network(), step))


@pytest.mark.parametrize("parts", [2, 5])
def test_accumulated_gradients_are_those_of_the_whole_batch(parts: int) -> None:
    """Without BatchNorm, whose statistics are of a part; 24 images don't divide by 5."""
    plain, split = (nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)) for _ in range(2))
    split.load_state_dict(plain.state_dict())
    close(fit(plain), fit(split, accumulate=parts), 1e-6)


def test_a_sharpness_aware_step_takes_the_gradient_of_the_worst_place_nearby() -> None:
    def step(network: nn.Module, lr: float) -> None:
        F.cross_entropy(network(INPUTS), LABELS).backward()
        norm = torch.cat([parameter.grad.flatten() for parameter in network.parameters()]).norm()
        worst = copy.deepcopy(network)
        with torch.no_grad():
            for parameter, there in zip(network.parameters(), worst.parameters(), strict=True):
                there += 0.3 * parameter.grad / norm
        worst.zero_grad()
        F.cross_entropy(worst(INPUTS), LABELS).backward()
        for parameter, there in zip(network.parameters(), worst.parameters(), strict=True):
            parameter.grad = there.grad
        descend(network, lr)

    ours, theirs = fit(make_network(), sam=0.3), by_hand(make_network().train(), step)
    close(ours, theirs)
    torch.testing.assert_close(ours[1].running_mean, theirs[1].running_mean)


def test_after_the_ascent_everything_is_as_before() -> None:
    network = make_network().train()
    F.cross_entropy(network(INPUTS), LABELS).backward()
    before = {name: value.clone() for name, value in network.state_dict().items() if value.is_floating_point()}
    with ascended(network, 0.5):
        assert not torch.equal(network[0].weight, before["0.weight"])
        network(INPUTS + 1)
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert network[1].momentum == 0.1


def test_the_average_is_kept_instead_of_the_last_weights() -> None:
    network = make_network()
    average = copy.deepcopy(network)

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network

        def forward(self, inputs: Tensor) -> Tensor:
            seen.append({name: value.clone() for name, value in network.state_dict().items()})
            return self.inner(inputs)

    seen: list[dict[str, Tensor]] = []
    fit(Spy(), ema=0.6, epochs=4)
    states = [*seen[1:4]]  # before steps 2, 3, 4: after steps 1, 2, 3
    kept = {name: value.clone() for name, value in average.state_dict().items() if "weight" in name}
    for state in states:
        kept = {name: 0.6 * value + 0.4 * state[name] for name, value in kept.items()}
    # the fourth step's weights are not seen by a pass, but what is missing of the average is 0.4 of them
    left = {name: (network.state_dict()[name] - 0.6 * value) / 0.4 for name, value in kept.items()}
    last = {name: left[name] - states[-1][name] for name in kept}
    assert all(0 < change.abs().max() < 0.05 for change in last.values()), (
        "the last step, of a low rate, is a small one"
    )


def test_counts_of_batches_are_those_of_the_network() -> None:
    network = make_network().train()
    average = MovingAverage(network, 0.5)
    network(INPUTS)
    average.update()
    assert int(average.network[1].num_batches_tracked) == 1
    expected = 0.5 * network[1].running_mean
    torch.testing.assert_close(average.network[1].running_mean, expected)


def test_options_out_of_range_are_refused() -> None:
    for options in ({"ema": -0.1}, {"sam": -1.0}, {"accumulate": 0}, {"mixup": -0.2}, {"parallel_seeds": 0}):
        (name,) = options
        with pytest.raises(UserError, match=rf"train\.{name}="):
            TrainOptions(**options)

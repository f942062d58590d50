"""Learning rules: optimiser, schedule of its rate, sharpness-aware steps, and a moving average of the weights."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from braindistill.training.options import TrainOptions


def make_optimizer(network: nn.Module, options: TrainOptions) -> torch.optim.Optimizer:
    """The optimiser of all parameters that learn, fused into one kernel."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    decay, lr = options.weight_decay, options.lr
    if options.optimizer == "sgd":
        nesterov = options.nesterov and options.momentum > 0
        return torch.optim.SGD(parameters, lr, options.momentum, weight_decay=decay, nesterov=nesterov, fused=True)
    return torch.optim.AdamW(parameters, lr, weight_decay=decay, fused=True)


def rate(step: int, per_epoch: int, options: TrainOptions) -> float:
    """The learning rate of a step (from 0) as a factor of its peak: a linear rise, then the schedule."""
    total = options.epochs * per_epoch
    rise = options.warmup * total
    if step < rise:
        return (step + 1) / (rise + 1)
    if options.schedule == "constant":
        return 1.0
    if options.schedule == "step":
        return options.decay ** sum(step >= milestone * per_epoch for milestone in options.milestones)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(total - rise, 1)))


class MovingAverage:
    """An exponential moving average of a network's weights and running statistics: the network that is kept.

    Attributes
    ----------
    network : a copy that holds the averages
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay = copy.deepcopy(network).requires_grad_(False), decay
        pairs = list(zip(self.network.state_dict().values(), network.state_dict().values(), strict=True))
        self._floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._others = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the network's present weights."""
        averages, present = zip(*self._floats, strict=True)
        torch._foreach_lerp_(list(averages), list(present), 1 - self.decay)
        for kept, now in self._others:  # counts of batches
            kept.copy_(now)


@contextlib.contextmanager
def ascended(network: nn.Module, rho: float) -> Iterator[None]:
    """Weights at the worst place within ρ of where they are, to first order (Foret et al. 2021, equation 2), and back.

    The gradients of the first pass are there on entry and are cleared; running statistics stay those of the first pass.
    """
    learned = [parameter for parameter in network.parameters() if parameter.grad is not None]
    gradients = [parameter.grad for parameter in learned if parameter.grad is not None]
    length = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))
    before: list[Tensor] = [parameter.detach().clone() for parameter in learned]
    statistics = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [module.momentum for module in statistics]
    with torch.no_grad():
        for parameter, gradient in zip(learned, gradients, strict=True):
            parameter.add_(gradient * (rho / (length + 1e-12)))
            parameter.grad = None
    for module in statistics:
        module.momentum = 0.0
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, weight in zip(learned, before, strict=True):
                parameter.copy_(weight)  # not subtracted, which would leave rounding behind
        for module, momentum in zip(statistics, momenta, strict=True):
            module.momentum = momentum

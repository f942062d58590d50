"""Initial weights, as the authors of the small networks draw them."""

from __future__ import annotations

from torch import nn


def initialise(network: nn.Module, head_std: float | None = None) -> None:
    """Draw convolutions from N(0, 2 / fan-out) (He et al. 2015) and, where ``head_std`` is given, linear layers too.

    Batch normalisation starts as the identity, and a layer with a bias at zero bias, if it is drawn here.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear) and head_std is not None:
            nn.init.normal_(module.weight, std=head_std)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)

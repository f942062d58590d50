"""What a layer of a student says, beside its logits: for targets that are not logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from braindistill.errors import UserError, nearest
from braindistill.runtime import seeded


class Tapped(nn.Module):
    """A network that also gives the features of one of its layers.

    Attributes
    ----------
    network : the bare network, images → logits
    layer : a module's name, whose output is taken (maps and tokens averaged over their places); None: the input of the last
        linear layer
    head : what features go through, or None
    """

    def __init__(self, network: nn.Module, layer: str | None = None, head: nn.Module | None = None) -> None:
        super().__init__()
        modules = {name: module for name, module in network.named_modules() if name}
        self._seen: Tensor | None = None
        if layer is None:
            linear = [module for module in modules.values() if isinstance(module, nn.Linear)]
            if not linear:
                raise UserError(f"method.layer=null: the student has no linear layer; {nearest('', modules)}")
            linear[-1].register_forward_pre_hook(lambda _, inputs: self._keep(inputs[0]))
        elif layer not in modules:
            raise UserError(f"method.layer={layer}: the student has no such module; {nearest(layer, modules)}")
        else:
            modules[layer].register_forward_hook(lambda _, inputs, output: self._keep(output))
        self.network, self.layer, self.head = network, layer, head

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N × classes) and features (N × width)."""
        logits = self.network(images)
        features, self._seen = self._seen, None
        if features is None:
            raise UserError(
                f"method.layer={self.layer}: a pass through the student doesn't use this module; name another"
            )
        if features.ndim > 2:
            places = 1 if features.ndim == 3 else tuple(range(2, features.ndim))  # tokens × width, or width × places
            features = features.mean(places)
        return logits, features if self.head is None else self.head(features)

    def _keep(self, features: Any) -> None:
        if not isinstance(features, Tensor) or features.ndim < 2:
            found = type(features).__name__
            raise UserError(f"method.layer={self.layer}: its output is a {found}, no tensor of features; name another")
        self._seen = features


def tap(
    network: nn.Module,
    image_shape: tuple[int, int, int],
    width: int | None,
    seed: int,
    *,
    layer: str | None = None,
) -> Tapped:
    """Tap a student at a layer, with a linear head of its own where a target has columns.

    Parameters
    ----------
    network : the bare student, whose weights stay as they are
    image_shape : C, H, W
    width : outputs of the head; None: no head
    seed : of the head's initial weights
    layer : see `Tapped`

    Raises
    ------
    UserError
        There is no such module, or it gives no features.
    """
    tapped = Tapped(network, layer)
    was_training = network.training
    with torch.no_grad():
        _, features = tapped.eval()(torch.zeros(2, *image_shape))
    tapped.train(was_training)
    if width is not None:
        with seeded(seed, "student", "head"):
            tapped.head = nn.Linear(features.shape[1], width)
    return tapped

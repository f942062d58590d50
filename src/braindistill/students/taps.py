"""What layers of a student say, beside its logits: for targets that are not logits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from braindistill.errors import UserError, nearest

#: behind a module's name: what it is given, instead of what it gives
INPUT = ":input"


class Tapped(nn.Module):
    """A network that also gives features of its layers.

    Attributes
    ----------
    network : the bare network, images → logits
    layers : term → names of modules whose outputs it works on; ``NAME:input`` is what the module NAME is given
    adapters : term → module from a list of these to what the term's loss is given
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Mapping[str, Sequence[str]],
        adapters: Mapping[str, nn.Module],
        option: str = "method.layer",
    ) -> None:
        super().__init__()
        self.network, self.option = network, option
        self.layers = {term: list(names) for term, names in layers.items()}
        self.adapters = nn.ModuleDict(adapters)
        # shared with the hooks, and so copied along with them: it is emptied, never replaced
        self._seen: dict[str, Tensor] = {}
        keep(network, {name for names in layers.values() for name in names}, self._seen, option)

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Logits (N × classes), and for each term what its adapter makes of its layers."""
        logits = self.network(images)
        try:
            found = {
                term: self.adapters[term]([self._seen[name] for name in names]) for term, names in self.layers.items()
            }
        except KeyError as error:
            raise _unused(str(error.args[0]), self.option) from None
        self._seen.clear()
        return logits, found


class _Keep:
    """A hook that keeps a layer's output, or its input; an object, so that a copied network keeps in a copy."""

    def __init__(self, name: str, seen: dict[str, Tensor], option: str) -> None:
        self.name, self.seen, self.option = name, seen, option

    def __call__(self, _: nn.Module, inputs: Any, *output: Any) -> None:
        features = output[0] if output else inputs[0]
        if not isinstance(features, Tensor) or features.ndim < 2:
            found = type(features).__name__
            raise UserError(
                f"{self.option}={self.name}: what it gives is a {found}, no tensor of features; name another"
            )
        self.seen[self.name] = features


def keep(network: nn.Module, names: Iterable[str], seen: dict[str, Tensor], option: str = "method.layer") -> list[Any]:
    """Let layers of a network put into ``seen`` what they give at each pass, by name.

    Parameters
    ----------
    names : of modules, ``NAME:input`` for what a module is given
    option : what an error calls the list of them

    Returns
    -------
    list
        Handles, whose ``remove()`` ends it.

    Raises
    ------
    UserError
        There is no such module.
    """
    modules = {name: module for name, module in network.named_modules() if name}
    handles = []
    for name in sorted(names):
        own = name.removesuffix(INPUT)
        if own not in modules:
            raise UserError(f"{option}={name}: the network has no such layer; {nearest(own, modules)}")
        hook = _Keep(name, seen, option)
        add = modules[own].register_forward_hook if own == name else modules[own].register_forward_pre_hook
        handles.append(add(hook))
    return handles


def read_shapes(
    network: nn.Module, image_shape: tuple[int, int, int], names: Sequence[str], option: str = "method.layer"
) -> list[tuple[int, ...]]:
    """Shapes of what layers of a network give for one image. Raises as `keep`, and where a pass doesn't use a layer."""
    seen: dict[str, Tensor] = {}
    handles = keep(network, names, seen, option)
    try:
        _try(network, image_shape)
    finally:
        for handle in handles:
            handle.remove()
    for name in names:
        if name not in seen:
            raise _unused(name, option)
    return [tuple(seen[name].shape[1:]) for name in names]


def find_last_input(network: nn.Module) -> str | None:
    """The input of a network's last linear layer, its features; None where it has no such layer."""
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear) and name]
    return f"{linear[-1]}{INPUT}" if linear else None


def find_stages(network: nn.Module, image_shape: tuple[int, int, int]) -> list[str]:
    """The last layer of each spatial resolution, in the order of a pass, and at the end a layer of a single place.

    Of layers inside each other the outermost counts, so that a stage ends with its last block. If no map has a single
    place, the input of the last linear layer comes last.
    """
    runs: list[tuple[str, tuple[int, ...]]] = []

    def note(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            runs.append((name, tuple(output.shape) if isinstance(output, Tensor) else ()))

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in network.named_modules() if name]
    try:
        _try(network, image_shape)
    finally:
        for handle in handles:
            handle.remove()
    names = [name for name, _ in runs]
    best: dict[tuple[int, ...], str] = {}
    for name, shape in runs:
        if len(shape) == 4 and names.count(name) == 1:
            size = shape[2:]
            if size not in best or name.count(".") <= best[size].count("."):
                best[size] = name
    stages = sorted(best.values(), key=names.index)
    last = find_last_input(network)
    if (1, 1) not in best and last is not None:
        stages.append(last)
    return stages


def average_places(features: Tensor) -> Tensor:
    """Features as vectors (N × width): maps and tokens are averaged over their places."""
    if features.ndim == 2:
        return features
    return features.mean(1 if features.ndim == 3 else tuple(range(2, features.ndim)))  # tokens × width, width × places


def _try(network: nn.Module, image_shape: tuple[int, int, int]) -> None:
    """One pass in evaluation mode."""
    was_training = network.training
    weight = next(network.parameters(), torch.zeros(()))
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(2, *image_shape, dtype=weight.dtype, device=weight.device))
    finally:
        network.train(was_training)


def _unused(name: str, option: str) -> UserError:
    return UserError(f"{option}={name}: a pass through the network doesn't use this layer; name another")

"""Several networks of one architecture as a single module, which trains many seeds in the time of a few.

Small networks spend most of a step on the overhead of calls. Here K of them share each call: everywhere inside,
dimension 1 (the channels) holds K blocks, block k being what network k would hold. Convolutions are grouped ones, batch
normalisation is per channel already, a linear layer is a batched matrix product; what mixes channels in another way is
done block by block. Weights are concatenated along dimension 0, so optimisers that work by element need no change.

Sum the K losses: each seed then has its own gradient. Clipping by the norm of all gradients would mix the seeds.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from braindistill.errors import UserError
from braindistill.students.summary import count_multiply_adds

#: FLOP of a network's training step above which a stack is no faster: measured on a CPU core, and supposed of a GPU
_MOST_ON_CPU, _MOST_ON_GPU = 5e8, 5e10
#: modules with weights, and their numbers that grow with the number of networks
_WIDENED: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Conv2d: ("in_channels", "out_channels", "groups"),
    nn.BatchNorm1d: ("num_features",),
    nn.BatchNorm2d: ("num_features",),
    nn.GroupNorm: ("num_groups", "num_channels"),
    nn.Linear: (),
}
#: modules of torch that treat every channel alike and on its own
_KEPT = (
    "Identity ReLU ReLU6 LeakyReLU ELU GELU SiLU Mish Sigmoid Tanh Softplus Hardswish Hardsigmoid Hardtanh MaxPool2d "
    "AvgPool2d AdaptiveAvgPool2d AdaptiveMaxPool2d Upsample ZeroPad2d ReflectionPad2d ReplicationPad2d"
)
#: functions and methods that do
_KEPT_CALLS = (
    "relu relu_ relu6 leaky_relu elu gelu silu mish sigmoid tanh softplus hardswish hardsigmoid hardtanh neg abs exp "
    "square sqrt avg_pool2d max_pool2d adaptive_avg_pool2d adaptive_max_pool2d interpolate zeros_like ones_like clone "
    "contiguous float to"
)
#: and those that do where the channels of all tensors correspond
_POINTWISE = "add sub mul truediv div floordiv iadd isub imul add_ sub_ mul_ pow maximum minimum"
#: what is called with one network's tensors after another's
_BLOCKWISE = (
    "cat concat concatenate getitem chunk split unflatten transpose permute reshape view expand expand_as repeat pad "
    "mean sum amax softmax log_softmax unsqueeze squeeze size dim getattr"
)


class Stacked(nn.Module):
    """K networks that run as one; made by `stack`.

    Attributes
    ----------
    network : the rewritten module; its parameters are those of the K networks, concatenated along the first dimension
    n_networks : K
    names : keys of one network's state dict
    """

    def __init__(self, network: fx.GraphModule, n_networks: int, names: list[str]) -> None:
        super().__init__()
        self.network, self.n_networks, self.names = network, n_networks, names

    def forward(self, inputs: Tensor) -> Any:
        """Outputs K × N × classes (a tuple of such, where a network gives one) of inputs K × N × C (× H × W)."""
        if len(inputs) != self.n_networks:
            raise ValueError(f"{self.n_networks} stacked networks take that many batches, not {len(inputs)}")
        if inputs.ndim == 5:  # channels_last, in one copy
            merged = inputs.permute(1, 3, 4, 0, 2).flatten(3).permute(0, 3, 1, 2)
        else:
            merged = inputs.transpose(0, 1).flatten(1, 2)
        outputs = self.network(merged)
        return tuple(map(self._separate, outputs)) if isinstance(outputs, tuple) else self._separate(outputs)

    def _separate(self, output: Tensor) -> Tensor:
        return output.unflatten(1, (self.n_networks, -1)).transpose(0, 1)


def stack(networks: Sequence[nn.Module]) -> Stacked:
    """Rewrite K networks of one architecture into one module with K times the channels.

    Parameters
    ----------
    networks : alike in everything but their weights, which are copied

    Raises
    ------
    UserError
        The networks are not alike, or do what can't be done side by side: dropout, normalisation or flattening across a
        batch's images, modules and functions that aren't known, a forward pass that depends on the values of its input.
    """
    kinds = {(repr(each), *((name, v.shape, v.dtype) for name, v in each.state_dict().items())) for each in networks}
    if len(kinds) != 1:
        raise _refusal(f"{len(networks)} networks are given, which must be one or more of the same architecture")
    if len(list(networks[0].parameters())) < len(list(networks[0].named_parameters(remove_duplicate=False))):
        raise _refusal("layers share a parameter")
    states, n = [network.state_dict() for network in networks], len(networks)
    root = _Root(copy.deepcopy(networks[0]))
    graph = _trace(root)
    for node in graph.nodes:
        _rewrite(node, root, n)
    for place in dict.fromkeys(node.target for node in graph.nodes if node.op == "call_module"):
        _widen(root, place, n)
    stacked = Stacked(fx.GraphModule(root, graph), n, list(states[0])).train(networks[0].training)
    together = stacked.network.state_dict()
    for name in states[0]:
        own = [state[name] for state in states]
        if f"network.{name}" not in together:
            raise _refusal(f"{name} is not used in a pass")
        if not own[0].ndim and len(set(map(float, own))) > 1:
            raise _refusal(f"{name} differs: they are not equally long in training")
        together[f"network.{name}"].copy_(torch.cat(own) if own[0].ndim else own[0])
    return stacked.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def unstack(stacked: Stacked) -> list[dict[str, Tensor]]:
    """The K state dicts, parameters and buffers, under the names of a single network."""
    together, n = stacked.network.state_dict(), stacked.n_networks
    values = {name: together[f"network.{name}"] for name in stacked.names}
    parts = {name: value.chunk(n) if value.ndim else [value] * n for name, value in values.items()}
    return [{name: part[k].contiguous().clone() for name, part in parts.items()} for k in range(n)]


def stacking_pays(network: nn.Module, image_shape: tuple[int, int, int], batch_size: int, device: str = "cpu") -> bool:
    """Is a stack of such networks faster than one after another?

    Told by arithmetic alone, so that the answer, on which last bits depend, is the same whenever it is asked: in a small
    network calls dominate, in a large one the arithmetic, at which grouped convolutions are slower. A network that can't
    be stacked doesn't pay.

    Parameters
    ----------
    network : left as it is
    image_shape : C, H, W
    batch_size : images a pass of one network
    device : of the training
    """
    # two FLOP a multiply-add; the backward pass costs two forward ones
    flop = 6 * count_multiply_adds(network, image_shape) * batch_size
    if flop > (_MOST_ON_GPU if device.startswith("cuda") else _MOST_ON_CPU):
        return False
    try:
        stack([network] * 2)
    except UserError:
        return False
    return True


class _Root(nn.Module):
    """Around a network, so that tracing sees its hooks, and sees a single layer too."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Any:
        return self.network(inputs)


class _Linear(nn.Module):
    """A linear layer each: N × K·inputs → N × K·outputs."""

    def __init__(self, linear: nn.Linear, n: int) -> None:
        super().__init__()
        self.weight, self.bias, self.n, self.inputs = linear.weight, linear.bias, n, linear.in_features

    def forward(self, features: Tensor) -> Tensor:
        if features.ndim != 2:
            raise _refusal(f"a Linear layer gets {features.ndim} dimensions, not the two of features")
        blocks = features.unflatten(1, (self.n, self.inputs)).transpose(0, 1)
        weight = self.weight.unflatten(0, (self.n, -1)).transpose(1, 2)
        if self.bias is None:
            products = torch.bmm(blocks, weight)
        else:
            products = torch.baddbmm(self.bias.view(self.n, 1, -1), blocks, weight)
        return products.transpose(0, 1).flatten(1)


class _Blockwise(nn.Module):
    """A function of one network's tensors, called with those of each: K blocks in dimension 1 of every tensor."""

    def __init__(self, function: Callable[..., Any], n: int, pointwise: bool) -> None:
        super().__init__()
        self.function, self.n, self.pointwise = function, n, pointwise

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.pointwise:
            tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
            if len({(value.ndim, value.shape[1]) for value in tensors}) < 2:
                return self.function(*args, **kwargs)
        return _join([self.function(*self._part(args, index), **self._part(kwargs, index)) for index in range(self.n)])

    def _part(self, value: Any, index: int) -> Any:
        if isinstance(value, Tensor):
            return value.chunk(self.n, 1)[index]
        if isinstance(value, dict):
            return {key: self._part(item, index) for key, item in value.items()}
        return type(value)([self._part(item, index) for item in value]) if isinstance(value, (tuple, list)) else value


def _join(results: list[Any]) -> Any:
    if isinstance(results[0], Tensor):
        if results[0].ndim < 2:
            raise _refusal("a pass brings a batch down to one number a channel or less")
        return torch.cat(results, 1)
    if isinstance(results[0], (tuple, list)):
        return tuple(_join(list(parts)) for parts in zip(*results, strict=True))
    return results[0]


def _trace(root: _Root) -> fx.Graph:
    """The calls of a forward pass, which must be the same in training and in evaluation."""
    graphs = []
    for training in (True, False):
        try:
            graphs.append(fx.Tracer().trace(copy.deepcopy(root).train(training)))
        except Exception as error:  # a forward pass is anybody's code
            reason = str(error).partition("\n")[0]
            raise _refusal(f"the calls of a forward pass can't be followed ({reason})") from error
    if str(graphs[0]) != str(graphs[1]):
        raise _refusal("a pass makes other calls in training than in evaluation")
    return graphs[0]


def _rewrite(node: fx.Node, root: nn.Module, n: int) -> None:
    """Let a call to a function or method work on K blocks, or refuse it."""
    if node.op == "get_attr":
        raise _refusal(f"the parameter or buffer {str(node.target).removeprefix('network.')} belongs to no known layer")
    if node.op not in ("call_function", "call_method"):
        return
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    if name == "flatten":
        _check_flatten(node.args[1] if len(node.args) > 1 else node.kwargs.get("start_dim", 0))
    elif name == "getitem" and isinstance(node.args[1], tuple) and node.args[1][:2] == (slice(None), slice(None)):
        pass  # all channels are kept
    elif name in (*_POINTWISE.split(), *_BLOCKWISE.split()):
        # a block of the channels is not contiguous, which view demands and reshape doesn't
        own = "reshape" if name == "view" else name
        function = getattr(torch.Tensor, own) if isinstance(node.target, str) else node.target
        place = f"blockwise_{node.name}"
        root.add_module(place, _Blockwise(function, n, name in _POINTWISE.split()))
        node.op, node.target = "call_module", place
    elif name not in _KEPT_CALLS.split():
        raise _refusal(f"the function {name} is not known to leave them apart")


def _check_flatten(start: Any) -> None:
    # from dimension 1 on, K blocks stay K blocks
    if not isinstance(start, int) or start < 1:
        raise _refusal(f"flattening from dimension {start} on mixes a batch's images; flatten from 1 on")


def _widen(root: nn.Module, place: str, n: int) -> None:
    """Give a layer the weights of K, or refuse it."""
    module = root.get_submodule(place)
    name, kind = place.removeprefix("network."), type(module)
    if module._forward_hooks or module._forward_pre_hooks:
        raise _refusal(f"{name} has a hook, which would see all of them at once")
    if kind is nn.Flatten:
        _check_flatten(module.start_dim)
    elif kind in _WIDENED:
        for count in _WIDENED[kind]:
            setattr(module, count, getattr(module, count) * n)
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if tensor.ndim:
                tensor.data, tensor.grad = torch.cat([tensor.data] * n), None
        if isinstance(module, nn.Linear):
            root.set_submodule(place, _Linear(module, n))
    elif kind is not _Blockwise and kind not in [getattr(nn, known) for known in _KEPT.split()]:
        raise _refusal(f"{name} is a {kind.__name__}, which is not known to leave them apart")


def _refusal(reason: str) -> UserError:
    return UserError(f"networks can't be stacked: {reason}; train them one after another")

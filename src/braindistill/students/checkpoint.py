"""Weights from a local file: only tensors are read, and they are checked against what a network expects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from braindistill.errors import UserError
from braindistill.runtime import say, warn

#: options about how a student starts: of no use to rebuild a trained one
START = ("init", "weights", "overlap")


def start_from(
    network: nn.Module, name: str, init: str, weights: Path | str | None, overlap: str | None, advice: str = ""
) -> None:
    """Leave a new network its random weights, or load those of a file and warn about what they may have seen.

    Parameters
    ----------
    network : with a head for the student's classes; a head of the file for another number of them is not loaded
    name : what the network is called
    init : ``random`` or ``pretrained``
    weights : a ``.safetensors`` file, or a ``.pth`` file that torch reads with ``weights_only=True``
    overlap : what the weights were trained on that the test images show, in the experimenter's words
    advice : ends the error about weights that don't fit

    Raises
    ------
    UserError
        Pretrained without a file or the other way round; a file that can't be read or that doesn't fit the network.
    """
    if init == "random":
        if weights is not None:
            raise UserError(
                f"student.weights={weights}: read with student.init=pretrained only; set that, or leave it out"
            )
        return
    if weights is None:
        raise UserError(
            "student.init=pretrained takes local weights only: add student.weights=FILE.safetensors or .pth"
        )
    path = Path(weights)
    if not path.is_file():
        raise UserError(
            f"student.weights={path}: no such file; give a .safetensors or .pth file of {name}'s weights "
            "(scripts/download_data.py fetches torchvision's)"
        )
    state, own = read_tensors(path, "student.weights", name), network.state_dict()
    last = _last_parameter(network)
    outputs, wanted = count_outputs(network, state), own[last].shape[0]
    head = last.rpartition(".")[0]
    replaced = outputs is not None and outputs != wanted
    if replaced:
        state |= {key: value for key, value in own.items() if key.rpartition(".")[0] == head}
    if expected := difference(own, state):
        raise UserError(
            f"student.weights={path}: not the weights of {name}: the file holds {describe_tensors(state)}, and {name} "
            f"expects {expected}; {advice}give a file of this network's weights"
        )
    network.load_state_dict(state)
    if replaced:
        say(f"student.weights={path}: its head {head} for {outputs} classes is replaced by a random one for {wanted}")
    seen = f"declared overlap: {overlap}" if overlap else (
        "if they have seen the test set's classes or images, the student has too: declare the overlap in the "
        'experiment\'s YAML, student: {overlap: "what they were trained on"}'
    )  # fmt: skip
    warn(f"student.init=pretrained with {path}: {seen}")


def read_tensors(path: Path, option: str, name: str) -> dict[str, Tensor]:
    """Read a file of tensors by name, without running any code of its own.

    Parameters
    ----------
    path : ``.safetensors``, or anything that torch reads with ``weights_only=True``
    option : that names the file, for messages: ``student.weights``
    name : of the network whose weights are wanted

    Raises
    ------
    UserError
        No such file, or not a plain collection of tensors.
    """
    if not path.is_file():
        raise UserError(
            f"{option}={path}: no such file; give a .safetensors or .pth file of {name}'s weights, "
            f"or get it with: python scripts/download_data.py {name} --yes (without --yes it prints licence and size)"
        )
    start = f"{option}={path}: not the weights of {name}"
    try:
        state: Any
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both readers raise errors of their own kinds
        if "weights_only" in str(error) or "Weights only" in str(error):
            raise UserError(
                f"{start}: the file can't be read without running code of its own, which braindistill never does; "
                "where you trust it, save its tensors alone with torch.save(network.state_dict(), …)"
            ) from error
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"{start}: unreadable: {reason[:200]}") from error
    if not isinstance(state, dict):
        raise UserError(f"{start}: holds a {type(state).__name__}; expected a dict of tensors (network.state_dict())")
    other = [str(key) for key, value in state.items() if not isinstance(value, Tensor)]
    if other or not state:
        raise UserError(
            f"{start}: expected a dict of tensors, found {', '.join(other[:5]) or 'an empty one'} in it; "
            "save the weights alone, e.g. torch.save(checkpoint['state_dict'], …)"
        )
    return state


def count_outputs(network: nn.Module, state: dict[str, Tensor]) -> int | None:
    """How many classes a file has, by the tensor that is the network's last: a classifier of another data set still fits."""
    last = _last_parameter(network)
    return int(state[last].shape[0]) if last in state and state[last].ndim else None


def difference(expected: dict[str, Tensor], state: dict[str, Tensor]) -> str:
    """Where the tensors of a file differ from those that a network expects, or nothing."""
    # counters of batch normalisation came later than the rest, and old files lack them
    wanted = {key for key in expected if not key.endswith("num_batches_tracked")}
    for key, value in expected.items():
        if key in wanted and (key not in state or state[key].shape != value.shape):
            return f"{len(expected)} tensors, {_tensor(key, value)} (found: {_tensor(key, state.get(key))})"
    extra = [key for key in state if key not in expected]
    return f"{len(expected)} tensors and no {extra[0]!r}" if extra else ""


def describe_tensors(state: dict[str, Tensor]) -> str:
    """How many tensors there are, and the first one."""
    key = next(iter(state))
    return f"{len(state)} tensors, first {_tensor(key, state[key])}"


def _last_parameter(network: nn.Module) -> str:
    return next(reversed(dict(network.named_parameters())))


def _tensor(key: str, value: Tensor | None) -> str:
    return "nothing" if value is None else f"{key!r} {'×'.join(map(str, value.shape)) or 'a number'}"

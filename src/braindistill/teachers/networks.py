"""Networks by name, ours and torchvision's, with weights from a local file that is checked against what the network expects."""

from __future__ import annotations

import difflib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from braindistill.errors import UserError, nearest
from braindistill.runtime import seeded
from braindistill.students.build import build, student_names
from braindistill.students.checkpoint import count_outputs, describe_tensors, difference, read_tensors

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class LoadedNetwork(NamedTuple):
    """A network in evaluation mode and what it expects of its pictures.

    Attributes
    ----------
    network : takes pictures / 255, less ``mean``, over ``std``
    channels : 1 or 3
    side : (height, width) that it must be given, or None where it takes any
    mean, std : one value a channel: of ImageNet, of the student's own training images, or 0 and 1
    """

    network: nn.Module
    channels: int
    side: tuple[int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]


class _Architecture(NamedTuple):
    title: str
    make: Callable[[int], nn.Module]
    n_classes: int
    wrap: Callable[[nn.Module], LoadedNetwork]


def load_network(
    name: str, weights: Path | None, n_classes: int | None = None, shape: tuple[int, int, int] | None = None
) -> nn.Module:
    """Build a network by name, in evaluation mode, with weights of a file or, without one, seeded by its name.

    Parameters and errors are those of `find_network`.
    """
    return find_network(name, weights, n_classes, shape).network


def find_network(
    name: str, weights: Path | None, n_classes: int | None = None, shape: tuple[int, int, int] | None = None
) -> LoadedNetwork:
    """As `load_network`, with what the network expects of its pictures.

    Parameters
    ----------
    name : torchvision's name of a classification network, or a student's. Of a name that both have, the file decides
        whose weights it holds; without one it is the student's if ``n_classes`` is given, else torchvision's
    weights : a ``.safetensors`` file, or a ``.pth`` file that torch reads with ``weights_only=True``; beside a student's
        weights its ``student.json``, where there is one, says how the student was built
    n_classes : outputs; None: as many as the file has, else 1000 (torchvision) or 10 (students)
    shape : (C, H, W) of the pictures; students are built for it

    Raises
    ------
    UserError
        No such network or file; a file that is no plain collection of tensors, or that holds another network.
    """
    if weights is None:
        first = _architectures(name, n_classes, shape, None)[0]
        with seeded(0, "feature network", name), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # Inception's about its initial weights
            return first.wrap(first.make(first.n_classes).eval())
    path = Path(weights)
    candidates = _architectures(name, n_classes, shape, path)
    state = read_tensors(path, "teacher.weights", name)
    found: dict[str, str] = {}
    for candidate in candidates:
        with seeded(0, "feature network", name), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            network = candidate.make(candidate.n_classes)
            if n_classes is None and (outputs := count_outputs(network, state)) not in (None, candidate.n_classes):
                network = candidate.make(outputs)
        found[candidate.title] = difference(network.state_dict(), state)
        if not found[candidate.title]:
            network.load_state_dict(state)
            return candidate.wrap(network.eval())
    owner = _recognise(state, name, shape)
    holds = (
        f"{describe_tensors(state)}: the weights of {owner}"
        if owner
        else f"{describe_tensors(state)}: of no network known here"
    )
    mend = f"take teacher.network={owner.split()[-1]}, or give" if owner else "give"
    wanted = "; ".join(f"{title} expects {wants}" for title, wants in found.items())
    raise UserError(f"teacher.weights={path}: not the weights of {name}: the file holds {holds}, and {wanted}; {mend} "
                    f"a file of {name}'s weights")  # fmt: skip


def _architectures(
    name: str, n_classes: int | None, shape: tuple[int, int, int] | None, weights: Path | None
) -> list[_Architecture]:
    """What a name may stand for, likeliest first."""
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known and name not in student_names():
        raise UserError(
            f"teacher.network={name}: neither torchvision nor braindistill has such a network; "
            f"{nearest(name, {*known, *student_names()})}"
        )
    found = []
    record = weights.with_name("student.json") if weights else None
    described = json.loads(record.read_text(encoding="utf-8")) if record and record.is_file() else None
    if described and described["name"] != name:
        raise UserError(
            f"teacher.weights={weights}: the weights of the student {described['name']}, and teacher.network={name}; "
            f"take teacher.network={described['name']}, or give a file of {name}'s weights"
        )
    if name in student_names():
        found.append(_student(name, n_classes, shape, described))
    if name in known:
        torchvisions = _Architecture(
            f"torchvision's {name}",
            lambda outputs: torchvision.models.get_model(name, weights=None, num_classes=outputs),
            n_classes or 1000,
            lambda network: LoadedNetwork(network, 3, None, *_IMAGENET),
        )
        found.insert(len(found) if n_classes or described else 0, torchvisions)
    return found


def _student(
    name: str, n_classes: int | None, shape: tuple[int, int, int] | None, described: dict | None
) -> _Architecture:
    size: tuple[int, int, int] = tuple(described["image_shape"]) if described else shape or (3, 32, 32)  # type: ignore[assignment]
    mean, std = (0.0,) * size[0], (1.0,) * size[0]
    options = {}
    if described:
        options, mean, std = described["options"], tuple(described["mean"]), tuple(described["std"])
    return _Architecture(
        f"the student {name}",
        lambda outputs: build(name, outputs, size, 0, **options),
        n_classes or (len(described["classes"]) if described else 10),
        lambda network: LoadedNetwork(network, size[0], size[1:], mean, std),
    )


def _recognise(state: dict[str, Tensor], name: str, shape: tuple[int, int, int] | None) -> str:
    """Whose weights these are, found by building networks without data (about 3 s for all); '' where no one's."""
    import torchvision

    candidates = [
        _architectures(known, None, None, None)[0] for known in torchvision.models.list_models(torchvision.models)
    ]
    for known in student_names():
        candidates += [_student(known, None, (channels, *(shape or (3, 32, 32))[1:]), None) for channels in (3, 1)]
    # the likeliest first: a relative of what was asked for
    candidates.sort(key=lambda candidate: -difflib.SequenceMatcher(None, candidate.title.split()[-1], name).ratio())
    for candidate in candidates:
        try:
            with torch.device("meta"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                network = candidate.make(candidate.n_classes)
                if (outputs := count_outputs(network, state)) not in (None, candidate.n_classes):
                    network = candidate.make(outputs)
        except Exception:  # some of torchvision's compute with numbers while they are built, which meta can't
            continue
        if not difference(network.state_dict(), state):
            return candidate.title
    return ""

"""Which layers of a student, and which of its teacher, a method works on."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from braindistill.errors import UserError, nearest
from braindistill.students.taps import find_last_input, find_stages, read_shapes

#: methods that need features with places, and how many on a side
_PLACES = {"attention": 2, "fitnet": 2, "mask": 4}


def choose_layer(
    network: nn.Module,
    image_shape: tuple[int, int, int],
    method: str,
    kind: str,
    *,
    layer: str | None = None,
) -> str:
    """The layer of the student that a method with one layer works on.

    Parameters
    ----------
    method, kind : names of the method and of the kind of target that it learns from
    layer : a module of the student, ``NAME:input`` for what it is given. None: the input of the last linear layer; for
        ``mask``, and ``similarity`` with features, the last map (of 4 × 4 places or more, of 2 × 2 or more)

    Raises
    ------
    UserError
        The network has no such layer, or none to choose.
    """
    if layer is not None:
        return layer
    if method == "mask" or (method == "similarity" and kind == "features"):
        stages = find_stages(network, image_shape)
        shapes = read_shapes(network, image_shape, stages)
        least = _PLACES.get(method, 2)
        maps = [name for name, shape in zip(stages, shapes, strict=True) if _side(shape) >= least]
        maps = maps or [name for name, shape in zip(stages, shapes, strict=True) if _side(shape) > 1]
        if maps:
            return maps[-1]
    last = find_last_input(network)
    if last is None or method == "mask":
        known = nearest("", [name for name, _ in network.named_modules() if name])
        wanted = "layer with a map" if method == "mask" else "linear layer"
        raise UserError(f"method.layer=null: the student has no {wanted}; {known}")
    return last


def choose_teacher_layer(
    layers: Sequence[str], shapes: Sequence[tuple[int, ...]], method: str, *, teacher_layer: str | None = None
) -> int:
    """Number of the layer of a target of features that a method with one layer learns from.

    Parameters
    ----------
    layers, shapes : what the target holds
    teacher_layer : one of these layers, with ``target=features``. None: the last one; for ``similarity`` the last map

    Raises
    ------
    UserError
        The target has no such layer.
    """
    if teacher_layer is not None:
        return _number(layers, teacher_layer, "method.teacher_layer")
    maps = [number for number, shape in enumerate(shapes) if _side(shape) > 1]
    return maps[-1] if method == "similarity" and maps else len(layers) - 1


def choose_pairs(
    network: nn.Module,
    image_shape: tuple[int, int, int],
    known: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
    method: str,
    *,
    layers: list[str] | None = None,
    teacher_layers: list[str] | None = None,
) -> tuple[list[str], list[int]]:
    """Layers of the student, and the numbers of the layers of a target of features that they learn from.

    Parameters
    ----------
    known, shapes : the layers that the target holds
    layers : modules of the student, in the order of a pass. None: the last one of each spatial resolution
    teacher_layers : the layers of the target that belong to them. None: the target's, the last with the last; ``attention``
        and ``fitnet`` leave out those of a single place

    Raises
    ------
    UserError
        A layer that the target lacks; layers that can't be paired.
    """
    least = _PLACES.get(method, 1)
    if layers is None:
        stages = find_stages(network, image_shape)
        sides = [_side(shape) for shape in read_shapes(network, image_shape, stages, "method.layers")]
        own = [name for name, side in zip(stages, sides, strict=True) if side >= least]
    else:
        own = list(layers)
    if teacher_layers is None:
        theirs = [number for number, shape in enumerate(shapes) if _side(shape) >= least]
        if not theirs and method == "fitnet" and layers is not None:  # vectors that were asked for
            theirs = list(range(len(known)))
    else:
        theirs = [_number(known, name, "method.teacher_layers") for name in teacher_layers]
    if layers is not None and teacher_layers is not None and len(own) != len(theirs):
        raise UserError(
            f"method.layers names {len(own)} layers and method.teacher_layers {len(theirs)}: give each layer one of the "
            "teacher's"
        )
    count = min(len(own), len(theirs))
    named = max(len(layers or []), len(teacher_layers or []))
    if not count or count < named:
        where = "with places " if least > 1 else ""
        raise UserError(
            f"method={method}: {len(own)} layers {where}of the student ({', '.join(own) or 'none'}) and {len(theirs)} of the "
            f"target ({', '.join(known[number] for number in theirs) or 'none'}) can't be paired; name them with "
            "method.layers and method.teacher_layers, or export others with target.layers"
        )
    return own[-count:], theirs[-count:]


def _side(shape: tuple[int, ...]) -> int:
    """The shorter side of a map; 1 of anything else."""
    return min(shape[1:]) if len(shape) == 3 else 1


def _number(layers: Sequence[str], name: str, option: str) -> int:
    if name not in layers:
        raise UserError(f"{option}={name}: the target holds no such layer of the teacher; {nearest(name, layers)}")
    return list(layers).index(name)

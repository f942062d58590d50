"""What a student learns from beside its labels: a method, its target's rows for the images, and the layers it works on."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from braindistill import methods, students
from braindistill.errors import UserError
from braindistill.images import ImageSet
from braindistill.methods import Place, Term, method_parameters, takes, weigh
from braindistill.students.adapters import Adapted, make_adapter
from braindistill.students.contrasting import Contrast
from braindistill.students.layers import choose_layer, choose_pairs, choose_teacher_layer
from braindistill.students.taps import Tapped, average_places, read_shapes
from braindistill.targets import split_layers

#: bytes of features that are held in memory; more are read from the disk, batch by batch
_HELD = 2e9
_LAYER_OPTIONS = ("layer", "layers", "teacher_layer", "teacher_layers")


@dataclass
class Lesson:
    """One term of a training, with its target joined to the images that are known.

    Attributes
    ----------
    name, method, options : of the term, with its own options
    kind : of its target; None: it learns from labels
    rows : images × …: the target
    found : bool (images): which of them have one
    layers : of the student, that it works on; none: on logits
    shapes : of the teacher's, for one image
    weight : of the columns of voxels, or None
    fetch : what the target is, where ``rows`` only number it: the similarities between images, or features that are too
        large to be held
    record : of the target
    """

    name: str
    method: str
    options: dict[str, Any]
    kind: str | None = None
    rows: Tensor | None = None
    found: np.ndarray | None = None
    layers: tuple[str, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    weight: np.ndarray | None = None
    fetch: Callable[[Tensor], Tensor] | None = None
    record: Mapping[str, Any] | None = None

    @property
    def parameters(self) -> list[str]:
        return method_parameters(self.method)


def read_terms(method: Mapping[str, Any]) -> tuple[float, dict[str, dict[str, Any]]]:
    """Weight of the labels, and options of each term with its method's ``name``: one, or those of ``combined``."""
    weight = float(method.get("label_weight", 1.0))
    if method["name"] == "combined":
        for name in method["terms"]:
            if not name.isidentifier() or hasattr(nn.ModuleDict, name):
                raise UserError(f"method.terms.{name}: a term can't be called so; take a word of letters, digits and _")
        return weight, {name: dict(term) for name, term in method["terms"].items()}
    return weight, {method["name"]: dict(method)}


def prepare_lesson(
    name: str,
    options: Mapping[str, Any],
    target: Any | None,
    network: nn.Module,
    image_set: ImageSet,
    known: np.ndarray,
    device: str,
) -> Lesson:
    """Join a term's target with the known images, and choose the layers that its method works on.

    Raises
    ------
    UserError
        There is no target, it is of a kind that the method can't learn from, or covers none of the images; no such layers.
    """
    own = {key: value for key, value in options.items() if key not in ("name", "label_weight")}
    lesson = Lesson(name, options["name"], own)
    kinds = takes(lesson.method)
    if not kinds:
        return lesson
    if target is None:
        raise UserError(
            f"method={lesson.method} learns from a target; export one (teacher=…, target={' or '.join(kinds)}) or take "
            "method=none"
        )
    if target.kind not in kinds:
        raise UserError(
            f"method={lesson.method} learns from {' or '.join(kinds)}, and the target holds {target.kind}; take "
            f"target={kinds[0]}"
        )
    lesson.kind, lesson.record = target.kind, target.record
    shape = image_set.image_shape
    chosen = _choose(lesson, target, network, shape)
    image_id = image_set.train_ids[known]
    if target.kind == "soft_labels":
        rows, lesson.found = target.rows_for(image_id, image_set.classes)
    elif target.kind == "mask":
        rows, lesson.found = target.rows_for(image_id, shape[1:])
    elif target.kind == "features":
        size = 2 * len(known) * prod(target.rows.shape[1:-1]) * sum(map(prod, lesson.shapes))
        if size > _HELD and not _averaged(lesson):
            lesson.fetch = target.fetch_on(device, chosen)
            rows, lesson.found = target.numbers_for(image_id)
        else:
            rows, lesson.found = target.rows_for(image_id, chosen)
    else:
        rows, lesson.found = target.rows_for(image_id)
    if not lesson.found.any():
        raise UserError("the target covers none of the training images: its image ids are others")
    if target.kind == "voxels":
        rows = _standardised(rows, lesson.found)
        lesson.weight, lesson.shapes = np.array(target.weight), ((rows.shape[1],),)
        if "teacher_features" in lesson.parameters:
            rows = rows * np.sqrt(target.weight)  # so that inner products and squared distances are weighted
    elif target.kind == "relations":
        lesson.fetch = target.blocks_on(device)
    lesson.rows = torch.from_numpy(rows)
    if target.kind == "features" and _averaged(lesson):
        lesson.rows, lesson.shapes = _as_vectors(lesson.rows, lesson.shapes[0])
    return lesson


def equip(
    network: nn.Module,
    lessons: list[Lesson],
    labels: Tensor,
    seed: int,
    device: str,
    image_shape: tuple[int, int, int],
    passes: int,
) -> tuple[nn.Module, list[Term]]:
    """Tap the network where a lesson works on layers, and make the terms of the loss.

    Parameters
    ----------
    lessons : joined with the images of the training set
    labels : int64, of these
    passes : as of `Contrast`

    Returns
    -------
    The network that is trained (the bare one where nothing is tapped), and the terms.
    """
    adapters: dict[str, nn.Module] = {}
    for lesson in lessons:
        if lesson.layers:
            shapes = read_shapes(network, image_shape, lesson.layers, _option(lesson))
            found = torch.from_numpy(np.array(lesson.found))
            given = Adapted(lesson.method, shapes, list(lesson.shapes), labels, found, seed)
            adapters[lesson.name] = make_adapter(given, **_options_of(f"adapt_{lesson.method}", lesson.options))
    terms = [_term(lesson, adapters.get(lesson.name), seed, device, passes) for lesson in lessons]
    if not adapters:
        return network, terms
    layers = {lesson.name: lesson.layers for lesson in lessons if lesson.layers}
    return Tapped(network, layers, adapters), terms


def _choose(lesson: Lesson, target: Any, network: nn.Module, shape: tuple[int, int, int]) -> list[int]:
    """Set the layers of the student and the shapes of the teacher's; numbers of those of a target of features."""
    of_layers = {key: lesson.options[key] for key in _LAYER_OPTIONS if key in lesson.options}
    features = target.kind == "features"
    numbers: list[int] = []
    if "student_layers" in lesson.parameters:
        named, numbers = choose_pairs(network, shape, target.layers, target.shapes, lesson.method, **of_layers)
        lesson.layers = tuple(named)
    elif "student_logits" not in lesson.parameters:
        named_layer = of_layers.pop("teacher_layer", None)
        if features:
            numbers = [choose_teacher_layer(target.layers, target.shapes, lesson.method, teacher_layer=named_layer)]
        elif named_layer is not None:
            raise UserError(f"method.teacher_layer={named_layer}: the target holds {target.kind}, which have no layers")
        lesson.layers = (choose_layer(network, shape, lesson.method, target.kind, **of_layers),)
    if features:
        lesson.shapes = tuple(tuple(target.shapes[number]) for number in numbers)
    return numbers


def _term(lesson: Lesson, adapter: nn.Module | None, seed: int, device: str, passes: int) -> Term:
    weights = _options_of(weigh, lesson.options)
    left_out = {*weights, *_LAYER_OPTIONS, *_options_of(f"adapt_{lesson.method}", lesson.options)}
    options = {key: value for key, value in lesson.options.items() if key not in left_out}
    if lesson.kind and "target_weight" not in weights:
        weights["target_weight"] = methods.published_weight(lesson.method)
    method: str | Callable[..., Tensor] = lesson.method
    if "teacher_voxels" in lesson.parameters and lesson.weight is not None:
        options["weight"] = torch.from_numpy(lesson.weight).to(device)
    elif lesson.method == "crd":
        method = Contrast(adapter, seed, passes)  # type: ignore[arg-type]
    elif lesson.fetch is not None or "teacher_layers" in lesson.parameters:
        shapes = lesson.shapes if "teacher_layers" in lesson.parameters else None
        method = _Unpacked(getattr(methods, f"{lesson.method}_loss"), lesson.fetch, shapes)
    return Term(lesson.name, method, options, **weights)


class _Unpacked:
    """A loss that is given what rows stand for: fetched, where they are numbers, and split into layers, where there are any."""

    def __init__(
        self,
        loss: Callable[..., Tensor],
        fetch: Callable[[Tensor], Tensor] | None,
        shapes: tuple[tuple[int, ...], ...] | None,
    ) -> None:
        self.loss, self.fetch, self.shapes = loss, fetch, shapes

    def __call__(self, features: Any, rows: Tensor, _: Place, **options: Any) -> Tensor:
        precision = features.dtype if isinstance(features, Tensor) else features[0].dtype
        target = rows if self.fetch is None else self.fetch(rows).to(precision)
        return self.loss(features, target if self.shapes is None else split_layers(target, self.shapes), **options)


def _averaged(lesson: Lesson) -> bool:
    """Does the method want the teacher's features without their places?"""
    return "teacher_features" in lesson.parameters and lesson.method != "similarity"


def _options_of(function: str | Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the given options that a function of the package, if there is such, takes by name."""
    known = getattr(students, function, None) if isinstance(function, str) else function
    if known is None:
        return {}
    taken = inspect.signature(known).parameters.values()
    return {one.name: given[one.name] for one in taken if one.kind is one.KEYWORD_ONLY and one.name in given}


def _option(lesson: Lesson) -> str:
    return "method.layers" if "student_layers" in lesson.parameters else "method.layer"


def _standardised(rows: np.ndarray, found: np.ndarray) -> np.ndarray:
    """z-scored over the images that this student learns from, so that 1 is the loss of a head that knows nothing."""
    deviation = rows[found].std(0)
    return (rows - rows[found].mean(0)) / np.where(deviation > 0, deviation, 1)


def _as_vectors(rows: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, tuple[tuple[int, ...], ...]]:
    """Rows of one layer (images (× views) × width) averaged over the layer's places."""
    if len(shape) == 1:
        return rows, (shape,)
    vectors = average_places(rows.reshape(-1, prod(shape)).unflatten(1, shape).float())
    return vectors.half().unflatten(0, rows.shape[:-1]), ((vectors.shape[1],),)

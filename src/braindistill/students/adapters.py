"""What stands between a student's layers and a loss while it is trained, and is dropped afterwards.

A method's adapter is made by ``adapt_METHOD(given, …)``, whose keyword-only parameters are options of the method. A method
without one works on the features as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from braindistill import students
from braindistill.methods import CrdMemory, average_down, method_parameters
from braindistill.runtime import seeded, torch_generator
from braindistill.students.taps import average_places


@dataclass(frozen=True)
class Adapted:
    """What an adapter is made for.

    Attributes
    ----------
    method : name of the method
    student, teacher : shapes of one image's features, in each layer
    labels : int64 (images of the training set), −1 = unlabelled
    has_target : bool (images)
    seed : of initial weights
    """

    method: str
    student: list[tuple[int, ...]]
    teacher: list[tuple[int, ...]]
    labels: Tensor
    has_target: Tensor
    seed: int


def make_adapter(given: Adapted, **options: int | float) -> nn.Module:
    """The adapter of a method, with weights that follow from the seed."""
    make = getattr(students, f"adapt_{given.method}", None)
    if make is not None:
        with seeded(given.seed, "student", "adapter", given.method):
            return make(given, **options)
    return Several() if "student_layers" in method_parameters(given.method) else Vector()


class Vector(nn.Module):
    """One layer's features as vectors, through a linear head where there is one."""

    def __init__(self, head: nn.Module | None = None) -> None:
        super().__init__()
        self.head = head

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        vectors = average_places(layers[0])
        return vectors if self.head is None else self.head(vectors)


class Whole(nn.Module):
    """One layer's features with their places."""

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        return layers[0]


class Several(nn.Module):
    """Several layers' features as they are."""

    def forward(self, layers: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(layers)


def adapt_voxels(given: Adapted) -> nn.Module:
    """A linear head from features to voxels."""
    return Vector(nn.Linear(given.student[0][-1 if len(given.student[0]) == 2 else 0], given.teacher[0][0]))


def adapt_mask(given: Adapted) -> nn.Module:
    """Maps as they are."""
    return Whole()


def adapt_similarity(given: Adapted) -> nn.Module:
    """Features as they are: inner products are over channels and places."""
    return Whole()


def adapt_fitnet(given: Adapted) -> nn.Module:
    """For each layer a 1 × 1 convolution, or a linear layer for vectors and tokens, to the teacher's channels.

    Of maps and vectors with batch normalisation behind it, as in the code that the published weight belongs to: without
    it, that weight makes trainings diverge.
    """
    return _Regressors(given.student, given.teacher)


class _Regressors(nn.Module):
    def __init__(self, student: list[tuple[int, ...]], teacher: list[tuple[int, ...]]) -> None:
        super().__init__()
        made: list[nn.Module] = []
        for own, wanted in zip(student, teacher, strict=True):
            if len(own) == 3:
                made.append(nn.Sequential(nn.Conv2d(own[0], wanted[0], 1, bias=False), nn.BatchNorm2d(wanted[0])))
            elif len(own) == 1:
                made.append(nn.Sequential(nn.Linear(own[0], wanted[0], bias=False), nn.BatchNorm1d(wanted[0])))
            else:
                made.append(nn.Linear(own[-1], wanted[-1]))
        self.regressors = nn.ModuleList(made)
        self.sides = [wanted[1:] if len(wanted) == 3 else None for wanted in teacher]

    def forward(self, layers: Sequence[Tensor]) -> tuple[Tensor, ...]:
        regressed = []
        for features, regressor, sides in zip(layers, self.regressors, self.sides, strict=True):
            if features.ndim == 4:  # what needn't be regressed is averaged away first
                size = sides or (1, 1)
                features = average_down(features, (min(features.shape[2], size[0]), min(features.shape[3], size[1])))
            features = regressor(features)
            if sides is None and features.ndim == 4:
                features = features.flatten(1)
            elif sides is not None and features.ndim == 2:
                features = features[:, :, None, None]
            regressed.append(features)
        return tuple(regressed)


def adapt_review(given: Adapted) -> nn.Module:
    """The fusion of Chen et al. 2021 (section 3.3, attention based fusion): from the deepest layer to the first, each is
    joined with what the deeper ones have become.

    r = a₁ · conv₁ₓ₁(s) + a₂ · resize(r of the deeper layer), where the two maps a are a sigmoid of a 1 × 1 convolution of
    both; the layer's answer is conv₃ₓ₃(r), with the teacher's channels and size. As in the authors' code there are as many
    channels in between as the deepest layer has, at most 512, and each convolution is followed by batch normalisation.
    """
    return _Fusion(given.student, given.teacher)


class _Fusion(nn.Module):
    def __init__(self, student: list[tuple[int, ...]], teacher: list[tuple[int, ...]]) -> None:
        super().__init__()
        width = min(512, student[-1][0])
        self.sides = [(tuple(shape[1:]) or (1, 1)) for shape in teacher]
        self.reduce = nn.ModuleList([_convolution(shape[0], width, 1) for shape in student])
        self.answer = nn.ModuleList([_convolution(width, shape[0], 3) for shape in teacher])
        self.weigh = nn.ModuleList([nn.Conv2d(2 * width, 2, 1) for _ in student[:-1]])

    def forward(self, layers: Sequence[Tensor]) -> tuple[Tensor, ...]:
        answers: list[Tensor] = []
        deeper: Tensor | None = None
        for place in reversed(range(len(layers))):
            features = layers[place]
            joined = self.reduce[place](features[:, :, None, None] if features.ndim == 2 else features)
            if deeper is not None:
                deeper = F.interpolate(deeper, joined.shape[2:], mode="nearest")
                weights = self.weigh[place](torch.cat([joined, deeper], 1)).sigmoid()
                joined = weights[:, :1] * joined + weights[:, 1:] * deeper
            deeper = joined
            side = self.sides[place]
            resized = joined if joined.shape[2:] == side else F.interpolate(joined, side, mode="nearest")
            answers.insert(0, self.answer[place](resized))
        return tuple(answers)


def _convolution(channels: int, width: int, kernel: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(width))


def adapt_crd(given: Adapted, *, dimension: int = 128, negatives: int = 16384, momentum: float = 0.5) -> nn.Module:
    """Linear embeddings of student and teacher, and the memory of both.

    Parameters
    ----------
    dimension : of the embeddings
    negatives : images that each is told from, drawn with replacement from those of other classes; no more than there are
        images with a target
    momentum : share of an image's old embedding that stays in the memory
    """
    return Embeddings(given, dimension, negatives, momentum)


class Embeddings(nn.Module):
    """Of a layer of the student and one of the teacher; see `adapt_crd`.

    Attributes
    ----------
    student, teacher : linear layers
    memory : of the images that have a target
    row : int64 (images of the training set): each image's row in the memory
    """

    row: Tensor

    def __init__(self, given: Adapted, dimension: int, negatives: int, momentum: float) -> None:
        super().__init__()
        sizes = [shape[-1 if len(shape) == 2 else 0] for shape in (given.student[0], given.teacher[0])]
        self.student, self.teacher = (nn.Linear(size, dimension) for size in sizes)
        labels = given.labels[given.has_target]
        self.memory = CrdMemory(
            len(labels),
            dimension,
            torch_generator(given.seed, "memory"),
            labels,
            negatives=min(negatives, len(labels)),
            momentum=momentum,
        )
        self.register_buffer("row", given.has_target.cumsum(0) - 1)

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        return self.student(average_places(layers[0]))

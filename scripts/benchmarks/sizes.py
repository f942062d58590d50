"""How much is measured, and on what: networks, images and options of the comparisons."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from braindistill.methods import Term, make_objective
from braindistill.runtime import Runtime
from braindistill.students.build import build
from braindistill.training import Learner, TrainingSet, TrainOptions, train

Shape = tuple[int, int, int]
CIFAR: Shape = (3, 32, 32)
#: the demo's images, batches and epochs
DIGITS: Shape = (1, 8, 8)
#: a training that writes nothing, unless its learner has a folder
QUIET = Runtime(device="cpu", tensorboard=False, checkpoint_seconds=1e9, verbosity=0)
LABELS = make_objective([])
SOFT = make_objective([Term("kd", "kd", {"temperature": 4.0}, target_weight=0.9)], label_weight=0.1)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is measured: turns, steps a turn, and the networks that stand for real ones."""

    repeats: int = 7
    augmented: int = 5000
    steps: int = 4
    batch: int = 128
    threads: int = 2
    student: str = "resnet20"
    teachers: tuple[str, ...] = ("resnet34", "resnet56")
    seeds: int = 8
    epochs: int = 20  # of the demo's student
    tiny_images: int = 400
    #: student, width, image, batch: a step of one takes 8 to 2,400 MFLOP
    choices: tuple[tuple[str, int, Shape, int], ...] = (
        ("small_cnn", 8, DIGITS, 32),
        ("small_cnn", 32, DIGITS, 32),
        ("resnet8", 8, (3, 16, 16), 64),
        ("resnet8", 16, CIFAR, 32),
    )
    memory_steps: int = 33  # more images than are augmented at once
    memory_images: int = 20_000


QUICK = Sizes(
    repeats=1,
    augmented=512,
    steps=2,
    batch=8,
    threads=1,
    student="resnet8",
    teachers=("resnet14",),
    seeds=2,
    epochs=1,
    tiny_images=64,
    choices=(("small_cnn", 4, DIGITS, 32), ("resnet8", 16, (3, 16, 16), 64)),
    memory_steps=2,
    memory_images=200,
)


def make_set(n: int, shape: Shape, soft: bool = False) -> TrainingSet:
    """So many images of ten classes, with a teacher's cached log-probabilities where asked for."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(256, (n, *shape), generator=draw, dtype=torch.uint8)
    labels = torch.randint(10, (n,), generator=draw)
    targets = {"kd": torch.randn(n, 10, generator=draw).log_softmax(1)} if soft else {}
    middle = torch.full((shape[0],), 0.5)
    return TrainingSet(
        images, labels, n, targets, log_targets=frozenset(targets), mean=middle, std=torch.full((shape[0],), 0.25)
    )


def make_learner(student: str, data: TrainingSet, seed: int = 0, folder: Path | None = None, **options: Any) -> Learner:
    """A new network that learns from labels, or from soft labels where the set has some."""
    shape: Any = tuple(data.images.shape[1:])
    return Learner(
        build(student, 10, shape, seed, **options), data, None, SOFT if data.targets else LABELS, seed, folder
    )


def make_options(batch: int, epochs: int = 1, **options: Any) -> TrainOptions:
    """Those of the CIFAR recipes, or of the demo; the rate is low, since noise has nothing to teach."""
    return TrainOptions(epochs=epochs, batch_size=batch, lr=0.01, **options)


def epoch_of(learner: Learner, options: TrainOptions) -> Callable[[], float]:
    """Seconds of an epoch by the engine, as its history says; what is done once a training is not in it."""
    return lambda: train([learner], QUIET, options)[0][-1]["seconds"]


def laid_out(network: nn.Module) -> nn.Module:
    """The network in channels_last."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def plain_rule(network: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), 0.01, 0.9, weight_decay=5e-4, **options)


def resident(steps: int, batch: int, layout: torch.memory_format) -> list[tuple[Tensor, Tensor]]:
    """Batches as float tensors, ready for a network."""
    images = torch.randn(steps, batch, *CIFAR)
    return [(each.contiguous(memory_format=layout), torch.randint(10, (batch,))) for each in images]

"""What the training loop works on: a training set, the batches that are made of it, and who learns from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from braindistill.images import Moves


@dataclasses.dataclass
class TrainingSet:
    """What a network learns from; rows of everything correspond.

    Attributes
    ----------
    images : uint8 tensor or array, which may be a memory map (images × channels × height × width), augmented and
        normalised; or a float tensor (rows × …) of any other input (voxels, features), which is taken as it is
    labels : int64 tensor (images); −1 = unlabelled
    epoch_size : images an epoch goes through. Where it is larger than the set, the set is repeated: an arm that can't
        use the pool makes as many steps as those that can.
    targets : name → tensor (images × …), such as log-probabilities of the classes or responses of voxels; a target of
        which there is one for each view is images × views × …
    has_target : name → bool tensor (images): which rows are one; a target that isn't named here has them all
    log_targets : targets that are log-probabilities: where images are mixed, they are mixed as probabilities
    maps : targets (images × height × width) that move with their image
    views : K · n moves, view v of image i being at v · n + i; an image is then augmented by one of its views
    viewed : targets of which there is one for each view
    mean, std : per-channel statistics in [0, 1] that uint8 images are normalised with
    names : ids of the images, for messages
    """

    images: Tensor | np.ndarray
    labels: Tensor
    epoch_size: int
    targets: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    has_target: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    log_targets: frozenset[str] = frozenset()
    maps: frozenset[str] = frozenset()
    views: Moves | None = None
    viewed: frozenset[str] = frozenset()
    mean: Tensor | None = None
    std: Tensor | None = None
    names: Sequence[str] | None = None

    def to(self, device: torch.device) -> TrainingSet:
        """The same with everything but the images on a device."""
        return dataclasses.replace(
            self,
            labels=self.labels.to(device),
            targets={name: rows.to(device) for name, rows in self.targets.items()},
            has_target={name: rows.to(device) for name, rows in self.has_target.items()},
            mean=None if self.mean is None else self.mean.to(device),
            std=None if self.std is None else self.std.to(device),
        )


@dataclasses.dataclass
class Batch:
    """N inputs of a step, and what is known of them, on the network's device.

    Attributes
    ----------
    rows : int64, N, rows of the training set
    inputs : what the network is given
    labels : int64, N; −1 = unlabelled
    targets, has_target : as in `TrainingSet`, those of these rows: of the view that was taken, moved and mixed as the
        images were
    epoch, step : both from 0; steps are counted over the whole training
    partner : labels of the images that were mixed in, or None
    share : of an image itself in its mixture, 1 where nothing is mixed
    """

    rows: Tensor
    inputs: Tensor
    labels: Tensor
    targets: dict[str, Tensor]
    has_target: dict[str, Tensor]
    epoch: int
    step: int
    partner: Tensor | None = None
    share: float = 1.0

    def __getitem__(self, part: slice) -> Batch:
        """Some of the inputs, with what belongs to them."""
        return dataclasses.replace(
            self,
            rows=self.rows[part],
            inputs=self.inputs[part],
            labels=self.labels[part],
            targets={name: rows[part] for name, rows in self.targets.items()},
            has_target={name: rows[part] for name, rows in self.has_target.items()},
            partner=None if self.partner is None else self.partner[part],
        )


@dataclasses.dataclass(frozen=True)
class Validation:
    """Held-out inputs and how well a network does on them.

    Attributes
    ----------
    images : as those of the training set
    score : outputs (images × …, float32, on the CPU; the first where the network returns several) → score, the higher
        the better
    name : the history records the score as ``val_{name}``
    """

    images: Tensor
    score: Callable[[Tensor], float]
    name: str = "accuracy"


@dataclasses.dataclass
class Learner:
    """One network in training, and what it learns from.

    Attributes
    ----------
    network : from normalised images to logits, or to a tuple that begins with them; trained in place
    data, validation : training set; held-out inputs with a score, or None
    loss : (the network's outputs as float32, batch) → terms by name, whose sum is minimised. It may have a method
        ``finish(batch)``, called after the step. What it learns or remembers is a part of ``network``
    seed : seeds order and augmentation
    folder : where ``metrics.jsonl``, TensorBoard events and ``checkpoint/`` go; None: a training within another one,
        which writes nothing and shows no progress
    """

    network: nn.Module
    data: TrainingSet
    validation: Validation | None
    loss: Callable[[Any, Batch], dict[str, Tensor]]
    seed: int
    folder: Path | None = None

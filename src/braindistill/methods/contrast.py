"""Contrastive distillation: the student's embedding of an image tells the teacher's of that image from those of others."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from braindistill.errors import UserError


def crd_loss(
    student_features: Tensor,
    teacher_features: Tensor,
    student_memory: Tensor,
    teacher_memory: Tensor,
    sampled: Tensor,
    log_z: Tensor | None = None,
    *,
    temperature: float = 0.07,
) -> Tensor:
    """Contrastive representation distillation (Tian et al. 2020, "Contrastive representation distillation", equations 17 to
    19), by noise-contrastive estimation.

    −(log h(x₀) + Σ_k log(1 − h(x_k))), averaged over images and summed over student against remembered teacher and teacher
    against remembered student. h = P / (P + K / M), P = exp(cosine / τ) / Z, with K negatives out of M images; the constant
    Z makes P average 1 / M in the first batch, as in the authors' code.

    Parameters
    ----------
    student_features, teacher_features : N × width, of two linear adapters that both learn; divided by their lengths here
    student_memory, teacher_memory : M × width, rows of length 1, as a `CrdMemory` holds them
    sampled : int64, N × (1 + K), rows of the memories: the image itself, then its negatives
    log_z : log Z of student and of teacher; None: those of this batch
    temperature : τ > 0
    """
    if not temperature > 0:
        raise UserError(f"method.temperature={temperature}: must be positive")
    images, each = len(student_memory), sampled.shape[1]
    scores = torch.stack(
        [
            _cosines(student_features, teacher_memory, sampled) / temperature,
            _cosines(teacher_features, student_memory, sampled) / temperature,
        ]
    )
    log_z = _log_z(scores, images) if log_z is None else log_z.to(scores.dtype)
    odds = scores - log_z[:, None, None] - math.log((each - 1) / images)  # log P − log(K / M)
    total = F.logsigmoid(odds[:, :, 0]).sum() + F.logsigmoid(-odds[:, :, 1:]).sum()
    return -total / max(len(sampled), 1)


class CrdMemory(nn.Module):
    """The last embeddings of every image, by student and teacher: 2 × images × width numbers, and no more.

    Attributes
    ----------
    student, teacher : images × width, rows of length 1
    log_z : of student and of teacher; NaN until `settle` has seen a batch
    """

    student: Tensor
    teacher: Tensor
    log_z: Tensor
    order: Tensor
    first: Tensor
    size: Tensor

    def __init__(
        self,
        n_images: int,
        width: int,
        generator: torch.Generator,
        labels: Tensor | None = None,
        *,
        negatives: int = 16384,
        momentum: float = 0.5,
    ) -> None:
        """Fill with random directions.

        Parameters
        ----------
        n_images, width : rows and columns
        generator : draws the first embeddings
        labels : int64, images; negatives are of other classes; −1: of a class of its own. None: all are
        negatives : K, drawn with replacement
        momentum : share of the old embedding that stays at an update
        """
        super().__init__()
        if negatives < 1:
            raise UserError(f"method.negatives={negatives}: must be at least 1")
        if not 0 <= momentum < 1:
            raise UserError(f"method.momentum={momentum}: must be at least 0 and below 1")
        drawn = torch.randn(2, n_images, width, generator=generator)
        self.register_buffer("student", F.normalize(drawn[0], dim=1))
        self.register_buffer("teacher", F.normalize(drawn[1], dim=1))
        self.register_buffer("log_z", torch.full((2,), math.nan))
        own = torch.arange(n_images)
        groups = own if labels is None else torch.where(labels >= 0, labels, own + labels.max() + 1)
        _, group, counts = torch.unique(groups, return_inverse=True, return_counts=True)
        if len(counts) < 2:
            raise UserError("method=crd: all images are of one class, so there is nothing to tell an image from")
        # Images in the order of their classes, so that a class is a run that a number can step over.
        self.register_buffer("order", group.argsort(stable=True))
        self.register_buffer("first", (counts.cumsum(0) - counts)[group])
        self.register_buffer("size", counts[group])
        self.negatives, self.momentum = negatives, momentum
        self._settled = False

    def sample(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """For each of N images, itself and its negatives: int64, N × (1 + K)."""
        others = len(self.order) - self.size[rows]
        uniform = torch.rand(
            len(rows), self.negatives, generator=generator, dtype=torch.float64, device=generator.device
        )
        place = (uniform.to(rows.device) * others[:, None]).long()
        place = place + self.size[rows, None] * (place >= self.first[rows, None])
        return torch.cat([rows[:, None], self.order[place]], 1)

    @torch.no_grad()
    def settle(self, student: Tensor, teacher: Tensor, sampled: Tensor, *, temperature: float = 0.07) -> Tensor:
        """log Z: of the first batch that is given (embeddings, N × width), and the same ever after."""
        if not self._settled and self.log_z.isnan().any():  # looked at once, since to look is to wait for the device
            sides = ((student, self.teacher), (teacher, self.student))
            scores = torch.stack([_cosines(features, bank, sampled) / temperature for features, bank in sides])
            self.log_z.copy_(_log_z(scores, len(self.order)))
        self._settled = True
        return self.log_z

    @torch.no_grad()
    def update(self, rows: Tensor, student: Tensor, teacher: Tensor) -> None:
        """Take in the embeddings (N × width) of different images, after the backward pass, which needs the old ones."""
        for bank, features in ((self.student, student), (self.teacher, teacher)):
            new = F.normalize(features, dim=1).to(bank.dtype)
            bank[rows] = F.normalize(self.momentum * bank[rows] + (1 - self.momentum) * new, dim=1)


def _cosines(features: Tensor, bank: Tensor, sampled: Tensor) -> Tensor:
    """Of each image's features with its sampled rows of a bank, N × (1 + K).

    All products, then a choice: N × M numbers, where copies of the sampled rows would be N × K × width.
    """
    return (F.normalize(features, dim=1) @ bank.to(features.dtype).T).gather(1, sampled)


def _log_z(scores: Tensor, images: int) -> Tensor:
    """log Z with which exp(score) / Z averages 1 / images, for each of two sides."""
    return scores.detach().flatten(1).logsumexp(1) + math.log(images) - math.log(max(scores[0].numel(), 1))

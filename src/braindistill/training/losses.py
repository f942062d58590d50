"""Sums of loss terms over an epoch, which stop a training where one is no number."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from braindistill.errors import UserError
from braindistill.training.data import Batch, Learner

#: steps after which the losses of a GPU are looked at: to look means to wait for it
_LOOK = 64


class LossSums:
    """For each learner the sum of each of its terms.

    Parameters
    ----------
    learners : whose terms they are
    totals : sums to go on from
    device : of the terms; those of a GPU are looked at now and then only
    lr : for the message
    """

    def __init__(
        self, learners: list[Learner], totals: list[dict[str, float]], device: torch.device, lr: float
    ) -> None:
        self.learners, self.lr = learners, lr
        self.every = 1 if device.type == "cpu" else _LOOK
        self.sums = [dict(own) for own in totals]
        self.seen: list[tuple[list[dict[str, Tensor]], Sequence[Batch]]] = []

    def add(self, terms: list[dict[str, Tensor]], batches: Sequence[Batch]) -> None:
        self.seen.append((terms, batches))
        if len(self.seen) >= self.every:
            self.totals()

    def totals(self) -> list[dict[str, float]]:
        for terms, batches in self.seen:
            for own, sums, batch, learner in zip(terms, self.sums, batches, self.learners, strict=True):
                for name, term in own.items():
                    value = term.item()
                    if not math.isfinite(value):
                        raise UserError(self._diverged(name, value, batch, learner))
                    sums[name] = sums.get(name, 0.0) + value
        self.seen = []
        return self.sums

    def _diverged(self, name: str, value: float, batch: Batch, learner: Learner) -> str:
        rows = batch.rows[:3].tolist()
        names = [str(learner.data.names[row] if learner.data.names is not None else row) for row in rows]
        where = f"epoch {batch.epoch + 1}, step {batch.step + 1}, seed {learner.seed} (images {', '.join(names)} …)"
        return f"training diverged: the loss ({name}) is {value} in {where}; lower train.lr={self.lr}"

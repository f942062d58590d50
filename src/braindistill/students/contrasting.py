"""Contrastive distillation as a term of a training: it draws negatives, and remembers embeddings after each step."""

from __future__ import annotations

from torch import Tensor

from braindistill.methods import Place, crd_loss
from braindistill.runtime import torch_generator
from braindistill.students.adapters import Embeddings


class Contrast:
    """`crd_loss` with its memory, as the method of a `Term`.

    Parameters
    ----------
    embeddings : a part of the network that is trained
    seed : draws the negatives of each step
    passes : of each image in a step: two in sharpness-aware minimisation, of which the first is remembered
    """

    def __init__(self, embeddings: Embeddings, seed: int, passes: int = 1) -> None:
        self.embeddings, self.seed, self.passes = embeddings, seed, passes
        self._seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def __call__(self, student: Tensor, target: Tensor, place: Place, *, temperature: float = 0.07) -> Tensor:
        memory, rows = self.embeddings.memory, self.embeddings.row[place.rows]
        teacher = self.embeddings.teacher(target)
        generator = torch_generator(self.seed, "negatives", place.step, device=str(rows.device))
        sampled = memory.sample(rows, generator)
        log_z = memory.settle(student, teacher, sampled, temperature=temperature)
        self._seen.append((rows, student.detach(), teacher.detach()))
        return crd_loss(student, teacher, memory.student, memory.teacher, sampled, log_z, temperature=temperature)

    def finish(self) -> None:
        """Let the memory take in what was seen since the last step of the optimiser."""
        for rows, student, teacher in self._seen[: len(self._seen) // self.passes]:
            self.embeddings.memory.update(rows, student, teacher)
        self._seen.clear()

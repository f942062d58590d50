"""Losses on logits. Each is a pure function of tensors that returns a scalar; label −1 means unlabelled."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from braindistill.errors import UserError


def none_loss(student_logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, averaged over the labelled rows; 0 if there are none.

    Parameters
    ----------
    student_logits : N × classes
    labels : int64, N; −1 = unlabelled
    """
    return label_smoothing_loss(student_logits, labels, smoothing=0.0)


def label_smoothing_loss(student_logits: Tensor, labels: Tensor, *, smoothing: float = 0.1) -> Tensor:
    """Cross-entropy with smoothed labels (Szegedy et al. 2016, "Rethinking the Inception architecture", section 7).

    q(k) = (1 − ε) [k = label] + ε / K, averaged over the labelled rows; 0 if there are none.

    Parameters
    ----------
    student_logits : N × classes
    labels : int64, N; −1 = unlabelled
    smoothing : ε, in [0, 1]
    """
    if not 0 <= smoothing <= 1:
        raise UserError(f"method.smoothing={smoothing}: must be from 0 to 1")
    total = F.cross_entropy(student_logits, labels, ignore_index=-1, reduction="sum", label_smoothing=smoothing)
    return total / (labels >= 0).sum().clamp(min=1)


def kd_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None = None, *, temperature: float = 4.0
) -> Tensor:
    """Knowledge distillation (Hinton et al. 2015, "Distilling the knowledge in a neural network", section 2).

    T² · KL(softmax(t / T) ‖ softmax(s / T)), averaged over rows; T² keeps the size of the gradient. 0 if there are
    no rows.

    Parameters
    ----------
    student_logits : s, N × classes
    teacher_logits : t, N × classes; log-probabilities will do, being logits up to a constant a row. −∞ is probability 0
    labels : not used; every method on logits takes them
    temperature : T > 0
    """
    if not temperature > 0:
        raise UserError(f"method.temperature={temperature}: must be positive")
    log_student = F.log_softmax(student_logits / temperature, dim=1)
    # Probabilities, not their logarithms: kl_div then takes 0 · log 0 as 0.
    teacher = F.softmax(teacher_logits / temperature, dim=1)
    divergence = F.kl_div(log_student, teacher, reduction="sum") / max(len(student_logits), 1)
    return temperature**2 * divergence

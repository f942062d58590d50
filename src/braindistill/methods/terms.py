"""The loss that a student is trained on: a label term and a target term, each over the rows that have one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from braindistill import methods
from braindistill.methods.logits import none_loss
from braindistill.methods.signatures import needs_target


def objective(
    student_logits: Tensor,
    labels: Tensor,
    teacher_logits: Tensor | None,
    has_target: Tensor | None,
    method: str | Callable[..., Tensor],
    options: Mapping[str, Any],
    *,
    label_weight: float = 1.0,
    target_weight: float = 1.0,
) -> Tensor:
    """label_weight · (cross-entropy over labelled rows) + target_weight · (method over rows with a target).

    A method without ``teacher_logits``, such as label smoothing, takes the place of the cross-entropy. Each term is
    the mean over its own rows and 0 if it has none.

    Parameters
    ----------
    student_logits : N × classes
    labels : int64, N; −1 = unlabelled
    teacher_logits : N × classes (rows without a target may hold anything), or None if no row has a target
    has_target : bool, N; None if every row of ``teacher_logits`` is a target, which spares the device a synchronisation
    method : a method's name, or a function of (student_logits, teacher_logits, labels)
    options : the method's own options
    label_weight, target_weight : weights of the two terms
    """
    if isinstance(method, str) and not needs_target(method):
        return label_weight * getattr(methods, f"{method}_loss")(student_logits, labels, **options)
    loss = label_weight * none_loss(student_logits, labels)
    if teacher_logits is None:
        return loss
    if has_target is not None:
        student_logits, teacher_logits, labels = (rows[has_target] for rows in (student_logits, teacher_logits, labels))
    if len(student_logits) == 0:
        return loss
    distil = getattr(methods, f"{method}_loss") if isinstance(method, str) else method
    return loss + target_weight * distil(student_logits, teacher_logits.to(student_logits.dtype), labels, **options)

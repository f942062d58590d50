"""The loss that a student is trained on: a label term and a target term, each over the rows that have one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from braindistill import methods
from braindistill.methods.logits import none_loss
from braindistill.methods.signatures import needs_target


def objective(
    outputs: Tensor | tuple[Tensor, Tensor],
    labels: Tensor,
    target: Tensor | None,
    has_target: Tensor | None,
    method: str | Callable[..., Tensor],
    options: Mapping[str, Any],
    epoch: int = 0,
    *,
    label_weight: float = 1.0,
    target_weight: float = 1.0,
    target_warmup: int = 0,
) -> Tensor:
    """label_weight · (cross-entropy over labelled rows) + target_weight · (method over rows with a target).

    A method without a target, such as label smoothing, takes the place of the cross-entropy. Each term is the mean over
    its own rows and 0 if it has none.

    Parameters
    ----------
    outputs : logits, N × classes, on which the method works; or (logits, features), and it works on the features
    labels : int64, N; −1 = unlabelled
    target : N × … (rows without a target may hold anything), or None if no row has a target
    has_target : bool, N; None if every row of ``target`` is one, which spares the device a synchronisation
    method : a method's name, or a function of (student, target) and, on logits, labels
    options : the method's own options
    epoch : of the training, from 0
    label_weight, target_weight : weights of the two terms
    target_warmup : epochs in which the weight of the target rises linearly, as DKD asks for (Zhao et al. 2022)
    """
    logits, student = outputs if isinstance(outputs, tuple) else (outputs, outputs)
    if isinstance(method, str) and not needs_target(method):
        return label_weight * getattr(methods, f"{method}_loss")(logits, labels, **options)
    loss = label_weight * none_loss(logits, labels)
    if target is None:
        return loss
    if has_target is not None:
        student, target, labels = (rows[has_target] for rows in (student, target, labels))
    if len(student) == 0:
        return loss
    if target.is_floating_point():
        target = target.to(student.dtype)
    distil = getattr(methods, f"{method}_loss") if isinstance(method, str) else method
    given = (student, target) if isinstance(outputs, tuple) else (student, target, labels)
    if epoch < target_warmup:
        target_weight *= (epoch + 1) / target_warmup
    return loss + target_weight * distil(*given, **options)

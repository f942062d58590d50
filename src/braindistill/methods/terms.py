"""The loss that a student is trained on: a term for its labels and one for each target, each over the rows that have one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from braindistill import methods
from braindistill.errors import UserError
from braindistill.methods.logits import none_loss
from braindistill.methods.signatures import method_parameters, takes

#: what the term of the labels is called
LABEL = "label"


class Examples(Protocol):
    """What the loss reads of a batch of N inputs; a training's `Batch` is one."""

    rows: Tensor
    labels: Tensor
    targets: dict[str, Tensor]
    has_target: dict[str, Tensor]
    epoch: int
    step: int
    partner: Tensor | None
    share: float


class Place(NamedTuple):
    """Where in the training a term is computed.

    Attributes
    ----------
    rows : int64, those rows of the training set that have the term's target
    step : from 0, over the whole training
    """

    rows: Tensor
    step: int


@dataclass(frozen=True)
class Term:
    """A method with its options, and what its loss counts.

    Attributes
    ----------
    name : of the target that it learns from, of the student's features where it works on these, and in the log
    method : a method's name, or a function of (features, target, place), with the options
    options : the method's own
    target_weight, target_warmup, target_end : see `weigh`
    """

    name: str
    method: str | Callable[..., Tensor]
    options: Mapping[str, Any] = field(default_factory=dict)
    target_weight: float = 1.0
    target_warmup: int = 0
    target_end: int | None = None

    @functools.cached_property
    def on_labels(self) -> bool:
        """Does it take the place of the cross-entropy?"""
        return isinstance(self.method, str) and not takes(self.method)

    @functools.cached_property
    def on_logits(self) -> bool:
        """Does it work on logits, with labels beside them?"""
        return isinstance(self.method, str) and "student_logits" in method_parameters(self.method)

    @functools.cached_property
    def loss(self) -> Callable[..., Tensor]:
        return getattr(methods, f"{self.method}_loss") if isinstance(self.method, str) else self.method

    def weight(self, epoch: int) -> float:
        """`weigh` in an epoch."""
        return weigh(
            epoch,
            target_weight=self.target_weight,
            target_warmup=self.target_warmup,
            target_end=self.target_end,
        )


def weigh(epoch: int, *, target_weight: float = 1.0, target_warmup: int = 0, target_end: int | None = None) -> float:
    """Weight of a target's term in an epoch, counted from 0.

    Parameters
    ----------
    target_weight : the full weight
    target_warmup : epochs in which the weight rises linearly, as DKD asks for (Zhao et al. 2022)
    target_end : the epoch from which the term is left out (Cho and Hariharan 2019, "On the efficacy of knowledge
        distillation": early-stopped distillation); None: it stays
    """
    if target_end is not None and epoch >= target_end:
        return 0.0
    return target_weight * (epoch + 1) / target_warmup if epoch < target_warmup else target_weight


def objective(
    outputs: Tensor | tuple[Tensor, Mapping[str, Any]],
    batch: Examples,
    terms: Sequence[Term],
    *,
    label_weight: float = 1.0,
) -> dict[str, Tensor]:
    """Weighted terms, whose sum is minimised: the cross-entropy over labelled rows, and each method over rows with its target.

    A method without a target, such as label smoothing, takes the place of the cross-entropy. Each term is the mean over
    its own rows, and 0 if it has none. Of mixed images (mixup, cutmix) the term of the labels is that of both images,
    by their shares; targets come mixed, and a method that looks at labels is given those of the larger share.

    Parameters
    ----------
    outputs : logits, N × classes; or (logits, features of the student by term)
    batch : labels, and targets by term; a term that ``has_target`` doesn't name has a target in every row, which spares
        the device a synchronisation
    terms : at most one of them without a target
    label_weight : of the term of the labels

    Returns
    -------
    dict
        ``label``, then the terms by name; one that is left out in this epoch is 0.
    """
    logits, features = outputs if isinstance(outputs, tuple) else (outputs, {})
    own = next((term for term in terms if term.on_labels), None)
    losses = {LABEL: _scaled(_on_labels(logits, batch, own), label_weight)}
    labels = batch.labels
    if batch.partner is not None and batch.share < 0.5:
        labels = batch.partner
    for term in terms:
        if not term.on_labels:
            losses[term.name] = _on_target(logits, features, batch, labels, term)
    return losses


class Objective:
    """`objective` of given terms, as a training calls it."""

    def __init__(self, terms: Sequence[Term], label_weight: float = 1.0) -> None:
        check_terms(terms)
        self.terms, self.label_weight = list(terms), label_weight

    def __call__(self, outputs: Any, batch: Examples) -> dict[str, Tensor]:
        return objective(outputs, batch, self.terms, label_weight=self.label_weight)


class RememberingObjective(Objective):
    """An `Objective` of which some methods remember what they have seen: they have a method ``finish()``."""

    def finish(self, batch: Examples) -> None:
        """Let them take in what they have seen, after the optimiser's step."""
        for term in self.terms:
            if hasattr(term.method, "finish"):
                term.method.finish()


def make_objective(terms: Sequence[Term], label_weight: float = 1.0) -> Objective:
    """An `Objective`; only one with a memory has a ``finish``."""
    remembers = any(hasattr(term.method, "finish") for term in terms)
    return (RememberingObjective if remembers else Objective)(terms, label_weight)


def check_terms(terms: Sequence[Term]) -> None:
    """Refuse terms that can't be told apart, or two that both take the place of the cross-entropy.

    Raises
    ------
    UserError
        Naming them.
    """
    on_labels = [term.name for term in terms if term.on_labels]
    if len(on_labels) > 1:
        raise UserError(
            f"method=combined: {' and '.join(on_labels)} both take the place of the cross-entropy; leave one out"
        )
    names = [term.name for term in terms]
    if LABEL in names:
        raise UserError(
            f"method=combined: a term can't be called {LABEL}, as that of the labels is; give it another name"
        )


def _on_labels(logits: Tensor, batch: Examples, term: Term | None) -> Tensor:
    loss = none_loss if term is None else functools.partial(term.loss, **term.options)
    if batch.partner is None:
        return loss(logits, batch.labels)
    return batch.share * loss(logits, batch.labels) + (1 - batch.share) * loss(logits, batch.partner)


def _on_target(logits: Tensor, features: Mapping[str, Any], batch: Examples, labels: Tensor, term: Term) -> Tensor:
    weight, target = term.weight(batch.epoch), batch.targets.get(term.name)
    if weight == 0 or target is None:
        return logits.new_zeros(())
    student = logits if term.on_logits else features[term.name]
    rows = batch.rows
    if (has_target := batch.has_target.get(term.name)) is not None:
        student, target, labels, rows = (_chosen(part, has_target) for part in (student, target, labels, rows))
    if len(target) == 0:
        return logits.new_zeros(())
    if target.is_floating_point():
        target = target.to(logits.dtype)
    if term.on_logits:
        loss = term.loss(student, target, labels, **term.options)
    elif isinstance(term.method, str):
        loss = term.loss(student, target, **term.options)
    else:
        loss = term.loss(student, target, Place(rows, batch.step), **term.options)
    return _scaled(loss, weight)


def _chosen(part: Any, rows: Tensor) -> Any:
    """Rows of a tensor, or of each tensor of several."""
    return part[rows] if isinstance(part, Tensor) else tuple(each[rows] for each in part)


def _scaled(loss: Tensor, weight: float) -> Tensor:
    return loss if weight == 1 else weight * loss

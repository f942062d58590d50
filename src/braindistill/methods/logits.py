"""Losses on logits. Each is a pure function of tensors that returns a scalar; label −1 means unlabelled."""

from __future__ import annotations

import math
from typing import Literal

import torch
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


def teacher_free_loss(
    student_logits: Tensor,
    labels: Tensor,
    *,
    alpha: float = 0.1,
    certainty: float = 0.99,
    temperature: float = 20.0,
) -> Tensor:
    """Distillation from a teacher made by hand (Yuan et al. 2020, "Revisiting knowledge distillation via label smoothing
    regularization", equations 8 and 9: Tf-KD_reg).

    (1 − α) · cross-entropy + α · KL(softmax(p / T) ‖ softmax(s)), averaged over the labelled rows; 0 if there are none.
    The teacher says p(k) = a for the label and (1 − a) / (K − 1) for any other class. As in the authors' code, it is these
    probabilities that are divided by T, the student's logits are taken as they are, and there is no factor T².

    Parameters
    ----------
    student_logits : s, N × classes
    labels : int64, N; −1 = unlabelled
    alpha : α, in [0, 1]
    certainty : a, in [0, 1]; 0.9 or more in the paper
    temperature : T > 0
    """
    _check_temperature(temperature)
    for name, value in {"alpha": alpha, "certainty": certainty}.items():
        if not 0 <= value <= 1:
            raise UserError(f"method.{name}={value}: must be from 0 to 1")
    labelled, classes = labels >= 0, student_logits.shape[1]
    virtual = torch.full_like(student_logits, (1 - certainty) / max(classes - 1, 1))
    virtual = virtual.scatter(1, labels.clamp(min=0)[:, None], certainty)
    rows = _divergence(F.log_softmax(student_logits, dim=1), F.softmax(virtual / temperature, dim=1))
    divergence = (rows * labelled).sum() / labelled.sum().clamp(min=1)
    return (1 - alpha) * none_loss(student_logits, labels) + alpha * divergence


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
    _check_temperature(temperature)
    log_student = F.log_softmax(student_logits / temperature, dim=1)
    # Probabilities, not their logarithms: kl_div then takes 0 · log 0 as 0.
    teacher = F.softmax(teacher_logits / temperature, dim=1)
    divergence = F.kl_div(log_student, teacher, reduction="sum") / max(len(student_logits), 1)
    return temperature**2 * divergence


def dkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None = None,
    *,
    temperature: float = 4.0,
    alpha: float = 1.0,
    beta: float = 8.0,
) -> Tensor:
    """Decoupled knowledge distillation (Zhao et al. 2022, "Decoupled knowledge distillation", equation 7).

    T² · (α · TCKD + β · NCKD), averaged over rows. TCKD is the divergence of (label, not label), NCKD that of the softmax
    over the other classes alone. A row without a label has no such parts and counts with the plain divergence of `kd_loss`.

    Parameters
    ----------
    student_logits, teacher_logits : as in `kd_loss`. A teacher that gives all other classes probability 0 has no NCKD
    labels : int64, N; −1 = unlabelled; None: all are
    temperature : T > 0
    alpha, beta : weights of the two parts. The paper's β is 8 (ResNet-8x4, ShuffleNet), 6 (WRN, VGG) or 2 (ResNet-20)
    """
    if labels is None:
        return kd_loss(student_logits, teacher_logits, temperature=temperature)
    _check_temperature(temperature)
    student, teacher = student_logits / temperature, teacher_logits / temperature
    log_student, soft_teacher = F.log_softmax(student, dim=1), F.softmax(teacher, dim=1)
    label = labels.clamp(min=0)[:, None]
    # The label's column is left out by number, so nothing remains of it, as it would of a large negative logit.
    others = torch.arange(student.shape[1] - 1, device=student.device)
    others = others + (others >= label)
    binary_student = torch.cat([log_student.gather(1, label), log_student.gather(1, others).logsumexp(1, True)], 1)
    binary_teacher = torch.cat([soft_teacher.gather(1, label), soft_teacher.gather(1, others).sum(1, True)], 1)
    target = _divergence(binary_student, binary_teacher)
    rest = F.softmax(teacher.gather(1, others), dim=1).nan_to_num(0)
    non_target = _divergence(F.log_softmax(student.gather(1, others), dim=1), rest)
    rows = torch.where(labels >= 0, alpha * target + beta * non_target, _divergence(log_student, soft_teacher))
    return temperature**2 * rows.sum() / max(len(rows), 1)


def dist_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None = None,
    *,
    temperature: float = 4.0,
    beta: float = 1.0,
    gamma: float = 1.0,
) -> Tensor:
    """Correlation in the place of divergence (Huang et al. 2022, "Knowledge distillation from a stronger teacher",
    equations 9 to 11; T² as in the authors' code).

    T² · (β · (1 − r of rows) + γ · (1 − r of columns)), where r is the mean Pearson correlation of the student's and the
    teacher's probabilities: of an image over classes, and of a class over the images of a batch.

    Parameters
    ----------
    student_logits, teacher_logits, labels : as in `kd_loss`
    temperature : T > 0
    beta, gamma : weights. A single row has no correlation over images and gets the first part only. A row or column in
        which all probabilities are alike counts as uncorrelated
    """
    _check_temperature(temperature)
    if len(student_logits) == 0:
        return student_logits.sum()
    student, teacher = (F.softmax(logits / temperature, dim=1) for logits in (student_logits, teacher_logits))
    loss = beta * (1 - _correlation(student, teacher, 1).mean())
    if len(student) > 1:
        loss = loss + gamma * (1 - _correlation(student, teacher, 0).mean())
    return temperature**2 * loss


def standardized_kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None = None,
    *,
    base: Literal["kd", "dkd"] = "kd",
    temperature: float = 2.0,
    alpha: float = 1.0,
    beta: float = 8.0,
) -> Tensor:
    """`kd_loss` or `dkd_loss` of standardised logits (Sun et al. 2024, "Logit standardization in knowledge distillation",
    algorithm 1).

    The logits of each row have their mean subtracted and are divided by their unbiased standard deviation, so that the
    student needs to match neither the teacher's shift nor its scale.

    Parameters
    ----------
    student_logits, teacher_logits : as in `kd_loss`, but finite. A row of equal logits becomes zeros, without a gradient
    labels : for ``dkd``
    base : what the standardised logits go through
    temperature : T > 0, after standardisation
    alpha, beta : of ``dkd``
    """
    student, teacher = _standardized(student_logits), _standardized(teacher_logits)
    if base == "dkd":
        return dkd_loss(student, teacher, labels, temperature=temperature, alpha=alpha, beta=beta)
    return kd_loss(student, teacher, temperature=temperature)


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise UserError(f"method.temperature={temperature}: must be positive")


def _divergence(log_student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher ‖ student) of each row; 0 · log 0 is 0."""
    return F.kl_div(log_student, teacher, reduction="none").sum(1)


def _correlation(one: Tensor, other: Tensor, dim: int) -> Tensor:
    return F.cosine_similarity(one - one.mean(dim, keepdim=True), other - other.mean(dim, keepdim=True), dim=dim)


def _standardized(logits: Tensor) -> Tensor:
    centred = logits - logits.mean(1, keepdim=True)
    # A norm has a gradient at 0, which std() has not.
    deviation = centred.norm(dim=1, keepdim=True) / math.sqrt(max(logits.shape[1] - 1, 1))
    return centred / deviation.masked_fill(deviation == 0, math.inf)

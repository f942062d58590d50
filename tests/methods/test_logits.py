from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from braindistill.errors import UserError
from braindistill.methods import (
    dist_loss,
    dkd_loss,
    kd_loss,
    label_smoothing_loss,
    none_loss,
    standardized_kd_loss,
    teacher_free_loss,
)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3


def softmax(row: list[float]) -> list[float]:
    exponentials = [math.exp(value - max(row)) for value in row]
    return [value / sum(exponentials) for value in exponentials]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_kd_is_hintons_formula(temperature):
    student, teacher = draw(5, 4), draw(5, 4, seed=1)
    total = 0.0
    for s_row, t_row in zip(student.tolist(), teacher.tolist(), strict=True):
        s = softmax([value / temperature for value in s_row])
        t = softmax([value / temperature for value in t_row])
        total += sum(q * math.log(q / p) for p, q in zip(s, t, strict=True))
    loss = kd_loss(student, teacher, temperature=temperature)
    assert loss.item() == pytest.approx(temperature**2 * total / 5, rel=1e-12)
    as_log_probabilities = kd_loss(student, teacher.log_softmax(1), temperature=temperature)
    assert as_log_probabilities.item() == pytest.approx(loss.item(), rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(temperature=st.floats(0.1, 20), shift=st.floats(-50, 50), seed=st.integers(0, 99))
def test_kd_is_zero_at_equality_only_and_blind_to_shifts(temperature, shift, seed):
    student, teacher = draw(3, 6, seed=seed), draw(3, 6, seed=seed + 100)
    assert kd_loss(student, student + shift, temperature=temperature).item() == pytest.approx(0, abs=1e-9)
    loss = kd_loss(student, teacher, temperature=temperature)
    assert loss > 0
    assert kd_loss(student + shift, teacher, temperature=temperature).item() == pytest.approx(loss.item(), rel=1e-6)


def test_kd_gradient():
    student, teacher = draw(4, 3).requires_grad_(), draw(4, 3, seed=1)
    assert torch.autograd.gradcheck(lambda logits: kd_loss(logits, teacher, temperature=3.0), student)
    # The factor T² makes the gradient at high temperature that of logit matching: (s − t) / (K N), both centred.
    (gradient,) = torch.autograd.grad(kd_loss(student, teacher, temperature=1e4), student)
    expected = (student - student.mean(1, keepdim=True) - teacher + teacher.mean(1, keepdim=True)) / (3 * 4)
    torch.testing.assert_close(gradient, expected.detach(), rtol=1e-2, atol=1e-3)


def test_kd_takes_probability_zero_and_no_rows():
    student = draw(1, 3).requires_grad_()
    loss = kd_loss(student, torch.tensor([[0.0, -math.inf, -math.inf]], dtype=torch.float64), temperature=1.0)
    assert loss.item() == pytest.approx(-student.log_softmax(1)[0, 0].item(), rel=1e-12)
    loss.backward()
    assert torch.isfinite(student.grad).all()
    assert kd_loss(draw(0, 3), draw(0, 3)).item() == 0


def test_cross_entropy_is_the_mean_over_labelled_rows():
    logits, labels = draw(4, 3), torch.tensor([2, -1, 0, -1])
    expected = -(math.log(softmax(logits[0].tolist())[2]) + math.log(softmax(logits[2].tolist())[0])) / 2
    assert none_loss(logits, labels).item() == pytest.approx(expected, rel=1e-12)
    assert none_loss(logits, torch.full((4,), -1)).item() == 0
    assert torch.autograd.gradcheck(lambda x: none_loss(x, labels), logits.requires_grad_())


def test_label_smoothing_is_szegedys_formula():
    logits, labels, smoothing = draw(4, 3), torch.tensor([2, -1, 0, 1]), 0.3
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        if label >= 0:
            p = softmax(row)
            total -= sum(((k == label) * (1 - smoothing) + smoothing / 3) * math.log(p[k]) for k in range(3))
    assert label_smoothing_loss(logits, labels, smoothing=smoothing).item() == pytest.approx(total / 3, rel=1e-12)
    assert label_smoothing_loss(logits, torch.full((4,), -1)).item() == 0
    assert torch.autograd.gradcheck(lambda x: label_smoothing_loss(x, labels), logits.requires_grad_())


# The papers' formulas, in plain loops over rows


def divergence(teacher: list[float], student: list[float]) -> float:
    return sum(q * math.log(q / p) for q, p in zip(teacher, student, strict=True) if q > 0)


def dkd_row(s_row: list[float], t_row: list[float], label: int, temperature: float) -> tuple[float, float]:
    s, t = softmax([value / temperature for value in s_row]), softmax([value / temperature for value in t_row])
    target = divergence([t[label], 1 - t[label]], [s[label], 1 - s[label]])
    rest = [[value / temperature for k, value in enumerate(row) if k != label] for row in (s_row, t_row)]
    return target, divergence(softmax(rest[1]), softmax(rest[0]))


def dkd_formula(student, teacher, labels, temperature, alpha, beta) -> float:
    total = 0.0
    for s_row, t_row, label in zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        if label >= 0:
            target, rest = dkd_row(s_row, t_row, label, temperature)
            total += alpha * target + beta * rest
        else:
            total += divergence(*(softmax([value / temperature for value in row]) for row in (t_row, s_row)))
    return temperature**2 * total / len(labels)


def dist_formula(student, teacher, temperature, beta, gamma) -> float:
    s, t = (np.array([softmax([v / temperature for v in row]) for row in x.tolist()]) for x in (student, teacher))
    rows = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(s, t, strict=True)])
    columns = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(s.T, t.T, strict=True)])
    return temperature**2 * (beta * (1 - rows) + gamma * (1 - columns))


def standardised(logits: torch.Tensor) -> torch.Tensor:
    rows = logits.double().numpy()
    return torch.from_numpy(np.stack([(row - row.mean()) / row.std(ddof=1) for row in rows]))


LABELS = torch.tensor([2, 0, -1, 5, 5, -1, 1])
PUBLISHED = {
    "dkd": (dkd_loss, lambda s, t: dkd_formula(s, t, LABELS, 4.0, 1.0, 8.0)),
    "dist": (dist_loss, lambda s, t: dist_formula(s, t, 4.0, 1.0, 1.0)),
    "standardized_kd": (
        standardized_kd_loss,
        # with a label nowhere, the decoupled formula is the plain one
        lambda s, t: dkd_formula(standardised(s), standardised(t), torch.full((7,), -1), 2.0, 0, 0),
    ),
    "standardized_dkd": (
        lambda s, t, labels: standardized_kd_loss(s, t, labels, base="dkd", beta=6.0),
        lambda s, t: dkd_formula(standardised(s), standardised(t), LABELS, 2.0, 1.0, 6.0),
    ),
}


@pytest.mark.parametrize(("loss", "formula"), PUBLISHED.values(), ids=PUBLISHED)
def test_published_formula(loss, formula):
    for seed in range(3):
        student, teacher = draw(7, 6, seed=seed), draw(7, 6, seed=seed + 50)
        expected = formula(student, teacher)
        assert loss(student, teacher, LABELS).item() == pytest.approx(expected, rel=1e-10)
        single = loss(student.float(), teacher.float(), LABELS)
        assert single.dtype == torch.float32
        assert single.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [loss for loss, _ in PUBLISHED.values()], ids=PUBLISHED)
def test_zero_at_the_teacher_blind_to_shifts_and_smooth(loss):
    student, teacher, shift = draw(7, 6), draw(7, 6, seed=1), draw(7, 1, seed=2)
    assert loss(teacher, teacher, LABELS).item() == pytest.approx(0, abs=1e-12)
    assert loss(teacher + shift, teacher, LABELS).item() == pytest.approx(0, abs=1e-10)
    there = teacher.clone().requires_grad_()
    loss(there, teacher, LABELS).backward()
    assert there.grad.abs().max() < 1e-7, "a minimum"
    expected = loss(student, teacher, LABELS).item()
    assert expected > 0
    assert loss(student + shift, teacher - 2 * shift, LABELS).item() == pytest.approx(expected, rel=1e-9)
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher, LABELS), student.requires_grad_())
    assert loss(draw(0, 6), draw(0, 6), torch.zeros(0, dtype=torch.int64)).item() == 0


def test_only_standardised_logits_are_blind_to_the_teachers_scale():
    student, teacher = draw(7, 6), draw(7, 6, seed=1)
    for base in ("kd", "dkd"):
        plain = standardized_kd_loss(student, teacher, LABELS, base=base).item()
        assert standardized_kd_loss(3 * student, 0.2 * teacher, LABELS, base=base).item() == pytest.approx(plain)
    assert kd_loss(student, 0.2 * teacher).item() != pytest.approx(kd_loss(student, teacher).item(), rel=0.1)


@settings(max_examples=30, deadline=None)
@given(temperature=st.floats(0.3, 20), seed=st.integers(0, 99))
def test_dkd_takes_kd_apart(temperature, seed):
    """Zhao et al., equation 5: KD = TCKD + (1 − p_t) NCKD; and without any label it is KD."""
    student, teacher = draw(1, 5, seed=seed), draw(1, 5, seed=seed + 100)
    plain = kd_loss(student, teacher, temperature=temperature).item()
    label = torch.tensor([seed % 5])
    rest = 1 - (teacher / temperature).softmax(1)[0, label].item()
    parts = dkd_loss(student, teacher, label, temperature=temperature, alpha=1.0, beta=rest).item()
    assert parts == pytest.approx(plain, rel=1e-9, abs=1e-12)
    for nothing in (None, torch.tensor([-1])):
        assert dkd_loss(student, teacher, nothing, temperature=temperature).item() == pytest.approx(plain, rel=1e-12)


def test_dkd_leaves_nothing_of_the_label():
    """Where a mask of −1000 gives way: the label's logit is 3000 above the others."""
    student, teacher, label = draw(1, 4), draw(1, 4, seed=1), torch.tensor([0])
    expected = dkd_row(student[0].tolist(), teacher[0].tolist(), 0, 4.0)[1]
    high = torch.tensor([[3000.0, 0, 0, 0]], dtype=torch.float64)
    loss = dkd_loss(student + high, teacher + high, label, alpha=0.0, beta=1.0)
    assert loss.item() == pytest.approx(16 * expected, rel=1e-9)
    # a teacher that is sure has no opinion on the others
    student.requires_grad_()
    sure = torch.tensor([[0.0, -math.inf, -math.inf, -math.inf]], dtype=torch.float64)
    loss = dkd_loss(student, sure, label, temperature=1.0)
    assert loss.item() == pytest.approx(none_loss(student, label).item(), rel=1e-12)
    loss.backward()
    assert torch.isfinite(student.grad).all()


def test_correlations_that_do_not_exist():
    student, teacher = draw(1, 4), draw(1, 4, seed=1)
    alone = dist_loss(student, teacher).item()
    assert alone == pytest.approx(dist_loss(student.repeat(5, 1), teacher.repeat(5, 1), gamma=0.0).item(), rel=1e-12)
    for loss in (dist_loss, standardized_kd_loss):
        flat = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
        loss(flat, draw(3, 4)).backward()
        assert torch.isfinite(flat.grad).all()
        assert torch.isfinite(loss(draw(3, 4), flat))


def test_teacher_free_is_yuans_formula():
    logits, labels = draw(5, 4), torch.tensor([2, -1, 0, 1, -1])
    alpha, certainty, temperature, total = 0.4, 0.9, 20.0, 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        if label >= 0:
            virtual = softmax([(certainty if k == label else (1 - certainty) / 3) / temperature for k in range(4)])
            p = softmax(row)
            total += -(1 - alpha) * math.log(p[label]) + alpha * divergence(virtual, p)
    options = {"alpha": alpha, "certainty": certainty, "temperature": temperature}
    assert teacher_free_loss(logits, labels, **options).item() == pytest.approx(total / 3, rel=1e-12)
    assert teacher_free_loss(logits.float(), labels, **options).item() == pytest.approx(total / 3, rel=1e-5)
    assert teacher_free_loss(logits + 7, labels, **options).item() == pytest.approx(total / 3, rel=1e-9)
    assert torch.autograd.gradcheck(lambda x: teacher_free_loss(x, labels), logits.requires_grad_())
    nothing = teacher_free_loss(logits, torch.full((5,), -1))
    assert nothing.item() == 0
    none = teacher_free_loss(logits, labels, alpha=0.0)
    assert none.item() == pytest.approx(none_loss(logits, labels).item(), rel=1e-12)
    virtual = torch.full((1, 4), 0.1 / 3, dtype=torch.float64)
    virtual[0, 2] = 0.9
    least = teacher_free_loss(virtual / 20, torch.tensor([2]), alpha=1.0, certainty=0.9)
    assert least.item() == pytest.approx(0, abs=1e-12)


def test_impossible_options():
    for loss in (kd_loss, dkd_loss, dist_loss, standardized_kd_loss):
        with pytest.raises(UserError, match=r"method\.temperature=0"):
            loss(draw(1, 2), draw(1, 2), torch.tensor([0]), temperature=0)
    with pytest.raises(UserError, match=r"method\.smoothing=2"):
        label_smoothing_loss(draw(1, 2), torch.tensor([0]), smoothing=2)
    for option in ({"temperature": 0}, {"alpha": 2}, {"certainty": -1}):
        with pytest.raises(UserError, match=rf"method\.{next(iter(option))}="):
            teacher_free_loss(draw(1, 2), torch.tensor([0]), **option)

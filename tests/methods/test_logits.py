from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from braindistill.errors import UserError
from braindistill.methods import kd_loss, label_smoothing_loss, none_loss


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


def test_impossible_options():
    with pytest.raises(UserError, match=r"method\.temperature=0"):
        kd_loss(draw(1, 2), draw(1, 2), temperature=0)
    with pytest.raises(UserError, match=r"method\.smoothing=2"):
        label_smoothing_loss(draw(1, 2), torch.tensor([0]), smoothing=2)

from __future__ import annotations

import pytest
import torch

from braindistill.errors import UserError
from braindistill.methods import kd_loss, label_smoothing_loss, none_loss, objective, voxels_loss

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(6, 3, generator=GENERATOR, dtype=torch.float64)
TEACHER = torch.randn(6, 3, generator=GENERATOR, dtype=torch.float64)
LABELS = torch.tensor([0, -1, 2, -1, 1, -1])


def test_each_term_is_the_mean_over_its_own_rows():
    has_target = torch.tensor([True, True, False, False, True, False])
    loss = objective(
        LOGITS, LABELS, TEACHER, has_target, "kd", {"temperature": 2.0}, label_weight=0.3, target_weight=5.0
    )
    labelled = none_loss(LOGITS[[0, 2, 4]], LABELS[[0, 2, 4]])
    distilled = kd_loss(LOGITS[[0, 1, 4]], TEACHER[[0, 1, 4]], temperature=2.0)
    assert loss.item() == pytest.approx((0.3 * labelled + 5 * distilled).item(), rel=1e-12)


def test_no_mask_means_every_row():
    all_rows = torch.ones(6, dtype=torch.bool)
    masked = objective(LOGITS, LABELS, TEACHER, all_rows, "kd", {})
    assert objective(LOGITS, LABELS, TEACHER, None, "kd", {}).item() == pytest.approx(masked.item(), rel=1e-12)
    # Single-precision targets don't lower the precision of the loss.
    single = objective(LOGITS, LABELS, TEACHER.float(), None, "kd", {})
    assert single.dtype == torch.float64


def test_rows_without_a_target_never_enter():
    logits = LOGITS.clone().requires_grad_()
    teacher = TEACHER.clone()
    teacher[3:] = torch.nan
    has_target = torch.arange(6) < 3
    objective(logits, torch.full((6,), -1), teacher, has_target, "kd", {}).backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[3:] == 0).all()
    assert (logits.grad[:3] != 0).all()


@pytest.mark.parametrize(("teacher", "has_target"), [(None, None), (TEACHER, torch.zeros(6, dtype=torch.bool))])
def test_without_targets_the_label_term_remains(teacher, has_target):
    loss = objective(LOGITS, LABELS, teacher, has_target, "kd", {}, label_weight=0.5)
    assert loss.item() == pytest.approx(0.5 * none_loss(LOGITS, LABELS).item(), rel=1e-12)
    unlabelled = torch.full((6,), -1)
    logits = LOGITS.clone().requires_grad_()
    nothing = objective(logits, unlabelled, teacher, has_target, "kd", {})
    nothing.backward()
    assert nothing.item() == 0
    assert (logits.grad == 0).all()


def test_a_method_on_labels_takes_the_place_of_cross_entropy():
    loss = objective(LOGITS, LABELS, TEACHER, None, "label_smoothing", {"smoothing": 0.2})
    assert loss.item() == pytest.approx(label_smoothing_loss(LOGITS, LABELS, smoothing=0.2).item(), rel=1e-12)
    assert objective(LOGITS, LABELS, None, None, "none", {}).item() == none_loss(LOGITS, LABELS).item()


def test_a_function_will_do_as_method():
    def squared(student_logits, teacher_logits, labels=None, *, scale):
        return scale * (student_logits - teacher_logits).square().mean()

    loss = objective(LOGITS, LABELS, TEACHER, None, squared, {"scale": 3.0}, label_weight=0.0)
    assert loss.item() == pytest.approx(3 * (LOGITS - TEACHER).square().mean().item(), rel=1e-12)


def test_on_features_the_labels_keep_to_the_logits():
    def squared(features, target, *, scale):
        return scale * (features - target).square().mean()

    features, target = LOGITS[:, :2] + 1, TEACHER[:, :2]
    has_target = torch.arange(6) < 4
    loss = objective((LOGITS, features), LABELS, target, has_target, squared, {"scale": 3.0}, target_weight=2.0)
    expected = none_loss(LOGITS, LABELS) + 6 * (features - target)[:4].square().mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    weight = torch.tensor([1.0, 3.0], dtype=torch.float64)
    loss = objective((LOGITS, features), LABELS, target, has_target, "voxels", {"weight": weight}, label_weight=0.0)
    assert loss.item() == pytest.approx(voxels_loss(features[:4], target[:4], weight).item(), rel=1e-12)


def test_row_numbers_stay_whole():
    large = torch.arange(6) + 2**25  # beyond what single precision tells apart
    seen = []

    def note(features, rows):
        seen.append(rows)
        return features.sum() * 0

    objective((LOGITS.float(), LOGITS.float()), LABELS, large, torch.arange(6) % 2 == 0, note, {})
    assert seen[0].tolist() == (2**25 + torch.tensor([0, 2, 4])).tolist()


def test_gradient():
    has_target = torch.arange(6) % 2 == 0
    logits = LOGITS.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: objective(x, LABELS, TEACHER, has_target, "kd", {}), logits)


def test_unknown_method():
    with pytest.raises(UserError, match="method=kdd"):
        objective(LOGITS, LABELS, TEACHER, None, "kdd", {})


def test_the_targets_weight_rises_over_its_first_epochs() -> None:
    logits, target = torch.randn(6, 3), torch.randn(6, 3)
    labels = torch.full((6,), -1)
    rows = [
        objective(logits, labels, target, None, "kd", {}, epoch, target_weight=3.0, target_warmup=4).item()
        for epoch in range(6)
    ]
    full = objective(logits, labels, target, None, "kd", {}, target_weight=3.0).item()
    assert rows == pytest.approx([full * factor for factor in (0.25, 0.5, 0.75, 1, 1, 1)])

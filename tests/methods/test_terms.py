from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from braindistill.errors import UserError
from braindistill.methods import (
    Term,
    dkd_loss,
    kd_loss,
    label_smoothing_loss,
    make_objective,
    none_loss,
    objective,
    voxels_loss,
    weigh,
)
from braindistill.training import Batch

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(6, 3, generator=GENERATOR, dtype=torch.float64)
TEACHER = torch.randn(6, 3, generator=GENERATOR, dtype=torch.float64)
LABELS = torch.tensor([0, -1, 2, -1, 1, -1])
KD = Term("kd", "kd")


def batch(
    labels: Tensor = LABELS,
    targets: dict[str, Tensor] | None = None,
    has_target: dict[str, Tensor] | None = None,
    **more: Any,
) -> Batch:
    given = {"epoch": 0, "step": 0} | more
    return Batch(10 * torch.arange(len(labels)), LOGITS, labels, targets or {}, has_target or {}, **given)


def total(*given: Any, **options: Any) -> float:
    return sum(objective(*given, **options).values()).item()


def test_each_term_is_the_mean_over_its_own_rows():
    has_target = torch.tensor([True, True, False, False, True, False])
    term = Term("mine", "kd", {"temperature": 2.0}, target_weight=5.0)
    found = objective(
        LOGITS, batch(targets={"mine": TEACHER}, has_target={"mine": has_target}), [term], label_weight=0.3
    )
    labelled = none_loss(LOGITS[[0, 2, 4]], LABELS[[0, 2, 4]])
    distilled = kd_loss(LOGITS[[0, 1, 4]], TEACHER[[0, 1, 4]], temperature=2.0)
    assert list(found) == ["label", "mine"]
    assert found["label"].item() == pytest.approx(0.3 * labelled.item(), rel=1e-12)
    assert found["mine"].item() == pytest.approx(5 * distilled.item(), rel=1e-12)


def test_no_mask_means_every_row():
    all_rows = {"kd": torch.ones(6, dtype=torch.bool)}
    masked = total(LOGITS, batch(targets={"kd": TEACHER}, has_target=all_rows), [KD])
    assert total(LOGITS, batch(targets={"kd": TEACHER}), [KD]) == pytest.approx(masked, rel=1e-12)
    # Single-precision targets don't lower the precision of the loss.
    single = objective(LOGITS, batch(targets={"kd": TEACHER.float()}), [KD])
    assert single["kd"].dtype == torch.float64


def test_rows_without_a_target_never_enter():
    logits = LOGITS.clone().requires_grad_()
    teacher = TEACHER.clone()
    teacher[3:] = torch.nan
    given = batch(torch.full((6,), -1), {"kd": teacher}, {"kd": torch.arange(6) < 3})
    sum(objective(logits, given, [KD]).values()).backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[3:] == 0).all()
    assert (logits.grad[:3] != 0).all()


@pytest.mark.parametrize("targets", [{}, {"kd": TEACHER}])
def test_without_targets_the_label_term_remains(targets):
    nobody = {"kd": torch.zeros(6, dtype=torch.bool)}
    found = objective(LOGITS, batch(targets=targets, has_target=nobody), [KD], label_weight=0.5)
    assert found["label"].item() == pytest.approx(0.5 * none_loss(LOGITS, LABELS).item(), rel=1e-12)
    assert found["kd"].item() == 0
    logits = LOGITS.clone().requires_grad_()
    nothing = sum(objective(logits, batch(torch.full((6,), -1), targets, nobody), [KD]).values())
    nothing.backward()
    assert nothing.item() == 0
    assert (logits.grad == 0).all()


def test_a_method_on_labels_takes_the_place_of_cross_entropy():
    smooth = Term("smooth", "label_smoothing", {"smoothing": 0.2})
    expected = label_smoothing_loss(LOGITS, LABELS, smoothing=0.2).item()
    assert total(LOGITS, batch(), [smooth]) == pytest.approx(expected, rel=1e-12)
    found = objective(LOGITS, batch(targets={"kd": TEACHER}), [KD, smooth], label_weight=0.5)
    assert found["label"].item() == pytest.approx(0.5 * expected, rel=1e-12)
    assert found["kd"].item() == pytest.approx(kd_loss(LOGITS, TEACHER).item(), rel=1e-12)
    assert objective(LOGITS, batch(), [Term("none", "none")])["label"].item() == none_loss(LOGITS, LABELS).item()


def test_terms_add_up():
    terms = [Term("a", "kd", {}, 2.0), Term("b", "dkd", {}, 3.0), Term("c", "voxels", {}, 4.0)]
    features = torch.randn(6, 2, generator=GENERATOR, dtype=torch.float64)
    targets = {"a": TEACHER, "b": -TEACHER, "c": TEACHER[:, :2]}
    found = objective((LOGITS, {"c": features}), batch(targets=targets), terms)
    assert list(found) == ["label", "a", "b", "c"]
    assert found["a"].item() == pytest.approx(2 * kd_loss(LOGITS, TEACHER).item(), rel=1e-12)
    assert found["b"].item() == pytest.approx(3 * dkd_loss(LOGITS, -TEACHER, LABELS).item(), rel=1e-12)
    assert found["c"].item() == pytest.approx(4 * voxels_loss(features, TEACHER[:, :2]).item(), rel=1e-12)


def test_on_features_a_function_is_told_which_rows():
    seen = []

    def note(features, target, place, *, scale):
        seen.append((features, target, place.rows.tolist(), place.step))
        return scale * (features[0] - target).square().mean()

    several = (LOGITS[:, :2] + 1, LOGITS[:, :1])
    has_target = torch.arange(6) % 2 == 0
    term = Term("mine", note, {"scale": 3.0}, target_weight=2.0)
    given = batch(targets={"mine": TEACHER[:, :2]}, has_target={"mine": has_target}, step=7)
    found = objective((LOGITS, {"mine": several}), given, [term])
    expected = 6 * (several[0] - TEACHER[:, :2])[has_target].square().mean().item()
    assert found["mine"].item() == pytest.approx(expected, rel=1e-12)
    features, target, rows, step = seen[0]
    assert (rows, step) == ([0, 20, 40], 7)
    assert torch.equal(features[1], several[1][has_target])
    assert torch.equal(target, TEACHER[has_target, :2])


def test_row_numbers_stay_whole():
    large = torch.arange(6) + 2**25  # beyond what single precision tells apart
    seen = []

    def note(features, rows, _):
        seen.append(rows)
        return features.sum() * 0

    given = batch(targets={"mine": large}, has_target={"mine": torch.arange(6) % 2 == 0})
    objective((LOGITS.float(), {"mine": LOGITS.float()}), given, [Term("mine", note)])
    assert seen[0].tolist() == (2**25 + torch.tensor([0, 2, 4])).tolist()


def test_mixed_images_have_the_labels_of_both():
    partner = LABELS.roll(1)
    for share in (0.3, 0.8):
        given = batch(targets={"dkd": TEACHER}, partner=partner, share=share)
        found = objective(LOGITS, given, [Term("dkd", "dkd")], label_weight=2.0)
        both = share * none_loss(LOGITS, LABELS) + (1 - share) * none_loss(LOGITS, partner)
        assert found["label"].item() == pytest.approx(2 * both.item(), rel=1e-12)
        heavier = LABELS if share > 0.5 else partner
        assert found["dkd"].item() == pytest.approx(dkd_loss(LOGITS, TEACHER, heavier).item(), rel=1e-12)
    smooth = Term("smooth", "label_smoothing", {"smoothing": 0.2})
    both = 0.3 * label_smoothing_loss(LOGITS, LABELS, smoothing=0.2)
    both = both + 0.7 * label_smoothing_loss(LOGITS, partner, smoothing=0.2)
    found = objective(LOGITS, batch(partner=partner, share=0.3), [smooth])
    assert found["label"].item() == pytest.approx(both.item(), rel=1e-12)


def test_gradient():
    given = batch(targets={"kd": TEACHER}, has_target={"kd": torch.arange(6) % 2 == 0})
    logits = LOGITS.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: sum(objective(x, given, [KD]).values()), logits)


def test_unknown_method():
    with pytest.raises(UserError, match="method=kdd"):
        objective(LOGITS, batch(targets={"kdd": TEACHER}), [Term("kdd", "kdd")])


def test_the_targets_weight_rises_and_ends():
    full = kd_loss(LOGITS, TEACHER).item()
    term = Term("kd", "kd", target_weight=3.0, target_warmup=4, target_end=6)
    rows = [objective(LOGITS, batch(targets={"kd": TEACHER}, epoch=e), [term])["kd"].item() for e in range(8)]
    assert rows == pytest.approx([3 * full * factor for factor in (0.25, 0.5, 0.75, 1, 1, 1, 0, 0)])
    assert [weigh(epoch) for epoch in (0, 100)] == [1, 1]
    assert weigh(0, target_end=0) == 0


def test_a_method_that_has_ended_is_not_computed():
    def never(*_):
        raise AssertionError

    term = Term("mine", never, target_end=1)
    found = objective((LOGITS, {"mine": LOGITS}), batch(targets={"mine": TEACHER}, epoch=1), [term])
    assert found["mine"].item() == 0


def test_only_a_method_that_remembers_is_told_of_the_end_of_a_step():
    class Remembering:
        told = 0

        def __call__(self, features, target, place):
            return features.sum() * 0

        def finish(self):
            self.told += 1

    plain = make_objective([KD], 0.5)
    assert not hasattr(plain, "finish")
    given = batch(targets={"kd": TEACHER})
    assert plain(LOGITS, given).keys() == {"label", "kd"}
    assert plain(LOGITS, given)["label"].item() == pytest.approx(0.5 * none_loss(LOGITS, LABELS).item())
    method = Remembering()
    loss = make_objective([KD, Term("mine", method)])
    loss.finish(given)
    assert method.told == 1


def test_terms_that_cannot_stand_together():
    smooth = Term("smooth", "label_smoothing")
    with pytest.raises(UserError, match="smooth and free both take the place of the cross-entropy"):
        make_objective([smooth, Term("free", "teacher_free")])
    with pytest.raises(UserError, match="can't be called label"):
        make_objective([Term("label", "kd")])

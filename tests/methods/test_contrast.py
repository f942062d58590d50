from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from braindistill.errors import UserError
from braindistill.methods import CrdMemory, crd_loss


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def crd_formula(student, teacher, student_memory, teacher_memory, sampled, temperature) -> float:
    """Tian et al.: noise-contrastive estimation, in plain loops."""
    m, total = len(student_memory), 0.0
    for features, bank in ((student, teacher_memory), (teacher, student_memory)):
        scores = np.zeros(sampled.shape)
        for i, row in enumerate(features):
            for place, other in enumerate(sampled[i]):
                scores[i, place] = math.exp(row @ bank[other] / np.linalg.norm(row) / temperature)
        p = scores / (scores.mean() * m)
        noise = (sampled.shape[1] - 1) / m
        h = p / (p + noise)
        total -= np.log(h[:, 0]).sum() + np.log(1 - h[:, 1:]).sum()
    return total / len(student)


def setting(n: int = 4, negatives: int = 6, images: int = 9, width: int = 3):
    memory = CrdMemory(images, width, generator(1), negatives=negatives)
    rows = torch.arange(n)
    sampled = memory.sample(rows, generator(2))
    return draw(n, width), draw(n, width, seed=3), memory.student.double(), memory.teacher.double(), sampled


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_published_formula(temperature):
    given = setting()
    expected = crd_formula(*(part.numpy() for part in given), temperature)
    assert crd_loss(*given, temperature=temperature).item() == pytest.approx(expected, rel=1e-10)
    single = [part.float() if part.is_floating_point() else part for part in given]
    assert crd_loss(*single, temperature=temperature).item() == pytest.approx(expected, rel=1e-5)
    longer = (3 * given[0], 5 * given[1], *given[2:])
    assert crd_loss(*longer, temperature=temperature).item() == pytest.approx(expected, rel=1e-10)


def test_gradient_reaches_both_adapters():
    student, teacher, *rest = setting()
    log_z = torch.tensor([1.0, 2.0])
    both = (student.requires_grad_(), teacher.requires_grad_())
    assert torch.autograd.gradcheck(lambda s, t: crd_loss(s, t, *rest, log_z, temperature=0.5), both)


def test_least_where_the_image_is_found():
    """With Z fixed, an embedding does best near its remembered partner and away from the others'."""
    bank = torch.eye(2, dtype=torch.float64)[[0, 1, 1, 1]]
    sampled, log_z = torch.tensor([[0, 1, 2, 3]]), torch.zeros(2)
    losses = []
    for degrees in range(0, 360, 15):
        angle = math.radians(degrees)
        feature = torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
        losses.append(crd_loss(feature, bank[:1], bank, bank, sampled, log_z, temperature=1.0).item())
    assert 285 <= 15 * int(np.argmin(losses)) <= 345, "towards its own, away from the others"
    assert 90 < 15 * int(np.argmax(losses)) < 180, "the other way round"


def test_z_is_settled_once():
    memory = CrdMemory(9, 3, generator(1), negatives=6)
    rows = torch.arange(4)
    sampled = memory.sample(rows, generator(2))
    student, teacher = draw(4, 3).float(), draw(4, 3, seed=3).float()
    log_z = memory.settle(student, teacher, sampled).clone()
    own = crd_loss(student, teacher, memory.student, memory.teacher, sampled)
    settled = crd_loss(student, teacher, memory.student, memory.teacher, sampled, log_z)
    assert settled.item() == pytest.approx(own.item(), rel=1e-6)
    assert torch.equal(memory.settle(teacher, student, sampled), log_z)
    assert torch.equal(memory.state_dict()["log_z"], log_z), "a resumed training keeps it"


def test_memory_moves_towards_what_it_sees_and_stays_on_the_sphere():
    memory = CrdMemory(5, 3, generator(), momentum=0.25)
    before, new = memory.student.clone(), draw(2, 3).float()
    memory.update(torch.tensor([3, 1]), new, -new)
    mixed = 0.25 * before[3] + 0.75 * new[0] / new[0].norm()
    torch.testing.assert_close(memory.student[3], mixed / mixed.norm())
    assert torch.equal(memory.student[[0, 2, 4]], before[[0, 2, 4]])
    for bank in (memory.student, memory.teacher):
        torch.testing.assert_close(bank.norm(dim=1), torch.ones(5))
        assert bank.shape == (5, 3), "bounded"


def test_negatives_are_other_images_of_other_classes_evenly():
    labels = torch.tensor([0, 1, 0, -1, 1, -1, 0])
    memory = CrdMemory(7, 2, generator(), labels, negatives=6000)
    rows = torch.arange(7)
    sampled = memory.sample(rows, generator(5))
    assert torch.equal(sampled[:, 0], rows)
    for row, label in enumerate(labels.tolist()):
        allowed = [other for other in range(7) if other != row and (label < 0 or labels[other] != label)]
        found, counts = sampled[row, 1:].unique(return_counts=True)
        assert found.tolist() == allowed
        assert (counts / 6000 - 1 / len(allowed)).abs().max() < 0.03
    assert torch.equal(sampled, memory.sample(rows, generator(5))), "seeded"
    assert not torch.equal(sampled, memory.sample(rows, generator(6)))
    alone = CrdMemory(3, 2, generator(), negatives=50).sample(torch.tensor([1]), generator())
    assert set(alone[0, 1:].tolist()) == {0, 2}


def test_impossible_options():
    with pytest.raises(UserError, match=r"method\.temperature=0"):
        crd_loss(*setting(), temperature=0)
    with pytest.raises(UserError, match=r"method\.negatives=0"):
        CrdMemory(3, 2, generator(), negatives=0)
    with pytest.raises(UserError, match="all images are of one class"):
        CrdMemory(3, 2, generator(), torch.tensor([1, 1, 1]))

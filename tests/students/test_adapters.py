"""What stands between layers and losses, and which layers these are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from braindistill.errors import UserError
from braindistill.methods import Place
from braindistill.students.adapters import Adapted, Embeddings, Several, Vector, Whole, make_adapter
from braindistill.students.build import build
from braindistill.students.contrasting import Contrast
from braindistill.students.layers import choose_layer, choose_pairs, choose_teacher_layer

SHAPE = (3, 16, 16)


def given(method: str, student: list[Any], teacher: list[Any], n: int = 6, seed: int = 0, **more: Any) -> Adapted:
    parts = {"labels": torch.arange(n) % 3, "has_target": torch.ones(n, dtype=torch.bool)} | more
    return Adapted(method, student, teacher, parts["labels"], parts["has_target"], seed)


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))


def test_weights_follow_from_the_seed() -> None:
    state = torch.get_rng_state()
    heads = [make_adapter(given("voxels", [(5, 4, 4)], [(7,)], seed=seed)) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    weights = [head.state_dict()["head.weight"] for head in heads]
    assert weights[0].shape == (7, 5)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_method_without_an_adapter_gets_features_as_they_are() -> None:
    kinds = {"rkd": Vector, "cka": Vector, "rdm": Vector, "attention": Several, "mask": Whole, "similarity": Whole}
    for method, kind in kinds.items():
        assert type(make_adapter(given(method, [(5, 4, 4)], [(7, 4, 4)]))) is kind
    maps = draw(5, 4, 4)
    assert Whole()([maps]) is maps
    assert Several()([maps, maps]) == (maps, maps)
    torch.testing.assert_close(Vector()([maps]), maps.mean((2, 3)))


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ((5, 4, 4), (7, 4, 4)),
        ((5, 4, 4), (7, 2, 2)),
        ((5, 2, 2), (7, 4, 4)),
        ((5,), (7,)),
        ((5, 4, 4), (7,)),
        ((5,), (7, 1, 1)),
        ((9, 5), (9, 7)),
    ],
)
def test_regressors_give_the_teachers_channels(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    adapter = make_adapter(given("fitnet", [student, (3,)], [teacher, (4,)])).eval()
    first, second = adapter([draw(*student), draw(3)])
    size = tuple(map(min, student[1:], teacher[1:])) if len(student) == len(teacher) == 3 else teacher[1:]
    wanted = teacher if len(teacher) == 2 else (7, *size)
    assert (first.shape[1:], second.shape[1:]) == (wanted, (4,))
    assert {type(module) for module in adapter.modules() if not any(module.children())} <= {
        nn.Conv2d,
        nn.Linear,
        nn.BatchNorm1d,
        nn.BatchNorm2d,
    }
    if student == (5, 4, 4) and teacher == (7, 2, 2):  # pooling and a 1 × 1 convolution are exchanged
        plain = nn.functional.avg_pool2d(adapter.regressors[0](draw(*student)), 2)
        torch.testing.assert_close(first, plain)


def test_the_fusion_lets_a_layer_answer_for_the_deeper_ones() -> None:
    shapes = {"student": [(4, 8, 8), (6, 4, 4), (5,)], "teacher": [(3, 8, 8), (2, 4, 4), (7, 1, 1)]}
    adapter = make_adapter(given("review", shapes["student"], shapes["teacher"])).eval()
    layers = [draw(*shape).requires_grad_() for shape in shapes["student"]]
    answers = adapter(layers)
    assert [answer.shape[1:] for answer in answers] == [torch.Size(shape) for shape in shapes["teacher"]]
    for place, answer in enumerate(answers):
        gradients = torch.autograd.grad(answer.square().sum(), layers, retain_graph=True, allow_unused=True)
        reached = [gradient is not None for gradient in gradients]
        assert reached == [number >= place for number in range(3)], "an answer knows its own and the deeper layers"
    # in the middle: r = a₁ · conv(s) + a₂ · the deeper r, by the maps a
    deepest = adapter.reduce[2](layers[2][:, :, None, None])
    own = adapter.reduce[1](layers[1])
    deeper = deepest.expand(-1, -1, 4, 4)
    maps = torch.sigmoid(adapter.weigh[1](torch.cat([own, deeper], 1)))
    joined = own * maps[:, :1] + deeper * maps[:, 1:]
    torch.testing.assert_close(answers[1], adapter.answer[1](joined))


def contrast(n: int = 6, **options: Any) -> tuple[Embeddings, torch.Tensor, torch.Tensor]:
    has_target = torch.tensor([True, False, True, True, False, True])[:n]
    made = make_adapter(given("crd", [(5, 2, 2)], [(7,)], has_target=has_target), dimension=3, **options)
    assert isinstance(made, Embeddings)
    return made, draw(5, 2, 2), draw(7)


def test_embeddings_remember_only_images_with_a_target() -> None:
    made, maps, _ = contrast(negatives=10)
    assert made.memory.student.shape == (4, 3)
    assert made.memory.negatives == 4, "bounded by the number of images"
    assert made.row[[0, 2, 3, 5]].tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(made([maps]), made.student(maps.mean((2, 3))))
    names = set(made.state_dict())
    assert {"memory.student", "memory.teacher", "memory.log_z", "student.weight", "teacher.weight"} <= names


def test_the_memory_takes_in_a_step_when_it_is_over() -> None:
    made, maps, target = contrast()
    method = Contrast(made, 0)
    before = made.memory.student.clone()
    student = made([maps])
    first = method(student, target, Place(torch.tensor([2, 5]), 0))
    again = method(student, target, Place(torch.tensor([2, 5]), 0))
    assert first.item() == again.item(), "negatives follow from the seed and the step"
    assert method(student, target, Place(torch.tensor([2, 5]), 1)).item() != first.item()
    first.backward()
    assert made.teacher.weight.grad is not None
    assert torch.equal(made.memory.student, before)
    method._seen = method._seen[:1]
    method.finish()
    moved = (made.memory.student != before).any(1)
    assert moved.tolist() == [False, True, False, True]
    after = made.memory.student.clone()
    method.finish()
    assert torch.equal(made.memory.student, after), "and only once"


def test_of_two_passes_of_a_step_the_first_is_remembered() -> None:
    made, maps, target = contrast()
    twice = Contrast(made, 0, passes=2)
    place = Place(torch.tensor([2, 5]), 0)
    old = made.memory.student[1].clone()
    for features in (made([maps]), made([-maps])):
        twice(features, target, place)
    twice.finish()
    new = nn.functional.normalize(made([maps]), dim=1)[0].detach()
    torch.testing.assert_close(made.memory.student[1], nn.functional.normalize(0.5 * old + 0.5 * new, dim=0))


LAYERS = ["stage1", "stage2", "stage3", "pool"]
MAPS = [(16, 16, 16), (32, 8, 8), (64, 4, 4), (64, 1, 1)]


@pytest.fixture
def network() -> nn.Module:
    return build("resnet8", 4, SHAPE, 0, width=4)


def test_the_layer_of_a_method_with_one(network: nn.Module) -> None:
    assert choose_layer(network, SHAPE, "voxels", "voxels") == "head:input"
    assert choose_layer(network, SHAPE, "similarity", "voxels") == "head:input"
    assert choose_layer(network, SHAPE, "similarity", "features") == "stage3"
    assert choose_layer(network, SHAPE, "mask", "mask") == "stage3"
    assert choose_layer(network, (3, 8, 8), "mask", "mask") == "stage2", "4 × 4 places or more"
    assert choose_layer(network, SHAPE, "mask", "mask", layer="stage1") == "stage1"
    flat = nn.Sequential(nn.Flatten(), nn.Linear(768, 2))
    with pytest.raises(UserError, match=r"method\.layer=null: the student has no layer with a map; known: 0, 1"):
        choose_layer(flat, SHAPE, "mask", "mask")
    with pytest.raises(UserError, match=r"method\.layer=null: the student has no linear layer; known: 0, 1"):
        choose_layer(nn.Sequential(nn.Conv2d(3, 2, 16), nn.Flatten()), SHAPE, "rkd", "voxels")
    assert choose_teacher_layer(LAYERS, MAPS, "rkd") == 3
    assert choose_teacher_layer(LAYERS, MAPS, "similarity") == 2
    assert choose_teacher_layer(LAYERS, MAPS, "rkd", teacher_layer="stage2") == 1
    with pytest.raises(UserError, match=r"method\.teacher_layer=stage4: the target holds no such .* mean 'stage3'"):
        choose_teacher_layer(LAYERS, MAPS, "rkd", teacher_layer="stage4")


def test_stages_are_paired(network: nn.Module) -> None:
    def pairs(method: str, known: list[str] = LAYERS, shapes: Any = MAPS, **options: Any) -> Any:
        return choose_pairs(network, SHAPE, known, shapes, method, **options)

    assert pairs("review") == (LAYERS, [0, 1, 2, 3])
    assert pairs("attention") == (LAYERS[:3], [0, 1, 2])
    assert pairs("fitnet", LAYERS[1:], MAPS[1:]) == (["stage2", "stage3"], [0, 1])
    assert pairs("attention", [*LAYERS, "x"], [(8, 32, 32), *MAPS]) == (LAYERS[:3], [1, 2, 3])
    assert pairs("fitnet", layers=["stage2"]) == (["stage2"], [2])
    assert pairs("fitnet", layers=["stage1"], teacher_layers=["stage2"]) == (["stage1"], [1])
    assert pairs("fitnet", ["fc"], [(9,)], layers=["head:input"]) == (["head:input"], [0])
    for message, options in {
        r"method\.layers names 1 layers and method\.teacher_layers 2": {
            "layers": ["stage1"],
            "teacher_layers": ["stage1", "stage2"],
        },
        r"method\.teacher_layers=stage9: the target holds no such layer": {"teacher_layers": ["stage9"]},
        r"4 layers with places of the student .* and 3 of the target .* can't be paired": {
            "layers": ["stem", "stage1", "stage2", "stage3"]
        },
    }.items():
        with pytest.raises(UserError, match=message):
            pairs("attention", **options)
    with pytest.raises(UserError, match=r"3 layers with places .* and 0 of the target \(none\) can't be paired"):
        pairs("attention", ["pool"], [(64, 1, 1)])

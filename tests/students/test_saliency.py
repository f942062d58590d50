"""Students whose attention is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from braindistill.errors import UserError
from braindistill.students.artifact import Student
from braindistill.students.build import build
from braindistill.students.saliency import choose_evenly, compare_maps, find_last_map, trace_student

SHAPE = (1, 16, 16)
IMAGES = np.random.default_rng(0).integers(1, 256, (6, *SHAPE)).astype(np.uint8)


class Quadrant(nn.Module):
    """Class 0 is the brightness of the upper left quadrant, class 1 that of nothing."""

    def __init__(self, pooled: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1, bias=False)
        self.conv.weight.data[:] = torch.tensor([1.0, 0.5])[:, None, None, None]
        self.pool = nn.AvgPool2d(2)
        self.pooled = pooled
        mask = torch.zeros(8, 8)
        mask[:4, :4] = 1
        self.register_buffer("mask", mask)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(self.pool(images))
        if self.pooled:
            maps = maps.mean((2, 3))
            return torch.stack([maps[:, 0], 2 * maps[:, 1]], 1)
        seen = (maps[:, 0] * self.mask).sum((1, 2))
        return torch.stack([seen, torch.zeros_like(seen)], 1)


def student(network: nn.Module, shape: tuple[int, int, int] = SHAPE) -> Student:
    description = {"name": "mine", "options": {}, "classes": ["a", "b"], "image_shape": list(shape)}
    return Student(network, description | {"mean": [0.0] * shape[0], "std": [1.0] * shape[0]}).eval()


def test_a_student_that_looks_at_a_quadrant_only():
    maps = trace_student(student(Quadrant()), IMAGES, np.zeros(6, int))
    assert maps.shape == (6, 16, 16)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps.max((1, 2)), 1)
    assert (maps[:, :8, :8].sum((1, 2)) / maps.sum((1, 2))).min() > 0.85, "but for the seam of the interpolation"
    assert maps[:, 10:].max() == 0
    assert maps[:, :, 10:].max() == 0
    inputs = torch.from_numpy(IMAGES).float()
    seen = nn.functional.avg_pool2d(inputs, 2)[:, 0] * Quadrant().mask
    seen = nn.functional.interpolate(seen[:, None], (16, 16), mode="bilinear")[:, 0]
    np.testing.assert_allclose(maps, seen / seen.amax((1, 2), keepdim=True), atol=1e-5)


def test_what_speaks_against_the_class_is_no_attention():
    assert trace_student(student(Quadrant()), IMAGES, np.ones(6, int)).max() == 0


def test_it_is_grad_cam_where_the_head_pools():
    """Selvaraju et al.: maps weighted by the mean of their gradient, summed, positive part."""
    network = Quadrant(pooled=True)
    classes = np.array([0, 1, 0, 1, 0, 1])
    from captum.attr import LayerGradCam

    inputs = torch.from_numpy(IMAGES).float() / 255
    less_mean = lambda images: network(images) - network(images).mean(1, keepdim=True)  # noqa: E731
    their = LayerGradCam(less_mean, network.conv).attribute(inputs, torch.from_numpy(classes), relu_attributions=True)
    their = nn.functional.interpolate(their.detach(), (16, 16), mode="bilinear", antialias=True)[:, 0]
    their = their / their.amax((1, 2), keepdim=True).clamp_min(1e-30)
    np.testing.assert_allclose(trace_student(student(network), IMAGES, classes), their, atol=1e-5)


def test_batches_make_no_difference(monkeypatch):
    whole = trace_student(student(Quadrant()), IMAGES, np.zeros(6, int))
    monkeypatch.setattr("braindistill.students.saliency._BATCH", 4)
    network = Quadrant()
    np.testing.assert_allclose(trace_student(student(network), IMAGES, np.zeros(6, int)), whole, atol=1e-6)
    assert not network.conv._forward_hooks


@pytest.mark.parametrize(
    ("name", "shape", "size", "last"),
    [
        ("small_cnn", (1, 8, 8), (4, 4), "9"),
        ("resnet8", (3, 32, 32), (8, 8), "stage3"),
        ("wrn_16_2", (3, 32, 32), (8, 8), "norm"),
        ("vgg8", (3, 32, 32), (4, 4), "block5"),
        ("mobilenetv2", (3, 32, 32), (2, 2), "last"),
        ("shufflenetv2", (3, 32, 32), (4, 4), "last"),
    ],
)
def test_the_last_map_is_the_one_before_the_head(name, shape, size, last):
    network = build(name, 10, shape, 0)
    layer = find_last_map(network, shape)
    seen: list[Tensor] = []
    network.get_submodule(layer).register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        network.eval()(torch.rand(1, *shape))
    assert tuple(seen[-1].shape[2:]) == size
    assert layer == last


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 4, 4, 4)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.norm(self.patches(images).flatten(2).transpose(1, 2)).mean(1))


def test_networks_without_a_map_are_refused():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    for network in (Tokens(), flat):
        with pytest.raises(UserError, match="student=mine has no convolutional map before its head"):
            trace_student(student(network), IMAGES, np.zeros(6, int))


def test_images_are_chosen_evenly_and_always_the_same():
    labels = np.array([2, 2, 2, 2, 0, 0, 1, 0, 0, 1])
    assert choose_evenly(labels, 6).tolist() == [0, 1, 4, 5, 6, 9]
    assert choose_evenly(labels, 4).tolist() == [0, 4, 5, 6]
    assert choose_evenly(labels, 99).tolist() == list(range(10))
    assert len(choose_evenly(labels, 0)) == 0


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(1, 40))
def test_no_class_gets_two_more_than_another_that_has_some_left(labels, count):
    labels = np.array(labels)
    rows = choose_evenly(labels, count)
    assert len(rows) == min(count, len(labels))
    taken, there = np.bincount(labels[rows], minlength=5), np.bincount(labels, minlength=5)
    short = taken < there
    assert not short.any() or taken.max() - taken[short].min() <= 1


def boxes(n: int, places: list[tuple[int, int]]) -> np.ndarray:
    maps = np.zeros((n, 8, 8))
    for row in range(n):
        top, left = places[row % len(places)]
        maps[row, top : top + 4, left : left + 4] = np.arange(1, 17).reshape(4, 4)
    return maps


def test_attention_where_the_brain_looks():
    corners = boxes(4, [(0, 0), (0, 4), (4, 0), (4, 4)])
    same = compare_maps(corners, corners)
    np.testing.assert_allclose(same.share, 1)
    np.testing.assert_allclose(same.rank, 1)
    np.testing.assert_allclose(same.permuted_share, 0)
    assert same.permuted_rank.max() < 0
    opposite = compare_maps(corners, corners[::-1])
    np.testing.assert_allclose(opposite.share, 0)
    np.testing.assert_allclose(opposite.permuted_share, 1 / 3)


def test_two_that_both_look_at_the_middle_agree_no_more_than_by_chance():
    middle = boxes(5, [(2, 2)])
    found = compare_maps(middle, middle)
    np.testing.assert_allclose(found.share, found.permuted_share)
    np.testing.assert_allclose(found.rank, found.permuted_rank)


def test_attention_that_does_not_care_has_a_quarter_in_the_top_quarter():
    brain = np.random.default_rng(0).random((3, 8, 8))
    even = compare_maps(np.ones((3, 8, 8)), brain)
    np.testing.assert_allclose(even.share, 0.25)
    assert np.isnan(even.rank).all()
    np.testing.assert_allclose(compare_maps(brain, np.ones((3, 8, 8))).share, 0.25, err_msg="ties share what is left")
    nothing = compare_maps(np.zeros((3, 8, 8)), brain)
    assert np.isnan(nothing.share).all()


def test_ranks_are_spearmans():
    from scipy.stats import spearmanr

    ours, theirs = np.random.default_rng(1).random((2, 4, 6, 6))
    expected = [spearmanr(ours[row].ravel(), theirs[row].ravel()).statistic for row in range(4)]
    np.testing.assert_allclose(compare_maps(ours, theirs).rank, expected)
    # one map that says nothing spoils no other
    ours[2] = 0
    spoiled = compare_maps(ours, theirs)
    assert np.isnan(spoiled.rank).tolist() == [False, False, True, False]
    assert np.isfinite(spoiled.permuted_share[[0, 1, 3]]).all()

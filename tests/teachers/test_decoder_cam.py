"""Grad-CAM along voxels: a network whose answer is known, and one that had to find the voxels itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.teachers.brain_teacher import BrainTeacher, Member
from braindistill.teachers.chosen_voxels import ChosenVoxels
from braindistill.teachers.contributions import HeldOut, held_out
from braindistill.teachers.decoder_cam import trace_decoder
from braindistill.teachers.network_decoder import NetworkDecoder
from braindistill.teachers.voxel_layout import VoxelLayout

LENGTH = 16


class Halves(nn.Module):
    """Class 0 sums the positive part of the first half of the axis, class 1 that of the second."""

    def __init__(self, strides: tuple[int, ...] = (1,)) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*[nn.Conv1d(1, 1, 1, stride, bias=False) for stride in strides])
        for parameter in self.parameters():
            parameter.data[:] = 1

    def forward(self, inputs: Tensor) -> Tensor:
        maps = self.blocks(inputs).relu()[:, 0]
        half = maps.shape[1] // 2
        return torch.stack([maps[:, :half].sum(1), maps[:, half:].sum(1)], 1)


def teacher_of(network: nn.Module, order: np.ndarray, chosen: np.ndarray | None = None) -> BrainTeacher:
    n = len(order)
    description = {"kind": "resnet1d", "depth": 18, "width": 1, "channels": ["all"]}
    decoder = NetworkDecoder(
        network, VoxelLayout(order[None], ("all",)), np.zeros(n), np.ones(n), np.ones(2), description
    )
    whole = decoder if chosen is None else ChosenVoxels(chosen, decoder)
    teacher = BrainTeacher("decoder", ["a", "b"], None, np.array(["x", "y"]), np.zeros((2, n), np.float32))
    teacher.members = [Member("", np.arange(n), [whole, whole], np.zeros((2, 2)))]
    return teacher


def held(responses: np.ndarray, classes: list[int]) -> HeldOut:
    n = len(responses)
    return HeldOut(responses.astype(np.float32), np.arange(n), np.arange(n) % 2, np.array(classes))


def test_a_network_whose_answer_is_known():
    """Logit of a class less the mean of both: half of its own half, minus half of the other; of that the positive part."""
    responses = np.ones((3, LENGTH))
    responses[0, 2] = 3
    responses[2, 5] = -4
    maps = trace_decoder(teacher_of(Halves(), np.arange(LENGTH)), held(responses, [0, 1, 0]), LENGTH)
    expected = np.zeros((3, LENGTH))
    expected[0, :8], expected[0, 2] = 1, 3
    expected[1, 8:] = 1
    expected[2, :8], expected[2, 5] = 1, 0  # a silent place speaks for nothing
    np.testing.assert_allclose(maps, expected / expected.sum(1, keepdims=True), atol=1e-6)


def test_the_map_goes_back_to_the_voxels_by_the_layout():
    order = np.random.default_rng(0).permutation(LENGTH)
    maps = trace_decoder(teacher_of(Halves(), order), held(np.ones((2, LENGTH)), [0, 1]), LENGTH)
    np.testing.assert_allclose(maps[0, order[:8]], 1 / 8, atol=1e-6)
    np.testing.assert_allclose(maps[1, order[8:]], 1 / 8, atol=1e-6)


def test_voxels_that_were_not_chosen_get_nothing():
    chosen = np.arange(0, 2 * LENGTH, 2)
    teacher = teacher_of(Halves(), np.arange(LENGTH), chosen)
    teacher.members[0].columns = np.arange(2 * LENGTH)[::-1]
    maps = trace_decoder(teacher, held(np.ones((2, 2 * LENGTH)), [0, 1]), LENGTH)
    assert (maps > 0).sum(1).tolist() == [8, 8]
    np.testing.assert_allclose(maps[0, np.arange(2 * LENGTH)[::-1][chosen[:8]]], 1 / 8, atol=1e-6)


def test_places_of_a_coarse_map_are_centred_on_every_stride_th_voxel():
    """Strides of 2 and 2: places at voxels 0, 4, 8, 12; with the whole response at voxel 4 the map is a tent around it."""
    responses = np.zeros((2, LENGTH))
    responses[:, 4] = 1
    teacher = teacher_of(Halves((2, 2)), np.arange(LENGTH))
    maps = trace_decoder(teacher, held(responses, [0, 0]), 3)
    tent = np.maximum(0, 1 - np.abs(np.arange(LENGTH) - 4) / 4)
    np.testing.assert_allclose(maps[0], tent / tent.sum(), atol=1e-6)
    # eight places are asked for, and the first map has them
    finer = trace_decoder(teacher, held(responses, [0, 0]), 8)
    np.testing.assert_allclose(finer[0, 3:6], [0.25, 0.5, 0.25], atol=1e-6)


def test_nothing_that_speaks_for_the_class_gives_no_map():
    maps = trace_decoder(teacher_of(Halves(), np.arange(LENGTH)), held(-np.ones((2, LENGTH)), [0, 1]), LENGTH)
    assert np.isnan(maps).all()


def planted(n: int = 240, voxels: int = 64) -> Responses:
    """Of three ROIs along the axis, the middle one carries the class."""
    rng = np.random.default_rng(0)
    label = np.arange(n) % 2
    responses = rng.normal(size=(n, 3 * voxels))
    responses[:, voxels : 2 * voxels] += 1.5 * rng.normal(size=(2, voxels))[label]
    place = np.repeat(np.arange(3), voxels)
    return Responses(
        responses.astype(np.float32),
        np.array([f"s{row:03d}" for row in range(n)]),
        label=np.array(["a", "b"])[label],
        rois={name: place == number for number, name in enumerate(["before", "carries", "after"])},
    )


def test_a_trained_network_looks_at_the_roi_that_carries_the_class(fit, know):
    data = planted()
    options = {"decoder": "resnet1d", "width": 8, "epochs": 12, "lr": [0.01], "n_folds": 2}
    teacher = fit("decoder", data, know(data), **options)
    maps = trace_decoder(teacher, held_out(teacher, know(data).of_stimulus), 12)
    by_roi = {name: float(np.nanmean(maps[:, mask].sum(1))) for name, mask in data.rois.items()}
    assert max(by_roi, key=by_roi.__getitem__) == "carries"
    # a third if it looked anywhere; a map of a dozen places is blurred
    assert by_roi["carries"] > 0.5, by_roi


def test_decoders_without_an_axis_are_refused(fit, know):
    data = planted(24, 4)
    labels = know(data).of_stimulus
    small = {"width": 4, "epochs": 1, "n_folds": 2, "lr": [0.01]}
    for options, why in [
        ({"decoder": "lda"}, "teacher.decoder=lda has no axis"),
        ({"decoder": "resnet1d", "channels": "roi"}, "ROIs lie side by side"),
        ({"decoder": "resnet1d", "roi": "each"}, "each ROI has a network of its own"),
    ]:
        teacher = fit("decoder", data, know(data), **(small | options))
        with pytest.raises(UserError, match=why):
            trace_decoder(teacher, held_out(teacher, labels), 4)


def test_hooks_are_taken_away():
    network = Halves()
    trace_decoder(teacher_of(network, np.arange(LENGTH)), held(np.ones((2, LENGTH)), [0, 1]), LENGTH)
    assert not network.blocks[0]._forward_hooks

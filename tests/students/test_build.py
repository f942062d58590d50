from __future__ import annotations

import pytest
import torch

from braindistill.errors import UserError
from braindistill.students.build import build, student_names


def test_names_are_the_architectures():
    assert {"small_cnn", "resnet20", "resnet18"} <= set(student_names())
    assert {"vgg13", "wrn_40_2", "mobilenetv2", "timm"} <= set(student_names())
    assert not {"build", "load", "save", "layers", "Student"} & set(student_names())


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    first = build("small_cnn", 3, (1, 8, 8), 5)
    state = torch.get_rng_state()
    second = build("small_cnn", 3, (1, 8, 8), 5)
    assert torch.equal(state, torch.get_rng_state())
    other = build("small_cnn", 3, (1, 8, 8), 6)
    for key, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[key])
    assert not torch.equal(first[0].weight, other[0].weight)


def test_options_reach_the_network():
    assert build("small_cnn", 3, (3, 8, 8), 0, width=6)[0].weight.shape == (6, 3, 3, 3)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"student=resnet21: no such student; did you mean 'resnet2?0?"):
        build("resnet21", 3, (3, 8, 8), 0)
    with pytest.raises(UserError, match=r"student\.widht: small_cnn has no such option; did you mean 'width'"):
        build("small_cnn", 3, (3, 8, 8), 0, widht=6)


def test_a_required_option_is_asked_for():
    with pytest.raises(UserError, match=r"student\.network is required by student=torchvision: add student\.network="):
        build("torchvision", 3, (3, 8, 8), 0)

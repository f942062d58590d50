"""What ``braindistill info student=…`` prints."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from braindistill.students import artifact
from braindistill.students.build import build
from braindistill.students.summary import count_multiply_adds, summarise


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_2", "mobilenetv2", "shufflenetv2"])
def test_multiply_adds_by_hand(name: str) -> None:
    network = build(name, 10, (3, 32, 32), 0)
    expected = 0
    for place, kind, shape, _ in artifact.layers(network, (3, 32, 32)):
        if kind in ("Conv2d", "Linear"):  # each weight is used once at every place of the output
            expected += network.get_submodule(place).weight.numel() * math.prod(shape[1:])
    assert count_multiply_adds(network, (3, 32, 32)) == expected
    assert network.training


def test_multiply_adds_of_attention() -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            tokens = images.flatten(2).transpose(1, 2)
            return self.attention(tokens, tokens, tokens)[0]

    # projections of query, key, value and output; scores and their average
    assert count_multiply_adds(Attending(), (8, 5, 1)) == 5 * 4 * 8 * 8 + 2 * 5 * 5 * 8


def test_the_table() -> None:
    lines = summarise(build("resnet20", 10, (3, 32, 32), 0), (3, 32, 32)).splitlines()
    assert lines[0].split() == ["layer", "type", "output", "parameters"]
    assert lines[2].split() == ["stem.0", "Conv2d", "16", "×", "32", "×", "32", "432"]
    assert lines[-3].split() == ["head", "Linear", "10", "650"]
    assert lines[-2] == "around them, for method.layer, too: stem, stage1, stage2, stage3"
    assert lines[-1] == "269,722 parameters, 40.6 MFLOPs (multiply-adds) an image"  # He et al.'s network: 41 million


def test_info_lists_a_student_for_the_assumed_and_for_the_prepared_images(run, tiny, tmp_path) -> None:
    ran = run("info", "student=resnet8", cache="cache")
    assert (ran.code, ran.err) == (0, "")
    assert "student=resnet8 on images of 3 × 32 × 32 and 10 classes (assumed, since" in ran.out
    assert "75,290 parameters, 12.2 MFLOPs" in ran.out
    assert not (tmp_path / "cache").exists()
    assert run("prepare", *tiny, cache="cache").code == 0
    words = [word for word in tiny if not word.startswith("student.")]
    ran = run("info", *words, "student=small_cnn", "student.width=4", cache="cache")
    assert ran.code == 0
    assert "student=small_cnn on images of 1 × 8 × 8 and 2 classes (of " in ran.out
    assert "12     Linear" in ran.out
    assert '"train"' not in ran.out
    assert run("info", "student=vgg8", *words, cache="cache").code == 0
    ran = run("info", "student=torchvision", "student.network=vgg99")
    assert (ran.code, ran.err.count("\n")) == (2, 1)

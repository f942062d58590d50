"""Students that start from the weights of a local file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from braindistill import runtime
from braindistill.errors import UserError
from braindistill.students import artifact
from braindistill.students.build import build
from braindistill.students.checkpoint import start_from


@pytest.fixture(autouse=True)
def talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever verbosity another test has set."""
    monkeypatch.setattr(runtime, "_verbosity", 1)


def network(n_classes: int = 3, channels: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, n_classes))


def start(made: nn.Module, **options: Any) -> None:
    start_from(made, "net", **({"init": "pretrained", "weights": None, "overlap": None} | options))


@pytest.mark.parametrize("file", ["w.safetensors", "w.pth"])
def test_weights_of_a_file_are_taken_and_what_they_have_seen_is_asked(tmp_path: Path, file: str, capsys) -> None:
    theirs, ours = network(), network()
    state = {key: value for key, value in theirs.state_dict().items() if "tracked" not in key}
    (save_file if file.endswith("safetensors") else torch.save)(state, tmp_path / file)  # type: ignore[operator]
    start(ours, weights=tmp_path / file)
    for key, value in state.items():
        assert torch.equal(ours.state_dict()[key], value)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "the student has too: declare the overlap in the experiment's YAML, student: {overlap:" in said
    start(ours, weights=tmp_path / file, overlap="ImageNet, all ten classes")
    assert "declared overlap: ImageNet, all ten classes" in capsys.readouterr().err


def test_a_head_for_other_classes_is_replaced_and_nothing_else(tmp_path: Path, capsys) -> None:
    theirs, ours = network(5), network(3)
    head = {key: value.clone() for key, value in ours[3].state_dict().items()}
    save_file(theirs.state_dict(), tmp_path / "w.safetensors")
    start(ours, weights=tmp_path / "w.safetensors")
    assert torch.equal(ours[0].weight, theirs[0].weight)
    assert all(torch.equal(ours[3].state_dict()[key], value) for key, value in head.items())
    assert "its head 3 for 5 classes is replaced by a random one for 3" in capsys.readouterr().err
    before = ours.state_dict()
    save_file(network(5, channels=3).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(
        UserError, match=r"not the weights of net: .* expects 9 tensors, '0\.weight' 2×1×3×3 \(found: '0"
    ):
        start(ours, weights=tmp_path / "w.safetensors")
    assert all(torch.equal(ours.state_dict()[key], value) for key, value in before.items())


def test_contradictions_are_one_line(tmp_path: Path) -> None:
    for options, message in (
        ({"init": "random", "weights": "w.pth"}, r"student\.weights=w\.pth: read with student\.init=pretrained only"),
        ({}, r"student\.init=pretrained takes local weights only: add student\.weights=FILE"),
        ({"weights": tmp_path / "absent.pth"}, r"student\.weights=.*absent\.pth: no such file"),
    ):
        with pytest.raises(UserError, match=message):
            start(network(), **options)
    torch.save({"state_dict": network().state_dict()}, tmp_path / "nested.pth")
    with pytest.raises(UserError, match=r"student\.weights=.*expected a dict of tensors, found state_dict in it"):
        start(network(), weights=tmp_path / "nested.pth")


def test_imagenets_weights_need_imagenets_stem(tmp_path: Path, capsys) -> None:
    from torchvision.models import resnet18

    state = resnet18(weights=None, num_classes=6).state_dict()
    save_file(state, tmp_path / "w.safetensors")
    given = {"init": "pretrained", "weights": tmp_path / "w.safetensors"}
    with pytest.raises(UserError, match=r"need student\.small_stem=false and images of three channels"):
        build("resnet18", 4, (3, 32, 32), 0, **given)
    for name, options in (("resnet18", {"small_stem": False}), ("torchvision", {"network": "resnet18"})):
        made = build(name, 4, (3, 32, 32), 0, **given, **options)
        assert torch.equal(made.conv1.weight, state["conv1.weight"])  # type: ignore[union-attr, arg-type]
        assert made.fc.out_features == 4  # type: ignore[union-attr]
    assert capsys.readouterr().err.count("its head fc for 6 classes is replaced by a random one for 4") == 2


def test_a_pretrained_student_is_loaded_without_the_file_it_started_from(tmp_path: Path, capsys) -> None:
    from torchvision.models import squeezenet1_1

    file = tmp_path / "w.safetensors"
    save_file(squeezenet1_1(weights=None, num_classes=6).state_dict(), file)
    options = {"network": "squeezenet1_1", "init": "pretrained", "weights": file, "overlap": "all of it"}
    made = build("torchvision", 2, (3, 40, 40), 0, **options)
    description = {"name": "torchvision", "options": options, "classes": ["a", "b"], "image_shape": [3, 40, 40]}
    artifact.save(made, tmp_path / "student", description | {"mean": [0.0] * 3, "std": [1.0] * 3})
    file.unlink()
    capsys.readouterr()
    student = artifact.load(tmp_path / "student")
    assert capsys.readouterr().err == "", "what is trained is no longer warned about"
    images = torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8)
    torch.testing.assert_close(student(images), made.eval()(images / 255))
    written = json.loads((tmp_path / "student" / "student.json").read_text())
    assert written["options"] == {"network": "squeezenet1_1"}
    assert written["pretrained"] == {"file": "w.safetensors", "overlap": "all of it"}


def test_from_the_command_line_weights_are_keyed_by_content(run, tiny, tmp_path: Path) -> None:
    save_file(build("resnet18", 5, (1, 8, 8), 1).state_dict(), tmp_path / "w.safetensors")
    words = [word for word in tiny if not word.startswith(("student", "train.epochs"))]
    words += ["train.epochs=1", "method=none", "student=resnet18", "student.init=pretrained"]
    ran = run("distill", *words, f"student.weights={tmp_path / 'w.safetensors'}", cache="cache")
    assert ran.code == 0, ran.err
    assert "its head fc for 5 classes is replaced by a random one for 2" in ran.err
    assert "declare the overlap in the experiment's YAML" in ran.err
    folder = Path(ran.out.splitlines()[-1])
    (tmp_path / "w.safetensors").rename(tmp_path / "moved.safetensors")
    again = run("distill", *words, f"student.weights={tmp_path / 'moved.safetensors'}", cache="cache")
    assert Path(again.out.splitlines()[-1]) == folder, "where the file lies is no part of the key"
    assert artifact.load(tmp_path / folder).classes == ["0", "1"]
    ran = run("distill", *words, "student.weights=absent.pth", cache="cache")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "student.weights" in ran.err

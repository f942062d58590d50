from __future__ import annotations

import json

import pytest
import torch

from braindistill.cache import Cache
from braindistill.cache.step import Step
from braindistill.errors import UserError
from braindistill.students.artifact import layers, load, save
from braindistill.students.build import build

DESCRIPTION = {
    "name": "small_cnn",
    "options": {"width": 8},
    "classes": ["six", "nine"],
    "image_shape": [3, 9, 8],
    "mean": [0.1, 0.2, 0.3],
    "std": [0.5, 0.6, 0.7],
}


@pytest.fixture
def trained() -> torch.nn.Module:
    network = build("small_cnn", 2, (3, 9, 8), 1, width=8)
    network.to(memory_format=torch.channels_last)
    network(torch.randn(4, 3, 9, 8))  # so that running statistics aren't the initial ones
    return network


def test_a_student_comes_back_and_takes_raw_images(tmp_path, trained):
    save(trained, tmp_path / "new", {**DESCRIPTION, "seed": 3})
    student = load(tmp_path / "new")
    images = torch.randint(0, 256, (5, 3, 9, 8), dtype=torch.uint8)
    mean, std = (torch.tensor(DESCRIPTION[key]).view(3, 1, 1) for key in ("mean", "std"))
    expected = trained.eval()((images / 255 - mean) / std)
    torch.testing.assert_close(student(images), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(student(images.float()), student(images))
    assert student.classes == ["six", "nine"]
    assert student.description["seed"] == 3
    assert not student.training
    assert not student.network.training
    for key, value in trained.state_dict().items():
        assert torch.equal(student.network.state_dict()[key], value)


def test_a_student_is_found_by_its_key(tmp_path, trained, monkeypatch):
    step = Step("distill", 1, {"seed": 0})
    Cache(tmp_path / "outputs").build(step, lambda folder: save(trained, folder, DESCRIPTION))
    assert load(step.key[:5], tmp_path / "outputs").classes == ["six", "nine"]
    monkeypatch.setenv("BRAINDISTILL_CACHE", str(tmp_path / "outputs"))
    assert load(f"distill/{step.key[:8]}").classes == ["six", "nine"]
    with pytest.raises(UserError, match="no such artifact"):
        load("0" * 12 if step.key[0] != "0" else "1" * 12)


def test_double_precision_students_take_raw_images(tmp_path, trained):
    save(trained, tmp_path, DESCRIPTION)
    assert load(str(tmp_path)).double()(torch.zeros(1, 3, 9, 8, dtype=torch.uint8)).dtype == torch.float64


def test_what_cannot_be_loaded_is_named(tmp_path, trained):
    with pytest.raises(UserError, match="holds no student"):
        load(tmp_path)
    save(trained, tmp_path, DESCRIPTION)
    weights = (tmp_path / "student.safetensors").read_bytes()
    (tmp_path / "student.safetensors").write_bytes(weights[:-5])
    with pytest.raises(UserError, match="damaged, or of another version"):
        load(tmp_path)
    (tmp_path / "student.safetensors").write_bytes(weights)
    (tmp_path / "student.json").write_text(json.dumps({**DESCRIPTION, "options": {"width": 16}}))
    with pytest.raises(UserError, match="damaged, or of another version") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="lacks mean"):
        save(trained, tmp_path, {key: value for key, value in DESCRIPTION.items() if key != "mean"})


def test_layers_lists_shapes_and_parameters_and_leaves_the_network_alone(trained):
    before = {key: value.clone() for key, value in trained.state_dict().items()}
    found = layers(trained, (3, 9, 8))
    assert found[0] == ("0", "Conv2d", (8, 9, 8), 3 * 8 * 9)
    assert found[3] == ("3", "MaxPool2d", (8, 4, 4), 0)
    assert found[-1] == ("12", "Linear", (2,), 48 * 2 + 2)
    assert sum(row[3] for row in found) == sum(parameter.numel() for parameter in trained.parameters())
    assert trained.training
    for key, value in trained.state_dict().items():
        assert torch.equal(value, before[key])

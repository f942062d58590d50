"""The YAML files of these groups repeat the options, and the defaults, of the functions that they configure."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from braindistill import images, methods, students
from braindistill.images import assemble, check_overlap, split
from braindistill.methods import needs_target, objective, weigh

CONFIGS = Path(__file__).parents[2] / "configs"
READERS = ("digits", "arrays", "folder", "mnist")
FUNCTIONS = {
    **{("images", name): (getattr(images, f"load_{name}"), assemble, check_overlap, split) for name in READERS},
    **{("student", name): (getattr(students, name),) for name in ("small_cnn", "resnet20", "resnet18")},
    **{
        ("method", name): (getattr(methods, f"{name}_loss"), *([objective, weigh] if needs_target(name) else []))
        for name in ("none", "label_smoothing", "kd")
    },
}


@pytest.mark.parametrize(("group", "name"), FUNCTIONS)
def test_yaml_repeats_the_signature(group, name):
    file = CONFIGS / group / f"{name}.yaml"
    options = {
        parameter.name: "???" if parameter.default is parameter.empty else parameter.default
        for function in FUNCTIONS[group, name]
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    assert OmegaConf.to_container(OmegaConf.load(file)) == {"name": name, **options}
    assert file.read_text().startswith("# ")

from __future__ import annotations

import subprocess
import sys

import pytest

from braindistill.config import options
from braindistill.errors import UserError
from braindistill.methods.signatures import method_names, method_parameters, needs_target, takes

KINDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(["none", "label_smoothing", "teacher_free", "combined"], ()),
    **dict.fromkeys(["kd", "dkd", "dist", "standardized_kd"], ("soft_labels",)),
    **dict.fromkeys(["rkd", "similarity", "cka", "crd"], ("features", "voxels")),
    **dict.fromkeys(["fitnet", "attention", "review"], ("features",)),
    "voxels": ("voxels",),
    "rdm": ("relations",),
    "mask": ("mask",),
}


def test_what_a_method_may_learn_from():
    assert {name: takes(name) for name in method_names()} == KINDS
    assert {name: needs_target(name) for name in KINDS} == {name: bool(kinds) for name, kinds in KINDS.items()}
    assert "objective" not in method_names()
    for ask in (needs_target, takes, method_parameters):
        with pytest.raises(UserError, match="method=kdd: no such method; did you mean 'kd'"):
            ask("kdd")
    assert method_parameters("cka") == ["student_features", "teacher_features"]


def test_asking_imports_no_torch():
    code = "import sys; from braindistill import methods; methods.needs_target('kd'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


WEIGHTS = {"label_weight", "target_weight", "target_warmup", "target_end"}


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("none", set()),
        ("kd", {"temperature"} | WEIGHTS),
        ("voxels", {"layer"} | WEIGHTS),
        ("mask", {"layer", "floor"} | WEIGHTS),
        ("cka", {"layer", "teacher_layer"} | WEIGHTS),
        ("fitnet", {"layers", "teacher_layers"} | WEIGHTS),
        ("crd", {"layer", "teacher_layer", "temperature", "dimension", "negatives", "momentum"} | WEIGHTS),
        ("combined", {"terms", "label_weight"}),
    ],
)
def test_options_are_the_methods_own_and_those_of_what_surrounds_it(name, own):
    assert set(options("method", name)) == own


def test_targets_weigh_as_published():
    published = {"fitnet": 100.0, "attention": 1000.0, "similarity": 3000.0, "rkd": 1.0, "crd": 0.8, "review": 5.0}
    published |= {"kd": 1.0, "voxels": 1.0, "mask": 1.0}
    assert {name: options("method", name)["target_weight"].default for name in published} == published

from __future__ import annotations

import subprocess
import sys

import pytest

from braindistill.errors import UserError
from braindistill.methods.signatures import method_names, method_parameters, needs_target


def test_which_target_a_method_needs():
    expected = {"none": None, "label_smoothing": None, "teacher_free": None, "rdm": "relations"}
    expected |= dict.fromkeys(["kd", "dkd", "dist", "standardized_kd"], "soft_labels")
    expected |= dict.fromkeys(["voxels", "rkd", "similarity", "cka"], "voxels")
    assert {name: needs_target(name) for name in expected} == expected
    assert "objective" not in method_names()
    for ask in (needs_target, method_parameters):
        with pytest.raises(UserError, match="method=kdd: no such method; did you mean 'kd'"):
            ask("kdd")
    assert method_parameters("cka") == ["student_features", "teacher_features"]


def test_asking_imports_no_torch():
    code = "import sys; from braindistill import methods; methods.needs_target('kd'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"

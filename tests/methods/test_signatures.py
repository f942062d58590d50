from __future__ import annotations

import subprocess
import sys

import pytest

from braindistill.errors import UserError
from braindistill.methods.signatures import method_names, needs_target


def test_which_target_a_method_needs():
    expected = {"none": None, "label_smoothing": None, "kd": "soft_labels", "voxels": "voxels", "rdm": "relations"}
    assert {name: needs_target(name) for name in expected} == expected
    assert "objective" not in method_names()
    with pytest.raises(UserError, match="method=kdd: no such method; did you mean 'kd'"):
        needs_target("kdd")


def test_asking_imports_no_torch():
    code = "import sys; from braindistill import methods; methods.needs_target('kd'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"

"""A user's own module joins the groups by the names of its functions, and nothing else has to be touched."""

from __future__ import annotations

import json
import sys

import pytest

from braindistill import exports
from braindistill.config import choices, options
from braindistill.errors import UserError
from braindistill.plugins import load_plugins

MODULE = '''
"""A loss, a student and a data set of one's own."""

from pathlib import Path

import numpy as np
from torch import nn
from torch.nn import functional as F

from braindistill.fmri import Responses


def my_loss(student_logits, teacher_logits, labels=None, *, temperature: float = 2.0):
    return F.mse_loss(student_logits / temperature, teacher_logits / temperature)


def tiny_net(n_classes, image_shape, *, width: int = 4):
    channels, height, _ = image_shape
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(n_classes))


def tiny_mlp(n_classes, image_shape, *, width: int = 4):
    size = int(np.prod(image_shape))
    return nn.Sequential(nn.Flatten(), nn.Linear(size, width), nn.ReLU(), nn.Linear(width, n_classes))


def load_mine(workspace=None, *, path: Path, scale: float = 1.0):
    with np.load(path, allow_pickle=False) as file:
        images = file["images"][:, None]
        return Responses(
            file["responses"] * np.float32(scale), file["stimulus_id"], run=file["run"], label=file["label"],
            images=images, image_id=file["image_id"],
        )


def help_me(anything):
    return anything
'''


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module ``my.module`` in the current folder; what it plugs in is forgotten afterwards."""
    monkeypatch.setattr(exports, "_plugged", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my").mkdir()
    (tmp_path / "my" / "module.py").write_text(MODULE)
    exports.syntax.cache_clear()
    yield tmp_path / "my" / "module.py"
    for name in ("my", "my.module"):
        sys.modules.pop(name, None)


def test_functions_join_groups_by_their_names(mine):
    load_plugins(["my.module"])
    assert "my" in choices("method")
    assert {"tiny_net", "tiny_mlp"} <= set(choices("student"))
    assert "mine" in choices("fmri")
    assert "mine" not in choices("images")
    assert options("method", "my").keys() == {
        "temperature",
        "label_weight",
        "target_weight",
        "target_warmup",
        "target_end",
    }
    assert options("fmri", "mine")["path"].is_path


def test_end_to_end_in_this_process_and_in_workers(mine, spawn, tiny):
    words = [word.replace("fmri=arrays", "fmri=mine") for word in tiny if not word.startswith("student.")]
    words += ["student=tiny_mlp", "student.width=5", "method=my", "method.temperature=3", "fmri.scale=2"]
    words += ["plugins=[my.module]", "runtime.tensorboard=false"]
    ran = spawn("eval", *words, "runtime.workers=2", "runtime.cache=cache")
    assert ran.code == 0, ran.err
    folder = mine.parent.parent / "cache"
    manifest = json.loads(next(folder.glob("distill/*/manifest.json")).read_text())
    assert manifest["document"]["config"]["student"] == {"name": "tiny_mlp", "width": 5}
    assert manifest["document"]["files"].keys() == {"plugin my.module"}
    assert "plugins=[my.module]" in manifest["command"]
    brain = json.loads(next(folder.glob("prepare/*/manifest.json")).read_text())
    assert brain["document"]["config"]["fmri"].items() >= {"name": "mine", "scale": 2, "zscore": "none"}.items()


def test_an_edited_plugin_makes_another_key_where_it_is_used(mine, run, tiny):
    words = ["plugins=my.module", *tiny, "method=my", "runtime.dry_run=true"]
    before = run("distill", *words, cache="cache").out.split()
    mine.write_text(MODULE.replace("2.0", "2.0 "))
    exports.syntax.cache_clear()
    after = run("distill", *words, cache="cache").out.split()
    keys = [[word for word in shown if "/" in word] for shown in (before, after)]
    assert [was == now for was, now in zip(*keys, strict=True)] == [True, True, True, True, True, False]


def test_cfg_shows_the_options_of_a_plugged_member(mine, run):
    ran = run("distill", "plugins=[my.module]", "fmri=mine", "student=tiny_mlp", "--cfg", "job")
    assert ran.code == 0
    assert "student:\n  name: tiny_mlp\n  width: 4\n" in ran.out
    assert "path: ???" in ran.out
    ran = run("distill", "plugins=[my.module]", "fmri=mine")
    assert "fmri.path is required by fmri=mine" in ran.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plugins=[my.modul]"], "plugins=[my.modul]: no such module; give the name"),
        (["plugins=[your.module]"], "plugins=[your.module]: "),
        (["plugins=[my/module.py]"], "give the name of a module in"),
        (["plugins=a,b"], "several modules need brackets: plugins=[first,second]"),
        (["plugins=[my.module]", "student=tiny_nett"], "student=tiny_nett: no such option; did you mean 'tiny_net'?"),
        (["student=tiny_mlp"], "student=tiny_mlp: no such option"),
    ],
)
def test_a_mistake_is_one_line(words, message, mine, run):
    ran = run("distill", *words, cache="cache")
    assert ran.code == 2
    assert message in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def broken(:\n", "module.py, line 1"),
        ("x = 1\n", "none of its functions is named like ours: NAME_loss"),
        (
            "def kd_loss(student_logits, teacher_logits, labels=None): ...",
            "my.module.kd_loss has the name of a built-in",
        ),
    ],
)
def test_a_module_that_cannot_be_used(text, message, mine):
    mine.write_text(text)
    exports.syntax.cache_clear()
    with pytest.raises(UserError, match=message):
        load_plugins(["my.module"])


@pytest.mark.parametrize("option", ["x=1", "x: complex = 1", "x: float = f()", "x: Optional[int] = None"])
def test_an_option_that_cannot_be_checked(option, mine):
    mine.write_text(f"def odd_loss(student_logits, teacher_logits, labels=None, *, {option}): ...")
    exports.syntax.cache_clear()
    load_plugins(["my.module"])
    with pytest.raises(UserError, match=r"method=odd: odd_loss\(… x …\): an option needs a type out of"):
        options("method", "odd")


def test_yaml_may_not_name_plugins(mine, run, tmp_path):
    (tmp_path / "dir" / "experiment").mkdir(parents=True)
    (tmp_path / "dir" / "experiment" / "sly.yaml").write_text("# @package _global_\nplugins: [my.module]\n")
    ran = run("distill", "--config-dir", "dir", "experiment=sly")
    assert ran.code == 2
    assert "plugins is set in a YAML file; they are taken from the command line only" in ran.err

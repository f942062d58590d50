"""prepare: the artifact, its summary and its picture."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from braindistill import fmri
from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.report.brain import draw_overview, volume_of
from braindistill.runtime import Runtime
from braindistill.stages import prepare

SMALL = {"n_stimuli": 20, "n_early": 4, "n_category": 5, "n_nuisance": 3, "n_runs": 2}
RUNTIME = Runtime(verbosity=0)


def test_the_artifact_holds_responses_summary_and_picture(tmp_path: Path) -> None:
    prepare.run({"fmri": {"name": "simulated", "zscore": "run", **SMALL}}, {}, tmp_path, RUNTIME)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "responses.npy", "arrays.npz", "images.npy", "preparation.json", "summary.txt", "overview.png", "dataset",
    }  # fmt: skip
    read = Responses.load(tmp_path)
    assert read.preparation is not None
    assert read.preparation["options"]["zscore"] == "run"
    assert (tmp_path / "summary.txt").read_text() == fmri.summarise(read, "fmri=simulated") + "\n"
    with Image.open(tmp_path / "overview.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50


def test_a_disk_that_is_too_small_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 99, 1))
    with pytest.raises(UserError, match=r"40 trials × 12 voxels need 0\.0 MB of disk, but .* choose fewer voxels"):
        prepare.run({"fmri": {"name": "simulated", **SMALL}}, {}, tmp_path, RUNTIME)
    assert not (tmp_path / "responses.npy").exists()


def test_voxels_go_back_to_their_places(tmp_path: Path) -> None:
    index = np.array([[4, 2, 0], [5, 2, 1], [4, 3, 1]])
    affine = np.array([[2, 0, 0, -9], [0, 0, 3, 4], [0, -2, 0, 1], [0, 0, 0, 1.0]])
    data = Responses(
        np.ones((2, 3), np.float32),
        np.array(["a", "a"]),
        voxel_coordinates=index @ affine[:3, :3].T + affine[:3, 3],
        affine=affine,
    )
    volume = volume_of(data, np.array([1.0, 2.0, 3.0]))
    assert volume is not None
    assert volume.shape == (2, 2, 2)
    assert (volume[0, 0, 0], volume[1, 0, 1], volume[0, 1, 1]) == (1, 2, 3)
    assert np.isnan(volume).sum() == 5
    assert data.voxel_coordinates is not None
    data.voxel_coordinates[0] += 0.7  # no grid
    assert volume_of(data, np.ones(3)) is None
    draw_overview(data, tmp_path / "single.png")  # vertices, without a ceiling: a histogram
    assert (tmp_path / "single.png").stat().st_size > 5000


def test_the_command_prints_the_table_and_then_the_path(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(6, 4))
    np.savez(tmp_path / "a.npz", responses=values, stimulus_id=np.array(list("abcabc")))
    words = ["fmri=arrays", f"fmri.path={tmp_path / 'a.npz'}", f"runtime.cache={tmp_path / 'cache'}"]
    printed = []
    for verb in ("info", "prepare"):
        command = [sys.executable, "-m", "braindistill", verb, *words]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        printed.append(ran.stdout)
    table = printed[1].splitlines()
    assert Path(table[-1]).is_dir()
    assert Path(table[-1]).parent.name == "prepare"
    assert table[0] == "fmri=arrays"
    assert printed[0].endswith(printed[1])  # info says the same, below versions and config

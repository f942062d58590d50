"""A subject and a set of pictures so small that a whole evaluation takes a second, and the command line to run it with."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import settings

# a timing never fails a test; where many runs are compared, the same examples are tried in each
settings.register_profile("steady", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("steady")


class Ran(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def arrays() -> dict[str, dict[str, np.ndarray]]:
    """Twenty-four pictures of two classes, shown twice each to a subject with V1 and nuisance voxels, and a test set."""
    rng = np.random.default_rng(0)
    label = np.arange(24) % 2
    pictures = rng.integers(0, 120, (44, 8, 8), dtype=np.uint8)
    both = np.concatenate([label, np.arange(20) % 2])
    pictures[both == 1, :4] += 100
    names = np.array([f"picture-{number:02d}" for number in range(24)])
    shown = np.tile(np.arange(24), 2)
    signal = np.where(label[shown, None] == 1, 1.0, -1.0) * rng.normal(1, 0.3, 12)
    responses = np.concatenate([signal, np.zeros((48, 8))], 1) + rng.normal(0, 0.7, (48, 20))
    return {
        "fmri": {
            "responses": responses.astype(np.float32),
            "stimulus_id": names[shown],
            "run": np.repeat(["1", "2"], 24),
            "label": label[shown].astype(str),
            "roi_V1": np.arange(20) < 12,
            "roi_nuisance": np.arange(20) >= 12,
            "images": pictures[:24],
            "image_id": names,
        },
        "images": {
            "train_images": pictures[:24],
            "train_labels": label,
            "train_ids": names,
            "test_images": pictures[24:],
            "test_labels": both[24:],
        },
    }


@pytest.fixture
def write(arrays: dict[str, Any], tmp_path: Path) -> Callable[..., str]:
    """Write one of the two files with some of its arrays changed (None leaves one out) → its override."""

    def make(group: str, name: str = "data", **changes: Any) -> str:
        kept = {key: value for key, value in (arrays[group] | changes).items() if value is not None}
        np.savez(tmp_path / f"{group}-{name}.npz", **kept)
        return f"{group}.path={tmp_path / f'{group}-{name}.npz'}"

    return make


@pytest.fixture(scope="session")
def tiny(arrays: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The overrides of the smallest experiment."""
    folder = tmp_path_factory.mktemp("data")
    for group, content in arrays.items():
        np.savez(folder / f"{group}.npz", **content)
    groups = [word for group in arrays for word in (f"{group}=arrays", f"{group}.path={folder / group}.npz")]
    sizes = ["images.n_train=8", "images.n_pool=16", "teacher.n_folds=2", "teacher.labels=student"]
    training = ["train.epochs=2", "train.batch_size=12", "student.width=4"]
    return [*groups, *sizes, *training, "eval.arms=[baseline,brain]", "eval.seeds=2"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run a command in this process, in an empty folder, with one worker and no TensorBoard."""
    from braindistill.cli import VERBS, main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["braindistill"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("BRAINDISTILL_CACHE", raising=False)

    def command(verb: str, *words: str, cache: Path | str | None = None) -> Ran:
        quick = ["runtime.workers=1", "runtime.tensorboard=false"] if verb in VERBS else []
        capfd.readouterr()
        try:
            main([verb, *quick, *words, *([f"runtime.cache={cache}"] if cache else [])])
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capfd.readouterr()
        return Ran(code, captured.out, captured.err)

    return command


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start a command as a process of its own, in an empty folder."""

    def command(*words: str, python: tuple[str, ...] = (), **environment: str) -> subprocess.Popen[str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("BRAINDISTILL", "HYDRA"))}
        return subprocess.Popen(
            [sys.executable, *python, "-m", "braindistill", *words],
            cwd=tmp_path,
            env=kept | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return command


@pytest.fixture
def spawn(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., Ran]:
    """Run a command as a process of its own, in an empty folder."""

    def command(*words: str, **options: Any) -> Ran:
        process = start(*words, **options)
        out, err = process.communicate(timeout=120)
        return Ran(process.returncode, out, err)

    return command


@pytest.fixture(scope="session")
def warm(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which the smallest experiment was evaluated. Tests that change it copy it first."""
    folder = tmp_path_factory.mktemp("warm")
    command = [sys.executable, "-m", "braindistill", "eval", *tiny, f"runtime.cache={folder}", "runtime.workers=1"]
    ran = subprocess.run([*command, "runtime.tensorboard=false"], cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return folder

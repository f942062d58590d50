"""The wheel is the program: built, installed in a folder outside the checkout, and run from an empty one."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by pip; where hatchling is not installed, pip fetches it."""
    folder = tmp_path_factory.mktemp("wheel")
    isolation = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", *isolation, "--wheel-dir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    absent = ("No module named pip", "No matching distribution found for hatchling")
    if done.returncode and any(reason in done.stderr for reason in absent):
        pytest.skip(f"the wheel can't be built here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("braindistill-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the wheel and nothing else; dependencies are this environment's."""
    folder = tmp_path_factory.mktemp("installed")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(folder),
        str(wheel),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return folder


def test_contents(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    yaml = {f"braindistill/{file.relative_to(ROOT).as_posix()}" for file in (ROOT / "configs").rglob("*.yaml")}
    assert "braindistill/configs/config.yaml" in yaml
    assert yaml <= names
    source = {file.relative_to(ROOT / "src").as_posix() for file in (ROOT / "src").rglob("*.py")}
    assert source <= names
    assert "braindistill/report/page.html.j2" in names
    top = {name.split("/")[0] for name in names}
    assert {name.split("-")[0] for name in top} == {"braindistill"}, "nothing but the package and its metadata"
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_runs_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    environment.pop("BRAINDISTILL_CACHE", None)

    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = run(
        "-c", "import braindistill, braindistill.config as c; print(braindistill.__file__); print(c.find_configs())"
    )
    assert [Path(line).is_relative_to(installed) for line in where.splitlines()] == [True, True], where

    out = run("-m", "braindistill", "eval", "experiment=smoke", "runtime.workers=1")
    folder = Path(out.splitlines()[-1])
    assert folder.is_relative_to(tmp_path / "outputs" / "eval")
    results = json.loads((folder / "results.json").read_text())
    assert set(results["arms"]) == {"baseline", "brain"}
    assert results["claims"][0]["holds"] is None  # two seeds can't decide it
    assert "<html" in (folder / "report.html").read_text()
    assert "baseline" in out

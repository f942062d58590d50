"""Processes that build at the same time, and processes that are killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from braindistill.cache import Cache
from braindistill.cache.step import Step

STEP = Step("distill", 1, {"seed": 0})

BUILD = """
import os, sys, time
from pathlib import Path
from braindistill.cache import Cache
from braindistill.cache.step import Step

root, mode = Path(sys.argv[1]), sys.argv[2]

def make(folder):
    with open(root / "made.log", "a") as log:
        log.write(f"{os.getpid()}\\n")
    (folder / "checkpoint").mkdir(exist_ok=True)
    (folder / "checkpoint" / "epoch").write_text("5")
    (folder / "weights.bin").write_text("weights")
    if mode == "hang":
        time.sleep(60)
    time.sleep(0.8)

print(Cache(root).build(Step("distill", 1, {"seed": 0}), make))
"""


def start(root: Path, mode: str) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", BUILD, str(root), mode], **pipes)


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_processes_that_ask_at_once_build_once_and_know_whom_they_wait_for(tmp_path):
    running = [start(tmp_path, "build") for _ in range(4)]
    ended = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0] * 4
    assert {out.strip() for out, _ in ended} == {str(Cache(tmp_path).path(STEP))}
    builder = (tmp_path / "made.log").read_text().split()
    assert len(builder) == 1
    said = "".join(err for _, err in ended)
    waited = [line for line in said.splitlines() if line.startswith("waiting for")]
    assert all(f"pid {builder[0]}" in line and STEP.name in line for line in waited)
    assert Cache(tmp_path).lookup(STEP) is not None


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_run_leaves_nothing_that_looks_finished_and_is_resumed(tmp_path):
    process = start(tmp_path, "hang")
    partial = tmp_path / "distill" / f".{STEP.key[:12]}.partial"
    wait_for(lambda: (partial / "weights.bin").exists())
    waiting = start(tmp_path, "build")
    said = waiting.stderr.readline()
    assert said.startswith(f"waiting for {STEP.name}, being built by host ")
    assert f"pid {process.pid}" in said
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)
    out, err = waiting.communicate(timeout=20)  # the lock died with its holder: the next one goes on
    assert waiting.returncode == 0, err
    assert "resumes from the checkpoint" in err
    assert Path(out.strip()) == Cache(tmp_path).lookup(STEP)
    assert len((tmp_path / "made.log").read_text().split()) == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_debris_of_a_killed_run_is_never_taken_for_a_result(tmp_path):
    process = start(tmp_path, "hang")
    partial = tmp_path / "distill" / f".{STEP.key[:12]}.partial"
    wait_for(lambda: (partial / "weights.bin").exists())
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)
    said: list[str] = []
    cache = Cache(tmp_path, say=said.append, warn=said.append)
    assert cache.lookup(STEP) is None
    assert [entry.state for entry in cache.entries()] == ["unfinished"]
    assert cache.why(STEP) == "its last run was stopped"
    seen = []
    cache.build(STEP, lambda folder: seen.extend(path.relative_to(folder).as_posix() for path in folder.rglob("*")))
    assert sorted(seen) == ["checkpoint", "checkpoint/epoch"]
    assert [entry.state for entry in cache.entries()] == ["ok"]
    assert not any("waiting" in line for line in said)  # no state is stuck at "running"


def test_importing_the_cache_imports_nothing_heavy():
    code = (
        "import sys, braindistill.cache, braindistill.cache.fingerprint\n"
        "heavy = {'torch', 'numpy', 'hydra', 'omegaconf', 'filelock', 'subprocess'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"

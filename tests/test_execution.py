"""What becomes of a run that is killed, interrupted or starved: nothing half-finished counts, and the same command goes on."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from braindistill import jobs
from braindistill.cache import Cache, Step
from braindistill.errors import UserError
from braindistill.execution import Missing, ensure, estimate, missing_steps, root_causes
from braindistill.runtime import Runtime

QUIET = Runtime(device="cpu", workers=1, verbosity=0)


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.01)


def children_of(pid: int) -> list[int]:
    """Python processes whose parent this is (Linux)."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z" and "resource_tracker" not in (entry / "cmdline").read_text():
                found.append(int(entry.name))
        except (OSError, ValueError):
            continue
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def metrics(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    measured = ("seconds", "images_per_second", "memory_mb")
    return [{key: value for key, value in line.items() if key not in measured} for line in lines]


def test_a_killed_training_resumes_to_the_same_weights(start, run, tiny, tmp_path):
    words = [*tiny, "method=none", "train.epochs=300", "images.n_val=4", "images.n_pool=12"]
    words += ["train.select=validation", "runtime.checkpoint_seconds=0", "runtime.device=cpu"]
    process = start("distill", *words, "runtime.cache=killed", "runtime.tensorboard=false")
    wait_for(lambda: list(tmp_path.glob("killed/distill/.*.partial/checkpoint/training.safetensors")), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL

    listed = run("cache", "ls", cache="killed").out
    assert [line.split()[0] for line in listed.splitlines() if " ok " in line] == ["images", "prepare"]
    assert "unfinished" in listed
    ran = run("distill", *words, cache="killed")
    assert ran.code == 0
    assert "its last run was stopped" in ran.err
    assert "resumes from the checkpoint of a run that was stopped" in ran.err
    resumed = Path(ran.out.splitlines()[-1])
    straight = Path(run("distill", *words, cache="straight").out.splitlines()[-1])
    assert resumed.name == straight.name
    assert len(metrics(straight)) == 300
    assert metrics(resumed) == metrics(straight)
    assert (resumed / "student.safetensors").read_bytes() == (straight / "student.safetensors").read_bytes()
    assert not list(tmp_path.glob("killed/distill/.*.partial"))
    assert run("cache", "verify", cache="killed").code == 0


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("blow", ["parent killed", "parent ended", "worker killed", "interrupted"])
def test_workers(blow, start, tiny, tmp_path):
    words = [*tiny, "eval.arms=[baseline,label_smoothing]", "eval.seeds=3", "train.epochs=100000"]
    words.append("runtime.checkpoint_seconds=3600")  # but when they are told to end
    process = start("eval", *words, "runtime.workers=2", "runtime.cache=cache", "runtime.tensorboard=false")
    logs = "cache/distill/.*.partial/metrics.jsonl"
    # a first epoch is over: from then on a worker that is told to end saves first
    wait_for(lambda: len([log for log in tmp_path.glob(logs) if log.stat().st_size]) == 2, process)
    workers = children_of(process.pid)
    assert len(workers) == 2
    if blow == "parent killed":
        process.kill()
    elif blow == "parent ended":
        process.terminate()
    elif blow == "worker killed":
        os.kill(workers[0], signal.SIGKILL)
    else:
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    wait_for(lambda: not any(map(alive, workers)))
    assert "Traceback" not in err
    assert not list(tmp_path.glob("cache/distill/[0-9a-f]*")), "no debris is taken for a result"
    saved = list(tmp_path.glob("cache/distill/.*.partial/checkpoint/training.safetensors"))
    assert len(saved) == (2 if blow != "worker killed" else len(saved)), "workers that are told to end save first"
    if blow == "worker killed":
        assert process.returncode == 1
        assert err.count("a worker process died (killed, or out of memory?); finished artifacts are kept") == 2
        assert out.splitlines()[-1].endswith(".incomplete")
    elif blow == "interrupted":
        assert process.returncode == 130
        assert err.splitlines()[-1] == (
            "braindistill: interrupted; finished artifacts are kept, the same command goes on"
        )


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path, say=lambda text: None, warn=lambda text: None)


@pytest.fixture
def wrong() -> dict[str, BaseException]:
    """What building a step of `chain` raises."""
    return {}


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch, wrong: dict[str, BaseException]) -> list[Step]:
    """Three steps, each resting on the one before; building one writes a file."""
    steps: list[Step] = []
    for name in ("first", "second", "third"):
        above = {"above": steps[-1]} if steps else {}
        steps.append(Step(name, 1, {}, above, title=f"the {name}", command=f"braindistill {name}"))

    def build(members: list[Step], cache: Cache, runtime: Runtime) -> list[Path]:
        (step,) = members
        if step.stage in wrong:
            raise wrong[step.stage]
        return [cache.build(step, lambda folder: (folder / "file").write_text(step.stage))]

    monkeypatch.setattr(jobs, "build", build)
    return steps


def test_behind_a_finished_artifact_nothing_is_looked_at(cache, chain):
    assert ensure(cache, [chain[2]], QUIET) == {}
    assert missing_steps(cache, [chain[2]]) == ([], [chain[2]])
    for path in (tmp for tmp in cache.root.glob("first/*") if tmp.is_dir()):
        (path / "manifest.json").unlink()
    assert missing_steps(cache, [chain[2]]) == ([], [chain[2]])


def test_what_rests_on_a_failure_is_not_built(cache, chain, wrong):
    wrong["second"] = UserError("second: nothing to read")
    failures = ensure(cache, [chain[2]], QUIET)
    assert failures == {
        chain[1].key: "second: nothing to read",
        chain[2].key: "not built: the second failed",
    }
    assert root_causes(failures) == ["second: nothing to read"]
    assert cache.lookup(chain[0])


def test_a_bug_shows_its_traceback_and_a_full_disk_does_not(cache, chain, wrong, capsys):
    wrong["first"] = OSError(errno.ENOSPC, "No space left on device", "/scratch/weights")
    [reason] = root_causes(ensure(cache, [chain[0]], QUIET))
    assert reason == (
        "/scratch/weights: No space left on device; mend that and run the command again: finished artifacts are kept"
    )
    assert "Traceback" not in capsys.readouterr().err
    wrong["first"] = ZeroDivisionError("division\nby zero")
    assert root_causes(ensure(cache, [chain[0]], QUIET)) == ["ZeroDivisionError: division by zero"]
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_is_no_failure_of_a_step(cache, chain, wrong):
    wrong["first"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        ensure(cache, [chain[1]], QUIET)


def test_required_upstream(cache, chain):
    require = Runtime(device="cpu", workers=1, verbosity=0, upstream="require")
    with pytest.raises(Missing, match="2 upstream artifacts are missing") as missing:
        ensure(cache, [chain[2]], require)
    assert missing.value.commands == ["braindistill first", "braindistill second"]
    ensure(cache, [chain[1]], QUIET)
    assert ensure(cache, [chain[2]], require) == {}


def test_estimate(cache, chain):
    assert estimate(cache, chain) == (None, None)
    ensure(cache, chain, QUIET)
    seconds, size = estimate(cache, chain)
    assert 0 <= seconds < 5
    assert size > sum(len(step.stage) for step in chain)
    assert estimate(cache, []) == (0, 0)


def test_a_damaged_artifact_is_rebuilt(run, warm, tiny, tmp_path):
    shutil.copytree(warm, tmp_path / "cache")
    for done in tmp_path.glob("cache/eval/[0-9a-f]*"):
        shutil.rmtree(done)
    file = next(tmp_path.glob("cache/distill/*/student.safetensors"))
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    for done in tmp_path.glob("cache/predict/[0-9a-f]*"):
        shutil.rmtree(done)
    ran = run("eval", *tiny, cache="cache")
    assert ran.code == 0
    name = f"distill/{file.parent.name}"
    assert f"warning: {name} is damaged: student.safetensors has the checksum" in ran.err
    assert f"build  {name}" in ran.err
    assert "the last one was damaged" in ran.err
    assert file.read_bytes() == whole
    assert "1 folders" in run("cache", "gc", cache="cache").out


def test_a_training_that_is_told_to_end_saves_where_it_is(start, run, tiny, tmp_path):
    """In the middle of an epoch, to which it comes back."""
    words = [*tiny, "method=none", "train.epochs=400", "runtime.checkpoint_seconds=3600", "runtime.workers=1"]
    whole = run("distill", *words, cache="whole")
    process = start("distill", *words, "runtime.cache=cut", "runtime.tensorboard=false")
    wait_for(lambda: any(log.read_text() for log in tmp_path.glob("cut/distill/.*.partial/metrics.jsonl")), process)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
    assert len(list(tmp_path.glob("cut/distill/.*.partial/checkpoint/training.safetensors"))) == 1
    again = run("distill", *words, cache="cut")
    assert "resumes from the checkpoint" in again.err
    first, second = (Path(ran.out.splitlines()[-1]) for ran in (whole, again))
    assert (first / "student.safetensors").read_bytes() == (second / "student.safetensors").read_bytes()
    assert metrics(first) == metrics(second)


class TestStacks:
    """Seeds that are trained at once: each its own artifact, made again together where one of them is gone."""

    words = ("train.parallel_seeds=2", "method=none")

    def students(self, folder: Path) -> dict[str, bytes]:
        return {path.parent.name: path.read_bytes() for path in folder.glob("distill/*/student.safetensors")}

    def test_each_seed_is_an_artifact(self, run, tiny, tmp_path):
        ran = run("distill", *tiny, *self.words, "seed=3", cache="cache")
        assert ran.code == 0, ran.err
        paths = [Path(line) for line in ran.out.splitlines()[-2:]]
        manifests = [json.loads((path / "manifest.json").read_text())["document"] for path in paths]
        assert [made["config"]["seed"] for made in manifests] == [3, 4]
        assert [made["config"]["stack"] for made in manifests] == [[3, 4]] * 2
        assert "parallel_seeds" not in manifests[0]["config"]["train"]
        students = self.students(tmp_path / "cache")
        assert len(set(students.values())) == 2
        assert [len(metrics(path)) for path in paths] == [2, 2]
        assert not list(tmp_path.glob("cache/distill/*/checkpoint"))

    def test_a_lost_one_is_made_again_with_the_others_and_alike(self, run, tiny, tmp_path):
        lost = Path(run("distill", *tiny, *self.words, cache="cache").out.splitlines()[-1])
        before = self.students(tmp_path / "cache")
        shutil.rmtree(tmp_path / "cache" / "distill" / lost.name)
        ran = run("distill", *tiny, *self.words, cache="cache")
        assert ran.code == 0, ran.err
        assert self.students(tmp_path / "cache") == before

    def test_eval_cuts_its_seeds_into_stacks(self, run, tiny, tmp_path):
        words = [*tiny, "train.parallel_seeds=2", "eval.seeds=[4,0,7]"]
        ran = run("eval", *words, cache="cache")
        assert ran.code == 0, ran.err
        made = [
            json.loads(file.read_text())["document"]["config"]
            for file in tmp_path.glob("cache/distill/*/manifest.json")
        ]
        found = sorted((config["seed"], config["method"]["name"], config.get("stack")) for config in made)
        expected = [
            (seed, method, stack) for seed, stack in ((0, [4, 0]), (4, [4, 0]), (7, None)) for method in ("kd", "none")
        ]
        assert found == sorted(expected)
        again = run("eval", *words, cache="cache")
        assert "build" not in again.err

    def test_a_stack_that_fails_fails_as_one(self, run, tiny):
        ran = run("distill", *tiny, *self.words, "train.lr=1e30", cache="cache")
        assert ran.code == 1
        assert ran.err.count("training diverged") == 1

"""A whole evaluation: its plan, what is required, what fails, and that the same command gives the same numbers."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest


def results_of(out: str) -> dict:
    return json.loads((Path(out.splitlines()[-1]) / "results.json").read_text())


def timeless(results: dict) -> dict:
    return {key: value for key, value in results.items() if key not in ("began", "created", "command")}


@pytest.mark.parametrize("verb", ["prepare", "train-teacher", "export", "distill", "eval"])
def test_dry_run_prints_the_plan_and_builds_nothing(verb, run, tiny, tmp_path):
    ran = run(verb, *tiny, "runtime.dry_run=true", cache="cache")
    assert ran.code == 0
    count = int(re.search(r"^(\d+) to build, 0 to reuse; time and disk unknown", ran.out, re.M)[1])
    assert len(re.findall(r"^build  .*: first of its kind$", ran.out, re.M)) == count > 1
    assert not list(tmp_path.glob("cache/*/*"))


def test_dry_run_estimates_time_and_disk_from_what_was_built(run, tiny, warm):
    ran = run("eval", *tiny, "eval.seeds=3", "runtime.dry_run=true", cache=warm)
    assert re.search(r"^7 to build, 11 to reuse; about \d+ s of one process and \d+\.\d MB$", ran.out, re.M), ran.out


def test_a_second_run_builds_nothing(run, tiny, warm):
    before = {path: path.stat().st_mtime_ns for path in warm.glob("*/*/*")}
    ran = run("eval", *tiny, cache=warm)
    assert ran.code == 0
    assert "build " not in ran.err
    assert re.search(r"^reused eval/\w+ \(evaluation of 2 arms × 2 seeds, \d+ (s|min) old\)$", ran.err, re.M)
    assert "brain" in ran.out
    assert {path: path.stat().st_mtime_ns for path in warm.glob("*/*/*")} == before


def test_the_results_have_the_fixed_names(run, tiny, warm):
    found = results_of(run("eval", *tiny, cache=warm).out)
    assert list(found["arms"]) == ["baseline", "brain"]
    assert found["arms"]["brain"]["n_seeds"] == 2
    accuracy = found["arms"]["brain"]["accuracy"]
    assert accuracy.keys() == {"mean", "ci_low", "ci_high", "per_seed"}
    assert all(0 <= value <= 1 for value in accuracy["per_seed"])
    assert {"a", "b", "difference", "ci_low", "ci_high", "p", "p_adjusted"} <= found["comparisons"][0].keys()
    assert {"arm", "holds", "p", "components", "reason"} <= found["claims"][0].keys()
    assert found["claims"][0]["holds"] is None
    assert found["command"].startswith("braindistill eval fmri=arrays")


@pytest.mark.parametrize("verb", ["distill", "eval"])
def test_require_names_the_commands_that_build_what_is_missing(verb, run, tiny, tmp_path):
    (tmp_path / "mine" / "train").mkdir(parents=True)
    dirs = ["--config-dir", str(tmp_path / "mine")]
    words = [*tiny, "eval.seeds=1", "eval.arms=[brain]", "runtime.verbosity=0"]
    ran = run(verb, *dirs, *words, "runtime.upstream=require", cache=tmp_path / "a cache")
    assert ran.code == 3
    first, *commands = ran.err.splitlines()
    assert re.fullmatch(
        r"braindistill: \d upstream artifacts are missing \(runtime.upstream=require\); build them with:", first
    )
    assert not list(tmp_path.glob("a cache/*/*"))
    verbs = [command.split()[1] for command in commands]
    assert verbs == ["prepare", "train-teacher", "export"] + ["distill"] * (verb == "eval")
    for command in commands:
        program, *words_of_it = shlex.split(command)
        assert program == "braindistill"
        built = run(*words_of_it)
        assert built.code == 0, built.err
    ran = run(verb, *dirs, *words, "runtime.upstream=require", cache=tmp_path / "a cache")
    assert ran.code == 0, ran.err


def test_a_failed_arm_is_reported_and_the_others_go_on(run, tiny):
    words = ["+eval.definitions.bad=[teacher=decoder,teacher.n_folds=99]", "eval.arms=[baseline,bad,brain]"]
    ran = run("eval", *tiny, *words, "eval.seeds=1", cache="cache")
    assert ran.code == 1
    assert "Traceback" not in ran.err
    assert ran.err.splitlines()[-1].startswith(
        "braindistill: arm bad failed: teacher.n_folds=99: there are only 24 stimuli"
    )
    folder = Path(ran.out.splitlines()[-1])
    assert folder.name.endswith(".incomplete")
    found = results_of(ran.out)
    assert list(found["arms"]) == ["baseline", "brain"]
    assert list(found["failed"]) == ["bad"]
    assert "teacher.n_folds=99" in (folder / "report.html").read_text()

    # mended: what was built is reused, and the failed run is not taken for a result
    words[0] = words[0].replace("99", "3").replace("decoder", "brain")
    ran = run("eval", *tiny, *words, "eval.seeds=1", cache="cache")
    assert ran.code == 0, ran.err
    assert list(results_of(ran.out)["arms"]) == ["baseline", "bad", "brain"]
    assert "build  distill" in ran.err
    assert not re.search(r"build  distill/\w+ \(small_cnn by none", ran.err)


def test_a_successful_run_removes_what_the_failed_one_left(run, tiny, warm, tmp_path):
    shutil.copytree(warm, tmp_path / "cache")
    done = next((tmp_path / "cache" / "eval").glob("[0-9a-f]*"))
    incomplete = done.with_suffix(".incomplete")
    done.rename(incomplete)
    ran = run("eval", *tiny, cache="cache")
    assert ran.code == 0
    assert done.exists()
    assert not incomplete.exists()


def test_an_evaluation_of_which_every_arm_failed(run, tiny):
    ran = run("eval", *tiny, "teacher.n_folds=99", "eval.arms=[brain]", "eval.seeds=1", cache="cache")
    assert ran.code == 1
    found = results_of(ran.out)
    assert found["arms"] == {}
    assert found["claims"][0]["holds"] is None


def test_an_arm_that_does_not_apply_is_listed_with_the_reason(run, tiny, write):
    without = write("fmri", roi_nuisance=None)
    words = [word for word in tiny if not word.startswith("fmri.path")]
    ran = run("eval", *words, without, "eval.arms=[baseline,nuisance,random_matched]", "eval.seeds=1", cache="cache")
    assert ran.code == 0, ran.err
    found = results_of(ran.out)
    assert found["not_run"].keys() == {"nuisance", "random_matched"}
    assert "no mask 'nuisance'" in found["not_run"]["nuisance"]
    ran = run("eval", *words, without, "eval.arms=[nuisance]", "eval.seeds=1", cache="cache")
    assert ran.code == 2
    assert "none of the arms can be run: nuisance: the data have no mask" in ran.err


def test_every_default_arm_runs(run, tiny):
    words = [word for word in tiny if not word.startswith("eval.arms")]
    ran = run("eval", *words, "eval.seeds=1", "train.epochs=1", cache="cache")
    assert ran.code == 0, ran.err
    found = results_of(ran.out)
    assert {"baseline", "label_smoothing", "kd", "features", "brain", "shuffled_fmri", "nuisance"} <= found[
        "arms"
    ].keys()
    assert not found["failed"]


def test_the_same_command_gives_the_same_results_with_two_workers(spawn, run, tiny, warm):
    """In a fresh cache, built by two workers, as in the one that one process built."""
    ran = spawn("eval", *tiny, "runtime.workers=2", "runtime.cache=fresh", "runtime.tensorboard=false")
    assert ran.code == 0, ran.err
    first, second = results_of(run("eval", *tiny, cache=warm).out), results_of(ran.out)
    assert timeless(first) == timeless(second)
    assert first["arms"]["brain"]["accuracy"]["per_seed"] != first["arms"]["baseline"]["accuracy"]["per_seed"]


def test_smoke(spawn, tmp_path):
    ran = spawn("eval", "experiment=smoke", "runtime.tensorboard=false", "runtime.workers=1")
    assert ran.code == 0, ran.err
    found = results_of(ran.out)
    assert found["experiment"] == "smoke"
    assert list(found["arms"]) == ["baseline", "brain"]
    assert {path.name for path in tmp_path.iterdir()} == {"outputs"}
    for name in ("results.csv", "report.html"):
        assert next(tmp_path.glob(f"outputs/eval/*/{name}")).stat().st_size > 100

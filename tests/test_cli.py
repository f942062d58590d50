"""What can be asked of the command line: verbs, help, Hydra's flags, shell completion, and that it leaves nothing behind."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from braindistill import __version__, tasks
from braindistill.cli import VERBS, main

HEAVY = ("torch", "hydra", "omegaconf", "torchvision", "sklearn", "nibabel", "matplotlib")


def imported(log: str) -> set[str]:
    """The top-level packages in a log of ``-X importtime``."""
    return {
        line.rpartition("|")[2].strip().split(".")[0] for line in log.splitlines() if line.startswith("import time:")
    }


def test_without_a_verb_it_shows_verbs_and_three_examples(spawn):
    ran = spawn(python=("-X", "importtime"))
    assert ran.code == 0
    assert all(re.search(rf"^  {verb} ", ran.out, re.M) for verb in VERBS)
    assert len(re.findall(r"^  braindistill ", ran.out, re.M)) == 3
    assert not imported(ran.err) & {*HEAVY, "numpy"}


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_needs_no_heavy_import(verb, spawn):
    ran = spawn(verb, "--help", python=("-X", "importtime"))
    assert ran.code == 0
    assert all(part in ran.out for part in ("reads:", "writes:", "examples:", f"braindistill {verb}"))
    assert not imported(ran.err) & set(HEAVY)


def test_the_help_names_groups_members_and_options(capsys):
    main(["distill", "--help"])
    shown = capsys.readouterr().out
    assert "method=     attention | cka | combined | crd | dist | dkd | fitnet | kd | label_smoothing" in shown
    assert "train.lr: " in shown
    assert "teacher.decoder: " not in shown
    main(["train-teacher", "teacher=decoder", "--help"])
    assert "teacher.decoder: lda # " in capsys.readouterr().out


def test_unknown_verb(spawn):
    ran = spawn("distil", "seed=1", python=("-X", "importtime"))
    assert ran.code == 2
    assert "no verb 'distil'; did you mean 'distill'?" in ran.err
    assert not imported(ran.err) & {*HEAVY, "numpy"}


@pytest.mark.parametrize("words", [["--version"], ["distill", "--version"]])
def test_version(words, capsys):
    main(words)
    assert capsys.readouterr().out == f"braindistill {__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_cfg_works_on_every_verb_and_leaves_nothing_behind(verb, run, tmp_path):
    ran = run(verb, *(["ls"] if verb == "cache" else []), "seed=3", "--cfg", "job")
    assert ran.code == 0
    assert "seed: 3" in ran.out
    assert "n_train: 40" in ran.out, "without fmri= and experiment= it is the demo"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", VERBS)
def test_info_works_on_every_verb_and_leaves_nothing_behind(verb, spawn, tmp_path):
    ran = spawn(
        verb, *(["ls"] if verb == "cache" else []), "--info", *(["searchpath"] if verb == "eval" else ["seed=3"])
    )
    assert ran.code == 0
    assert "Config search path" in ran.out
    assert ("Defaults Tree" in ran.out) == (verb != "eval")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cfg"], "--cfg=: expected job or hydra or all"),
        (["--confg-dir", "x"], "no flag --confg-dir; did you mean '--config-dir'?"),
        (["--config-dir", "nowhere"], "--config-dir nowhere: no such folder"),
        (["--config-dir"], "--config-dir=: expected a value"),
        (["--multirun=yes"], "--multirun=yes: expected no value"),
        (["--experimental-rerun", "x.pickle"], "no flag --experimental-rerun"),
        (["-m", "--cfg", "job"], "Only one of --run, --multirun"),
    ],
)
def test_bad_flags(words, message, run):
    ran = run("distill", *words)
    assert ran.code == 2
    assert ran.err.startswith("braindistill: ")
    assert message in ran.err
    assert ran.err.count("\n") == 1


def test_a_sweep_runs_a_job_a_value(run, tiny, tmp_path):
    ran = run("distill", "-m", *tiny, "seed=1,2", "method=none,kd", "runtime.dry_run=true", cache="cache")
    assert ran.code == 0
    assert ran.out.count(" to build, ") == 4
    for seed in (1, 2):
        assert f"small_cnn by none, seed {seed}" in ran.out
        assert f"small_cnn by kd, seed {seed}" in ran.out
    assert {path.name for path in tmp_path.iterdir()} == {"cache"}
    assert not list(tmp_path.rglob(".hydra"))


def test_one_bad_job_of_a_sweep_is_said_and_the_others_run(run, tiny):
    ran = run("distill", "-m", *tiny, "train.lr=0.1,high", "runtime.dry_run=true", cache="cache")
    assert ran.code == 2
    assert ran.out.count(" to build, ") == 1
    assert "train.lr='high': expected float" in ran.err


def test_config_dir_adds_experiments(run, tiny, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [smoke, _self_]\nseed: 7\ntrain: {epochs: 3}\n"
    )
    ran = run("distill", "--config-dir", "mine", "experiment=mine", "--cfg", "job")
    assert (ran.code, ran.err) == (0, "")
    assert "seed: 7" in ran.out
    assert "n_stimuli: 100" in ran.out, "what the experiment builds on"
    ran = run("distill", "experiment=mine")
    assert ran.code == 2
    assert "experiment=mine: no such option" in ran.err


def test_a_members_variant_in_config_dir_is_an_arm(run, tiny, tmp_path):
    (tmp_path / "mine" / "teacher").mkdir(parents=True)
    (tmp_path / "mine" / "teacher" / "gentle.yaml").write_text("name: brain\npenalty: 3.0\nseed: ${seed}\n")
    words = ["+eval.definitions.gentle=[teacher=gentle]", "eval.arms=[gentle]", "runtime.dry_run=true"]
    ran = run("eval", "--config-dir", str(tmp_path / "mine"), *tiny, *words, cache="cache")
    assert (ran.code, ran.err) == (0, "")
    assert "brain teacher" in ran.out


@pytest.mark.parametrize(
    ("line", "offered", "not_offered"),
    [
        ("braindistill tr", ["train-teacher"], ["distill"]),
        ("braindistill ", list(VERBS), []),
        ("braindistill distill teacher=", ["teacher=brain", "teacher=cnn"], ["teacher"]),
        ("braindistill distill teacher.fe", ["teacher.features="], ["teacher.roi="]),
        ("braindistill distill seed=1 meth", ["method=", "method."], ["train."]),
        ("braindistill eval experiment=di", ["experiment=digits69"], ["experiment=demo"]),
        ("braindistill cache v", ["verify"], ["ls"]),
    ],
)
def test_shell_completion(line, offered, not_offered, run, monkeypatch):
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    ran = run("-sc", "query=bash", cache=None)
    assert ran.code == 0
    assert set(offered) <= set(ran.out.split())
    assert not set(not_offered) & set(ran.out.split())


def test_completion_of_nonsense_is_silent(run, monkeypatch):
    monkeypatch.setenv("COMP_LINE", "braindistill distill teacher=nobody train.")
    assert run("-sc", "query=bash").code == 0


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_completion_in_bash(tmp_path):
    folder = Path(sys.executable).parent
    if not (folder / "braindistill").exists():
        pytest.skip("the console script is not installed")
    script = (
        'eval "$(braindistill -sc install=bash)"; COMP_LINE="braindistill distill teacher.fe"; COMP_POINT=${#COMP_LINE}'
    )
    script += '; COMP_WORDS=($COMP_LINE); COMP_CWORD=2; hydra_bash_completion; echo "${COMPREPLY[@]}"'
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    shown = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True)
    assert "teacher.features=" in shown.stdout.decode(), shown.stderr.decode()


def test_info_says_versions_folders_and_the_checked_config(run, tmp_path):
    (tmp_path / "mine").mkdir()
    ran = run("info", "--config-dir", "mine", "train.lr=1", cache="there")
    assert ran.code == 0
    assert f"braindistill {__version__}" in ran.out
    assert str(tmp_path / "mine") in ran.out
    assert str(tmp_path / "there") in ran.out
    assert '"lr": 1.0' in ran.out
    assert not (tmp_path / "there").exists()


def test_a_full_disk_is_one_line(run, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "/scratch/report.html")

    monkeypatch.setattr(tasks, "_perform", fail)
    ran = run("eval", cache="cache")
    assert ran.code == 1
    assert ran.err.startswith("braindistill: /scratch/report.html: No space left on device; mend that")
    assert ran.err.count("\n") == 1


def test_a_closed_pipe_is_no_error(tmp_path):
    command = f"{sys.executable} -m braindistill eval --help | head -1; echo ${{PIPESTATUS[0]}}"
    shown = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert shown.stderr == ""
    assert shown.stdout.splitlines()[-1] == "0"


class TestCache:
    def test_ls_lists_every_artifact(self, run, warm):
        ran = run("cache", "ls", cache=warm)
        assert ran.code == 0
        stages = [line.split()[0] for line in ran.out.splitlines()]
        every = ["distill", "eval", "export", "features", "images", "predict", "prepare", "train-teacher"]
        assert sorted(set(stages)) == every
        assert stages.count("distill") == 4

    def test_show_prints_the_manifest(self, run, warm):
        key = next((warm / "eval").glob("[0-9a-f]*")).name
        ran = run("cache", "show", key[:8], cache=warm)
        assert ran.code == 0
        assert json.loads(ran.out)["key"].startswith(key)

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["show"], "cache show takes KEY; found nothing"),
            (["show", "zzzz"], "no such artifact"),
            (["lss"], "did you mean 'ls'?"),
            ([], "expected one of ls, show KEY, verify, gc"),
            (["ls", "more"], "cache ls takes nothing more; found more"),
            (["gc", "--older-than"], "--older-than=: expected a value"),
            (["gc", "--older-than", "soon"], "give a number of days"),
            (["gc", "--older-than=-1"], "give a number of days"),
            (["gc", "--dryrun"], "no flag --dryrun; did you mean '--dry-run'?"),
            (["gc", "now"], "cache gc now: expected --older-than DAYS or --dry-run"),
        ],
    )
    def test_bad_actions(self, words, message, run, warm):
        ran = run("cache", *words, cache=warm)
        assert ran.code == 2
        assert message in ran.err
        assert ran.err.count("\n") == 1

    def test_verify_finds_a_flipped_byte_and_gc_removes_what_is_useless(self, run, warm, tmp_path):
        shutil.copytree(warm, tmp_path / "cache")
        assert run("cache", "verify", cache="cache").out.endswith("artifacts, all whole\n")
        file = next((tmp_path / "cache" / "predict").glob("*/log_probabilities.npy"))
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        (tmp_path / "cache" / "eval" / "0123456789ab.incomplete").mkdir()
        ran = run("cache", "verify", cache="cache")
        assert ran.code == 1
        assert f"predict/{file.parent.name}: log_probabilities.npy has the checksum" in ran.out

        ran = run("cache", "gc", "--dry-run", cache="cache")
        assert "would remove eval/0123456789ab (unfinished" in ran.out
        assert (tmp_path / "cache" / "eval" / "0123456789ab.incomplete").exists()
        run("cache", "gc", cache="cache")
        assert not (tmp_path / "cache" / "eval" / "0123456789ab.incomplete").exists()
        assert file.exists(), "a finished artifact is not useless"
        run("cache", "gc", "--older-than", "0", cache="cache")
        assert not file.exists()

    def test_an_absent_cache_is_not_made(self, run, tmp_path):
        ran = run("cache", "ls", cache="nowhere")
        assert (ran.code, ran.out) == (0, f"{tmp_path / 'nowhere'}: no artifacts yet\n")
        assert not list(tmp_path.iterdir())

"""Tuning: as many trials for every arm, scored on validation images, before anything is compared."""

from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braindistill import config as schema
from braindistill.errors import UserError
from braindistill.planning.arms import Arm
from braindistill.planning.tuning import check_tuning, has_option, read_val_accuracy, share, spread


def results_of(out: str) -> dict:
    return json.loads((Path(out.splitlines()[-1]) / "results.json").read_text())


def arm(name: str, own: list[str] | None = None, n_val: int = 4, select: str = "last", **groups: dict) -> Arm:
    chosen = {"fmri": "simulated", "images": "digits", "teacher": "brain", "target": "soft_labels"}
    chosen |= {"student": "small_cnn", "method": "kd"}
    config = {group: {"name": member} | groups.get(group, {}) for group, member in chosen.items()}
    config["images"]["n_val"] = n_val
    checked = schema.check(config | {"train": {"select": select}})
    return Arm(name, lambda seed: checked, [], own or [])


KD, BASELINE = arm("kd"), arm("baseline", method={"name": "none"})


def test_every_arm_gets_as_many_trials_as_the_one_with_the_fewest():
    ranges = {"method.temperature": [1, 2, 4], "train.lr": [0.05, 0.1]}
    trials = share([BASELINE, KD], ranges, 0)
    assert trials["baseline"] == [["train.lr=0.05"], ["train.lr=0.1"]]
    assert trials["kd"] == [["method.temperature=1", "train.lr=0.05"], ["method.temperature=2", "train.lr=0.1"]]
    assert len(share([KD], ranges, 0)["kd"]) == 6


def test_what_an_arm_is_made_of_is_not_tuned():
    ranges = {"method.temperature": [1, 2], "train.lr": [0.05, 0.1]}
    assert share([arm("cold", ["method.temperature=9"])], ranges, 0) == {"cold": [["train.lr=0.05"], ["train.lr=0.1"]]}


def test_an_arm_that_has_none_of_the_options_is_refused():
    with pytest.raises(UserError, match=r"arm baseline has none of method\.temperature, and every arm gets as many"):
        share([KD, BASELINE], {"method.temperature": [1, 2]}, 0)


def test_options_of_a_teacher_that_is_not_asked_are_none():
    assert has_option(KD.config(0), "teacher.penalty")
    assert not has_option(BASELINE.config(0), "teacher.penalty")
    assert not has_option(KD.config(0), "teacher.smoothing")
    assert has_option(BASELINE.config(0), "student.width")


def test_an_option_that_a_term_has_settled_is_none():
    term = KD.config(0)
    method = {"name": "combined", "terms": {"one": ["method=kd", "teacher.penalty=1"]}}
    combined = term | {"method": method, "terms": {"one": term}}
    assert not has_option(combined, "teacher.penalty")
    assert has_option(combined, "teacher.roi")


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.data())
def test_values_are_spread(sizes, data):
    grid = list(product(*[[f"o{k}={value}" for value in range(size)] for k, size in enumerate(sizes)]))
    number = data.draw(st.integers(1, len(grid)))
    chosen = spread(grid, number)
    assert len(set(chosen)) == len(chosen) == number
    assert set(chosen) <= set(grid)
    assert chosen[0] == grid[0]
    assert spread(grid, len(grid))[:number] == chosen, "more trials contain fewer"
    if len(sizes) == 1:
        assert chosen == grid[:number]
    for k, size in enumerate(sizes):  # as soon as there are enough trials, the largest range is tried as a whole
        if size == max(sizes) and number >= size and sizes.count(size) == 1:
            assert len({words[k] for words in chosen}) == size


@pytest.mark.parametrize(("select", "score"), [("last", 0.5), ("validation", 0.75)])
def test_the_score_is_of_the_weights_that_are_kept(select, score, tmp_path):
    log = [{"epoch": epoch, "val_accuracy": value} for epoch, value in enumerate([0.25, 0.75, 0.5])]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log))
    assert read_val_accuracy(tmp_path, select) == score


@pytest.mark.parametrize(
    ("ranges", "arms", "message"),
    [
        (
            {"method.temprature": [1]},
            [KD, BASELINE],
            r"no.* option method\.temprature; did you mean 'method\.temperature'",
        ),
        ({"methd.temperature": [1]}, [KD], r"no.* option methd\.temperature; did you mean 'method'\? known: method"),
        ({"images.n_train": [1, 2]}, [KD], r"images\.n_train is the same for every arm, and not tuned; take .* method"),
        ({"eval.seeds": [1, 2]}, [KD], r"eval\.seeds is the same for every arm"),
        ({"teacher.control": ["nuisance"]}, [KD], r"teacher\.control is the same for every arm"),
        ({"train.lr": []}, [KD], r"train\.lr=\[\]: expected a list of different values"),
        ({"train.lr": [0.1, 0.1]}, [KD], r"train\.lr=\[0\.1, 0\.1\]: expected a list of different values"),
        ({"train.lr": [0.1]}, [KD, arm("bare", n_val=0)], r"give images\.n_val=N \(arm bare has none\)"),
        ({"train.lr": [0.1]}, [arm("best", select="test")], r"arm best has train\.select=test"),
    ],
)
def test_what_cannot_be_tuned(ranges, arms, message):
    with pytest.raises(UserError, match=message):
        check_tuning(arms, {"eval": {"tune": ranges, "tune_seeds": 1}}, 0)


@pytest.fixture
def tuned(tiny):
    """The smallest experiment with validation images and something to tune."""
    words = [word for word in tiny if not word.startswith("images.n_pool")]
    ranges = "eval.tune={method.temperature: [1,4], train.lr: [0.001,0.2]}"
    return [*words, "images.n_pool=12", "images.n_val=4", "eval.seeds=2", "eval.tune_seeds=1", ranges]


def test_the_best_trial_is_taken_for_all_seeds(run, tuned):
    ran = run("eval", *tuned, cache="cache")
    assert ran.code == 0, ran.err
    assert "eval.tune: every arm gets 2 trials, since baseline has no more combinations" in ran.err
    found = results_of(ran.out)
    tuning = found["tuning"]
    assert (tuning["trials"], tuning["seeds"]) == (2, 1)
    assert tuning["ranges"] == {"method.temperature": [1, 4], "train.lr": [0.001, 0.2]}
    for name, made in tuning["arms"].items():
        best = max(made["tried"], key=lambda tried: tried[1])
        assert [made["chosen"], made["val_accuracy"]] == best
        assert set(made["chosen"]) <= set(found["arms"][name]["overrides"])
        assert len(made["tried"]) == 2
    assert [words for words, _ in tuning["arms"]["baseline"]["tried"]] == [["train.lr=0.001"], ["train.lr=0.2"]]
    # two trials on one seed for two arms; of the winners' students only the second seed's are new
    assert len(list(Path("cache").glob("distill/*/manifest.json"))) == 2 * 2 + 2

    # the score is that of the students' logs, and tuning once more trains nothing
    chosen = tuning["arms"]["baseline"]["chosen"][0].partition("=")[2]
    scores = []
    for manifest in Path("cache").glob("distill/*/manifest.json"):
        config = json.loads(manifest.read_text())["document"]["config"]
        rate = float(config["train"]["lr"]) == float(chosen)
        if config["method"]["name"] == "none" and rate and config["seed"] == 0:
            scores.append(read_val_accuracy(manifest.parent, "last"))
    assert tuning["arms"]["baseline"]["val_accuracy"] == pytest.approx(scores[0])
    ran = run("eval", *tuned, cache="cache")
    assert ran.code == 0
    assert "build " not in ran.err


def test_a_dry_run_plans_the_trials_and_then_the_evaluation(run, tuned):
    ran = run("eval", *tuned, "runtime.dry_run=true", cache="cache")
    assert ran.code == 0, ran.err
    assert len(re.findall("^build  distill/", ran.out, re.M)) == 2 * 2
    assert "build  eval/" not in ran.out
    assert ran.out.splitlines()[-1].startswith("these are the trials of eval.tune; the evaluation follows")
    assert not Path("cache").exists() or not list(Path("cache").glob("*/*/manifest.json"))
    assert run("eval", *tuned, "eval.seeds=1", cache="cache").code == 0
    ran = run("eval", *tuned, "runtime.dry_run=true", cache="cache")
    assert len(re.findall("^build  distill/", ran.out, re.M)) == 2  # the second seed of each arm
    assert "build  eval/" in ran.out


def test_require_asks_for_the_trials_too(run, tuned):
    ran = run("eval", *tuned, "runtime.upstream=require", "runtime.verbosity=0", cache="cache")
    assert ran.code == 3
    assert len(re.findall(r"^  braindistill distill .*train\.lr=0\.001 .*seed=0", ran.err, re.M)) == 2
    assert not list(Path("cache").glob("*/*"))


def test_trials_that_fail(run, tuned):
    """One that fails loses; an arm of which all fail is reported, and the others go on."""
    tuned[-1] = "eval.tune={train.batch_size: [500,12]}"
    ran = run("eval", *tuned, "eval.seeds=1", "eval.arms=[baseline]", cache="cache")
    assert ran.code == 0, ran.err
    assert "warning: a trial of baseline failed: train.batch_size=500" in ran.err
    made = results_of(ran.out)["tuning"]["arms"]["baseline"]
    assert made["tried"][0] == [["train.batch_size=500"], None]
    assert made["chosen"] == ["train.batch_size=12"]

    tuned[-1] = "eval.tune={train.lr: [0.1]}"
    bad = "+eval.definitions.bad=[teacher=decoder,teacher.n_folds=99]"
    ran = run("eval", *tuned, bad, "eval.arms=[baseline,bad]", "eval.seeds=1", cache="cache")
    assert ran.code == 1
    said = "arm bad failed: none of its 1 trials could be trained: teacher.n_folds=99: there are only 20 stimuli"
    assert said in ran.err
    found = results_of(ran.out)
    assert list(found["arms"]) == ["baseline"]
    assert list(found["failed"]) == ["bad"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["eval.tune={train.lr: [0.1]}"], r"eval\.tune scores trials on validation images: give images\.n_val=N"),
        (["eval.tune={train.rate: [0.1]}"], r"eval\.tune: none of the arms has an option train\.rate; did you mean"),
        (["eval.tune={train.lr: 0.1}"], r"eval\.tune=.*: expected dict"),
        (["eval.tune={train.lr: [0.1]}", "eval.tune_seeds=0"], r"eval\.tune_seeds=0: expected 1 or more"),
    ],
)
def test_bad_input_is_one_line(words, message, run, tiny):
    ran = run("eval", *tiny, *words, cache="cache")
    assert ran.code == 2
    assert re.fullmatch(rf"braindistill: {message}.*\n", ran.err), ran.err
    assert not list(Path().glob("cache/*/*")), "nothing is built for it"

"""Arms of several subjects: which are made for each, what is shared, and what is said of all of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.planning.subjects import subjects_of


def results_of(out: str) -> dict:
    return json.loads((Path(out.splitlines()[-1]) / "results.json").read_text())


def asked(reader: str, *subjects: int | str) -> dict:
    return {"eval": {"subjects": list(subjects)}, "fmri": {"name": reader}}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (asked("god", 1, 2), {"1": "fmri.subject=1", "2": "fmri.subject=2"}),
        (asked("arrays", "a/one.npz", "b/two.npz"), {"one": "fmri.path='a/one.npz'", "two": "fmri.path='b/two.npz'"}),
        (asked("bids", "sub-01", "sub-02"), {"sub-01": "fmri.root=sub-01", "sub-02": "fmri.root=sub-02"}),
        (asked("simulated", 0, 7), {"0": "fmri.seed=0", "7": "fmri.seed=7"}),
        (asked("god"), {}),
    ],
    ids=["subject", "path", "root", "seed", "none"],
)
def test_each_reader_says_whose_data_it_reads(config, words):
    assert subjects_of(config) == words


@pytest.mark.parametrize("given", [(1,), (1, 1), ("a/s.npz", "b/s.npz")])
def test_one_subject_or_two_of_a_name_are_refused(given):
    reader = "god" if isinstance(given[0], int) else "arrays"
    with pytest.raises(UserError, match=r"eval.subjects=.*expected two or more different subjects"):
        subjects_of(asked(reader, *given))


@pytest.fixture
def three(write, arrays):
    """Three subjects who saw the same pictures: the words of ``eval.subjects``."""
    files = []
    for number in range(3):
        rng = np.random.default_rng(number)
        responses = arrays["fmri"]["responses"]
        changed = responses + rng.normal(0, 0.1, responses.shape).astype(np.float32)
        files.append(write("fmri", f"s{number}", responses=changed).partition("=")[2])
    return f"eval.subjects=[{','.join(files)}]"


def test_a_brain_arm_is_made_for_each_and_a_baseline_once(run, tiny, three):
    ran = run("eval", *tiny, three, "eval.n_train=[6,8]", "eval.rois=[V1]", "train.epochs=1", cache="cache")
    assert ran.code == 0, ran.err
    found = results_of(ran.out)
    assert list(found["subjects"]) == ["fmri-s0", "fmri-s1", "fmri-s2"]
    assert {name: arm.get("n_subjects") for name, arm in found["arms"].items()} == {
        "baseline": None,
        "brain": 3,
        "brain@V1": 3,
    }
    brain = found["arms"]["brain"]
    assert len(brain["keys"]["predictions"]) == 6
    assert len(set(brain["keys"]["teachers"])) == 6
    assert brain["accuracy"]["mean"] == pytest.approx(np.mean(brain["accuracy"]["per_subject"]))
    assert brain["accuracy"]["mean"] == pytest.approx(np.mean(brain["accuracy"]["per_seed"]))
    assert len(brain["accuracy"]["per_subject"]) == 3
    assert len(brain["accuracy"]["per_seed"]) == 2
    assert len(brain["measures"]["nll"]["per_subject"]) == 3
    assert {(row["arm"], row["n_train"]) for row in found["curves"]} >= {("baseline", 6), ("brain", 8)}
    (claim,) = found["claims"]
    assert claim["arm"] == "brain"
    assert "3 subjects cannot reach" in claim["reason"]
    assert "alone, the claim holds in 0 of 3 subjects" in " ".join(ran.out.split())
    # one student a seed for the baseline and its points of the curve, three for each brain arm
    students = len(list(Path("cache").glob("distill/*/manifest.json")))
    n_brains = sum("n_subjects" in arm for arm in found["arms"].values())
    # the curve's point of 8 labels is the experiment itself
    assert students == 2 * (2 + 3 * n_brains * 2)

    # a subject's arm is the one that a person would type for that subject
    word = three.partition("[")[2].rstrip("]").split(",")[1]
    again = run("eval", *tiny, f"fmri.path={word}", "train.epochs=1", "eval.arms=[brain]", cache="cache")
    assert again.code == 0, again.err
    alone = results_of(again.out)["arms"]["brain"]
    assert alone["accuracy"]["mean"] == brain["accuracy"]["per_subject"][1]
    assert "build  distill" not in again.err


def test_with_other_pictures_every_arm_is_each_subjects_own(run, tiny, write, arrays):
    few = arrays["fmri"]["stimulus_id"] != "picture-23"  # a stimulus less: other images are the labelled ones
    trials = {key: arrays["fmri"][key][few] for key in ("responses", "stimulus_id", "run", "label")}
    files = [write("fmri", "all").partition("=")[2], write("fmri", "few", **trials).partition("=")[2]]
    words = [f"eval.subjects=[{','.join(files)}]", "eval.seeds=1", "train.epochs=1"]
    ran = run("eval", *tiny, *words, cache="cache")
    assert ran.code == 0, ran.err
    assert {arm["n_subjects"] for arm in results_of(ran.out)["arms"].values()} == {2}


def test_a_subject_whose_teacher_fails_fails_the_arm_and_no_other(run, tiny, three, write):
    bad = write("fmri", "without", roi_V1=None).partition("=")[2]
    words = [three.replace("]", f",{bad}]"), "teacher.roi=V1", "train.epochs=1", "eval.seeds=1"]
    ran = run("eval", *tiny, *words, cache="cache")
    assert ran.code == 1
    assert "arm brain failed" in ran.err
    found = results_of(ran.out)
    assert list(found["arms"]) == ["baseline"]
    assert "brain" in found["failed"]


def test_an_arm_may_not_choose_its_subject_itself(run, tiny, three, write):
    own = f"+eval.definitions.mine=[{write('fmri', 'other')}]"
    ran = run("eval", *tiny, three, own, "eval.arms=[baseline,mine]", cache="cache")
    assert ran.code == 2
    assert "arm mine sets fmri.path itself" in ran.err


def test_a_dry_run_before_anything_is_prepared(run, tiny, three):
    ran = run("eval", *tiny, three, "runtime.dry_run=true", cache="cache")
    assert ran.code == 0, ran.err
    assert "0 to reuse" in ran.out
    assert not list(Path("cache").glob("distill/*"))

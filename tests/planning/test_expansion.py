"""Arms of ROIs and of label budgets: what is added, what differs, what can't be had."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from braindistill import config as schema
from braindistill.errors import UserError
from braindistill.planning.arms import Arm
from braindistill.planning.expansion import Data, curve_arms, label_budgets, roi_arms


def results_of(out: str) -> dict:
    return json.loads((Path(out.splitlines()[-1]) / "results.json").read_text())


def brain(
    roi: str | list[str] = "all", name: str = "brain", own: list[str] | None = None, target: str = "soft_labels"
) -> Arm:
    groups = {"fmri": "simulated", "images": "digits", "target": target, "student": "small_cnn", "method": "kd"}
    config = {group: {"name": member} for group, member in groups.items()}
    checked = schema.check(config | {"teacher": {"name": "brain", "roi": roi}})
    return Arm(name, lambda seed: checked, [], own or [])


def make(name: str, own: list[str], words: list[str]) -> Arm:
    roi = next(word.partition("=")[2] for word in own if word.startswith("teacher.roi="))
    return replace(brain(roi, name), overrides=words, own=own)


def masks(**counts: tuple[int, int]) -> Data:
    """ROIs from … to, over ten voxels."""
    return Data({name: np.isin(np.arange(10), np.arange(*span)) for name, span in counts.items()}, 2, Path())


def asked(*rois: str, match: bool = False) -> dict:
    return {"eval": {"rois": list(rois), "match_voxels": match}}


DATA = masks(V1=(0, 3), V4=(3, 8), nuisance=(8, 10))


def test_each_roi_alone_and_left_out():
    found = roi_arms([brain(own=["teacher.roi=all", "teacher.width=8"])], asked("each"), 0, DATA, make)
    assert {arm.name: arm.own for arm in found.arms} == {
        "brain@V1": ["teacher.width=8", "teacher.roi=V1"],
        "brain@V4": ["teacher.width=8", "teacher.roi=V4"],
        "brain@-V1": ["teacher.width=8", "teacher.roi=-V1"],
        "brain@-V4": ["teacher.width=8", "teacher.roi=-V4"],
    }
    assert all(arm.exploratory for arm in found.arms)
    assert found.not_run == {}
    assert found.context == {
        "of": "brain",
        "single": {"V1": "brain@V1", "V4": "brain@V4"},
        "without": {"V1": "brain@-V1", "V4": "brain@-V4"},
        "n_voxels": {"V1": 3, "V4": 5},
    }


def test_none_are_added_where_none_are_asked_for():
    assert roi_arms([], asked(), 0, DATA, make).arms == []


def test_voxels_are_matched_where_it_is_asked_for():
    found = roi_arms([brain()], asked("each", match=True), 0, DATA, make)
    limits = {arm.name: [word for word in arm.own if "top_voxels" in word] for arm in found.arms}
    matched = ["teacher.top_voxels=3"]
    assert limits == {"brain@V1": matched, "brain@V4": matched, "brain@-V1": [], "brain@-V4": []}


def test_the_only_roi_cannot_be_left_out():
    found = roi_arms([brain()], asked("V1", "nuisance"), 0, masks(V1=(0, 8), nuisance=(8, 10)), make)
    assert [arm.name for arm in found.arms] == ["brain@V1", "brain@nuisance"]
    assert found.not_run == {
        "brain@-V1": "no voxel is left without 'V1'",
        "brain@-nuisance": "'nuisance' is not among the voxels of the others as it is",
    }


def test_without_an_roi_is_less_than_the_brain_arm_reads():
    """Not less than all voxels: the difference is to be what the ROI was worth to this arm."""
    data, rois = masks(V1=(0, 4), V4=(4, 6), IT=(6, 8), nuisance=(8, 10)), asked("V1", "V4", "IT")
    found = roi_arms([brain(["V1", "IT"])], rois, 0, data, lambda name, own, words: brain(parse(own[-1]), name, own))
    assert {arm.name: arm.own[-1] for arm in found.arms if "@-" in arm.name} == {
        "brain@-V1": "teacher.roi=[V1,IT,-V1]",
        "brain@-IT": "teacher.roi=[V1,IT,-IT]",
    }
    assert found.not_run == {"brain@-V4": "the brain arm doesn't read 'V4' (teacher.roi=V1,IT)"}
    assert roi_arms([brain("IT")], rois, 0, data, make).not_run == {
        "brain@-V1": "the brain arm doesn't read 'V1' (teacher.roi=IT)",
        "brain@-V4": "the brain arm doesn't read 'V4' (teacher.roi=IT)",
        "brain@-IT": "no voxel is left without 'IT'",
    }
    each = roi_arms([brain("each")], rois, 0, data, make).not_run
    assert list(each) == ["brain@-V1", "brain@-V4", "brain@-IT"]


def parse(word: str) -> str | list[str]:
    value = word.partition("=")[2]
    return value.strip("[]").split(",") if value.startswith("[") else value


def test_an_exploratory_arm_is_not_the_brain_arm():
    arms = [replace(brain(name="first"), exploratory=True), brain(name="second")]
    assert roi_arms(arms, asked("V1"), 0, DATA, make).context["of"] == "second"


@pytest.mark.parametrize(
    ("arms", "config", "data", "message"),
    [
        ([brain()], asked("V2"), DATA, r"ROI 'V2' is not in this data set; did you mean 'V4'\? known: V1, V4, each"),
        ([brain()], asked("V1", "each"), DATA, r"eval\.rois=.*: name each ROI once"),
        ([brain()], asked("each"), None, r"known after `braindistill prepare`; run it first, or name them"),
        ([brain()], asked("each"), masks(nuisance=(0, 2)), r"the data have no ROIs"),
        ([brain()], asked("V1", match=True), None, r"eval\.match_voxels=true: how large ROIs are is known after"),
        ([brain(target="voxels")], asked("V1", match=True), DATA, r"target=voxels asks none"),
        ([], asked("V1"), DATA, r"none of the arms has a brain for its teacher"),
        ([brain(), brain(name="brain@V1")], asked("V1"), DATA, r"eval\.rois adds an arm brain@V1 itself"),
    ],
)
def test_rois_that_cannot_be(arms, config, data, message):
    with pytest.raises(UserError, match=message):
        roi_arms(arms, config, 0, data, make)


def test_a_roi_that_the_terms_settle_themselves():
    with pytest.raises(UserError, match=r"the terms of arm brain set teacher\.roi themselves"):
        roi_arms([brain("V1")], asked("V4"), 0, DATA, lambda *made: brain("V1"))


def test_label_budgets_before_anything_is_prepared():
    config = {"eval": {"n_train": [50, 10]}, "images": {"n_pool": 20}, "train": {"batch_size": 32}}
    assert label_budgets(config, 0, None) == {
        10: ["images.n_train=10", "images.n_pool=20", "train.batch_size=30"],
        50: ["images.n_train=50", "images.n_pool=20"],
    }


def test_an_arm_that_sets_its_labels_itself_has_no_curve():
    arms = [brain(own=["teacher.roi=V1"]), brain(name="rich", own=["images.n_train=400"])]
    curves = curve_arms(arms, {10: ["images.n_train=10"]}, make)
    assert {number: [arm.name for arm in few] for number, few in curves.items()} == {10: ["brain"]}
    assert curves[10][0].overrides == ["images.n_train=10"]


def test_rois_and_curves_through_the_command_line(run, tiny):
    words = ["eval.rois=[V1,nuisance]", "eval.n_train=[4,20]", "train.epochs=1", "eval.seeds=1"]
    ran = run("eval", *tiny, *words, cache="cache")
    assert ran.code == 0, ran.err
    found = results_of(ran.out)
    assert list(found["arms"]) == ["baseline", "brain", "brain@V1", "brain@nuisance"]
    assert found["not_run"].keys() == {"brain@-V1", "brain@-nuisance"}
    assert found["rois"]["n_voxels"] == {"V1": 12, "nuisance": 8}
    assert found["arms"]["brain@V1"]["overrides"] == ["teacher.roi=V1"]
    points = [(row["arm"], row["n_train"]) for row in found["curves"]]
    assert points == [(arm, number) for arm in found["arms"] for number in (4, 20)]
    # 24 pictures: with 20 labelled ones, a pool of 16 becomes one of 4, for every arm
    manifests = [json.loads(path.read_text()) for path in Path("cache").glob("distill/*/manifest.json")]
    roles = {
        (config["images"]["n_train"], config["images"]["n_pool"])
        for config in (manifest["document"]["config"] for manifest in manifests)
    }
    assert roles == {(8, 16), (4, 16), (20, 4)}
    assert len(manifests) == 4 * 3

    # the arm of the ROI is the one that a person would type
    ran = run(
        "eval", *tiny, *words, "teacher.roi=V1", "eval.rois=[]", "eval.arms=[brain]", "eval.n_train=[4]", cache="cache"
    )
    assert ran.code == 0, ran.err
    assert not re.search("^build  (distill|predict)", ran.err, re.M)
    again = results_of(ran.out)
    assert again["arms"]["brain"]["accuracy"] == found["arms"]["brain@V1"]["accuracy"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["eval.rois=[V9]"], r"eval\.rois: ROI 'V9' is not in this data set; did you mean 'V1'\?"),
        (["eval.rois=[V1]", "eval.arms=[baseline]"], r"eval\.rois: none of the arms has a brain"),
        (["eval.n_train=[8,500]"], r"eval\.n_train=500: images\.n_train=500: only 24 labelled"),
        (["eval.n_train=[0]"], r"eval\.n_train=\[0\]: expected different numbers from 1 on"),
        (["eval.n_train=[8,8]"], r"eval\.n_train=\[8, 8\]: expected different numbers"),
        (["eval.margin=0"], r"eval\.margin=0: expected more than 0"),
        (["eval.measures=[robust]"], r"eval\.measures: no such word 'robust'; did you mean 'robustness'"),
    ],
)
def test_bad_input_is_one_line(words, message, run, tiny):
    ran = run("eval", *tiny, *words, "runtime.verbosity=0", cache="cache")
    assert ran.code == 2
    assert re.search(rf"^braindistill: {message}", ran.err, re.M), ran.err
    assert len(ran.err.splitlines()) == 1
    assert not list(Path("cache").glob("distill/*"))


def test_before_anything_is_prepared_a_dry_run_leaves_rois_out_and_a_required_upstream_names_what_is_missing(run, tiny):
    ran = run("eval", *tiny, "eval.rois=[each]", "runtime.dry_run=true", cache="cache")
    assert ran.code == 0, ran.err
    assert "the arms of eval.rois are known after `braindistill prepare`" in ran.out
    assert "evaluation of 2 arms" in ran.out
    ran = run("eval", *tiny, "eval.rois=[each]", "runtime.upstream=require", cache="cache")
    assert ran.code == 3
    assert "braindistill prepare" in ran.out + ran.err
    assert not Path("cache/distill").exists()

"""Measures and explanations in the plan of an evaluation, and what becomes of it when they fail."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest


def results_of(out: str) -> dict:
    return json.loads((Path(out.splitlines()[-1]) / "results.json").read_text())


def planned(out: str) -> list[str]:
    return re.findall(r"^build  ([a-z-]+)/", out, re.M)


@pytest.mark.parametrize(
    ("words", "stages"),
    [
        (["eval.measures=[calibration,severity]"], {}),
        (["eval.measures=[attacks]"], {"measure": 4}),
        (["eval.measures=[brain_score,robustness]"], {"measure": 4}),
        (["eval.explain=true"], {"explain": 1}),
        (["eval.explain=true", "eval.arms=[baseline]"], {}),
        (["eval.n_train=[4,8]"], {"predict": 8}),  # with 8 labels they are those of the table
    ],
)
def test_what_is_planned(words, stages, run, tiny):
    ran = run("eval", *tiny, *words, "runtime.dry_run=true", cache="cache")
    assert ran.code == 0, ran.err
    found = planned(ran.out)
    counts = {stage: found.count(stage) for stage in ("measure", "explain")}
    assert {stage: count for stage, count in counts.items() if count} == {
        stage: count for stage, count in stages.items() if stage != "predict"
    }
    if "predict" in stages:
        assert found.count("predict") == stages["predict"]


def test_a_measure_that_fails_loses_nothing_else(run, tiny, monkeypatch):
    from braindistill.errors import UserError
    from braindistill.stages import explain, measure

    def fail(*_: object) -> None:
        raise UserError("the students are on strike")

    words = [*tiny, "eval.measures=[calibration,attacks]", "eval.explain=true", "eval.n_train=[4]", "eval.seeds=1"]
    with monkeypatch.context() as patched:
        for stage in (measure, explain):
            patched.setattr(stage, "run", fail)
            patched.setattr(stage, "run_together", fail, raising=False)
        ran = run("eval", *words, cache="cache")
    assert ran.code == 1
    assert "Traceback" not in ran.err
    assert sorted(ran.err.splitlines()[-2:]) == [
        "braindistill: attacks is left out: arm baseline: the students are on strike",
        "braindistill: explain is left out: the students are on strike",
    ]
    folder = Path(ran.out.splitlines()[-1])
    assert folder.name.endswith(".incomplete")
    found = results_of(ran.out)
    assert list(found["arms"]) == ["baseline", "brain"]
    assert found["failed"] == {}
    assert {"attacks", "explain"} <= found["skipped_measures"].keys()
    assert len(found["curves"]) == 2

    ran = run("eval", *words, cache="cache")  # mended
    assert ran.code == 0, ran.err
    assert "fgsm" in results_of(ran.out)["arms"]["brain"]["measures"]["robustness"]
    assert not folder.exists()


def test_a_point_of_a_curve_that_fails_loses_nothing_else(run, tiny):
    words = ["eval.n_train=[2,8]", "eval.arms=[baseline,brain]", "eval.seeds=1", "teacher.decoder=logistic"]
    # two folds of two labelled stimuli leave a decoder without a class
    ran = run("eval", *tiny, *words, cache="cache")
    assert ran.code == 1, ran.err
    assert re.search(r"^braindistill: n_train=2 is left out: arm brain: ", ran.err, re.M), ran.err
    found = results_of(ran.out)
    assert list(found["arms"]) == ["baseline", "brain"]
    assert [(row["arm"], row["n_train"]) for row in found["curves"]] == [
        ("baseline", 2),
        ("baseline", 8),
        ("brain", 8),
    ]
    assert "n_train=2" in found["skipped_measures"]


def test_explaining_without_a_brain_is_left_out_with_the_reason(run, tiny):
    ran = run("eval", *tiny, "eval.arms=[baseline]", "eval.explain=true", "eval.seeds=1", cache="cache")
    assert ran.code == 0, ran.err
    assert results_of(ran.out)["skipped_measures"]["explain"] == "none of the arms has a brain for its teacher"

"""The verb ``report``, what it finds behind an evaluation, pages of several, and trackers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from braindistill.cache import Cache
from braindistill.cache.step import Step
from braindistill.errors import UserError
from braindistill.report.merging import merged_claims, write_merged
from braindistill.report.parts import Findings
from braindistill.report.tracking import log_arms, runs_of
from braindistill.report.upstream import gather


def step(stage: str, command: str = "", **inputs: Step) -> Step:
    options = {"student": {"name": "resnet8"}} if stage == "distill" else {"of": stage}
    return Step(stage, 1, options, inputs, {}, {}, command or f"braindistill {stage}", f"a {stage}")


@pytest.fixture
def cache(tmp_path: Path, results: dict[str, Any]) -> tuple[Path, str, str]:
    """A cache with an evaluation and what is behind its first arm: root, key of the evaluation, key of the student."""
    cache = Cache(tmp_path / "cache", say=lambda _: None, warn=lambda _: None)
    images = step("images", responses=step("prepare"))
    student = step("distill", "braindistill distill seed=0", images=images)
    prediction = step("predict", images=images, student=student)
    results["arms"]["brain"]["keys"] = {"predictions": [prediction.key[:12]], "teachers": ["0123456789ab"]}
    for made in (images.inputs["responses"], images, student, prediction):
        cache.build(made, lambda folder: (folder / "file").write_text("x"))
    evaluation = step("eval", images=images)
    cache.build(evaluation, lambda folder: (folder / "results.json").write_text(json.dumps(results)))
    return cache.root, evaluation.key, student.key


def test_settings_and_steps_are_read_from_manifests(cache: tuple[Path, str, str], results: dict[str, Any]) -> None:
    root, key, student = cache
    found = gather(results, root / "eval" / key[:12]).upstream
    assert found.settings["brain"]["distill"] == {"student": {"name": "resnet8"}}
    assert found.commands["brain"]["distill"] == "braindistill distill seed=0"
    assert found.folders["brain"]["distill"] == root / "distill" / student[:12]
    assert sorted(entry["stage"] for entry in found.steps) == ["distill", "images", "predict", "prepare"]
    assert {entry["state"] for entry in found.steps} == {"finished"}
    given = {"stage": "distill", "title": "x", "state": "reused", "seconds": 1.0}
    more = gather(results | {"steps": [given], "began": "2026-01-01T00:00:00+00:00"}, root / "eval" / key[:12])
    assert more.upstream.steps[-1] == given, "steps that were not taken come with the results"
    states = {entry["stage"]: entry["state"] for entry in more.upstream.steps[:-1]}
    assert set(states.values()) <= {"run", "reused"}
    later = gather(results | {"began": "9999-01-01T00:00:00+00:00"}, root / "eval" / key[:12]).upstream.steps
    assert {entry["state"] for entry in later} == {"reused"}
    assert not gather(results, root).upstream.settings, "out of reach, nothing is said"


def test_a_broken_manifest_is_no_harm(cache: tuple[Path, str, str], results: dict[str, Any]) -> None:
    root, key, student = cache
    (root / "distill" / student[:12] / "manifest.json").write_text("{")
    found = gather(results, root / "eval" / key[:12]).upstream
    assert set(found.settings["brain"]) == {"predict", "images", "prepare"}


@pytest.mark.usefixtures("sketched")
class TestVerb:
    def test_it_rebuilds_the_page(self, cache: tuple[Path, str, str], run: Callable[..., Any], tmp_path: Path) -> None:
        root, key, _ = cache
        ran = run("report", key[:6], cache=root)
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.splitlines()[-1] == f"report-{key[:12]}/report.html"
        folder = tmp_path / f"report-{key[:12]}"
        assert {"report.html", "results.csv", "results.md", "results.tex", "figures"} == {
            p.name for p in folder.iterdir()
        }
        assert "The student was resnet8 (He et al., 2016)" in (folder / "report.html").read_text()

    def test_out_may_be_a_folder_or_a_page(self, cache: tuple[Path, str, str], run: Callable[..., Any]) -> None:
        root, key, _ = cache
        assert run("report", key[:6], "--out", "there", cache=root).out == "there/report.html\n"
        assert run("report", key[:6], "--out=a/b.html", cache=root).out == "a/b.html\n"

    def test_tables_are_printed(self, cache: tuple[Path, str, str], run: Callable[..., Any], tmp_path: Path) -> None:
        root, key, _ = cache
        before = set(tmp_path.iterdir())
        assert run("report", key[:6], "--format", "markdown", cache=root).out.startswith("# demo\n")
        assert r"\toprule" in run("report", key[:6], "--format=latex", cache=root).out
        assert set(tmp_path.iterdir()) == before

    def test_several_are_merged(self, cache: tuple[Path, str, str], run: Callable[..., Any], tmp_path: Path) -> None:
        root, key, _ = cache
        other = tmp_path / "other"
        other.mkdir()
        found = json.loads((root / "eval" / key[:12] / "results.json").read_text())
        (other / "results.json").write_text(json.dumps(found | {"experiment": "second"}))
        ran = run("report", key[:6], str(other), "--out", "both", cache=root)
        assert ran.out == "both/report.html\n"
        page = (tmp_path / "both" / "report.html").read_text()
        assert "2 evaluations" in page
        assert f"demo {key[:8]}: “brain helped”: the claim holds" in page
        assert "second other" in page
        assert (
            "| second other | brain | holds |" in run("report", key, str(other), "--format", "markdown", cache=root).out
        )

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ([], "report: expected the KEY of an evaluation"),
            (["ffff"], "key ffff: no such artifact in"),
            (["STUDENT"], "is no evaluation (it has no results.json)"),
            (["EVAL", "--format", "pdf"], "report --format pdf: expected html, markdown, latex"),
            (["EVAL", "--ouut", "x"], "no flag --ouut; did you mean '--out'?"),
            (["EVAL", "--out"], "--out=: expected a value"),
            (["EVAL", "--log", "wand"], "--log wand: expected tensorboard, wandb, mlflow; did you mean 'wandb'?"),
        ],
    )
    def test_bad_usage_is_one_line(
        self, words: list[str], message: str, cache: tuple[Path, str, str], run: Callable[..., Any]
    ) -> None:
        root, key, student = cache
        ran = run("report", *({"EVAL": key, "STUDENT": student}.get(word, word) for word in words), cache=root)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith("braindistill: ")
        assert message in ran.err
        assert ran.err.count("\n") == 1

    def test_without_a_cache_it_says_so(self, run: Callable[..., Any], tmp_path: Path) -> None:
        ran = run("report", "abc", cache="nowhere")
        assert (ran.code, ran.err.count("\n")) == (2, 1)
        assert "there are no artifacts in" in ran.err
        assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("sketched")
def test_subjects_are_replicates(everything: dict[str, Any], tmp_path: Path) -> None:
    second = json.loads(json.dumps(everything))
    for row in second["comparisons"]:
        row["difference"] += 0.01
    evaluations = {"subject 1": Findings(everything), "subject 2": Findings(second), "nothing": Findings({})}
    write_merged(evaluations, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "could not be shown" not in page
    assert "Regions over evaluations" in page
    row = next(row for row in everything["comparisons"] if (row["a"], row["b"]) == ("brain", "kd"))
    middle = f"+{100 * row['difference'] + 0.5:.1f} ["
    assert middle in page
    assert "nothing: No arm has finished" in page
    assert next(row[:3] for row in merged_claims(evaluations).rows) == ["subject 1", "brain", "holds"]


def test_arms_are_runs_with_equal_hyperparameters(results: dict[str, Any]) -> None:
    results["arms"]["baseline"]["overrides"] = ["method=none"]
    runs = runs_of(results)
    assert len({tuple(run.hparams) for run in runs}) == 1
    assert runs[0].hparams["method"] == "none"
    assert runs[0].hparams["teacher"] == ""
    assert "minus_baseline" not in runs[0].metrics
    assert runs[1].metrics["accuracy"] == results["arms"]["label_smoothing"]["accuracy"]["mean"]


def test_tensorboard_groups_the_seeds_of_an_arm(everything: dict[str, Any], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    arms = everything["arms"] = {arm: everything["arms"][arm] for arm in ("baseline", "brain")}
    log_arms(everything, "tensorboard", tmp_path)
    assert {folder.name for folder in (tmp_path / "demo").iterdir()} == set(arms), "nothing but arms"
    accuracy = {arm: entry["accuracy"]["per_seed"] for arm, entry in arms.items()}
    for seed in range(10):
        events = EventAccumulator(str(tmp_path / "demo" / "brain" / str(seed))).Reload()
        (shown,) = events.Scalars("arm/accuracy")
        assert shown.value == pytest.approx(accuracy["brain"][seed])
        (gain,) = events.Scalars("arm/minus_baseline")
        assert gain.value == pytest.approx(accuracy["brain"][seed] - accuracy["baseline"][seed], abs=1e-6)
        (loss,) = events.Scalars("arm/nll")
        assert loss.value == pytest.approx(arms["brain"]["measures"]["nll"]["per_seed"][seed])
        content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        session = HParamsPluginData.FromString(content).session_start_info
        assert session.group_name == "brain"
        assert session.hparams["teacher"].string_value == "brain"
        assert session.hparams["labels"].number_value == 40
    baseline = EventAccumulator(str(tmp_path / "demo" / "baseline" / "0")).Reload()
    assert "arm/minus_baseline" not in baseline.Tags()["scalars"]
    curve = EventAccumulator(str(tmp_path / "demo" / "brain")).Reload().Scalars("train/loss")
    assert [event.step for event in curve] == arms["brain"]["training"]["epoch"]
    assert [event.value for event in curve] == pytest.approx(arms["brain"]["training"]["loss"])


def test_tensorboard_bears_an_arm_of_which_little_is_known(partial: dict[str, Any], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    partial["arms"]["brain"]["accuracy"] = {"mean": 0.9}
    log_arms(partial, "tensorboard", tmp_path)
    (shown,) = EventAccumulator(str(tmp_path / "demo" / "brain" / "0")).Reload().Scalars("arm/accuracy")
    assert shown.value == pytest.approx(0.9)


def test_wandb_gets_a_run_an_arm(results: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    class Opened:
        log = staticmethod(told.append)
        finish = staticmethod(lambda: told.append("finished"))

    wandb = ModuleType("wandb")
    wandb.init = lambda **options: told.append(options["name"]) or Opened  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    log_arms(results, "wandb", tmp_path)
    assert told[::3] == list(results["arms"])
    assert told[2::3] == ["finished"] * len(results["arms"])


@pytest.mark.parametrize("tracker", ["wandb", "mlflow"])
def test_a_tracker_that_is_missing_is_named(
    tracker: str, results: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, tracker, None)
    with pytest.raises(UserError, match=f"{tracker} is not installed; pip install {tracker}"):
        log_arms(results, tracker, tmp_path)


@pytest.mark.parametrize("tracker", ["wandb", "mlflow"])
def test_trackers_are_extras(tracker: str) -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert any(need.startswith(tracker) for need in project["optional-dependencies"][tracker])

"""The evaluation of predictions that were made up, so that it is known what they mean."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.images import ImageSet
from braindistill.runtime import Runtime
from braindistill.stages import eval as stage
from braindistill.stages.eval import evaluate
from braindistill.verdict import is_brain

SEEDS = list(range(6))
COMMAND = "braindistill eval experiment=made_up eval.seeds=6"
#: accuracy of each arm's made predictions
SKILL = {"baseline": 0.6, "label_smoothing": 0.62, "kd": 0.6, "features": 0.61, "shuffled_fmri": 0.5, "brain": 0.9}
TEACHERS: dict[str, dict[str, Any]] = {
    "kd": {"name": "cnn"},
    "features": {"name": "features", "labels": "student"},
    "shuffled_fmri": {"name": "brain", "control": "shuffled_fmri", "labels": "student", "disjoint": True},
    "brain": {"name": "brain", "control": None, "labels": "student", "disjoint": True},
}


def describe(arm: str) -> dict[str, Any]:
    taught = arm in TEACHERS
    return {
        "images": {"n_train": 8, "n_pool": 10, "n_val": 2, "labels_matched": False, "allow_overlap": False},
        "teacher": TEACHERS[arm] | {"pretrained": False} if taught else {},
        "target": {"name": "soft_labels", "images": "all", "control": None} if taught else {},
        "student": {},
        "train": {"select": "last"},
        "overrides": [f"method={arm}"],
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., tuple[dict[str, Any], dict[str, Path], Path]]:
    """Lay out what an evaluation reads → its config, its inputs and its folder."""

    def lay_out(**skill: float) -> tuple[dict[str, Any], dict[str, Path], Path]:
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (130, 1, 2, 2)).astype(np.uint8)
        ids, labels = np.array([f"i{row:03d}" for row in range(130)]), np.arange(130) % 2
        image_set = ImageSet(images[:30], ids[:30], labels[:30], images[30:], ids[30:], labels[30:], ["a", "b"])
        image_set.save(tmp_path / "images")
        np.savez(tmp_path / "images" / "stimuli.npz", stimulus_id=ids[:30])
        inputs = {"images": tmp_path / "images"}
        config: dict[str, Any] = {"eval": {"seeds": SEEDS}, "arms": {}, "not_run": {}, "command": COMMAND}
        for arm, level in (skill or SKILL).items():
            config["arms"][arm] = describe(arm)
            for seed in SEEDS:
                right = rng.random(100) < level
                said = np.where(right, labels[30:], 1 - labels[30:])
                folder = inputs[f"prediction/{arm}/{seed}"] = tmp_path / "predict" / f"{arm}-{seed}"
                folder.mkdir(parents=True)
                rows = np.log(np.where(said[:, None] == [0, 1], 0.8, 0.2)).astype(np.float32)
                np.save(folder / "log_probabilities.npy", rows)
                if arm in TEACHERS:
                    target = inputs[f"target/{arm}/{seed}"] = tmp_path / "export" / f"{arm}-{seed}"
                    sources = {"in_sample": 8} if arm == "kd" else {"measured": 18}
                    record = {"accuracy_pool": 0.7 + seed / 100, "accuracy_labelled": None, "entropy": 0.3}
                    temperature = None if arm == "kd" else {"measured": 0.5, "predicted": 2.0}
                    write_json(target / "target.json", record | {"sources": sources, "temperature": temperature})
                    teacher = inputs[f"teacher/{arm}/{seed}"] = tmp_path / "train-teacher" / f"{arm}-{seed}"
                    write_json(teacher / "scores.json", {"decoder": {"accuracy": 0.8}})
                    write_json(teacher / "teacher.json", {"labelled": ids[:20].tolist()})
                    if arm == "brain":
                        np.savez(teacher / "voxel_scores.npz", r=np.linspace(0, 1, 5, dtype=np.float32))
        out = tmp_path / "out"
        out.mkdir()
        return config, inputs, out

    return lay_out


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the page out, which has its own tests."""
    monkeypatch.setattr(stage, "write_report", lambda results, path: path.write_text("page"))


def test_results_hold_the_fixed_names(make: Callable[..., Any], quick: None) -> None:
    config, inputs, out = make()
    results = evaluate(config, inputs, out, {}, COMMAND)
    assert json.loads((out / "results.json").read_text()) == results
    assert list(results["arms"]) == list(SKILL)
    labels = np.arange(30, 130) % 2
    for arm, found in results["arms"].items():
        assert found["n_seeds"] == 6
        accuracy = found["accuracy"]
        by_hand = [
            (np.load(inputs[f"prediction/{arm}/{seed}"] / "log_probabilities.npy").argmax(1) == labels).mean()
            for seed in SEEDS
        ]
        assert accuracy["per_seed"] == pytest.approx(by_hand)
        assert accuracy["mean"] == pytest.approx(np.mean(by_hand))
        assert accuracy["ci_low"] < accuracy["mean"] < accuracy["ci_high"]
        assert found["labels"] == 10, "training and validation labels"
        assert found["balanced_accuracy"] == pytest.approx(np.mean(by_hand), abs=0.03)
        share = np.mean(by_hand)
        assert found["nll"] == pytest.approx(-share * np.log(0.8) - (1 - share) * np.log(0.2), abs=1e-5)
        assert found["ece"] == pytest.approx(np.mean(np.abs(np.array(by_hand) - 0.8)), abs=1e-5)
        assert found["keys"]["predictions"] == [f"{arm}-{seed}" for seed in SEEDS]
    names = {"a", "b", "difference", "ci_low", "ci_high", "p", "p_adjusted"}
    assert all(names <= row.keys() for row in results["comparisons"])
    pairs = [(row["a"], row["b"]) for row in results["comparisons"]]
    assert pairs[:5] == [(arm, "baseline") for arm in SKILL if arm != "baseline"]
    assert pairs[5:9] == [("brain", arm) for arm in ("label_smoothing", "kd", "features", "shuffled_fmri")]
    assert pairs[9:] == [("shuffled_fmri", "label_smoothing")]
    for row in results["comparisons"]:
        means = [results["arms"][row[side]]["accuracy"]["mean"] for side in "ab"]
        assert row["difference"] == pytest.approx(means[0] - means[1])
        assert row["p"] <= row["p_adjusted"] <= 1
    assert (results["n_seeds"], results["n_test"], results["chance"]) == (6, 100, 0.5)
    assert (results["n_train"], results["n_pool"], results["n_val"]) == (8, 10, 2)
    assert results["classes"] == ["a", "b"]
    assert (results["command"], results["experiment"]) == (COMMAND, "made_up")
    assert results["failed"] == results["not_run"] == {}
    assert results["warnings"] == []
    assert (out / "results.csv").read_text().count("\n") >= 7


def test_the_claim_is_made_against_each_required_control(make: Callable[..., Any], quick: None) -> None:
    config, inputs, out = make()
    (claim,) = evaluate(config, inputs, out, {})["claims"]
    assert (claim["arm"], claim["holds"]) == ("brain", True)
    assert [part["b"] for part in claim["components"]] == ["label_smoothing", "kd", "features", "shuffled_fmri"]
    assert claim["p"] == max(part["p"] for part in claim["components"]) < 0.05


def test_one_control_that_does_as_well_is_enough_against_it(make: Callable[..., Any], quick: None) -> None:
    config, inputs, out = make(**SKILL | {"features": 0.9})
    (claim,) = evaluate(config, inputs, out, {})["claims"]
    assert claim["holds"] is False
    assert "features" in claim["reason"]


def test_controls_that_apply_are_required_and_those_that_do_not_are_no_gap(
    make: Callable[..., Any], quick: None
) -> None:
    config, inputs, out = make(**SKILL, labels_matched=0.95)
    config["arms"]["brain"]["teacher"] = config["arms"]["brain"]["teacher"] | {"labels": "all"}
    config["not_run"] = {"random_matched": "targets are on an unlabelled pool"}
    results = evaluate(config, inputs, out, {})
    (claim,) = results["claims"]
    assert claim["holds"] is False
    assert [part["b"] for part in claim["components"]][-1] == "labels_matched"
    assert results["not_run"] == {"random_matched": "targets are on an unlabelled pool"}
    del config["arms"]["labels_matched"]
    (claim,) = evaluate(config, inputs, out, {})["claims"]
    assert claim["holds"] is None, "more labels than the baseline, and nothing to show that they were not the help"
    assert "labels_matched is missing" in claim["reason"]
    assert "label budgets differ (brain " in claim["reason"]
    assert claim["components"], "what was found is still shown"


@pytest.mark.parametrize("fate", ["failed", "left out", "not run"])
def test_a_missing_control_leaves_the_claim_undecided(make: Callable[..., Any], quick: None, fate: str) -> None:
    config, inputs, out = make()
    failed = {}
    if fate == "failed":
        failed = {"features": "out of memory"}
    else:
        del config["arms"]["features"]
        config["not_run"] = {"features": "has no pictures"} if fate == "not run" else {}
    results = evaluate(config, inputs, out, failed)
    (claim,) = results["claims"]
    assert claim["holds"] is None
    assert claim["p"] is None
    reason = {"failed": "out of memory", "left out": "not among eval.arms", "not run": "has no pictures"}[fate]
    assert f"the arm features is missing ({reason})" in claim["reason"]
    assert "features" not in results["arms"]
    assert results["failed"] == failed


def test_a_failed_brain_arm_leaves_its_claim_undecided(make: Callable[..., Any], quick: None) -> None:
    config, inputs, out = make()
    results = evaluate(config, inputs, out, {"brain": "killed"})
    (claim,) = results["claims"]
    assert (claim["arm"], claim["holds"]) == ("brain", None)
    assert "killed" in claim["reason"]
    assert all("brain" not in (row["a"], row["b"]) for row in results["comparisons"])


def test_a_control_that_knows_too_much_is_warned_about(make: Callable[..., Any], quick: None) -> None:
    config, inputs, out = make(**SKILL | {"shuffled_fmri": 0.95})
    (warning,) = evaluate(config, inputs, out, {})["warnings"]
    assert warning.startswith("the control shuffled_fmri beats label_smoothing by")


def test_without_any_result_there_is_still_a_report(make: Callable[..., Any]) -> None:
    config, inputs, out = make(baseline=0.5, brain=0.5)
    results = evaluate(config, inputs, out, {"baseline": "disk full", "brain": "disk full"})
    assert results["arms"] == {}
    assert results["comparisons"] == []
    assert "disk full" in (out / "report.html").read_text()
    assert (out / "results.csv").exists()


def test_what_stood_behind_an_arm_is_told(make: Callable[..., Any], quick: None) -> None:
    config, inputs, out = make()
    config["arms"]["brain"]["teacher"] = config["arms"]["brain"]["teacher"] | {"disjoint": False}
    config["arms"]["features"]["images"] = config["arms"]["features"]["images"] | {"allow_overlap": True}
    results = evaluate(config, inputs, out, {})
    arms = results["arms"]
    assert arms["baseline"]["teacher"] is None
    assert arms["brain"]["teacher"]["accuracy_pool"] == pytest.approx(0.725)
    assert arms["brain"]["teacher"]["accuracy_labelled"] is None
    assert arms["brain"]["teacher"]["temperature"] == 0.5
    assert arms["brain"]["teacher"]["scores"] == {"decoder": {"accuracy": 0.8}}
    assert arms["kd"]["teacher"]["temperature"] is None
    assert arms["brain"]["marks"] == [
        "encoder and decoder share stimuli (teacher.disjoint=false): labels leak around the brain"
    ]
    assert arms["kd"]["marks"] == ["in-sample targets on 8 labelled images, as ordinary KD has it"]
    assert "images.allow_overlap=true" in arms["features"]["marks"][0]
    assert results["encoder_r"] == {"brain": [0.0, 0.25, 0.5, 0.75, 1.0]}
    assert arms["brain"]["keys"]["teachers"] == [f"brain-{seed}" for seed in SEEDS]


def test_unequal_budgets_of_labels_are_warned_about(make: Callable[..., Any], quick: None) -> None:
    """A decoder that saw 20 labels, where students have 8 of them and 2 for validation."""
    config, inputs, out = make()
    config["arms"]["brain"]["teacher"] = config["arms"]["brain"]["teacher"] | {"labels": "all"}
    results = evaluate(config, inputs, out, {})
    image_set = ImageSet.load(inputs["images"])
    from braindistill.images import split

    options = {"n_train": 8, "n_pool": 10, "n_val": 2}
    known = split(image_set, image_set.train_ids.tolist(), 0, **options).labelled
    more = len(set(image_set.train_ids[:20]) - set(image_set.train_ids[known]))
    assert results["arms"]["brain"]["labels"] == 10 + more > 10
    assert [warning for warning in results["warnings"] if "unequal label budgets" in warning] == [
        f"unequal label budgets: 10 labels, but brain {10 + more}; labels_matched is the arm to beat"
    ]


def test_one_draw_of_a_teacher_for_all_seeds_is_warned_about(make: Callable[..., Any], quick: None) -> None:
    config, inputs, out = make()
    for seed in SEEDS:
        inputs[f"teacher/brain/{seed}"] = inputs["teacher/brain/0"]
    (warning,) = evaluate(config, inputs, out, {})["warnings"]
    assert warning.startswith("brain: 6 seeds share 1 draw(s) of the teacher")


def test_the_stage_writes_its_three_files(make: Callable[..., Any]) -> None:
    config, inputs, out = make(baseline=0.6, brain=0.8)
    stage.run(config, inputs, out, Runtime(device="cpu"))
    assert {file.name for file in out.iterdir()} >= {"report.html", "results.csv", "results.json"}
    page = (out / "report.html").read_text()
    assert "brain" in page
    assert "cannot be decided" in page


@pytest.mark.parametrize(
    ("teacher", "target", "answer"),
    [
        ({"name": "brain", "control": None}, "soft_labels", True),
        ({"name": "decoder", "control": None}, "soft_labels", True),
        ({"name": "brain", "control": "nuisance"}, "soft_labels", False),
        ({"name": "features"}, "soft_labels", False),
        ({"name": "encoder", "control": None}, "voxels", True),
        ({"name": "decoder", "control": None, "original_protocol": True}, "soft_labels", False),
        ({}, None, False),
    ],
)
def test_what_a_brain_arm_is(teacher: dict[str, Any], target: str | None, answer: bool) -> None:
    arm = {"teacher": teacher, "target": {"name": target} if target else {}, "train": {"select": "last"}}
    assert is_brain(arm) is answer
    assert not is_brain(arm | {"target": {"name": target, "control": "shuffled_within"}})
    assert not is_brain(arm | {"train": {"select": "test"}})


def test_a_brain_arm_is_held_against_controls_of_its_own_kind_of_target(make: Callable[..., Any], quick: None) -> None:
    arms = {"baseline": 0.6, "label_smoothing": 0.6, "kd": 0.6, "brain": 0.9, "shuffled_fmri": 0.6}
    config, inputs, out = make(**arms)
    for arm in ("brain", "shuffled_fmri"):
        config["arms"][arm]["target"] = {"name": "voxels", "images": "all", "control": None}
    (made,) = evaluate(config, inputs, out, {}, COMMAND)["claims"]
    assert made["holds"] is None
    assert "random_readout is missing" in made["reason"], "voxels have no features arm: the control is read out"
    assert "features" not in made["reason"]
    config["arms"]["brain"]["target"] = {"name": "relations", "images": "all", "control": None}
    (made,) = evaluate(config, inputs, out, {}, COMMAND)["claims"]
    assert "shuffled_fmri_relations is missing" in made["reason"]


def test_a_pretrained_student_is_marked(make: Callable[..., Any], quick: None) -> None:
    config, inputs, out = make()
    config["arms"]["brain"]["student"] = {"init": "pretrained", "overlap": "ImageNet, all ten classes"}
    marks = evaluate(config, inputs, out, {}, COMMAND)["arms"]["brain"]["marks"]
    assert any("pretrained weights; overlap with the test classes: ImageNet, all ten" in mark for mark in marks)


def test_a_claim_that_would_fail_is_withheld_too_where_budgets_differ(make: Callable[..., Any], quick: None) -> None:
    config, inputs, out = make(**SKILL | {"brain": 0.3})
    (claim,) = evaluate(config, inputs, out, {})["claims"]
    assert claim["holds"] is False
    config["arms"]["kd"]["images"] = config["arms"]["kd"]["images"] | {"n_train": 10}
    (claim,) = evaluate(config, inputs, out, {})["claims"]
    assert (claim["holds"], claim["p"]) == (None, None)
    assert "label budgets differ (brain 10, label_smoothing 10, kd 12" in claim["reason"]
    assert "does not hold" not in claim["reason"]


def test_unequal_tuning_withholds_the_claim(make: Callable[..., Any], quick: None) -> None:
    config, inputs, out = make()
    tried = [[["train.lr=0.1"], 0.8], [["train.lr=0.2"], 0.7]]
    tuning = {"trials": 2, "ranges": {}, "arms": {arm: {"tried": tried} for arm in SKILL}}
    config["eval_context"] = {"tuning": tuning, "rois": {"of": "brain"}}
    results = evaluate(config, inputs, out, {})
    assert results["claims"][0]["holds"] is True
    assert (results["tuning"], results["rois"]) == (tuning, {"of": "brain"})
    tuning["arms"]["kd"] = {"tried": tried[:1]}
    del tuning["arms"]["baseline"]  # no part of the claim
    (claim,) = evaluate(config, inputs, out, {})["claims"]
    assert claim["holds"] is None
    expected = "brain 2, label_smoothing 2, kd 1, features 2, shuffled_fmri 2"
    assert claim["reason"] == f"cannot be decided: tuning budgets differ (trials: {expected})"


def test_an_exploratory_arm_makes_no_claim_and_is_no_control(make: Callable[..., Any], quick: None) -> None:
    config, inputs, out = make(**SKILL, brain_V1=0.9)
    config["arms"]["brain_V1"] = config["arms"]["brain"] | {"exploratory": True}
    results = evaluate(config, inputs, out, {})
    assert [made["arm"] for made in results["claims"]] == ["brain"]
    assert {row["b"] for row in results["equivalence"]} == SKILL.keys() - {"brain"}


def test_one_seed_gives_no_interval_and_says_so(make: Callable[..., Any], quick: None) -> None:
    config, inputs, out = make()
    config["eval"]["seeds"] = [0]
    results = evaluate(config, inputs, out, {})
    assert "one seed gives no interval and no p" in results["warnings"][0]
    for arm in results["arms"].values():
        assert (arm["accuracy"]["ci_low"], arm["accuracy"]["ci_high"]) == (None, None)
        assert (arm["measures"]["brier"]["ci_low"], arm["measures"]["brier"]["ci_high"]) == (None, None)
    for row in results["comparisons"]:
        bounds = ("ci_low", "ci_high", "p", "p_adjusted", "sign_flip_p", "bootstrap_low", "bootstrap_high")
        assert all(row[key] is None for key in bounds)
    assert all(row["equivalent"] is None for row in results["equivalence"])
    assert results["power"]["brain"]["kd"]["seeds_for_half_a_point"] is None
    assert results["claims"][0]["holds"] is None
    assert (out / "report.html").exists()


def test_power_and_equivalence(make: Callable[..., Any], quick: None) -> None:
    config, inputs, out = make()
    config["eval"]["margin"] = 0.5
    results = evaluate(config, inputs, out, {})
    assert list(results["power"]["brain"]) == ["label_smoothing", "kd", "features", "shuffled_fmri"]
    found = results["power"]["brain"]["kd"]
    assert found["seeds_for_half_a_point"] is None or found["seeds_for_half_a_point"] > 6
    assert "0.5 points" in found["sentence"]
    assert [(row["a"], row["b"]) for row in results["equivalence"]] == [
        ("brain", arm) for arm in SKILL if arm != "brain"
    ]
    assert all(row["equivalent"] and row["margin"] == 0.5 for row in results["equivalence"])
    config["eval"]["margin"] = 0.001
    assert not any(row["equivalent"] for row in evaluate(config, inputs, out, {})["equivalence"])


def test_the_bootstrap_agrees_with_the_interval(make: Callable[..., Any], quick: None) -> None:
    config, inputs, out = make(baseline=0.6, brain=0.7)
    (row,) = evaluate(config, inputs, out, {})["comparisons"]
    assert row["bootstrap_low"] == pytest.approx(row["ci_low"], abs=0.03)
    assert row["bootstrap_high"] == pytest.approx(row["ci_high"], abs=0.03)


def test_asked_measures_that_cannot_be_had_are_skipped_with_the_reason(make: Callable[..., Any], quick: None) -> None:
    config, inputs, out = make()
    config["eval"]["measures"] = ["severity", "selective", "human", "robustness", "attacks", "brain_score"]
    config["eval_context"] = {"skipped_measures": {"attacks": "arm kd: out of memory"}}
    results = evaluate(config, inputs, out, {})
    assert all(arm["measures"] == {} for arm in results["arms"].values())
    reasons = results["skipped_measures"]
    assert reasons.keys() == set(config["eval"]["measures"])
    assert "eval.hierarchy=FILE" in reasons["severity"]
    assert "images.n_val=0" in reasons["selective"]
    assert "eval.people=FILE" in reasons["human"]
    assert reasons["robustness"] == reasons["brain_score"] == "students were not measured, or that has failed"
    assert reasons["attacks"] == "arm kd: out of memory"


def test_what_students_were_measured_for_is_averaged_over_seeds(make: Callable[..., Any], quick: None) -> None:
    config, inputs, out = make(baseline=0.6, brain=0.8)
    config["eval"]["measures"] = ["robustness", "brain_score"]
    for arm in ("baseline", "brain"):
        for seed in SEEDS:
            found: dict[str, Any] = {"robustness": {"clean": 0.5 + seed / 10, "corruptions": {"fog": [0.1 * seed] * 5}}}
            found |= {"skipped": {}, "notes": ["of stimuli that students were trained on"]}
            score = {"r": 0.2, "normalised_r": None, "rsa": 0.1, "rsa_ceiling": [0.3, 0.5], "untrained_r": 0.1}
            if arm == "brain":
                found["brain_score"] = {"V1": score}
            else:
                found["skipped"] = {"brain_score": "no pictures"}
            inputs[f"measure/{arm}/{seed}"] = out / f"measure-{arm}-{seed}"
            write_json(out / f"measure-{arm}-{seed}" / "measures.json", found)
    results = evaluate(config, inputs, out, {})
    brain = results["arms"]["brain"]["measures"]
    assert brain["robustness"]["clean"]["mean"] == pytest.approx(0.75)
    assert brain["robustness"]["clean"]["per_seed"] == pytest.approx([0.5 + seed / 10 for seed in SEEDS])
    assert brain["robustness"]["clean"]["ci_low"] < 0.75 < brain["robustness"]["clean"]["ci_high"]
    assert [value["mean"] for value in brain["robustness"]["corruptions"]["fog"]] == pytest.approx([0.25] * 5)
    assert brain["brain_score"]["V1"]["rsa_ceiling"] == pytest.approx([0.3, 0.5])
    assert brain["brain_score"]["V1"]["normalised_r"]["mean"] is None
    assert "brain_score" not in results["arms"]["baseline"]["measures"]
    assert results["skipped_measures"] == {"brain_score": "baseline: no pictures"}
    assert results["warnings"] == ["of stimuli that students were trained on"]


def test_training_curves_are_means_over_seeds(make: Callable[..., Any], quick: None) -> None:
    config, inputs, out = make(baseline=0.6, brain=0.8)
    for seed in SEEDS:
        entries = [{"epoch": e + 1.0, "loss": seed / (e + 1), "val_accuracy": 0.5, "lr": 1} for e in range(3 + seed)]
        entries[1]["loss"] = float("nan")
        log = inputs[f"prediction/brain/{seed}"] / "metrics.jsonl"
        log.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    results = evaluate(config, inputs, out, {})
    assert "training" not in results["arms"]["baseline"]
    training = results["arms"]["brain"]["training"]
    assert training["epoch"] == [1, 2, 3]
    assert training["loss"] == [2.5, None, pytest.approx(2.5 / 3)]
    assert training["val_accuracy"] == [0.5] * 3


def test_what_was_explained_is_passed_on(make: Callable[..., Any], quick: None) -> None:
    config, inputs, out = make(baseline=0.6, brain=0.8)
    inputs["explain"] = out / "explained"
    write_json(out / "explained" / "explain.json", {"decoder_cam": {}, "skipped": {"saliency": "no convolution"}})
    (out / "explained" / "saliency.npz").write_bytes(b"maps")
    results = evaluate(config, inputs, out, {})
    assert results["explain"] == {"decoder_cam": {}}
    assert results["skipped_measures"] == {"explain: saliency": "no convolution"}
    assert (out / "saliency.npz").read_bytes() == b"maps"


@pytest.mark.parametrize("fault", ["number", "identity", "classes", "diverged"])
def test_predictions_that_do_not_fit_are_refused_in_one_line(make: Callable[..., Any], quick: None, fault: str) -> None:
    config, inputs, out = make()
    folder = inputs["prediction/kd/3"]
    rows = np.load(folder / "log_probabilities.npy")
    if fault == "identity":
        write_json(folder / "test_images.json", {"n": 100, "sha256": "of others"})
    changed = {"number": rows[:99], "classes": np.log(np.full((100, 3), 1 / 3)), "diverged": rows * np.nan}
    np.save(folder / "log_probabilities.npy", changed.get(fault, rows))
    expected = "training has diverged" if fault == "diverged" else "other test images than those of the evaluation"
    with pytest.raises(UserError, match=f"^arm kd: .*{expected}") as refused:
        evaluate(config, inputs, out, {})
    assert "\n" not in str(refused.value)
    assert not (out / "results.json").exists()

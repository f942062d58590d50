"""``scripts/simulate_claim.py``: with as many experiments as there is time for, and its parts against the library's own."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from braindistill import images
from braindistill.methods.logits import kd_loss, label_smoothing_loss, none_loss
from braindistill.runtime import derive
from braindistill.targets.soft_labels import export_soft_labels
from braindistill.teachers import FeatureOptions, extract_stimuli, fit_brain
from braindistill.teachers.cross_fitting import Labels
from braindistill.verdict.claims import make_claims

#: experiments in each of the two main worlds, and in each of the others
MANY, FEW = 10, 4


@pytest.fixture(scope="module")
def script() -> ModuleType:
    file = Path(__file__).parents[1] / "scripts" / "simulate_claim.py"
    spec = importlib.util.spec_from_file_location("simulate_claim", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["simulate_claim"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def worlds(script: ModuleType) -> dict[str, list[dict[str, np.ndarray]]]:
    """Correct answers of some experiments in each world."""
    numbers = {"nuisance": MANY, "category": MANY, "pictures": FEW, "leak": FEW}
    return {
        name: [script.run_experiment(script.WORLDS[name], derive(1, "experiment", index))[0] for index in range(number)]
        for name, number in numbers.items()
    }


def held(script: ModuleType, experiments: list[dict[str, np.ndarray]], *required: str) -> int:
    return sum(script.judge(correct, required or script.REQUIRED)["holds"] for correct in experiments)


@pytest.mark.parametrize("name", ["nuisance", "pictures", "leak"])
def test_the_claim_does_not_hold_where_it_is_false(script: ModuleType, worlds: dict[str, Any], name: str) -> None:
    # an interval lies above a difference of zero in one experiment of forty
    assert held(script, worlds[name]) <= 1


def test_the_claim_holds_where_it_is_true(script: ModuleType, worlds: dict[str, Any]) -> None:
    assert held(script, worlds["category"]) >= 8


def test_without_features_what_pictures_tell_would_pass_for_the_brain(
    script: ModuleType, worlds: dict[str, Any]
) -> None:
    fewer = [name for name in script.REQUIRED if name != "features"]
    assert held(script, worlds["pictures"], *fewer) >= 2
    assert held(script, worlds["pictures"], "shuffled_fmri") == FEW
    assert held(script, worlds["pictures"], "features") == 0


def test_shuffled_responses_rise_with_the_arm_that_leaks(script: ModuleType, worlds: dict[str, Any]) -> None:
    """Held against shuffled responses that may not leak, noise would pass for a brain; against its own it does not."""
    sound = script.WORLDS["leak"]._replace(disjoint=True)
    mixed = []
    for index, correct in enumerate(worlds["leak"]):
        other, _ = script.run_experiment(sound, derive(1, "experiment", index))
        assert (other["kd"] == correct["kd"]).all()  # the same experiment but for the leak
        mixed.append(correct | {"shuffled_fmri": other["shuffled_fmri"]})
    assert held(script, mixed, "shuffled_fmri") >= FEW - 1
    assert held(script, worlds["leak"], "shuffled_fmri") <= 1


def test_it_asks_for_the_controls_that_eval_would_ask_for(script: ModuleType) -> None:
    described = {
        "brain": {
            "teacher": {"name": "brain"},
            "target": {"name": "soft_labels", "images": "all"},
            "images": {"n_pool": script.POOL},
            "train": {"select": "last"},
        }
    }
    correct = {"brain": np.ones((10, 50), bool)}
    (made,) = make_claims(described, {"brain": {"labels": script.LABELS}}, correct, {}, 10)
    named = [name for name in (*script.ARMS, "labels_matched", "random_matched") if f"arm {name} is" in made["reason"]]
    assert named == list(script.REQUIRED)


def test_the_students_are_what_the_library_s_losses_make_of_them(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "STEPS", 30)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn((2, 50, 6), generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 4, (2, 12), generator=generator)
    taught = [arm for arm in script.ARMS if arm not in ("baseline", "label_smoothing")]
    targets = {arm: torch.randn((2, 50, 4), generator=generator, dtype=torch.float64).log_softmax(2) for arm in taught}
    start = torch.randn((2, 6, 4), generator=generator, dtype=torch.float64)
    found = script.fit_students(inputs, script.aims_of(labels, targets), start)
    known = torch.full((2, 50), -1)
    known[:, :12] = labels
    for seed in range(2):
        for index, arm in enumerate(script.ARMS):
            weights = start[seed].clone().requires_grad_()
            optimizer = torch.optim.SGD([weights], 1.0, script.MOMENTUM, nesterov=True, weight_decay=script.DECAY)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, script.STEPS)
            optimizer.param_groups[0]["lr"] = schedule.base_lrs[0] = script.RATE
            for _ in range(script.STEPS):
                optimizer.zero_grad()
                logits = inputs[seed] @ weights
                if arm == "label_smoothing":
                    loss = label_smoothing_loss(logits, known[seed], smoothing=script.SMOOTHING)
                else:
                    loss = none_loss(logits, known[seed])
                if arm in targets:
                    loss = loss + kd_loss(logits, targets[arm][seed], temperature=1.0)
                loss.backward()
                optimizer.step()
                schedule.step()
            torch.testing.assert_close(found[seed, :, index], weights.detach(), rtol=1e-6, atol=1e-8)


def test_targets_are_those_that_the_library_exports(script: ModuleType, tmp_path: Path) -> None:
    world, image_set = script.WORLDS["category"], images.load_digits()
    subject = script.draw_subject(world, image_set, 3)
    stimuli = extract_stimuli(subject, FeatureOptions())
    run = script.ask_teachers(world, subject, stimuli, image_set, 5)
    split = images.split(image_set, subject.image_id, 5, n_train=script.LABELS, n_pool=script.POOL)
    given = {image_set.train_ids[row]: int(image_set.train_labels[row]) for row in split.labelled}
    fit_brain(subject, Labels(list(image_set.classes), given, "student"), stimuli, seed=5).save(tmp_path)
    exported = export_soft_labels(tmp_path, image_set, split, "cpu")
    rows, has = exported.rows_for(image_set.train_ids[run.rows], list(image_set.classes))
    assert has.all()
    np.testing.assert_allclose(run.targets["brain"], rows, atol=1e-5)
    # half of the targets come from predicted responses, none from a fold that saw the stimulus
    assert exported.record["sources"] == {"measured": world.shown, "predicted": 400 - world.shown}
    assert not (run.targets["brain"] == run.targets["shuffled_fmri"]).all()


def test_nobody_learns_from_test_images_or_from_labels_of_the_pool(script: ModuleType) -> None:
    image_set = images.load_digits()
    subject = script.draw_subject(script.WORLDS["category"], image_set, 3)
    stimuli = extract_stimuli(subject, FeatureOptions())
    run = script.ask_teachers(script.WORLDS["category"], subject, stimuli, image_set, 5)
    assert len(run.rows) == len(set(run.rows.tolist())) == 400
    assert np.bincount(run.labels[: script.LABELS]).tolist() == [4] * 10
    assert not set(subject.stimulus_id) & set(image_set.test_ids)
    # with other labels in the pool the teachers say the same
    others = image_set.train_labels.copy()
    others[run.rows[script.LABELS :]] = -1
    known = images.ImageSet(**{**vars(image_set), "train_labels": others})
    again = script.ask_teachers(script.WORLDS["category"], subject, stimuli, known, 5)
    for arm in run.targets:
        np.testing.assert_array_equal(run.targets[arm], again.targets[arm])


def test_the_null_subject_holds_nothing_but_noise(script: ModuleType) -> None:
    image_set = images.load_digits()
    for name, reliability in (("nuisance", 0.0), ("category", 0.5)):
        subject = script.draw_subject(script.WORLDS[name], image_set, 11)
        assert subject.responses.shape == (2 * 200, script.VOXELS)
        order = np.argsort(subject.stimulus_id, kind="stable")
        first, second = subject.responses[order[::2]], subject.responses[order[1::2]]
        r = [np.corrcoef(a, b)[0, 1] for a, b in zip(first.T, second.T, strict=True)]
        assert np.mean(r) == pytest.approx(reliability, abs=0.05)


def test_judge_says_what_each_control_was_good_for(script: ModuleType) -> None:
    generator = np.random.default_rng(0)
    levels = dict.fromkeys(script.ARMS, 0.6) | {"brain": 0.8, "features": 0.8, "kd": 0.7}
    correct = {arm: generator.random((10, 400)) < level for arm, level in levels.items()}
    found = script.judge(correct)
    assert not found["holds"]
    assert found["decided"] == "features"
    assert found["without"] == {"label_smoothing": False, "kd": False, "features": True, "shuffled_fmri": False}
    assert found["arms"]["kd"]["difference"] == pytest.approx(0.1, abs=0.02)


def test_the_same_seed_is_the_same_experiment(script: ModuleType, worlds: dict[str, Any]) -> None:
    again, _ = script.run_experiment(script.WORLDS["leak"], derive(1, "experiment", 0))
    for arm, hits in worlds["leak"][0].items():
        np.testing.assert_array_equal(hits, again[arm])
    assert (again["kd"] != worlds["leak"][1]["kd"]).any()


def test_the_order_is_that_of_the_seeds_whatever_the_number_of_processes(script: ModuleType) -> None:
    assert list(script._map(abs, [-3, 2, -1], 2)) == list(script._map(abs, [-3, 2, -1], 1)) == [3, 2, 1]


def test_the_table_counts_the_claims(
    script: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def imagine(world: Any, seed: int, seeds: int) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        generator = np.random.default_rng(seed)
        level = {"brain": 0.9 if world.holds else 0.6}
        return {arm: generator.random((seeds, 200)) < level.get(arm, 0.7) for arm in script.ARMS}, {"brain": 0.5}

    monkeypatch.setattr(script, "run_experiment", imagine)
    arguments = ["--experiments", "30", "--seeds", "8", "--seed", "4"]
    nuisance, category = script.main(arguments)
    assert (nuisance["held"], category["held"]) == (0, 30)
    assert category["arms"]["kd"]["difference"] == pytest.approx(0.2, abs=0.01)
    assert sum(row["decided"] for row in category["arms"].values() if "decided" in row) == 30
    table = capsys.readouterr().out
    assert "nuisance: the claim held in 0 of 30 experiments (false positives, asked: at most 2)" in table
    assert "category: the claim held in 30 of 30 experiments (found, asked: at least 26)" in table
    assert sum(line.startswith("| ") for line in table.splitlines()) == 2 * (1 + len(script.ARMS))
    script.main([*arguments, "--json"])
    again = json.loads(capsys.readouterr().out)
    assert [len(world.pop("each")) for world in again] == [30, 30]
    assert again == json.loads(json.dumps([nuisance, category]))

"""The stages that look at students: on pictures and students so small that it is known what they must find."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.images import ImageSet, save_images, split
from braindistill.runtime import Runtime
from braindistill.stages import measure, predict
from braindistill.students import load
from braindistill.students.artifact import save
from braindistill.students.build import build

CPU = Runtime(device="cpu")
N_TRAIN, N_TEST, SIDE = 80, 40, 8


def read_brightness(network: nn.Module) -> nn.Module:
    """Let a small_cnn pass the mean of its picture on to its last layer, which says class 1 where that is above 100."""
    blocks = list(network)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.zero_()
                module.weight[0, 0] = 1 / 9
        grey = nn.Sequential(*blocks[:-1]).eval()(torch.full((1, 1, SIDE, SIDE), 100.0))
        head, bound = blocks[-1], 0.02 * grey[0, :4].sum()
        head.weight.zero_()
        head.weight[1, :4], head.weight[0, :4] = 0.02, -0.02
        head.bias.copy_(torch.stack([bound, -bound]))
    return network


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Dark and bright pictures; responses to the first 60 of them, whose voxels V1 follow brightness and noise nothing."""
    rng = np.random.default_rng(0)
    labels = np.arange(N_TRAIN + N_TEST) % 2
    level = np.where(labels == 1, 150, 50) + rng.integers(-15, 16, len(labels))
    images = np.clip(level[:, None, None, None] + rng.integers(-5, 6, (len(labels), 1, SIDE, SIDE)), 0, 255)
    images = images.astype(np.uint8)
    ids = np.array([f"picture-{row:03d}" for row in range(len(labels))])
    train, test = slice(0, N_TRAIN), slice(N_TRAIN, None)
    image_set = ImageSet(images[train], ids[train], labels[train], images[test], ids[test], labels[test], ["a", "b"])
    save_images(image_set, ids[:60], tmp_path / "images")
    shown = np.tile(np.arange(60), 2)
    signal = (level[shown, None] - 100) / 50 * rng.uniform(0.5, 2, 10) * rng.choice([-1, 1], 10)
    values = np.concatenate([signal, np.zeros((120, 8))], 1) + rng.normal(0, 0.2, (120, 18))
    rois = {"V1": np.arange(18) < 10, "noise": np.arange(18) >= 10, "one": np.arange(18) == 3}
    responses = Responses(values.astype(np.float32), ids[shown], rois=rois, images=images[:60], image_id=ids[:60])
    responses.ceiling = np.r_[np.full(10, 0.9), np.zeros(8)]
    responses.save(tmp_path / "responses")
    description: dict[str, Any] = {"name": "small_cnn", "options": {"width": 4}, "classes": ["a", "b"]}
    description |= {"image_shape": [1, SIDE, SIDE], "mean": [0.0], "std": [1 / 255]}
    save(read_brightness(build("small_cnn", 2, (1, SIDE, SIDE), 0, width=4)), tmp_path / "bright", description)
    save(build("small_cnn", 2, (1, SIDE, SIDE), 7, width=4), tmp_path / "untrained", description)
    return tmp_path


def run_measure(folder: Path, student: str = "bright", responses: bool = True, **options: Any) -> dict[str, Any]:
    out = folder / f"measure-{student}"
    out.mkdir(exist_ok=True)
    config = {"eval": {"corruptions": None, "epsilons": [0.0078, 0.4], **options}, "train": {"threads": 1}, "seed": 7}
    inputs = {"images": folder / "images", "student": folder / student}
    measure.run(config, inputs | ({"responses": folder / "responses"} if responses else {}), out, CPU)
    return json.loads((out / "measures.json").read_text())


def test_corruptions_by_family_and_severity(folder: Path) -> None:
    found = run_measure(folder, measures=["robustness"], corruptions=["gaussian_noise", "brightness", "fog"])
    scores = found["robustness"]
    assert scores["clean"] == 1
    assert list(scores["corruptions"]) == ["gaussian_noise", "brightness", "fog"]
    assert scores["corruptions"]["gaussian_noise"] == [1] * 5, "noise leaves the mean as it is"
    brighter = scores["corruptions"]["brightness"]
    assert brighter[0] == 1, "5 % more light lifts nothing over the bound"
    assert brighter[4] == 0.5, "30 % more light makes every dark picture a bright one"
    assert scores["families"].keys() == {"noise", "weather"}
    weather = np.mean([scores["corruptions"][name] for name in ("brightness", "fog")], 0)
    assert scores["families"]["weather"] == pytest.approx(weather.tolist())
    assert scores["mean"] == pytest.approx(np.mean(list(scores["corruptions"].values())))
    assert "fgsm" not in scores
    assert (found["skipped"], found["notes"]) == ({}, [])


def test_all_corruptions_where_none_is_named(folder: Path) -> None:
    scores = run_measure(folder, measures=["robustness"])["robustness"]
    assert len(scores["corruptions"]) == 15
    assert {family: len(values) for family, values in scores["families"].items()} == dict.fromkeys(
        ("noise", "blur", "weather", "digital"), 5
    )


def test_students_of_one_call_see_what_each_alone_would_see(folder: Path) -> None:
    options = {"measures": ["robustness", "attacks"], "corruptions": ["impulse_noise", "snow"], "epsilons": [0.02]}
    alone = [run_measure(folder, student, **options) for student in ("bright", "untrained")]
    config = {"eval": options, "train": {"threads": 1}, "seed": 7}
    inputs = [{"images": folder / "images", "student": folder / name} for name in ("bright", "untrained", "bright")]
    outs = [folder / "together-0", folder / "together-1", None]
    for out in outs[:2]:
        out.mkdir()
    measure.run_together([config] * 3, inputs, outs, CPU)
    assert [json.loads((out / "measures.json").read_text()) for out in outs[:2]] == alone


def test_attacks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("braindistill.verdict.robustness._ATTACKED", 10)
    scores = run_measure(folder, measures=["attacks"])["robustness"]
    assert (scores["clean"], scores["attacked"]) == (1, 1)
    for attack in ("fgsm", "pgd"):
        assert list(scores[attack]) == ["0.0078", "0.4"]
        assert scores[attack]["0.0078"] == 1, "two grey levels are not enough"
        assert scores[attack]["0.4"] == 0, "all pixels moved by 102 levels make the other class of every picture"


def test_brain_score_of_what_voxels_follow_and_of_noise(folder: Path) -> None:
    found = run_measure(folder, measures=["brain_score"])
    scores = found["brain_score"]
    assert list(scores) == ["V1", "noise", "one"]
    assert scores["V1"]["r"] > 0.9
    assert abs(scores["noise"]["r"]) < 0.3
    assert scores["V1"]["normalised_r"] == pytest.approx(scores["V1"]["r"] / np.sqrt(0.9), rel=0.02)
    assert scores["noise"]["normalised_r"] is None, "its ceiling is zero"
    low, high = scores["V1"]["rsa_ceiling"]
    assert 0.3 < low < high <= 1
    assert -0.3 < scores["noise"]["rsa_ceiling"][0] < 0.3
    assert (scores["one"]["rsa"], scores["one"]["rsa_ceiling"]) == (None, None), "one voxel has no correlation distance"
    assert "trained on 60 of the 60 stimuli" in found["notes"][0]
    untrained = run_measure(folder, "untrained", measures=["brain_score"])["brain_score"]
    for roi, score in untrained.items():
        assert score["r"] == score["untrained_r"], "the untrained network of the student's own seed"
        assert score["untrained_r"] == scores[roi]["untrained_r"]


def test_matrices_lie_beside_brain_scores(folder: Path) -> None:
    responses = Responses.load(folder / "responses")
    dark = np.asarray(responses.images).mean((1, 2, 3)) < 100  # type: ignore[arg-type]
    names = dict(zip(responses.image_id.tolist(), np.where(dark, "dark", "bright").tolist(), strict=True))  # type: ignore[union-attr]
    responses.label = np.array([names[stimulus] for stimulus in responses.stimulus_id.tolist()])
    responses.responses = np.array(responses.responses)
    responses.save(folder / "responses")
    run_measure(folder, measures=["attacks"])
    assert not (folder / "measure-bright" / "rdms.npz").exists()
    run_measure(folder, measures=["brain_score"])
    with np.load(folder / "measure-bright" / "rdms.npz") as stored:
        found = {name: stored[name] for name in stored.files}
    assert set(found) == {"stimuli", "labels", "student", "roi/V1", "roi/noise"}, "one voxel has none"
    assert found["labels"].tolist() == ["bright"] * 30 + ["dark"] * 30
    assert [names[stimulus] for stimulus in found["stimuli"].tolist()] == found["labels"].tolist()
    across, inside = found["roi/V1"][:30, 30:].mean(), found["roi/V1"][:30, :30].mean()
    assert across > inside + 0.5, "V1 follows brightness"


def test_brain_score_prefers_stimuli_that_the_student_was_not_trained_on(folder: Path) -> None:
    image_set = ImageSet.load(folder / "images")
    stimuli = image_set.train_ids[:60].tolist()
    roles = {"n_train": 4, "n_pool": 2, "n_val": 0, "labels_matched": False}
    assert len(set(stimuli) & set(image_set.train_ids[split(image_set, stimuli, 7, **roles).labelled])) == 4
    out = folder / "out"
    out.mkdir()
    config = {"eval": {"measures": ["brain_score"]}, "train": {"threads": 1}, "images": roles, "seed": 7}
    inputs = {name: folder / name for name in ("images", "responses")} | {"student": folder / "bright"}
    measure.run(config, inputs, out, CPU)
    found = json.loads((out / "measures.json").read_text())
    assert found["notes"] == []
    assert found["brain_score"]["V1"]["r"] > 0.9


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"images": None, "image_id": None}, "no pictures of the stimuli"),
        ({"few": 10}, "only 10 stimuli have a picture and responses"),
        (None, "no fMRI responses"),
    ],
)
def test_brain_score_is_skipped_with_the_reason(folder: Path, change: dict[str, Any] | None, reason: str) -> None:
    if change:
        responses = Responses.load(folder / "responses")
        if "few" in change:
            responses = responses.without(responses.image_id[change["few"] :])  # type: ignore[index]
        else:
            responses.images = responses.image_id = None
        responses.responses = np.array(responses.responses)
        responses.save(folder / "responses")
    found = run_measure(folder, responses=change is not None, measures=["brain_score", "attacks"])
    assert "brain_score" not in found
    assert reason in found["skipped"]["brain_score"]
    assert found["robustness"]["clean"] == 1, "the other measures are there"


def test_single_trials_have_no_ceiling_of_resemblance(folder: Path) -> None:
    responses = Responses.load(folder / "responses")
    first = Responses(
        np.array(responses.responses[:60]),
        responses.stimulus_id[:60],
        rois={"V1": responses.rois["V1"]},
        images=responses.images,
        image_id=responses.image_id,
    )
    first.save(folder / "responses")
    scores = run_measure(folder, measures=["brain_score"])["brain_score"]["V1"]
    assert scores["rsa_ceiling"] is None
    assert scores["normalised_r"] is None
    assert scores["rsa"] is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"measures": ["robustness"], "corruptions": ["fogg"]},
            "eval.corruptions: .*did you mean 'fog'",
        ),
        ({"measures": ["robustness"], "corruptions": []}, "eval.corruptions=.*name at least one"),
        ({"measures": ["attacks"], "epsilons": [-0.1]}, "eval.epsilons=.*above 0"),
    ],
)
def test_unfit_options_are_one_line(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        run_measure(folder, **options)
    assert "\n" not in str(refused.value)


def test_predictions_of_test_and_validation_images(folder: Path) -> None:
    out = folder / "predicted"
    out.mkdir()
    inputs = {"images": folder / "images", "student": folder / "untrained"}
    (folder / "untrained" / "metrics.jsonl").write_text('{"epoch": 1.0, "loss": 0.5}\n')
    predict.run({"train": {"threads": 1}}, inputs, out, CPU)
    assert {file.name for file in out.iterdir()} == {"log_probabilities.npy", "test_images.json", "metrics.jsonl"}
    image_set = ImageSet.load(folder / "images")
    rows = np.load(out / "log_probabilities.npy")
    expected = load(folder / "untrained").log_probabilities(image_set.test_images, "cpu", 64)
    np.testing.assert_allclose(rows, expected, atol=1e-5)
    roles = {"n_train": 8, "n_pool": 0, "n_val": 12, "labels_matched": False}
    predict.run({"images": roles, "seed": 3, "train": {"threads": 1}}, inputs, out, CPU)
    val = split(image_set, image_set.train_ids[:60].tolist(), 3, **roles).val
    expected = load(folder / "untrained").log_probabilities(image_set.train_images[val], "cpu", 64)
    np.testing.assert_allclose(np.load(out / "val_log_probabilities.npy"), expected, atol=1e-5)
    assert np.load(out / "val_labels.npy").tolist() == image_set.train_labels[val].tolist()
    assert (out / "metrics.jsonl").read_text() == (folder / "untrained" / "metrics.jsonl").read_text()

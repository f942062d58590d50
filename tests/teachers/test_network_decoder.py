"""Networks as decoders: the same bits, settings chosen inside, and voxels that may come in any order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from braindistill.errors import UserError
from braindistill.runtime import Runtime
from braindistill.teachers import network_decoder
from braindistill.teachers.network_decoder import NetworkDecoder, fit_network_decoder
from braindistill.teachers.options import DecoderOptions
from braindistill.teachers.voxel_layout import voxel_layout

KINDS = ["mlp", "resnet1d"]


def trials(n: int, seed: int = 0, voxels: int = 24, n_classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Classes differ in how their pattern waves along the voxels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    waves = np.sin(np.outer(np.arange(1, n_classes + 1), np.arange(voxels)))
    return (500 + 3 * (2 * waves[labels] + rng.normal(size=(n, voxels)))).astype(np.float32), labels


def fit(
    kind: str, responses: np.ndarray, labels: np.ndarray, n_classes: int = 2, epochs: int = 6, **more: Any
) -> NetworkDecoder:
    rates, width = more.pop("lr", (0.003, 0.01)), more.pop("width", 4)
    options = DecoderOptions(decoder=kind, width=width, epochs=epochs, lr=rates)  # type: ignore[arg-type]
    return fit_network_decoder(options, responses, labels, n_classes, **more)


@pytest.mark.parametrize("kind", KINDS)
def test_it_decodes_what_is_there(kind: str) -> None:
    model = fit(kind, *trials(400), width=8, lr=(0.01,), epochs=12, seed=3)
    responses, labels = trials(200, 1)
    rows = model.predict(responses)
    assert (rows.argmax(1) == labels).mean() > 0.9
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.exp(rows).sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_bits(kind: str) -> None:
    data, (new, _) = trials(40), trials(10, 1)
    first = fit(kind, *data, seed=3)
    torch.rand(5)
    second = fit(kind, *data, seed=3)
    for name, value in first.arrays().items():
        np.testing.assert_array_equal(value, second.arrays()[name])
    assert first.describe() == second.describe()
    np.testing.assert_array_equal(first.predict(new), second.predict(new))
    assert not np.array_equal(fit(kind, *data, seed=4).predict(new), first.predict(new))


@pytest.mark.parametrize("kind", KINDS)
def test_rate_and_epochs_are_chosen_on_groups_held_out_inside(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    responses, labels = trials(60)
    runs = np.repeat(np.arange(6), 10)
    calls: list[dict[str, Any]] = []
    scores = {0.003: [-5.0, -2.0, -3.0, -4.0], 0.01: [-6.0, -7.0, -1.0, -2.0], 0.02: [-9.0, -9.0, -9.0, -9.0]}

    def spy(learners: Any, runtime: Any, options: Any, stop: Any) -> Any:
        (learner,) = learners
        known = {"data": learner.data, "validation": learner.validation}
        calls.append(known | {"stop": stop, "lr": options.lr, "epochs": options.epochs})
        return [[{"val_log_likelihood": score} for score in scores[options.lr]]]

    monkeypatch.setattr(network_decoder, "train", spy)
    model = fit(kind, responses, labels, epochs=4, lr=(0.003, 0.01, 0.02), groups=runs)
    *inner, last = calls
    assert [call["lr"] for call in inner] == [0.003, 0.01, 0.02]
    assert (last["lr"], last["stop"], last["epochs"]) == (0.01, 3, 4), "the best rate, along the same schedule"
    assert last["validation"] is None
    assert len(last["data"].images) == 60
    assert {len(call["data"].images) for call in inner} == {50}
    assert {len(call["validation"].images) for call in inner} == {10}
    assert model.describe()["lr"] == 0.01
    assert model.describe()["epochs"] == 3
    # each trial that is held out inside belongs to one run, and none of it was trained on or scaled by
    inputs = inner[0]["data"].images
    np.testing.assert_allclose(inputs.mean((0, 1)), 0, atol=1e-5)
    assert abs(inner[0]["validation"].images.mean((0, 1))).max() > 0.01


def test_no_inner_split_is_said_and_the_schedule_runs_to_its_end() -> None:
    responses, labels = trials(20)
    model = fit("mlp", responses, labels, groups=labels, lr=(0.01, 0.003))
    assert model.describe()["selection"].startswith("none: each class lies in one group")
    assert (model.describe()["lr"], model.describe()["epochs"]) == (0.01, 6)
    assert "tried" not in model.describe()


def test_trials_that_are_held_out_have_no_say() -> None:
    """A fold's decoder is the same, whatever the trials that it is asked about, and their labels, are."""
    responses, labels = trials(48)
    runs = np.repeat(np.arange(4), 12)
    poisoned, wrong = responses.copy(), labels.copy()
    poisoned[runs == 2] = 1e6
    wrong[runs == 2] = 1 - wrong[runs == 2]
    rows = [
        fit("mlp", x[runs != 2], y[runs != 2], groups=runs[runs != 2]).predict(responses)
        for x, y in ((responses, labels), (poisoned, wrong))
    ]
    np.testing.assert_array_equal(*rows)


@pytest.mark.parametrize("kind", KINDS)
def test_pure_noise_gives_chance_out_of_fold(kind: str) -> None:
    rng = np.random.default_rng(0)
    right = []
    for draw in range(4):
        responses, labels = rng.normal(size=(60, 15)).astype(np.float32), np.arange(60) % 2
        folds = np.arange(60) // 30
        for k in (0, 1):
            model = fit(kind, responses[folds != k], labels[folds != k], lr=(0.01,), epochs=3, seed=draw)
            right.extend(model.predict(responses[folds == k]).argmax(1) == labels[folds == k])
    assert abs(np.mean(right) - 0.5) < 0.02 + 2 * np.sqrt(0.25 / len(right))


def test_voxels_may_come_in_any_order_where_their_places_are_known() -> None:
    data, (new, _) = trials(40), trials(10, 1)
    coordinates = np.stack([np.arange(24) % 4, np.arange(24) // 4 % 3, np.arange(24) // 12], 1).astype(float)
    rois = {"A": np.arange(24) < 10, "B": np.arange(24) >= 14}
    mixed = np.random.default_rng(0).permutation(24)
    for channels in ("one", "roi"):
        plain = fit("resnet1d", *data, layout=voxel_layout(rois, coordinates, 24, channels))
        moved = voxel_layout({name: mask[mixed] for name, mask in rois.items()}, coordinates[mixed], 24, channels)
        other = fit("resnet1d", data[0][:, mixed], data[1], layout=moved)
        np.testing.assert_array_equal(other.predict(new[:, mixed]), plain.predict(new))


def test_spikes_are_clipped_constant_voxels_ignored_and_absent_classes_floored() -> None:
    responses, labels = trials(40)
    responses[:, 5] = 0.1
    model = fit("mlp", responses, np.array([1, 3])[labels], 4)
    rows = model.predict(responses)
    assert (rows[:, [0, 2]] < -11).all()
    moved = responses.copy()
    moved[:, 5] = 1e4
    np.testing.assert_array_equal(model.predict(moved), rows)
    moved[:, 6] = 1e6
    further = moved.copy()
    further[:, 6] = 1e8
    np.testing.assert_array_equal(model.predict(moved), model.predict(further))


def test_features_are_scaled_together() -> None:
    responses, labels = trials(40)
    responses[:, :12] /= 1000
    model = fit("mlp", responses, labels, together=True)
    assert len(np.unique(model.scale)) == 1
    assert model.scale[0] == pytest.approx(np.sqrt((responses.std(0) ** 2).mean()), rel=1e-4)


def test_the_last_training_is_written_where_asked_for(tmp_path: Path) -> None:
    runtime = Runtime(device="cpu", tensorboard=False)
    model = fit("mlp", *trials(40), folder=tmp_path / "fold0", runtime=runtime)
    assert [file.name for file in tmp_path.rglob("*.*")] == ["metrics.jsonl"]
    lines = (tmp_path / "fold0" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == model.describe()["epochs"]


def test_a_residual_network_goes_on_with_another_subjects_voxels() -> None:
    first = fit("resnet1d", *trials(400), width=8, lr=(0.01,), epochs=12, seed=3)
    before = {name: value.copy() for name, value in first.arrays().items()}
    few = trials(12, 2, voxels=31)
    test, truth = trials(100, 3, voxels=31)
    continued = fit("resnet1d", *few, start=first, width=8, lr=(0.0003,), epochs=2)
    alone = fit("resnet1d", *few, width=8, lr=(0.0003,), epochs=2)
    right = [(model.predict(test).argmax(1) == truth).mean() for model in (continued, alone)]
    assert right[0] > max(right[1], 0.85)
    assert continued.counts.tolist() == [206, 206]
    for name, value in first.arrays().items():
        np.testing.assert_array_equal(value, before[name], err_msg="the older decoder is left as it was")


def test_what_does_not_fit_an_older_decoder_is_refused() -> None:
    first = {kind: fit(kind, *trials(20), epochs=1) for kind in KINDS}
    with pytest.raises(UserError, match=r"older decoder reads 24 voxels, these data have 30: .*resnet1d"):
        fit("mlp", *trials(20, voxels=30), epochs=1, start=first["mlp"])
    with pytest.raises(UserError, match="older decoder tells 2 classes apart, the new labels have 3"):
        fit("resnet1d", *trials(20), 3, epochs=1, start=first["resnet1d"])
    layout = voxel_layout({"A": np.arange(24) < 9}, None, 24, "roi")
    with pytest.raises(UserError, match="older decoder has channels 1, this one 2"):
        fit("resnet1d", *trials(20), epochs=1, start=first["resnet1d"], layout=layout)
    deeper = DecoderOptions(decoder="resnet1d", width=4, depth=34)
    with pytest.raises(UserError, match="older decoder has depth 18, this one 34"):
        fit_network_decoder(deeper, *trials(20), 2, start=first["resnet1d"])

"""One loop, the same bits: for the same seed, after an interruption, and whatever an arm learns from."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from braindistill.errors import UserError
from braindistill.runtime import Runtime, seeded
from braindistill.training import (
    Batch,
    Learner,
    TrainingSet,
    TrainOptions,
    Validation,
    batches,
    best_epoch,
    loop,
    train,
)
from braindistill.training.optimisation import rate

RUNTIME = Runtime(device="cpu", tensorboard=False, verbosity=0)
EVERY_EPOCH = dataclasses.replace(RUNTIME, checkpoint_seconds=0.0)


def make_data(n: int = 50, epoch_size: int | None = None, target: bool = False) -> TrainingSet:
    """Pictures that are bright on the left or on the right; the last pixel of each is its number."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 2
    images = torch.randint(0, 120, (n, 1, 8, 8), generator=generator, dtype=torch.uint8)
    images[labels == 0, :, :, :4] += 100
    images[labels == 1, :, :, 4:] += 100
    images[:, 0, 7, 7] = torch.arange(n, dtype=torch.uint8)
    rows = torch.randn(n, 2, generator=generator).log_softmax(1)
    given = torch.rand(n, generator=generator) < 0.7
    return TrainingSet(
        images,
        labels,
        epoch_size or n,
        {"kd": rows} if target else {},
        {"kd": given} if target else {},
        mean=torch.tensor([0.4]),
        std=torch.tensor([0.2]),
    )


def make_network(seed: int = 0) -> nn.Module:
    with seeded(seed, "network"):
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 4, 3, padding=1),
            nn.ReLU(),
            nn.AvgPool2d(4),
            nn.Flatten(),
            nn.Linear(16, 2),
        )


def cross_entropy(logits: Tensor, batch: Batch) -> dict[str, Tensor]:
    return {"label": F.cross_entropy(logits, batch.labels)}


def train_one(
    network: nn.Module,
    data: TrainingSet,
    validation: Validation | None,
    loss: Callable[..., dict[str, Tensor]],
    seed: int,
    folder: Path | None,
    runtime: Runtime,
    **options: Any,
) -> list[dict[str, float]]:
    return train([Learner(network, data, validation, loss, seed, folder)], runtime, TrainOptions(**options))[0]


def fit(
    folder: Path,
    loss: Callable[..., dict[str, Tensor]] = cross_entropy,
    data: TrainingSet | None = None,
    validation: Validation | None = None,
    seed: int = 0,
    runtime: Runtime = RUNTIME,
    **options: Any,
) -> tuple[nn.Module, list[dict[str, float]]]:
    folder.mkdir(exist_ok=True)
    network = make_network()
    chosen = {"epochs": 5, "batch_size": 16, "crop": 1, "flip": True} | options
    return network, train_one(network, data or make_data(), validation, loss, seed, folder, runtime, **chosen)


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def held_out() -> Validation:
    data = make_data(40)
    return Validation(data.images, lambda outputs: (outputs.argmax(1) == data.labels).float().mean().item())


def test_it_learns_and_writes_what_it_did(tmp_path: Path) -> None:
    network, history = fit(tmp_path, epochs=12, validation=held_out(), crop=0, flip=False)
    assert history[-1]["val_accuracy"] > 0.95
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    logged = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert logged == history
    assert [entry["epoch"] for entry in logged] == list(range(1, 13))
    assert set(logged[0]) == {"epoch", "loss", "lr", "seconds", "images_per_second", "memory_mb", "val_accuracy"}
    assert not network.training
    assert not (tmp_path / "checkpoint").exists(), "a short run leaves no checkpoint"
    assert not (tmp_path / "tensorboard").exists()
    assert "val_accuracy" not in fit(tmp_path / "other")[1][0]


def test_tensorboard_events_are_written_where_they_are_wanted(tmp_path: Path) -> None:
    fit(tmp_path, epochs=1, runtime=dataclasses.replace(RUNTIME, tensorboard=True))
    assert list((tmp_path / "tensorboard").glob("events.*"))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_same_seed_gives_the_same_bits(tmp_path: Path, optimizer: str) -> None:
    options = {"optimizer": optimizer, "lr": 0.1 if optimizer == "sgd" else 0.01}
    first, history = fit(tmp_path / "a", **options)
    second, again = fit(tmp_path / "b", **options)
    assert same(first, second)
    assert [entry["loss"] for entry in history] == [entry["loss"] for entry in again]
    other, _ = fit(tmp_path / "c", seed=1, **options)
    assert not same(first, other)


def test_global_generators_have_no_say_and_are_left_alone(tmp_path: Path) -> None:
    first, _ = fit(tmp_path / "a", epochs=2)
    torch.rand(7)
    state = torch.get_rng_state()
    second, _ = fit(tmp_path / "b", epochs=2)
    assert same(first, second)
    assert torch.equal(torch.get_rng_state(), state)


class Interruption(Exception):
    pass


def interrupted(at_step: int) -> Callable[..., dict[str, Tensor]]:
    steps = iter(range(10**9))

    def loss(*batch: Any) -> dict[str, Tensor]:
        if next(steps) == at_step:
            raise Interruption
        return cross_entropy(*batch)

    return loss


CASES: list[dict[str, Any]] = [
    {},
    {"momentum": 0.0},
    {"channels_last": False},
    {"optimizer": "adamw", "lr": 0.01},
    {"select": "validation", "lr": 0.3},
    {"precision": "bf16"},
]


@pytest.mark.parametrize("options", CASES, ids=lambda options: " ".join(map(str, options.values())) or "sgd")
@pytest.mark.parametrize("epoch", [0, 1, 4])
def test_a_run_that_was_interrupted_ends_as_if_it_never_was(
    tmp_path: Path, options: dict[str, Any], epoch: int
) -> None:
    options = {"epochs": 6, "validation": held_out(), **options}
    whole, history = fit(tmp_path / "whole", **options)
    steps_an_epoch = 4  # 50 images in batches of 16
    with pytest.raises(Interruption):
        fit(tmp_path / "cut", interrupted(epoch * steps_an_epoch + 2), runtime=EVERY_EPOCH, **options)
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as log:
        log.write(
            '{"epoch": 6, "loss": 0.1, "lr": 0.0, "seconds": 1.0}\n'
        )  # logged, and lost with the checkpoint after it
    resumed, again = fit(tmp_path / "cut", runtime=EVERY_EPOCH, **options)
    assert same(whole, resumed)
    keys = ("epoch", "loss", "lr", "val_accuracy")
    assert [[entry[key] for key in keys] for entry in again] == [[entry[key] for key in keys] for entry in history]
    logged = [json.loads(line) for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert logged == again


def test_a_resumed_run_does_not_repeat_what_was_done(tmp_path: Path) -> None:
    with pytest.raises(Interruption):
        fit(tmp_path, interrupted(4 * 4), runtime=EVERY_EPOCH)
    steps = []

    def counting(*batch: Any) -> dict[str, Tensor]:
        steps.append(1)
        return cross_entropy(*batch)

    fit(tmp_path, counting, runtime=EVERY_EPOCH)
    assert len(steps) == 4, "one epoch of five was left"


def test_checkpoints_are_as_rare_as_asked_for(tmp_path: Path) -> None:
    with pytest.raises(Interruption):
        fit(tmp_path, interrupted(4 * 4), runtime=dataclasses.replace(RUNTIME, checkpoint_seconds=3600.0))
    assert not (tmp_path / "checkpoint").exists()
    network, _ = fit(tmp_path)
    assert same(network, fit(tmp_path / "whole")[0]), "what was logged without a checkpoint is done again"
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 5


@pytest.mark.parametrize("select", ["validation", "test"])
def test_select_keeps_the_best_epoch(tmp_path: Path, select: str) -> None:
    data = make_data(40)
    options = {"validation": held_out(), "lr": 0.5, "epochs": 8, "warmup": 0.0}
    network, history = fit(tmp_path, select=select, **options)
    best = max(history, key=lambda entry: entry["val_accuracy"])
    inputs = (data.images.float() / 255 - 0.4) / 0.2
    with torch.no_grad():
        right = (network(inputs).argmax(1) == data.labels).float().mean().item()
    assert right == pytest.approx(best["val_accuracy"])
    stopped, _ = fit(tmp_path / "last", select="last", **options)
    with torch.no_grad():
        last = (stopped(inputs).argmax(1) == data.labels).float().mean().item()
    assert last == pytest.approx(history[-1]["val_accuracy"])


def scored(*scores: float) -> Validation:
    """Validation with a score for each epoch, whatever the network says."""
    coming = iter(scores)
    return Validation(make_data(4).images, lambda outputs: next(coming), "score")


@pytest.mark.parametrize(
    ("scores", "epochs"),
    [
        ((1, 2, 3, 3, 2, 9), 5),  # no better is as bad as worse
        ((5, 4, 6, 1, 7, 0), 6),
        ((float("nan"), float("nan"), float("nan"), 1), 3),
        ((float("nan"), 1, 0, 0), 4),
    ],
)
def test_patience_ends_a_training_that_gets_no_better(tmp_path: Path, scores: tuple[float, ...], epochs: int) -> None:
    options = {"epochs": len(scores), "select": "validation", "patience": 2}
    network, history = fit(tmp_path, validation=scored(*scores), **options)
    assert len(history) == epochs
    assert [entry["val_score"] for entry in history] == pytest.approx(list(scores[:epochs]), nan_ok=True)
    best = best_epoch(history, "val_score")
    shorter = {**options, "patience": None, "validation": scored(*range(len(scores)))}
    with pytest.raises(Interruption):  # the weights are those at the end of the best epoch
        fit(tmp_path / "cut", interrupted(4 * best), runtime=EVERY_EPOCH, **shorter)
    kept = load_file(tmp_path / "cut" / "checkpoint" / "training.safetensors")
    for name, value in network.state_dict().items():
        assert torch.equal(value, kept[f"network/{name}"])


def test_patience_counts_on_after_an_interruption(tmp_path: Path) -> None:
    options = {"epochs": 9, "patience": 2}
    with pytest.raises(Interruption):
        fit(tmp_path, interrupted(4 * 3 + 1), validation=scored(1, 3, 2), runtime=EVERY_EPOCH, **options)
    _, history = fit(tmp_path, validation=scored(3, 9), runtime=EVERY_EPOCH, **options)
    assert [entry["val_score"] for entry in history] == [1, 3, 2, 3]


def test_float_inputs_are_taken_as_they_are() -> None:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(50, 3, 7, generator=generator)
    inputs[:, 0, 0] = torch.arange(50)
    seen: list[Tensor] = []

    class Spy(nn.Linear):
        def forward(self, rows: Tensor) -> Tensor:
            seen.append(rows)
            return super().forward(rows.flatten(1))

    data = TrainingSet(inputs, torch.arange(50) % 2, 50)
    held = Validation(inputs[:5], lambda outputs: float(outputs.shape[0]), "rows")
    options: dict[str, Any] = {"epochs": 1, "lr": 0.001, "crop": 2, "flip": True}
    history = train_one(Spy(21, 2), data, held, cross_entropy, 0, None, RUNTIME, **options)
    whole = torch.cat(seen[:-1])
    assert torch.equal(whole, inputs[whole[:, 0, 0].long()])
    assert sorted(whole[:, 0, 0].tolist()) == list(range(50))
    assert torch.equal(seen[-1], inputs[:5])
    assert history[0]["val_rows"] == 5


def test_a_training_within_another_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loop, "progress", None)  # it shows none either
    runtime = dataclasses.replace(EVERY_EPOCH, tensorboard=True)
    network = make_network()
    train_one(network, make_data(), held_out(), cross_entropy, 0, None, runtime, epochs=2, select="validation")
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_network_may_return_features_beside_its_logits(tmp_path: Path, precision: str) -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(64, 5), nn.Linear(5, 2)

        def forward(self, images: Tensor) -> tuple[Tensor, tuple[Tensor]]:
            features = self.body(images.flatten(1))
            return self.head(features), (features,)

    shapes = set()

    def loss(outputs: Any, batch: Batch) -> dict[str, Tensor]:
        logits, (features,) = outputs
        shapes.add((logits.dtype, logits.shape[1:], features.dtype, features.shape[1:]))
        return cross_entropy(logits, batch) | {"small": features.pow(2).mean()}

    with seeded(0, "network"):
        network = Both()
    options: dict[str, Any] = {"epochs": 20, "lr": 0.05, "precision": precision}
    history = train_one(network, make_data(), held_out(), loss, 0, tmp_path, RUNTIME, **options)
    assert shapes == {(torch.float32, (2,), torch.float32, (5,))}
    assert history[-1]["val_accuracy"] > 0.9, "scored by its logits"


def test_large_images_are_taken_in_smaller_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = seen_rows(tmp_path / "a", make_data())
    monkeypatch.setattr(batches, "_VALUES", 64 * 32)
    sizes = []
    plain = batches.normalise
    monkeypatch.setattr(batches, "normalise", lambda images, *rest: sizes.append(len(images)) or plain(images, *rest))
    assert seen_rows(tmp_path / "b", make_data()) == whole
    assert sizes == [32, 18] * 2


def seen_rows(folder: Path, data: TrainingSet, **options: Any) -> list[list[int]]:
    """Which images each batch holds, from a training that learns nothing."""
    batches: list[list[int]] = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2))

        def forward(self, images: Tensor) -> Tensor:
            numbers = ((images[:, 0, 7, 7] * 0.2 + 0.4) * 255).round().int().tolist()
            batches.append(numbers)
            return self.weight.expand(len(images), 2)

    folder.mkdir(exist_ok=True)
    train_one(Spy(), data, None, cross_entropy, 0, folder, RUNTIME, **{"epochs": 2, "batch_size": 16} | options)
    return batches


def test_the_order_is_the_same_with_and_without_a_target(tmp_path: Path) -> None:
    plain, taught = (seen_rows(tmp_path / str(target), make_data(target=target)) for target in (False, True))
    assert plain == taught
    assert [len(batch) for batch in plain] == [16, 16, 16, 2] * 2
    first, second = ([number for batch in part for number in batch] for part in (plain[:4], plain[4:]))
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second, "another order each epoch"


def test_blocks_of_augmentation_do_not_change_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = seen_rows(tmp_path / "a", make_data())
    monkeypatch.setattr(batches, "_BLOCK", 32)
    assert seen_rows(tmp_path / "b", make_data()) == whole


def test_a_small_set_is_repeated_to_fill_the_epoch(tmp_path: Path) -> None:
    batches = seen_rows(tmp_path / "a", make_data(10, epoch_size=25), batch_size=10, epochs=1)
    assert [len(batch) for batch in batches] == [10, 10, 5]
    assert sorted(batches[0]) == sorted(batches[1]) == list(range(10)), "every image once before any again"
    assert len(set(batches[2])) == 5


def test_a_last_batch_of_a_single_image_is_left_out(tmp_path: Path) -> None:
    assert [len(batch) for batch in seen_rows(tmp_path / "a", make_data(33), epochs=1)] == [16, 16]
    assert [len(batch) for batch in seen_rows(tmp_path / "b", make_data(34), epochs=1)] == [16, 16, 2]
    assert [len(batch) for batch in seen_rows(tmp_path / "c", make_data(5), epochs=1, batch_size=5)] == [5]


def test_the_loss_gets_the_rows_of_its_images(tmp_path: Path) -> None:
    data = make_data(target=True)
    seen, epochs = torch.zeros(50, dtype=torch.bool), set()

    def loss(logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        epochs.add(batch.epoch)
        rows = zip(batch.rows, batch.labels, batch.targets["kd"], batch.has_target["kd"], strict=True)
        for place, label, row, given in rows:
            assert torch.equal(data.targets["kd"][place], row)
            assert data.labels[place] == label
            assert data.has_target["kd"][place] == given
            seen[place] = True
        return cross_entropy(logits, batch)

    fit(tmp_path, loss, data, epochs=2)
    assert seen.all()
    assert epochs == {0, 1}


def factor(step: int, total: int, warmup: float) -> float:
    return rate(step, 1, TrainOptions(epochs=total, warmup=warmup))


def test_the_rate_rises_linearly_and_falls_along_a_cosine(tmp_path: Path) -> None:
    values = [factor(step, 100, 0.1) for step in range(100)]
    assert values[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert values[10] == 1.0
    assert values[55] == pytest.approx(0.5)
    assert values[99] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert values[10:] == sorted(values[10:], reverse=True)
    assert [factor(step, 4, 0.0) for step in (0, 2)] == pytest.approx([1.0, 0.5])
    _, history = fit(tmp_path, epochs=3, lr=0.2, warmup=0.0)
    assert history[0]["lr"] == pytest.approx(0.2 * factor(3, 12, 0.0)), "that of the epoch's last step"


def test_a_diverging_loss_is_said_and_leaves_no_checkpoint(tmp_path: Path) -> None:
    def loss(*batch: Any) -> dict[str, Tensor]:
        return {"label": cross_entropy(*batch)["label"] * float("nan")}

    data = make_data()
    data.names = [f"picture-{number}" for number in range(50)]
    where = r"in epoch 1, step 1, seed 0 \(images picture-\d+, picture-\d+, picture-\d+ …\)"
    with pytest.raises(UserError, match=rf"training diverged: the loss \(label\) is nan {where}; lower train\.lr=0\.1"):
        fit(tmp_path, loss, data, runtime=EVERY_EPOCH)
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp16"}, r"train\.precision=fp16 needs a CUDA device"),
        ({"select": "validation"}, r"train\.select=validation needs validation images"),
        ({"select": "test"}, r"train\.select=test needs validation images"),
        ({"patience": 3}, r"train\.patience=3 needs validation images"),
        ({"patience": 0, "validation": held_out()}, r"train\.patience=0: must be at least 1"),
        ({"epochs": 0}, r"train\.epochs=0"),
        ({"batch_size": 0}, r"train\.batch_size=0"),
        ({"batch_size": 51}, r"train\.batch_size=51: an epoch has only 50 images; take at most 50"),
        ({"ema": 1.0}, r"train\.ema=1.0: must be at least 0 and below 1"),
        ({"clip": 0.0}, r"train\.clip=0.0: must be positive"),
        ({"schedule": "step"}, r"train\.schedule=step needs train\.milestones"),
    ],
)
def test_impossible_options_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        fit(tmp_path, **options)


def test_half_precision_runs_the_network_and_not_the_loss(tmp_path: Path) -> None:
    kinds = set()

    class Watched(nn.Sequential):
        def forward(self, images: Tensor) -> Tensor:
            logits = super().forward(images)
            kinds.add(("logits", logits.dtype))
            return logits

    def loss(logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        kinds.add(("loss", logits.dtype))
        return cross_entropy(logits, batch)

    network = Watched(nn.Flatten(), nn.Linear(64, 2))
    history = train_one(network, make_data(), None, loss, 0, tmp_path, RUNTIME, epochs=2, precision="bf16")
    assert kinds == {("logits", torch.bfloat16), ("loss", torch.float32)}
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
    assert math.isfinite(history[-1]["loss"])


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_memory_format_is_as_asked_for(tmp_path: Path, channels_last: bool) -> None:
    layouts = []

    class Watched(nn.Sequential):
        def forward(self, images: Tensor) -> Tensor:
            layouts.append(images.is_contiguous(memory_format=torch.channels_last))
            layouts.append(images.is_contiguous())
            return super().forward(images)

    network = Watched(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2))
    data = make_data()
    data.images = data.images.expand(-1, 3, -1, -1)
    data.mean, data.std = torch.full((3,), 0.4), torch.full((3,), 0.2)
    train_one(network, data, None, cross_entropy, 0, tmp_path, RUNTIME, epochs=1, channels_last=channels_last)
    assert layouts[:2] == [channels_last, not channels_last]
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last) == channels_last


def test_weight_decay_and_momentum_reach_the_optimiser(tmp_path: Path) -> None:
    """Against torch's own loop, without augmentation."""
    data = make_data(32)
    network, _ = fit(
        tmp_path, data=data, epochs=2, batch_size=32, crop=0, flip=False, lr=0.1, momentum=0.8, weight_decay=0.01,
        warmup=0.0, channels_last=False,
    )  # fmt: skip
    reference = make_network()
    rule = torch.optim.SGD(reference.parameters(), 0.1, 0.8, weight_decay=0.01, nesterov=True)
    inputs = (data.images.float() / 255 - 0.4) / 0.2
    reference.train()
    for step in range(2):
        rule.param_groups[0]["lr"] = 0.1 * factor(step, 2, 0.0)
        loss = F.cross_entropy(reference(inputs), data.labels)
        rule.zero_grad()
        loss.backward()
        rule.step()
    for ours, theirs in zip(network.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"lr": 0.05},
            r"a checkpoint of another training \(lr=0.1, and this one has lr=0.05\); remove it to start anew",
        ),
        ({"seed": 1}, r"a checkpoint of another training \(seeds=\[0\], and this one has seeds=\[1\]\)"),
        ({"ema": 0.5}, r"a checkpoint of another training \(ema=0.0, and this one has ema=0.5\)"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(Interruption):
        fit(tmp_path, interrupted(6), runtime=EVERY_EPOCH)
    before = (tmp_path / "checkpoint" / "training.safetensors").read_bytes()
    with pytest.raises(UserError, match=message):
        fit(tmp_path, **change)
    assert (tmp_path / "checkpoint" / "training.safetensors").read_bytes() == before


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Interruption):
        fit(tmp_path, interrupted(6), runtime=EVERY_EPOCH)
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    options = {"epochs": 5, "batch_size": 16, "crop": 1, "flip": True}
    with pytest.raises(UserError, match=r"training\.safetensors: a checkpoint of another network"):
        train_one(other, make_data(), None, cross_entropy, 0, tmp_path, RUNTIME, **options)


MORE_CASES: list[dict[str, Any]] = [
    {"ema": 0.9},
    {"sam": 0.05},
    {"accumulate": 3},
    {"mixup": 0.4, "cutmix": 1.0, "cutout": 2, "colour": 0.2, "zoom": 0.6, "rand_augment": 1},
    {"clip": 0.1, "schedule": "step", "milestones": [2, 4]},
]


@pytest.mark.parametrize("options", MORE_CASES, ids=lambda options: " ".join(options))
def test_every_option_survives_an_interruption_within_an_epoch(tmp_path: Path, options: dict[str, Any]) -> None:
    whole, history = fit(tmp_path / "whole", **options)
    with pytest.raises(Interruption):
        # accumulated batches call the loss three times a step, sharpness-aware ones twice
        fit(tmp_path / "cut", interrupted(11), runtime=EVERY_EPOCH, **options)
    resumed, again = fit(tmp_path / "cut", runtime=EVERY_EPOCH, **options)
    assert same(whole, resumed)
    assert [entry["loss"] for entry in again] == [entry["loss"] for entry in history]


def test_terms_are_logged_by_name_and_their_sum_is_minimised(tmp_path: Path) -> None:
    def loss(logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        return cross_entropy(logits, batch) | {"size": 0.01 * logits.square().mean()}

    network, history = fit(tmp_path / "both", loss)
    assert {"loss_label", "loss_size"} <= set(history[0])
    for entry in history:
        assert entry["loss"] == pytest.approx(entry["loss_label"] + entry["loss_size"])
    assert not same(network, fit(tmp_path / "one")[0])
    assert "loss_label" not in fit(tmp_path / "other")[1][0], "a single term is the loss"


def test_a_loss_that_remembers_is_told_after_each_step(tmp_path: Path) -> None:
    class Remembering:
        def __init__(self) -> None:
            self.calls: list[str] = []

        def __call__(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
            self.calls.append(f"loss {batch.step}")
            return cross_entropy(logits, batch)

        def finish(self, batch: Batch) -> None:
            self.calls.append(f"finish {batch.step}")

    loss = Remembering()
    fit(tmp_path, loss, epochs=1)
    assert loss.calls == [f"{what} {step}" for step in range(4) for what in ("loss", "finish")]

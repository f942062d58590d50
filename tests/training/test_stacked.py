"""Several seeds as one network: what each learns is what it would learn on its own."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from braindistill.errors import UserError
from braindistill.runtime import Runtime, torch_generator
from braindistill.students.build import build
from braindistill.training import Batch, Learner, TrainingSet, TrainOptions, Validation, train, why_apart

RUNTIME = Runtime(device="cpu", tensorboard=False, verbosity=0)
OPTIONS = TrainOptions(epochs=2, batch_size=8, crop=1, flip=True)


def loss(outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
    label = F.cross_entropy(outputs, batch.labels)
    soft = F.kl_div(outputs.log_softmax(1), batch.targets["kd"], reduction="batchmean", log_target=True)
    return {"label": label, "kd": 0.5 * soft}


def make_learner(seed: int, folder: Path | None = None, n: int = 40) -> Learner:
    generator = torch_generator(seed, "test")
    images = torch.randint(256, (n, 3, 8, 8), generator=generator, dtype=torch.uint8)
    rows = torch.randn(n, 4, generator=generator, dtype=torch.float64).log_softmax(1)
    half = torch.full((3,), 0.5)
    data = TrainingSet(images, torch.arange(n) % 4, 40, {"kd": rows}, mean=half, std=half)
    held = Validation(images[:12], lambda outputs: float((outputs.argmax(1) == torch.arange(12) % 4).float().mean()))
    if folder is not None:
        folder.mkdir()
    return Learner(build("small_cnn", 4, (3, 8, 8), seed, width=4), data, held, loss, seed, folder)


def weights(learner: Learner) -> dict[str, Tensor]:
    return learner.network.state_dict()


def far(one: Learner, other: Learner) -> float:
    pairs = zip(weights(one).values(), weights(other).values(), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)


def test_in_double_precision_a_stack_ends_where_each_seed_ends_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten steps through the loop, BatchNorm included: augmentation, targets, schedule and momentum are each seed's own."""
    monkeypatch.setattr("braindistill.training.loop._float32", lambda outputs: outputs)
    monkeypatch.setattr("braindistill.training.batches.normalise", lambda x, m, s: (x.double() / 255 - 0.5) / 0.5)
    alone, together = ([make_learner(seed) for seed in range(4)] for _ in range(2))
    for learner in (*alone, *together):
        learner.network.double()
    one_by_one = train(alone, RUNTIME, OPTIONS, stacked=False)
    at_once = train(together, RUNTIME, OPTIONS, stacked=True)
    assert max(map(far, alone, together)) < 1e-10
    for first, second in zip(one_by_one, at_once, strict=True):
        for name in ("loss", "loss_label", "loss_kd", "val_accuracy"):
            assert [entry[name] for entry in first] == pytest.approx([entry[name] for entry in second], abs=1e-10)
    assert min(far(together[0], other) for other in together[1:]) > 1e-3


def test_on_its_own_it_decides_by_arithmetic() -> None:
    stacked, chosen, alone = ([make_learner(seed) for seed in range(3)] for _ in range(3))
    train(stacked, RUNTIME, OPTIONS, stacked=True)
    train(chosen, RUNTIME, OPTIONS)
    train(alone, RUNTIME, dataclasses.replace(OPTIONS, clip=1e9))
    assert max(map(far, stacked, chosen)) == 0, "a small network is stacked"
    single = make_learner(1)
    train([single], RUNTIME, dataclasses.replace(OPTIONS, clip=1e9))
    assert far(alone[1], single) == 0, "clipping is of one network, so they go one after another"


@pytest.mark.parametrize("option", [{"patience": 1}, {"clip": 1.0}, {"sam": 0.1}, {"precision": "fp16"}])
def test_what_would_mix_seeds_keeps_them_apart(option: dict[str, object]) -> None:
    learners = [make_learner(seed) for seed in range(2)]
    assert why_apart(learners, OPTIONS) is None
    assert next(iter(option)) in str(why_apart(learners, dataclasses.replace(OPTIONS, **option)))
    other = make_learner(3)
    other.data.epoch_size = 30
    assert why_apart([learners[0], other], OPTIONS)


def test_each_writes_its_own_history_and_the_best_is_each_ones_own(tmp_path: Path) -> None:
    learners = [make_learner(seed, tmp_path / str(seed)) for seed in range(3)]
    options = dataclasses.replace(OPTIONS, epochs=6, select="validation", lr=0.3)
    histories = train(learners, RUNTIME, options, stacked=True)
    for learner, history in zip(learners, histories, strict=True):
        logged = [json.loads(line) for line in (learner.folder / "metrics.jsonl").read_text().splitlines()]
        assert logged == history
        with torch.no_grad():
            inputs = (learner.validation.images.float() / 255 - 0.5) / 0.5
            score = learner.validation.score(learner.network.eval()(inputs))
        assert score == pytest.approx(max(entry["val_accuracy"] for entry in history))
    assert histories[0] != histories[1]


def test_a_stack_goes_on_after_an_interruption(tmp_path: Path) -> None:
    whole = [make_learner(seed) for seed in range(2)]
    train(whole, RUNTIME, OPTIONS, stacked=True)
    often = dataclasses.replace(RUNTIME, checkpoint_seconds=0.0)
    cut = [make_learner(seed, tmp_path / str(seed)) for seed in range(2)]
    steps = iter(range(100))

    def failing(outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        if next(steps) == 14:
            raise RuntimeError("cut")
        return loss(outputs, batch)

    with pytest.raises(RuntimeError, match="cut"):
        train([dataclasses.replace(each, loss=failing) for each in cut], often, OPTIONS, stacked=True)
    again = [dataclasses.replace(make_learner(each.seed), folder=each.folder) for each in cut]
    train(again, often, OPTIONS, stacked=True)
    assert max(map(far, whole, again)) == 0


def test_networks_that_differ_are_refused() -> None:
    learners = [make_learner(0), make_learner(1)]
    learners[1].network = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    with pytest.raises(UserError, match="same architecture"):
        train(copy.deepcopy(learners), RUNTIME, OPTIONS, stacked=True)

"""What a batch holds: its images, moved, viewed and mixed, and beside them what belongs to them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from braindistill.images import draw_views, move
from braindistill.training import Batch, Batches, TrainingSet, TrainOptions

CPU = torch.device("cpu")
N, SIDE = 30, 8


def make_data(**parts: Any) -> TrainingSet:
    """Pictures of random pixels; the labels are the numbers of the images."""
    images = torch.randint(1, 256, (N, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    none = {"mean": torch.zeros(3), "std": torch.ones(3)}
    return TrainingSet(images, torch.arange(N), N, **{**none, **parts})


def batches(data: TrainingSet, epoch: int = 0, done: int = 0, **options: Any) -> list[Batch]:
    chosen = TrainOptions(**{"batch_size": 7} | options)
    return list(Batches(data, chosen, 5, CPU).epoch(epoch, done))


def pixels(batch: Batch) -> Tensor:
    return (batch.inputs * 255).round().to(torch.uint8)


EVERYTHING = {
    "crop": 2,
    "flip": True,
    "zoom": 0.5,
    "cutout": 3,
    "colour": 0.3,
    "rand_augment": 2,
    "mixup": 0.4,
    "cutmix": 1.0,
}


@pytest.mark.parametrize("done", [1, 3, 4])
@pytest.mark.parametrize("block", [7, 14, 4096])
def test_the_rest_of_an_epoch_is_what_it_would_have_been(
    monkeypatch: pytest.MonkeyPatch, done: int, block: int
) -> None:
    """Whatever is augmented at once, and however much of it was done before a training was killed."""
    monkeypatch.setattr("braindistill.training.batches._BLOCK", block)
    data = make_data(targets={"kd": torch.randn(N, 4).log_softmax(1)}, log_targets=frozenset({"kd"}))
    whole, rest = (batches(data, 3, number, **EVERYTHING) for number in (0, done))
    assert [batch.step for batch in rest] == [3 * 5 + number for number in range(done, 5)]
    for one, other in zip(whole[done:], rest, strict=True):
        for field in dataclasses.fields(Batch):
            ours, theirs = getattr(one, field.name), getattr(other, field.name)
            if isinstance(ours, dict):
                assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
            else:
                assert torch.equal(ours, theirs) if isinstance(ours, Tensor) else ours == theirs


def test_a_view_comes_with_its_target() -> None:
    options = {"crop": 2, "flip": True}
    data = make_data()
    views = draw_views(N, SIDE, SIDE, 3, 0, **options)
    data.views, data.viewed = views, frozenset({"kd"})
    number = torch.arange(N)[:, None] * 10 + torch.arange(3)
    data.targets = {"kd": number[:, :, None].float(), "rdm": torch.arange(N)}
    seen = set()
    for epoch in range(6):
        for batch in batches(data, epoch, **options):
            view = (batch.targets["kd"][:, 0] % 10).long()
            assert torch.equal(batch.targets["kd"][:, 0].long() // 10, batch.rows)
            assert torch.equal(batch.targets["rdm"], batch.rows)
            assert torch.equal(pixels(batch), move(data.images[batch.rows], views.take(view * N + batch.rows)))
            seen |= set(zip(batch.rows.tolist(), view.tolist(), strict=True))
    assert len(seen) > 0.8 * 3 * N, "every epoch takes another view of an image"


def test_a_map_moves_with_its_image() -> None:
    data = make_data(maps=frozenset({"mask"}))
    assert isinstance(data.images, Tensor)
    data.targets = {"mask": data.images[:, 0].float()}
    for batch in batches(data, crop=3, flip=True):
        assert torch.equal(batch.targets["mask"], (batch.inputs[:, 0] * 255).round())


def test_mixed_images_have_mixed_targets_and_both_labels() -> None:
    rows = torch.randn(N, 5).log_softmax(1)
    data = make_data(
        targets={"kd": rows, "voxels": torch.arange(N).float()[:, None]},
        has_target={"voxels": torch.arange(N) % 3 > 0},
        log_targets=frozenset({"kd"}),
    )
    shares = set()
    for batch in batches(data, mixup=0.5):
        assert batch.partner is not None
        own, other, share = data.images[batch.rows], data.images[batch.partner], batch.share
        shares.add(share)
        expected = (share * own.double() + (1 - share) * other.double()) / 255
        torch.testing.assert_close(batch.inputs.double(), expected, rtol=0, atol=1e-6)
        mixed = share * rows[batch.rows].exp() + (1 - share) * rows[batch.partner].exp()
        torch.testing.assert_close(batch.targets["kd"].exp(), mixed)
        numbers = share * batch.rows.float() + (1 - share) * batch.partner.float()
        torch.testing.assert_close(batch.targets["voxels"][:, 0], numbers)
        assert torch.equal(batch.has_target["voxels"], (batch.rows % 3 > 0) & (batch.partner % 3 > 0))
    assert len(shares) == 5


def test_a_memory_map_gives_the_same_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data()
    assert isinstance(data.images, Tensor)
    np.save(tmp_path / "images.npy", data.images.numpy())
    mapped = dataclasses.replace(data, images=np.load(tmp_path / "images.npy", mmap_mode="r"))
    for options in ({}, {"crop": 2, "flip": True}):
        plain = batches(data, **options)
        for room in (0, 2**20):
            monkeypatch.setattr("braindistill.images.bank._ROOM", room)
            for one, other in zip(plain, batches(mapped, **options), strict=True):
                assert torch.equal(one.inputs, other.inputs)


def test_a_part_of_a_batch_keeps_what_belongs_to_it() -> None:
    data = make_data(targets={"kd": torch.arange(N)}, has_target={"kd": torch.arange(N) > 3})
    batch = batches(data, mixup=0.5)[0]
    part = batch[2:5]
    assert torch.equal(part.rows, batch.rows[2:5])
    assert torch.equal(part.inputs, batch.inputs[2:5])
    assert torch.equal(part.targets["kd"], batch.targets["kd"][2:5])
    assert torch.equal(part.has_target["kd"], batch.has_target["kd"][2:5])
    assert part.partner is not None
    assert batch.partner is not None
    assert torch.equal(part.partner, batch.partner[2:5])

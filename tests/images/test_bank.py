from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from braindistill.images import bank as module
from braindistill.images.augmentation import move
from braindistill.images.bank import ImageBank
from braindistill.images.moves import draw_moves


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photographs(n: int, channels: int, height: int, width: int) -> torch.Tensor:
    return torch.randint(1, 256, (n, channels, height, width), generator=generator(1)).to(torch.uint8)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 9), channels=st.sampled_from([1, 3]), height=st.integers(1, 7), width=st.integers(1, 7),
    crop=st.integers(0, 4), flip=st.booleans(), told=st.booleans(), small=st.booleans(), more=st.booleans(),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_takes_what_move_would_make(n, channels, height, width, crop, flip, told, small, more, seed):
    images = photographs(n, channels, height, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_ROOM", 10**6 if small else 0)
        bank = ImageBank(images, "cpu", crop=crop if told else 1, flip=flip and told)
    rows = torch.randint(n, (12,), generator=generator(seed))
    options = {"zoom": 0.5, "cutout": 2, "colour": 0.3, "rand_augment": 1} if more else {}
    moves = draw_moves(12, height, width, generator(seed), crop=crop, flip=flip, **options)
    taken = bank.take(rows, moves)
    assert (len(bank), taken.dtype) == (n, torch.uint8)
    assert torch.equal(taken, move(images[rows], moves))
    assert torch.equal(bank.take(rows, None), images[rows])
    assert torch.equal(bank.take(rows, draw_moves(12, height, width, generator())), images[rows])


@pytest.mark.parametrize("room", [0, 10**6])
def test_a_memory_map_is_read_row_by_row_unless_it_is_small(tmp_path, monkeypatch, room):
    monkeypatch.setattr(module, "_ROOM", room)
    images = photographs(20, 3, 6, 5)
    np.save(tmp_path / "images.npy", images.numpy())
    stored = np.load(tmp_path / "images.npy", mmap_mode="r")
    bank = ImageBank(stored, "cpu", crop=2, flip=True)
    assert bank.nbytes == (2 * 20 * 3 * 10 * 7 + 2 * 3 if room else 0)
    rows = torch.tensor([19, 3, 3, 0, 7])
    moves = draw_moves(5, 6, 5, generator(), crop=2, flip=True)
    assert torch.equal(bank.take(rows, moves), move(images[rows], moves))
    assert torch.equal(bank.take(rows), images[rows])
    assert np.array_equal(stored, images.numpy())


def test_memory_is_what_is_said():
    images = photographs(50, 3, 32, 32)
    small = ImageBank(images, "cpu", crop=4, flip=True)
    assert small.nbytes == pytest.approx(2 * 40 * 36 / 32**2 * images.nbytes, rel=1e-3)
    assert ImageBank(images, "cpu").nbytes == images.nbytes
    large = ImageBank(photographs(8000, 3, 32, 32).repeat(2, 1, 1, 1), "cpu", crop=4, flip=True)
    assert large.nbytes == 16000 * 3 * 32 * 32, "padded copies would be larger than 64 MB"


def test_what_is_taken_is_ones_own():
    images = photographs(5, 3, 6, 6)
    kept = images.clone()
    for crop in (0, 1):
        bank = ImageBank(images, "cpu", crop=crop)
        bank.take(torch.arange(5), draw_moves(5, 6, 6, generator(), crop=crop)).fill_(0)
        bank.take(torch.arange(5)).fill_(0)
        assert torch.equal(bank.take(torch.arange(5)), kept)
        assert torch.equal(images, kept)

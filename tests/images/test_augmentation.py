from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from braindistill.errors import UserError
from braindistill.images.augmentation import augment, channel_statistics, normalise


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(n: int, channels: int, height: int, width: int) -> torch.Tensor:
    return torch.randint(1, 256, (n, channels, height, width), generator=generator(1)).to(torch.uint8)


def one_by_one(images, rng, crop, flip):
    """The same draws, applied to each sample by slicing."""
    n, _, height, width = images.shape
    out = images.clone()
    if crop:
        offsets = torch.randint(2 * crop + 1, (2, n), generator=rng).tolist()
        for row in range(n):
            padded = torch.zeros(images.shape[1], height + 2 * crop, width + 2 * crop, dtype=torch.uint8)
            padded[:, crop : crop + height, crop : crop + width] = images[row]
            top, left = offsets[0][row], offsets[1][row]
            out[row] = padded[:, top : top + height, left : left + width]
    if flip:
        for row, mirrored in enumerate(torch.randint(2, (n, 1, 1, 1), generator=rng).flatten().tolist()):
            if mirrored:
                out[row] = out[row].flip(2)
    return out


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 9), channels=st.sampled_from([1, 3]), height=st.integers(1, 7), width=st.integers(1, 7),
    crop=st.integers(0, 4), flip=st.booleans(), channels_last=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_equals_a_loop_over_samples(n, channels, height, width, crop, flip, channels_last, seed):
    images = batch(n, channels, height, width)
    given_images = images.to(memory_format=torch.channels_last) if channels_last else images
    out = augment(given_images, generator(seed), crop=crop, flip=flip)
    assert out.dtype == torch.uint8
    assert torch.equal(out, one_by_one(images, generator(seed), crop, flip))


def test_every_offset_and_mirror_occurs():
    images = torch.zeros(2000, 1, 3, 3, dtype=torch.uint8)
    images[:, 0, 1, 0] = 1
    moved = augment(images, generator(), crop=1, flip=True).flatten(1)
    seen = {tuple(row) for row in moved.tolist()}
    # The pixel can reach three rows, and with the mirror every column, or leave the image.
    assert len(seen) == 10
    assert torch.equal(augment(images, generator()), images)


@settings(max_examples=30, deadline=None)
@given(crop=st.integers(0, 3), flip=st.booleans(), dtype=st.sampled_from(["float32", "float16", "int64", "bool"]))
def test_a_companion_moves_exactly_as_its_image(crop, flip, dtype):
    images = torch.zeros(50, 3, 6, 5, dtype=torch.uint8)
    masks = torch.zeros(50, 2, 6, 5, dtype=getattr(torch, dtype))
    row, column = torch.randint(6, (50,), generator=generator(2)), torch.randint(5, (50,), generator=generator(3))
    images[torch.arange(50), :, row, column] = 1
    masks[torch.arange(50), 1, row, column] = 1
    moved, (companion,) = augment(images, generator(), crop=crop, flip=flip, companions=[masks])
    assert torch.equal(moved, augment(images, generator(), crop=crop, flip=flip))
    assert companion.dtype == masks.dtype
    assert torch.equal(companion[:, 1].to(torch.uint8), moved[:, 0])
    assert not companion[:, 0].any()


@pytest.mark.parametrize("shape", [(4, 1, 3, 5), (3, 1, 6, 5), (4, 6, 5)])
def test_a_companion_of_another_size_is_refused(shape):
    with pytest.raises(UserError, match=r"4 × K × 6 × 5: bring it to the images' size"):
        augment(batch(4, 3, 6, 5), generator(), crop=1, companions=[torch.zeros(shape)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_normalise_follows_its_formula_in_channels_last(dtype):
    images = batch(4, 3, 5, 6)
    mean, std = [0.1, 0.5, 0.9], [0.2, 0.3, 0.4]
    out = normalise(images, mean, std, dtype)
    expected = (images.double() / 255 - torch.tensor(mean).double().view(3, 1, 1)) / torch.tensor(std).double().view(
        3, 1, 1
    )
    assert out.dtype == dtype
    assert out.is_contiguous(memory_format=torch.channels_last)
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-6, torch.bfloat16: 3e-2}[dtype]
    torch.testing.assert_close(out.double(), expected, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(normalise(images.float(), torch.tensor(mean), torch.tensor(std), dtype), out)


def test_statistics_are_those_of_the_float_images():
    images = batch(20, 3, 5, 6)
    images[:, 2] = 255
    mean, std = channel_statistics(images)
    scaled = images.double() / 255
    torch.testing.assert_close(mean, scaled.mean((0, 2, 3)).float(), rtol=1e-6, atol=0)
    torch.testing.assert_close(std[:2], scaled.std((0, 2, 3), correction=0)[:2].float(), rtol=1e-6, atol=0)
    assert std[2] == 1.0

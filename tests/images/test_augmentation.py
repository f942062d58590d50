from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from braindistill.errors import UserError
from braindistill.images.augmentation import augment, channel_statistics, move, move_maps, normalise
from braindistill.images.bank import ImageBank
from braindistill.images.moves import draw_moves


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


@settings(max_examples=30, deadline=None)
@given(
    crop=st.integers(0, 3), flip=st.booleans(), zoom=st.sampled_from([0.2, 0.7, 1.0]), height=st.integers(1, 9),
    width=st.integers(1, 9), last=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_maps_move_with_their_images_to_the_pixel(crop, flip, zoom, height, width, last, seed):
    images = batch(12, 3, height, width)
    images = images.to(memory_format=torch.channels_last) if last else images
    moves = draw_moves(12, height, width, generator(seed), crop=crop, flip=flip, zoom=zoom)
    moved = move(images, moves)
    assert moved.dtype == torch.uint8
    assert torch.equal(move_maps(images, moves), moved)
    for channel in range(3):
        assert torch.equal(move_maps(images[:, channel : channel + 1], moves), moved[:, channel : channel + 1])
    smooth = move_maps(images.double(), moves)
    torch.testing.assert_close(smooth.round(), moved.double(), atol=1, rtol=0)
    torch.testing.assert_close(smooth, moved.double(), atol=0.51, rtol=0)


def test_maps_keep_out_of_colours_and_erasure():
    images = batch(40, 3, 8, 8)
    flat = draw_moves(40, 8, 8, generator(), flip=True)
    moves = draw_moves(40, 8, 8, generator(), flip=True, cutout=4, colour=0.5)
    assert torch.equal(move_maps(images, moves), move(images, flat))
    assert not torch.equal(move(images, moves), move(images, flat))


def test_names_of_classes_are_not_interpolated():
    maps = torch.randint(2, (30, 1, 9, 9), generator=generator()) * 7
    moves = draw_moves(30, 9, 9, generator(), zoom=0.3, rand_augment=2)
    moved = move_maps(maps, moves)
    assert moved.dtype == torch.int64
    assert moved.unique().tolist() == [0, 7]
    assert torch.equal(move_maps(maps.bool(), moves), moved.bool())


def test_what_is_off_changes_nothing_and_draws_nothing():
    images, rng = batch(5, 3, 6, 7), generator()
    options = {"crop": 0, "flip": False, "zoom": 1.0, "cutout": 0, "colour": 0.0, "rand_augment": 0}
    assert torch.equal(augment(images, rng, **options), images)
    assert torch.equal(rng.get_state(), generator().get_state())


@settings(max_examples=20, deadline=None)
@given(
    options=st.fixed_dictionaries(
        {},
        optional={
            "crop": st.integers(1, 3), "flip": st.just(True), "zoom": st.floats(0.1, 0.9), "cutout": st.integers(1, 9),
            "colour": st.floats(0.1, 1), "rand_augment": st.integers(1, 3), "rand_magnitude": st.integers(0, 30),
        },
    ),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_images_are_moved_each_by_its_own(options, channels, seed):
    images = batch(10, channels, 7, 6)
    moves = draw_moves(10, 7, 6, generator(seed), **options)
    moved = move(images, moves)
    assert (moved.dtype, moved.shape) == (torch.uint8, images.shape)
    assert torch.equal(moved, augment(images, generator(seed), **options)), "the generator says it all"
    chosen = torch.tensor([7, 2, 2, 9])
    assert torch.equal(move(images[chosen], moves.take(chosen)), moved[chosen])


@pytest.mark.parametrize("channels", [1, 3])
def test_draws_stay_on_the_cpu_and_images_where_they_are(channels):
    moves = draw_moves(
        9, 6, 7, generator(), crop=2, flip=True, zoom=0.5, cutout=3, colour=0.4, rand_augment=9, rand_magnitude=20
    )
    # the one other device that every machine has; it has shapes and no values, so waiting for it is an error
    images = batch(9, channels, 6, 7).to("meta")
    assert move(images, moves).device.type == "meta"
    assert move_maps(images.float(), moves).shape == (9, channels, 6, 7)
    assert ImageBank(images, "meta", crop=2, flip=True).take(torch.arange(9), moves).device.type == "meta"


def test_no_images_are_no_trouble():
    for options in ({"crop": 1, "flip": True}, {"zoom": 0.5, "cutout": 2, "colour": 0.2, "rand_augment": 2}):
        assert augment(batch(0, 3, 6, 7), generator(), **options).shape == (0, 3, 6, 7)


@pytest.mark.parametrize(("side", "height", "width"), [(1, 5, 5), (2, 5, 6), (3, 6, 5), (8, 5, 5)])
def test_cutout_erases_a_square_around_any_pixel(side, height, width):
    images = batch(3000, 3, height, width)
    moves = draw_moves(3000, height, width, generator(), cutout=side)
    moved = move(images, moves)
    erased = moved == 0
    assert torch.equal(moved[~erased], images[~erased])
    assert moves.centre is not None
    for row in range(50):
        y, x = (moves.centre[row] - side // 2).tolist()
        square = torch.zeros(height, width, dtype=torch.bool)
        square[max(y, 0) : y + side, max(x, 0) : x + side] = True
        assert torch.equal(erased[row], square.expand(3, -1, -1))
    assert erased[:, 0].sum((1, 2)).max() == min(side, height) * min(side, width)
    assert len({tuple(place) for place in moves.centre.tolist()}) == height * width


@settings(max_examples=30, deadline=None)
@given(zoom=st.floats(0.05, 0.95), height=st.integers(2, 40), width=st.integers(2, 40), seed=st.integers(0, 99))
def test_boxes_lie_inside_and_have_the_area_and_ratio_asked_for(zoom, height, width, seed):
    boxes = draw_moves(500, height, width, generator(seed), zoom=zoom).zoomed
    assert boxes is not None
    top, left, tall, wide = boxes.double().unbind(1)
    assert (boxes >= 0).all()
    assert (top + tall <= height + 1e-4).all()
    assert (left + wide <= width + 1e-4).all()
    area, ratio = tall * wide / (height * width), wide / tall * height / width
    assert area.min() >= zoom - 1e-5
    assert area.max() <= 1 + 1e-5
    assert abs(area.mean() - (1 + zoom) / 2) < 4 * (1 - zoom) / (12 * 500) ** 0.5, "uniform"
    assert ratio.min() >= 3 / 4 - 1e-5
    assert ratio.max() <= 4 / 3 + 1e-5


def test_zoom_magnifies_its_box():
    ramp = torch.arange(0, 160, 10).to(torch.uint8).expand(200, 1, 12, 16).contiguous()
    moves = draw_moves(200, 12, 16, generator(), zoom=0.3)
    moved = move(ramp, moves)
    _, left, _, wide = moves.zoomed[:, :, None].unbind(1)
    places = left + (torch.arange(16) + 0.5) * wide / 16 - 0.5
    expected = (10 * places.clamp(0, 15)).round()
    torch.testing.assert_close(moved[:, 0].float(), expected[:, None].expand(-1, 12, -1), atol=1, rtol=0)
    constant = torch.full((50, 3, 8, 8), 200, dtype=torch.uint8)
    assert torch.equal(augment(constant, generator(), zoom=0.1), constant), "nothing comes in from outside"


@pytest.mark.parametrize(
    ("option", "value", "range_"),
    [
        ("crop", -1, "0 to 16383"), ("zoom", 0.0, "0.001 to 1"), ("zoom", 1.5, "0.001 to 1"), ("cutout", -2, "0 to"),
        ("colour", 1.5, "0 to 1"), ("colour", float("nan"), "0 to 1"), ("rand_augment", -1, "0 to 16"),
        ("rand_magnitude", 31, "0 to 30"),
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused(option, value, range_):
    with pytest.raises(UserError, match=f"train.{option}={value}: must be from {range_}"):
        draw_moves(3, 4, 4, generator(), **{option: value})


def test_moves_take_a_few_bytes_an_image():
    moves = draw_moves(1000, 32, 32, generator(), crop=4, flip=True, zoom=0.5, cutout=8, colour=0.4, rand_augment=2)
    parts = [part for part in vars(moves).values() if isinstance(part, torch.Tensor)]
    assert sum(part.nbytes for part in parts) <= 50 * 1000
    assert len(moves.to("cpu")) == len(moves) == 1000


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


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (1, 1, 1, 1), (300, 3, 32, 32)])
def test_normalise_takes_any_number_of_images_in_any_layout(shape):
    images = batch(*shape)
    padded = torch.zeros(*shape[:3], shape[3] + 2, dtype=torch.uint8)
    padded[..., :-2] = images
    mean, std = [0.5] * shape[1], [0.25] * shape[1]
    expected = (images.double() / 255 - 0.5) * 4
    for given_images in (images, images.to(memory_format=torch.channels_last), padded[..., :-2]):
        out = normalise(given_images, mean, std)
        assert out.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(out.double(), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_normalise_passes_gradients_on(dtype):
    images = batch(300, 3, 32, 32).float().requires_grad_()
    weight = torch.randn(300, 3, 32, 32, generator=generator())
    (normalise(images, [0.1, 0.5, 0.9], [0.2, 0.3, 0.4], dtype) * weight).sum().backward()
    expected = weight / (255 * torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1))
    torch.testing.assert_close(images.grad, expected, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-6)

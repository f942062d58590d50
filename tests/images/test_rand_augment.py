from __future__ import annotations

import numpy as np
import pytest
import torch

from braindistill.images.augmentation import move, move_maps
from braindistill.images.moves import Moves, draw_moves
from braindistill.images.rand_augment import GEOMETRIC, OPERATIONS, apply_operations


def pictures(n: int = 6, channels: int = 3, height: int = 20, width: int = 24) -> torch.Tensor:
    """Smooth ones, as photographs are."""
    rng = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, channels, 5, 6, generator=rng) * 255
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return smooth.round().to(torch.uint8)


def apply(name: str, images: torch.Tensor, magnitude: int) -> torch.Tensor:
    """The same operation on all of the images."""
    operation = torch.full((len(images), 1), OPERATIONS.index(name), dtype=torch.int8)
    return apply_operations(images, operation, torch.full((len(images), 1), magnitude, dtype=torch.int8))


def test_the_papers_fourteen():
    assert len(set(OPERATIONS)) == 14
    assert OPERATIONS[: len(GEOMETRIC)] == GEOMETRIC


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"autocontrast", "equalise"}))
def test_magnitude_0_is_the_identity(name, channels):
    images = pictures(channels=channels)
    torch.testing.assert_close(apply(name, images, 0).int(), images.int(), atol=1, rtol=0)


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"identity", "autocontrast", "equalise"}))
def test_a_larger_magnitude_changes_more(name):
    images = pictures()
    images[:] = 100 + images // 3  # what lies outside is darker
    change = [(apply(name, images, magnitude).int() - images).abs().float().mean() for magnitude in (0, 10, 30)]
    assert change[0] < 0.1
    assert change[0] < change[1] < change[2]


@pytest.mark.parametrize("magnitude", [-30, -7, 12, 30])
def test_operations_agree_with_pillow(magnitude):
    from PIL import Image, ImageEnhance, ImageOps

    images = pictures(3)
    factor = 1 + 0.9 * magnitude / 30
    bits = 8 - round(4 * abs(magnitude) / 30)
    oracles = {
        "brightness": lambda image: ImageEnhance.Brightness(image).enhance(factor),
        "contrast": lambda image: ImageEnhance.Contrast(image).enhance(factor),
        "colour": lambda image: ImageEnhance.Color(image).enhance(factor),
        "sharpness": lambda image: ImageEnhance.Sharpness(image).enhance(factor),
        "solarise": lambda image: ImageOps.solarize(image, 256 * (1 - abs(magnitude) / 30)),
        "posterise": lambda image: ImageOps.posterize(image, bits),
        "autocontrast": ImageOps.autocontrast,
    }
    for name, oracle in oracles.items():
        ours = apply(name, images, magnitude).permute(0, 2, 3, 1).numpy().astype(int)
        theirs = np.stack([np.asarray(oracle(Image.fromarray(image.permute(1, 2, 0).numpy()))) for image in images])
        # Pillow cuts off where this rounds, and rounds in between
        assert np.abs(ours - theirs).max() <= 2, name


def test_equalise_makes_values_uniform():
    images = (pictures(4, height=40, width=40) // 4) + 50
    values = apply("equalise", images, 9).flatten(2).float()
    assert (values.amin(2) == 0).all()
    assert (values.amax(2) == 255).all()
    shares = torch.linspace(0.1, 0.9, 9)
    quantiles = values.quantile(shares, dim=2) / 255
    torch.testing.assert_close(quantiles, shares[:, None, None].expand_as(quantiles), atol=0.06, rtol=0)
    order = images.flatten(2).argsort(2)
    assert (values.gather(2, order).diff(dim=2) >= 0).all(), "brighter stays brighter"
    constant = torch.full((2, 1, 4, 4), 90, dtype=torch.uint8)
    assert torch.equal(apply("equalise", constant, 9), constant)
    assert torch.equal(apply("autocontrast", constant, 9), constant)


def test_pixels_go_where_they_should():
    image = torch.zeros(1, 1, 331, 331, dtype=torch.uint8)
    image[0, 0, 165, 165], image[0, 0, 165, 265] = 255, 200
    # AutoAugment's ranges, which are for 331 pixels: 150 pixels, 0.3, 30°
    right = apply("translate_x", image, 10)
    assert right[0, 0, 165, 115] == 255
    assert apply("translate_y", image, -10)[0, 0, 215, 165] == 255
    assert apply("shear_y", image, 10)[0, 0, 155, 265] == 200
    assert apply("shear_x", image, 30)[0, 0, 165, 165] == 255, "about the centre"
    wide = torch.zeros(1, 1, 30, 331, dtype=torch.uint8)
    wide[0, 0, 15, 165] = 255
    assert apply("translate_x", wide, 10)[0, 0, 15, 115] == 255, "of the width"
    turned = apply("rotate", image, 30)[0, 0]
    assert turned[165, 165] == 255
    assert turned[114:117, 251:254].max() > 50, "100 pixels to the right, 30° up"


def test_rows_have_their_own_operations():
    images = pictures(14)
    operation = torch.arange(14, dtype=torch.int8)[:, None]
    strength = torch.full((14, 1), 20, dtype=torch.int8)
    together = apply_operations(images, operation, strength)
    for row, name in enumerate(OPERATIONS):
        assert torch.equal(together[row : row + 1], apply(name, images[row : row + 1], 20)), name
    twice = apply_operations(images, operation.repeat(1, 2), strength.repeat(1, 2))
    assert torch.equal(twice, apply_operations(together, operation, strength)), "one after the other"


def test_maps_move_along_and_keep_their_values():
    images = pictures(40)
    operation = torch.arange(40, dtype=torch.int8)[:, None] % len(GEOMETRIC)
    moves = Moves(40, operation=operation.repeat(1, 2), strength=torch.full((40, 2), 8, dtype=torch.int8))
    moved = move(images, moves)
    assert (moved != images).flatten(1).any(1).all()
    assert torch.equal(move_maps(images, moves), moved)
    others = Moves(40, operation=operation + len(GEOMETRIC), strength=moves.strength[:, :1])
    assert torch.equal(move_maps(images, others), images)


def test_draws_every_operation_in_both_directions():
    moves = draw_moves(2000, 8, 8, torch.Generator().manual_seed(0), rand_augment=2, rand_magnitude=11)
    assert moves.operation is not None
    assert moves.operation.shape == (2000, 2)
    assert moves.operation.unique().tolist() == list(range(14))
    assert moves.strength.unique().tolist() == [-11, 11]
    assert move(pictures(2000, 1, 8, 8), moves).shape == (2000, 1, 8, 8)

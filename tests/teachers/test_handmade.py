"""Handmade features answer what they were designed for, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from braindistill.teachers.features import ImageFeatures

KINDS = ("pixels", "gabor", "hog", "colour")


def grating(side: int, wavelength: float, angle: float, phase: float, contrast: float = 100.0) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    wave = np.cos(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / wavelength + phase)
    return np.rint(127.5 + contrast * wave).astype(np.uint8)[None, None]


def test_pixels_are_scaled_to_one() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 6)).astype(np.uint8)
    rows = ImageFeatures("pixels", (3, 5, 6)).extract(images)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, images.reshape(4, -1) / 255, rtol=1e-6)


@given(
    kind=st.sampled_from(KINDS),
    channels=st.sampled_from([1, 3]),
    height=st.integers(2, 40),
    width=st.integers(2, 40),
    flat=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_any_size_gives_finite_features_and_gradients(
    kind: str, channels: int, height: int, width: int, flat: bool
) -> None:
    shape = (channels, height, width)
    reader = ImageFeatures(kind, shape)
    images = torch.randint(0, 256, (3, *shape), generator=torch.Generator().manual_seed(height)).float()
    images[1] = 50.0  # a uniform picture: no angle, and a root at 0
    images.requires_grad_()
    rows = reader.module()(images)
    assert rows.dtype == torch.float32
    assert tuple(rows.shape) == (3, sum(width for _, width in reader.bands()))
    assert torch.isfinite(rows).all()
    rows.square().sum().backward()
    assert images.grad is not None
    assert torch.isfinite(images.grad).all()
    assert images.grad[0].abs().max() > 0
    alone = reader.module()(images[2:])
    torch.testing.assert_close(alone, rows[2:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "width"), [((1, 8, 8), 384), ((3, 28, 20), 24 * 64), ((1, 200, 150), 1536), ((1, 2, 2), 24)]
)
def test_gabor_energies_of_any_size(shape: tuple[int, int, int], width: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, *shape)).astype(np.uint8)
    rows = ImageFeatures("gabor", shape).extract(images)
    assert rows.shape == (3, width)
    assert (rows >= 0).all()


@pytest.mark.parametrize("kind", ["gabor", "hog"])
@pytest.mark.parametrize("value", [0, 60, 255])
@pytest.mark.parametrize("side", [8, 28, 100])
def test_edges_and_energies_do_not_answer_uniform_pictures(kind: str, value: int, side: int) -> None:
    extract = ImageFeatures(kind, (1, side, side)).extract
    uniform = extract(np.full((1, 1, side, side), value, np.uint8))
    assert uniform.max() < 1e-3 * extract(grating(side, side / 4, 0.0, 0.0)).max()


def test_gabors_ignore_phase_and_brightness_and_know_orientation_and_scale() -> None:
    extract = ImageFeatures("gabor", (1, 32, 32)).extract
    base = extract(grating(32, 8, 0.0, 0.0))
    for phase in (0.7, 1.6, 3.1):
        assert np.corrcoef(extract(grating(32, 8, 0.0, phase)), base)[0, 1] > 0.95
    brighter = extract((grating(32, 8, 0.0, 0.0, 60).astype(int) + 40).astype(np.uint8))
    np.testing.assert_allclose(brighter, extract(grating(32, 8, 0.0, 0.0, 60)), atol=1e-3)
    for wavelength, bank in ((4, 0), (8, 1), (16, 2)):
        for turn in range(8):
            energy = extract(grating(32, wavelength, turn * np.pi / 8, 0.0)).reshape(3, 8, -1).mean(2)
            assert energy[bank].argmax() == turn, "the filter of that orientation answers most"
            if turn in (0, 4):
                assert energy[:, turn].argmax() == bank


def test_gabor_energy_lies_where_the_picture_has_structure() -> None:
    image = np.zeros((1, 1, 32, 32), np.uint8)
    image[..., :16, 20:22] = 255
    energy = ImageFeatures("gabor", (1, 32, 32)).extract(image).reshape(3, 8, 8, 8)[0].sum(0)
    row, column = np.unravel_index(energy.argmax(), energy.shape)
    assert row < 4
    assert column in (4, 5)
    assert energy[6:].sum() < 0.02 * energy.sum()


def test_larger_pictures_are_reduced_to_the_same_energies() -> None:
    small = grating(64, 16, 0.5, 0.3)
    large = small.repeat(4, 2).repeat(4, 3)
    rows = [
        ImageFeatures("gabor", image.shape[1:]).extract(image)  # type: ignore[arg-type]
        for image in (small, large)
    ]
    assert np.corrcoef(rows[0][0], rows[1][0])[0, 1] > 0.99


@pytest.mark.parametrize("turn", range(9))
def test_gradients_vote_for_their_orientation(turn: int) -> None:
    # 32 pixels: 4 × 4 cells of 8 × 8, 3 × 3 blocks of 9 orientations × 2 × 2 cells
    rows = ImageFeatures("hog", (1, 32, 32)).extract(grating(32, 12, turn * np.pi / 9, 0.4))
    assert rows.shape == (1, 9 * 36)
    votes = rows.reshape(9, 9, 4).sum((0, 2))
    assert votes.argmax() == turn
    assert votes[turn] > 2 * np.delete(votes, [turn, (turn + 1) % 9, (turn - 1) % 9]).max()


def test_gradients_ignore_brightness_contrast_and_polarity_and_blocks_are_normalised() -> None:
    extract = ImageFeatures("hog", (1, 48, 40)).extract
    image = np.random.default_rng(3).integers(0, 100, (1, 1, 48, 40)).astype(np.uint8)
    rows = extract(image)
    for other in (2 * image, image + 90, 255 - image):
        np.testing.assert_allclose(extract(other), rows, atol=1e-4)
    norms = np.linalg.norm(rows.reshape(5 * 4, 36), axis=1)
    np.testing.assert_allclose(norms, 1, rtol=1e-4)


def test_gradients_are_placed_and_taken_from_the_strongest_channel() -> None:
    image = np.full((1, 3, 32, 32), 80, np.uint8)
    image[:, 2, :, 4:6] = 200  # a blue bar in the first column of cells
    rows = ImageFeatures("hog", (3, 32, 32)).extract(image).reshape(3, 3, 9, 2, 2)
    assert rows[:, 0, 0, :, 0].min() > 0.1, "a vertical bar has a horizontal gradient, the first orientation"
    assert rows[:, 2].max() < 1e-3
    grey = np.where(image[:, 2:] == 200, 200, 80).astype(np.uint8)
    same = ImageFeatures("hog", (1, 32, 32)).extract(grey).reshape(rows.shape)
    np.testing.assert_allclose(rows, same, atol=1e-5)


def test_colours_are_told_apart_in_their_places() -> None:
    image = np.zeros((1, 3, 16, 16), np.uint8)
    image[:, 0, :8] = 255  # red above, blue below
    image[:, 2, 8:] = 255
    rows = ImageFeatures("colour", (3, 16, 16)).extract(image).reshape(27, 4, 4)
    means, votes = rows[:3], rows[3:].reshape(8, 3, 4, 4)
    np.testing.assert_allclose(means[0, :2], 1, rtol=1e-5)  # red – green
    np.testing.assert_allclose(means[0, 2:], 0.5, rtol=1e-5)
    np.testing.assert_allclose(means[1, 2:], 0, atol=1e-5)  # yellow – blue
    np.testing.assert_allclose(means[2], 1 / 3, rtol=1e-5)  # intensity
    np.testing.assert_allclose(votes.sum(0), 1, rtol=1e-5)
    assert votes[7, 0, :2].min() > 0.99
    assert votes[7, 0, 2:].max() == 0


def test_grey_pictures_have_a_histogram_of_their_intensity() -> None:
    image = np.zeros((2, 1, 8, 8), np.uint8)
    image[1] = 255
    image[1, :, :, ::2] = 0
    rows = ImageFeatures("colour", (1, 8, 8)).extract(image).reshape(2, 9, 16)
    np.testing.assert_allclose(rows[0, 1], 1)
    np.testing.assert_allclose(rows[1, [0, 1, 8]], 0.5, rtol=1e-5)
    np.testing.assert_allclose(rows[1, 2:8], 0)

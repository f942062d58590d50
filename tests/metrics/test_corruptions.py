from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch import Tensor

from braindistill.errors import UserError
from braindistill.metrics import corruptions
from braindistill.metrics.corruptions import CORRUPTIONS, corrupt, corruption_options

NAMES = [name for names in CORRUPTIONS.values() for name in names]
#: no randomness in them
FIXED = {"defocus_blur", "zoom_blur", "brightness", "contrast", "jpeg_compression"}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def digits() -> Tensor:
    """300 digits of 8 × 8 pixels, uint8."""
    from sklearn.datasets import load_digits

    return torch.from_numpy(np.round(load_digits().images[:300] * 255 / 16).astype(np.uint8))[:, None]


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """A photograph, 1 × 3 × 227 × 225: no side is a multiple of 8."""
    from sklearn.datasets import load_sample_image

    return torch.from_numpy(load_sample_image("china.jpg")[100:327, 200:425].copy()).permute(2, 0, 1)[None]


def distances(images: Tensor, name: str) -> list[float]:
    """Root mean square distance to the original at every severity."""
    seen = [corrupt(images, name, severity, generator()) for severity in range(1, 6)]
    return [float((one.float() - images.float()).square().mean().sqrt()) for one in seen]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "shape", [(3, 1, 8, 8), (2, 3, 32, 32), (2, 3, 20, 37), (1, 4, 9, 8), (1, 1, 1, 1), (0, 3, 8, 8)]
)
def test_shape_type_and_device_are_kept(name: str, shape: tuple[int, ...]) -> None:
    images = torch.randint(0, 256, shape, generator=generator(), dtype=torch.uint8)
    before = images.clone()
    seen = corrupt(images, name, 5, generator())
    assert seen.dtype == torch.uint8
    assert seen.shape == images.shape
    assert torch.equal(images, before)
    assert torch.equal(seen, corrupt(images.float(), name, 5, generator()))
    if shape[2] > 1 and shape[0]:
        assert not torch.equal(seen, images)


@pytest.mark.parametrize("name", NAMES)
def test_higher_severities_do_more_harm_to_real_digits(name: str, digits: Tensor) -> None:
    far = distances(digits, name)
    assert far[0] > 0.5
    assert (np.diff(far) > 0).all(), far


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", [32, 64])
def test_higher_severities_do_more_harm_to_colour_photographs(name: str, side: int) -> None:
    from sklearn.datasets import load_sample_images

    photos = torch.stack([torch.from_numpy(one[:384, :640].copy()) for one in load_sample_images().images])
    small = torch.nn.functional.avg_pool2d(photos.permute(0, 3, 1, 2).float(), 2).round().to(torch.uint8)
    pieces = small.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, side, side)
    far = distances(pieces, name)
    assert (np.diff(far) > 0).all(), far


@pytest.mark.parametrize("name", NAMES)
def test_the_generator_decides(name: str, digits: Tensor) -> None:
    seen = corrupt(digits[:20], name, 3, generator(1))
    assert torch.equal(seen, corrupt(digits[:20], name, 3, generator(1)))
    assert torch.equal(seen, corrupt(digits[:20], name, 3, generator(2))) == (name in FIXED)
    twins = corrupt(digits[:1].expand(2, -1, -1, -1), name, 3, generator(1))
    assert torch.equal(twins[0], twins[1]) == (name in FIXED)  # each image has its own draw


def test_blocks_leave_no_seam(digits: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = corrupt(digits, "zoom_blur", 3, generator())
    monkeypatch.setattr(corruptions, "_BLOCK", 7 * 64)
    assert torch.equal(corrupt(digits, "zoom_blur", 3, generator()), whole)
    assert not torch.equal(*corrupt(digits[:1].expand(14, -1, -1, -1), "gaussian_noise", 3, generator()).split(7))


@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "impulse_noise"])
def test_noise_has_the_stated_size(name: str) -> None:
    images = torch.full((20, 3, 32, 32), 128, dtype=torch.uint8)
    seen = corrupt(images, name, 2, generator()).double() / 255
    level = 128 / 255
    if name == "impulse_noise":
        for value in (0, 1):
            assert (seen == value).double().mean() == pytest.approx(0.01, rel=0.1)
        assert ((seen == 0) | (seen == 1) | (seen == level)).all()
    else:
        expected = 0.06 if name == "gaussian_noise" else np.sqrt(level / 250)
        assert seen.mean() == pytest.approx(level, abs=1e-3)
        assert seen.std() == pytest.approx(expected, rel=0.02)


def test_brightness_and_contrast_are_analytic(digits: Tensor) -> None:
    grey = digits.double()
    for severity, by in enumerate((0.05, 0.1, 0.15, 0.2, 0.3), 1):
        seen = corrupt(digits, "brightness", severity, generator()).double()
        assert (seen - (grey + 255 * by).clamp(max=255)).abs().max() <= 0.51
    for severity, keep in enumerate((0.75, 0.5, 0.4, 0.3, 0.15), 1):
        mean = grey.mean((2, 3), keepdim=True)
        seen = corrupt(digits, "contrast", severity, generator()).double()
        assert (seen - (mean + keep * (grey - mean))).abs().max() <= 0.51


def test_brightness_keeps_hue_and_saturation() -> None:
    colour = torch.tensor([100, 50, 20], dtype=torch.uint8).view(1, 3, 1, 1).expand(-1, -1, 4, 4)
    brighter = corrupt(colour, "brightness", 5, generator())[0, :, 0, 0].double()
    value = 100 + 0.3 * 255
    assert brighter.tolist() == pytest.approx([value, value / 2, value / 5], abs=0.51)
    assert corrupt(torch.zeros_like(colour), "brightness", 5, generator()).unique().tolist() == [round(0.3 * 255)]


@pytest.mark.parametrize(
    "name", ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "elastic_transform", "pixelate"]
)
def test_what_only_moves_light_leaves_a_plain_image_alone(name: str) -> None:
    plain = torch.full((2, 3, 24, 24), 77, dtype=torch.uint8)
    assert torch.equal(corrupt(plain, name, 5, generator()), plain)


def test_blurs_spread_a_point_symmetrically() -> None:
    point = torch.zeros(1, 1, 33, 33)
    point[0, 0, 16, 16] = 255
    for name in ("defocus_blur", "zoom_blur"):
        seen = corrupt(point, name, 5, generator())
        assert torch.equal(seen, seen.flip(3))
        assert torch.equal(seen, seen.mT)
    blurred = corruptions.defocus_blur(point, generator(), radius=3.0, softness=0.3)
    assert float(blurred.sum()) == pytest.approx(255, rel=1e-4)
    rows = torch.arange(33) - 16
    spread = (blurred[0, 0].sum(1) * rows**2).sum() / blurred.sum()
    assert float(spread) == pytest.approx(3.0**2 / 4, rel=0.15)  # a disk's variance along an axis is r² / 4


def test_gaussian_blur_has_scipy_for_an_oracle(photo: Tensor) -> None:
    from scipy.ndimage import gaussian_filter

    from braindistill.metrics.blurs import gaussian_blur

    image = photo[0, 0, :40, :50].double().numpy()
    for sigma in (0.4, 1.0, 2.0):
        found = gaussian_blur(torch.from_numpy(image).float()[None, None], sigma)[0, 0].numpy()
        reach = max(1, int(np.ceil(3 * sigma)))
        assert found == pytest.approx(gaussian_filter(image, sigma, mode="nearest", radius=reach), abs=1e-2)


def test_pixelate_averages_cells() -> None:
    from braindistill.metrics.digital import _cells

    halves = _cells(4, 2.0, torch.zeros(1, 1, 1, 1))[0, 0]
    assert halves.tolist() == [[0.5, 0.5, 0, 0]] * 2 + [[0, 0, 0.5, 0.5]] * 2
    shifted = _cells(4, 2.0, torch.full((1, 1, 1, 1), 0.5))[0, 0]
    assert shifted.tolist() == [[1, 0, 0, 0], [0, 0.5, 0.5, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 1]]
    for size, cell, phase in ((8, 1.3, 0.2), (7, 3.7, 0.9), (5, 9.0, 0.0)):
        cells = _cells(size, cell, torch.full((1, 1, 1, 1), phase))[0, 0]
        assert cells.sum(1).tolist() == pytest.approx([1] * size, abs=1e-5)
        assert torch.allclose(cells, cells.mT)


def test_fractal_noise_fills_the_range_and_is_smoother_when_less_rough(digits: Tensor) -> None:
    from braindistill.metrics.weather import fractal

    steps = []
    for roughness in (1.0, 2.0):
        noise = fractal(digits.float(), 20, 64, 64, roughness, generator())
        assert noise.amin((1, 2, 3)).tolist() == [0] * 20
        assert noise.amax((1, 2, 3)).tolist() == pytest.approx([1] * 20)
        steps.append(float(noise.diff(dim=3).abs().mean()))
    assert steps[1] < 0.5 * steps[0]


def test_weather_on_black_images_is_finite_and_brightens() -> None:
    black = torch.zeros(4, 3, 16, 16, dtype=torch.uint8)
    for name in CORRUPTIONS["weather"]:
        assert corrupt(black, name, 3, generator()).float().mean() > 5


# --- JPEG against an encoder


def encoded(images: Tensor, quality: int) -> Tensor:
    from PIL import Image

    found = []
    for image in images.permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, "JPEG", quality=quality)
        pixels = torch.from_numpy(np.array(Image.open(file)))
        found.append(pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1))
    return torch.stack(found)


@pytest.mark.parametrize("quality", [80, 40, 10])
@pytest.mark.parametrize("kind", ["digits", "grey", "colour"])
def test_jpeg_loses_what_an_encoder_loses(kind: str, quality: int, digits: Tensor, photo: Tensor) -> None:
    images = {"digits": digits[:60], "grey": photo[:, 1:2], "colour": photo}[kind]
    found = (255 * corruptions.jpeg_compression(images.float() / 255, generator(), quality=float(quality))).round()
    lost, theirs = found - images.float(), encoded(images, quality).float() - images.float()
    assert np.corrcoef(lost.flatten(), theirs.flatten())[0, 1] > 0.97
    assert float(lost.square().mean() / theirs.square().mean()) == pytest.approx(1, abs=0.03)


def test_jpeg_of_quality_100_is_nearly_lossless(photo: Tensor) -> None:
    seen = corruptions.jpeg_compression(photo[:, :1].float() / 255, generator(), quality=100.0)
    assert (255 * seen - photo[:, :1]).abs().max() <= 2


# --- the table


def test_every_name_has_its_function_and_its_severities() -> None:
    assert set(NAMES) == set(corruptions._FUNCTIONS) == set(corruptions._SEVERITIES)
    assert len(NAMES) == 15
    assert list(CORRUPTIONS) == ["noise", "blur", "weather", "digital"]


def test_parameters_are_those_of_the_benchmarks_and_lie_between() -> None:
    assert corruption_options("gaussian_noise", 1, 32) == {"scale": pytest.approx(0.04)}
    assert corruption_options("gaussian_noise", 1, 8) == corruption_options("gaussian_noise", 1, 32)
    assert corruption_options("gaussian_noise", 5, 224) == {"scale": pytest.approx(0.38)}
    assert corruption_options("gaussian_noise", 5, 500) == corruption_options("gaussian_noise", 5, 224)
    middle = round(32 * 7**0.5)
    assert corruption_options("contrast", 1, middle)["keep"] == pytest.approx(np.sqrt(0.75 * 0.4), rel=0.01)


@pytest.mark.parametrize(
    ("name", "side", "published"),
    [
        ("shot_noise", 32, {"photons": (500, 250, 100, 75, 50)}),
        ("shot_noise", 224, {"photons": (60, 25, 12, 5, 3)}),
        ("impulse_noise", 32, {"share": (0.01, 0.02, 0.03, 0.05, 0.07)}),
        ("defocus_blur", 32, {"radius": (0.3, 0.4, 0.5, 1, 1.5), "softness": (0.4, 0.5, 0.6, 0.2, 0.1)}),
        ("defocus_blur", 224, {"radius": (3, 4, 6, 8, 10), "softness": (0.1, 0.5, 0.5, 0.5, 0.5)}),
        ("motion_blur", 32, {"sigma": (1, 1.5, 2, None, 2.5)}),
        ("motion_blur", 224, {"sigma": (3, 5, 8, 12, 15)}),
        ("snow", 32, {"flake": (1, 1, 1.75, 2.25, 1.25), "threshold": (0.6, 0.5, 0.55, 0.6, 0.65)}),
        ("snow", 32, {"sigma": (3, 4, 4, 6, 12), "clear": (0.95, 0.9, 0.9, 0.85, 0.8)}),
        ("snow", 224, {"mean": (0.1, 0.2, 0.55, 0.55, 0.55), "sigma": (4, 4, 8, 8, 12)}),
        ("fog", 32, {"density": (0.2, 0.5, 0.75, 1, 1.5), "decay": (3, 3, 2.5, 2, 1.75)}),
        ("fog", 224, {"density": (1.5, 2, 2.5, 2.5, 3), "decay": (2, 2, 1.7, 1.5, 1.4)}),
        ("pixelate", 32, {"scale": (0.95, 0.9, 0.85, 0.75, 0.65)}),
        ("jpeg_compression", 32, {"quality": (80, 65, 58, 50, 40)}),
        ("jpeg_compression", 224, {"quality": (25, 18, 15, 10, 7)}),
    ],
)
def test_severities_are_those_of_the_benchmark(name: str, side: int, published: dict[str, tuple[float, ...]]) -> None:
    for option, values in published.items():
        for severity, value in enumerate(values, 1):
            if value is not None:
                assert corruption_options(name, severity, side)[option] == pytest.approx(value), (option, severity)


def test_unknown_names_and_severities_are_refused(digits: Tensor) -> None:
    with pytest.raises(UserError, match="did you mean 'gaussian_noise'"):
        corrupt(digits, "gausian_noise", 1, generator())
    for severity in (0, 6):
        with pytest.raises(ValueError, match="1 to 5"):
            corrupt(digits, "fog", severity, generator())
    with pytest.raises(ValueError, match="N × C × H × W"):
        corrupt(digits[0], "fog", 1, generator())

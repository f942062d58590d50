"""What encoders read from pictures: pixels, Gabor energies, layers of a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from braindistill.errors import UserError
from braindistill.images import fit_pictures
from braindistill.runtime import seeded
from braindistill.teachers import features
from braindistill.teachers.features import ImageFeatures


def grating(side: int, wavelength: float, angle: float, phase: float, contrast: float = 100.0) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    wave = np.cos(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / wavelength + phase)
    return np.rint(127.5 + contrast * wave).astype(np.uint8)[None, None]


def test_pixels_are_scaled_to_one() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 6)).astype(np.uint8)
    rows = ImageFeatures("pixels", (3, 5, 6)).extract(images)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, images.reshape(4, -1) / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "width"), [((1, 8, 8), 384), ((3, 28, 20), 24 * 64), ((1, 200, 150), 1536), ((1, 2, 2), 24)]
)
def test_gabor_energies_of_any_size(shape: tuple[int, int, int], width: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, *shape)).astype(np.uint8)
    rows = ImageFeatures("gabor", shape).extract(images)
    assert rows.shape == (3, width)
    assert np.isfinite(rows).all()
    assert (rows >= 0).all()


@pytest.mark.parametrize("value", [0, 60, 255])
@pytest.mark.parametrize("side", [8, 28, 100])
def test_gabors_do_not_answer_uniform_pictures(value: int, side: int) -> None:
    extract = ImageFeatures("gabor", (1, side, side)).extract
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


def test_pictures_are_fitted_in_size_and_colour() -> None:
    grey = np.full((2, 1, 4, 4), 90, np.uint8)
    grey[1] = 10
    assert fit_pictures(grey, (1, 4, 4)) is grey
    assert (fit_pictures(grey, (3, 4, 4)) == grey).all()
    larger = fit_pictures(grey, (1, 6, 5))
    assert larger.shape == (2, 1, 6, 5)
    assert np.unique(larger[0]).tolist() == [90]
    colour = np.zeros((1, 3, 4, 4), np.uint8)
    colour[0, 1] = 200  # green has 587 thousandths of the luminance
    assert abs(int(fit_pictures(colour, (1, 4, 4))[0, 0, 0, 0]) - 117) <= 1
    assert np.array_equal(fit_pictures(colour, (3, 4, 4)), colour)
    assert fit_pictures(colour, (3, 2, 2))[0, :, 0, 0].tolist() == [0, 200, 0]
    ramp = np.tile(np.arange(0, 240, 30, dtype=np.uint8), (1, 1, 8, 1))
    halved = fit_pictures(ramp, (1, 4, 4)).astype(int)[0, 0, 0]
    assert (np.diff(halved) > 30).all(), "left stays left"


def test_other_sizes_are_brought_to_the_stimuli_first() -> None:
    seer = ImageFeatures("pixels", (1, 4, 4))
    assert seer.extract(np.full((2, 3, 9, 9), 51, np.uint8)) == pytest.approx(0.2)


NETWORK = {"network": "mobilenet_v3_small", "image_size": 32}


def test_network_layers_are_pooled_seeded_and_alone() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 20, 20)).astype(np.uint8)
    seer = ImageFeatures("network", (1, 20, 20), layers=["features.0", "features.3"], **NETWORK)  # type: ignore[arg-type]
    state = torch.get_rng_state()
    rows = seer.extract(images)
    assert torch.equal(torch.get_rng_state(), state), "no global state is touched"
    assert rows.shape == (3, (16 + 24) * 4)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(seer.extract(images), rows)
    np.testing.assert_allclose(seer.extract(images[1:2]), rows[1:2], rtol=1e-3, atol=1e-5)
    turned = ImageFeatures("network", (1, 20, 20), layers=["features.3", "features.0"], **NETWORK)  # type: ignore[arg-type]
    np.testing.assert_array_equal(turned.extract(images)[:, :96], rows[:, 64:])


def test_network_layers_are_read_before_the_next_one_works_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16, 5), torch.nn.ReLU(inplace=True))
    monkeypatch.setattr(features, "_load_network", lambda *_: network)
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 4, 4)).astype(np.uint8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        wanted = network[1](((torch.from_numpy(images) / 255 - mean) / std).flatten(1))
    assert (wanted < 0).any()
    seer = ImageFeatures("network", (3, 4, 4), "alexnet", ["1"], None, 4)
    np.testing.assert_allclose(seer.extract(images), wanted, atol=1e-5)


def test_weights_may_be_safetensors_and_must_fit(tmp_path: Path) -> None:
    import torchvision
    from safetensors.torch import save_file

    with seeded(6):
        state = torchvision.models.squeezenet1_1(weights=None).state_dict()
    save_file(state, tmp_path / "w.safetensors")
    torch.save({"state_dict": state}, tmp_path / "nested.pth")
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "text.safetensors").write_text("no weights")
    images = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 32)).astype(np.uint8)

    def extract(weights: str | None, network: str = "squeezenet1_1", layer: str = "features.0") -> np.ndarray:
        path = None if weights is None else str(tmp_path / weights)
        return ImageFeatures("network", (3, 32, 32), network, [layer], path, 32).extract(images)

    assert not np.allclose(extract("w.safetensors"), extract(None))
    for broken in ("nested.pth", "text.pth", "text.safetensors"):
        with pytest.raises(UserError, match=f"{broken}: not the weights of squeezenet1_1: .") as caught:
            extract(broken)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="not the weights of squeezenet1_0"):
        extract("w.safetensors", "squeezenet1_0")
    with pytest.raises(UserError, match=r"absent\.pth: no such file"):
        extract("absent.pth")


def test_wrong_names_are_answered_with_near_ones() -> None:
    images = np.zeros((1, 1, 8, 8), np.uint8)
    with pytest.raises(UserError, match=r"teacher\.features=pixel: .*pixels"):
        ImageFeatures("pixel", (1, 8, 8))
    with pytest.raises(UserError, match=r"needs teacher\.network=NAME and teacher\.layers"):
        ImageFeatures("network", (1, 8, 8), "resnet18")
    with pytest.raises(UserError, match=r"teacher\.network=squeezenet: .*squeezenet1_"):
        ImageFeatures("network", (1, 8, 8), "squeezenet", ["features.0"]).extract(images)
    with pytest.raises(UserError, match=r"squeezenet1_1 has no layer 'feature\.0'; .*features\.0"):
        ImageFeatures("network", (1, 8, 8), "squeezenet1_1", ["feature.0"], None, 32).extract(images)

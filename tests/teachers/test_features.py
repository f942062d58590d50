"""What encoders read from pictures: sizes, colours, layers of a network."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from braindistill.errors import UserError
from braindistill.images import fit_pictures
from braindistill.runtime import seeded
from braindistill.students.artifact import save
from braindistill.students.build import build
from braindistill.teachers import networks
from braindistill.teachers.features import ImageFeatures
from braindistill.teachers.layer_reader import sparse_projection
from braindistill.teachers.networks import LoadedNetwork
from braindistill.teachers.options import FeatureOptions

NETWORK = {"network": "mobilenet_v3_small", "image_size": 32}


def pictures(n: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, *shape)).astype(np.uint8)


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
    reader = ImageFeatures("pixels", (1, 4, 4))
    assert reader.extract(np.full((2, 3, 9, 9), 51, np.uint8)) == pytest.approx(0.2)
    assert ImageFeatures("images", (1, 4, 4)).extract(np.full((2, 3, 9, 9), 51, np.uint8)).dtype == np.uint8


def test_rows_are_read_in_their_order_and_in_batches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    images = pictures(7, 3, 6, 6)
    np.save(tmp_path / "images.npy", images)
    stored = np.load(tmp_path / "images.npy", mmap_mode="r")
    rows = np.array([5, 0, 0, 3, 6])
    monkeypatch.setattr(ImageFeatures, "_batch", lambda *_: 2)
    for kind in ("pixels", "colour", "images"):
        reader = ImageFeatures(kind, (3, 6, 6))
        np.testing.assert_allclose(reader.extract(stored, rows=rows), reader.extract(images)[rows], rtol=1e-5)
    assert ImageFeatures("pixels", (3, 6, 6)).extract(images[:0]).shape == (0, 108)


def test_options_make_features_that_json_brings_back() -> None:
    options = FeatureOptions("network", "alexnet", ["features.0", "classifier.1"], Path("w.pth"), None, 3, 50)
    reader = ImageFeatures.of(options, (3, 32, 32))
    assert reader.weights == "w.pth"
    assert reader.image_size is None
    assert ImageFeatures(**json.loads(json.dumps(reader.describe()))) == reader


def test_network_layers_are_pooled_seeded_and_alone() -> None:
    images = pictures(3, 1, 20, 20)
    reader = ImageFeatures("network", (1, 20, 20), layers=["features.0", "features.3"], **NETWORK)  # type: ignore[arg-type]
    state = torch.get_rng_state()
    rows = reader.extract(images)
    assert torch.equal(torch.get_rng_state(), state), "no global state is touched"
    assert rows.shape == (3, (16 + 24) * 4)
    assert reader.bands() == [("features.0", 64), ("features.3", 96)]
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(reader.extract(images), rows)
    np.testing.assert_allclose(reader.extract(images[1:2]), rows[1:2], rtol=1e-3, atol=1e-5)
    turned = ImageFeatures("network", (1, 20, 20), layers=["features.3", "features.0"], **NETWORK)  # type: ignore[arg-type]
    np.testing.assert_array_equal(turned.extract(images)[:, :96], rows[:, 64:])


def test_a_network_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    find = networks.find_network
    monkeypatch.setattr(networks, "find_network", lambda *a, **k: loaded.append(a) or find(*a, **k))
    monkeypatch.setattr(ImageFeatures, "_batch", lambda *_: 1)
    reader = ImageFeatures("network", (1, 21, 21), layers=["features.0"], **NETWORK)  # type: ignore[arg-type]
    reader.extract(pictures(3, 1, 21, 21))
    reader.bands()
    same = ImageFeatures(**reader.describe())
    assert same.module() is reader.module()
    assert len(loaded) == 1


def read(network: nn.Module, monkeypatch: pytest.MonkeyPatch, images: np.ndarray, **options: object) -> np.ndarray:
    """Features of a network of one's own, whose pictures are scaled to 0 … 1."""
    found = LoadedNetwork(copy.deepcopy(network).eval(), 3, None, (0.0,) * 3, (1.0,) * 3)
    monkeypatch.setattr(networks, "find_network", lambda *_, **__: found)
    name = f"own {id(found)}"
    return ImageFeatures("network", images.shape[1:], name, image_size=None, **options).extract(images)  # type: ignore[arg-type]


def test_layers_are_those_of_a_bare_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(6, 3, 8, 8)
    inputs = torch.from_numpy(images).float() / 255
    with seeded(0):
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 5), nn.ReLU())
    with torch.no_grad():
        maps, last = network[0](inputs), network[:4](inputs)
    assert (maps < 0).any()
    close = {"rtol": 1e-4, "atol": 1e-5}
    wanted = torch.cat([last, maps.unflatten(2, (2, 3)).unflatten(4, (2, 3)).mean((3, 5)).flatten(1)], 1)
    np.testing.assert_allclose(read(network, monkeypatch, images, layers=["3", "0"]), wanted, **close)
    whole = read(network, monkeypatch, images, layers=["0"], pool=0)
    np.testing.assert_allclose(whole, maps.flatten(1), **close)
    finer = read(network, monkeypatch, images, layers=["0"], pool=9)
    np.testing.assert_allclose(finer, maps.flatten(1), err_msg="a map is never made larger", **close)
    projected = read(network, monkeypatch, images, layers=["0", "3"], pool=0, project=20)
    assert projected.shape == (6, 25), "a layer that is narrow enough keeps its width"
    np.testing.assert_allclose(
        projected[:, :20], maps.flatten(1) @ sparse_projection("0", 144, 20).to_dense().T, **close
    )
    np.testing.assert_allclose(projected[:, 20:], last, **close)


def test_the_pass_ends_with_the_last_layer_and_a_module_that_runs_twice_is_read_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finished: list[bool] = []

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add, self.stop, self.pair, self.idle = (
                nn.Identity(),
                nn.Identity(),
                nn.MaxPool1d(2, return_indices=True),
                nn.ReLU(),
            )

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            once = self.add(images.flatten(1))
            self.stop(self.add(once + 1))
            self.pair(once)
            finished.append(True)
            return once

    images = pictures(2, 3, 2, 2)
    rows = read(Twice(), monkeypatch, images, layers=["add", "stop"])
    assert not finished
    np.testing.assert_allclose(
        rows, np.concatenate([images.reshape(2, 12) / 255, images.reshape(2, 12) / 255 + 1], 1), rtol=1e-5
    )
    with pytest.raises(UserError, match="pair gives a tuple"):
        read(Twice(), monkeypatch, images, layers=["pair"])
    with pytest.raises(UserError, match=r"idle of own .* never runs"):
        read(Twice(), monkeypatch, images, layers=["idle", "add"])


def test_network_features_are_differentiable_though_modules_work_in_place() -> None:
    reader = ImageFeatures("network", (1, 20, 20), layers=["features.0.1", "features.3"], **NETWORK, project=30)  # type: ignore[arg-type]
    images = torch.from_numpy(pictures(2, 1, 20, 20)).float().requires_grad_()
    rows = reader.module()(images)
    np.testing.assert_allclose(rows.detach(), reader.extract(pictures(2, 1, 20, 20)), rtol=1e-3, atol=1e-4)
    rows.square().sum().backward()
    assert images.grad is not None
    assert torch.isfinite(images.grad).all()
    assert images.grad.abs().max() > 0


def test_a_student_reads_pictures_of_its_own_size_and_normalisation(tmp_path: Path) -> None:
    network = build("small_cnn", 3, (1, 8, 8), 4, width=4)
    description = {"name": "small_cnn", "options": {"width": 4}, "classes": ["a", "b", "c"], "image_shape": [1, 8, 8]}
    save(network, tmp_path, description | {"mean": [0.2], "std": [0.5]})
    images = pictures(5, 3, 20, 20)
    rows = ImageFeatures("network", (3, 20, 20), "small_cnn", ["3"], str(tmp_path / "student.safetensors")).extract(
        images
    )
    luminance = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    grey = (torch.from_numpy(images).float() * luminance).sum(1, keepdim=True)
    small = nn.functional.interpolate(grey, (8, 8), mode="bilinear", antialias=True)
    with torch.no_grad():
        maps = network.eval()[:4]((small / 255 - 0.2) / 0.5)
    np.testing.assert_allclose(rows, nn.functional.adaptive_avg_pool2d(maps, 2).flatten(1), rtol=1e-3, atol=1e-4)
    untrained = ImageFeatures("network", (1, 12, 12), "small_cnn", ["0"], image_size=None)
    assert untrained.bands() == [("0", 64)]


def test_projections_keep_distances_and_are_sparse_and_named() -> None:
    matrix = sparse_projection("layer", 2500, 400).to_dense()
    assert (matrix != 0).float().mean() == pytest.approx(1 / 50, rel=0.05)
    assert torch.unique(matrix.abs()).tolist() == pytest.approx([0, np.sqrt(50 / 400)])
    assert matrix.mean() == pytest.approx(0, abs=2e-4)
    assert (matrix[0] != 0).any() and (matrix[-1] != 0).any()  # noqa: PT018
    points = torch.rand(20, 2500, generator=torch.Generator().manual_seed(1))
    ratio = torch.pdist(points @ matrix.T) / torch.pdist(points)
    assert ratio.mean() == pytest.approx(1, abs=0.05)
    assert ratio.std() < 0.1
    assert torch.equal(matrix, sparse_projection("layer", 2500, 400).to_dense())
    assert not torch.equal(matrix, sparse_projection("other", 2500, 400).to_dense())


def test_weights_of_a_changed_file_are_read_again(tmp_path: Path) -> None:
    import torchvision

    images, path = pictures(1, 3, 32, 32), tmp_path / "w.pth"
    rows = []
    for seed in (6, 7):
        with seeded(seed):
            torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), path)
        rows.append(
            ImageFeatures("network", (3, 32, 32), "squeezenet1_1", ["features.0"], str(path), 32).extract(images)
        )
        path.unlink()
    assert not np.allclose(rows[0], rows[1])
    with pytest.raises(UserError, match=r"w\.pth: no such file"):
        ImageFeatures("network", (3, 32, 32), "squeezenet1_1", ["features.0"], str(path), 32).extract(images)


def test_wrong_names_are_answered_with_near_ones() -> None:
    images = np.zeros((1, 1, 8, 8), np.uint8)
    with pytest.raises(UserError, match=r"teacher\.features=pixel: .*pixels"):
        ImageFeatures("pixel", (1, 8, 8))
    with pytest.raises(UserError, match=r"needs teacher\.network=NAME and teacher\.layers"):
        ImageFeatures("network", (1, 8, 8), "resnet18")
    with pytest.raises(UserError, match=r"teacher\.project=0: expected 1 or more"):
        ImageFeatures("pixels", (1, 8, 8), project=0)
    with pytest.raises(UserError, match=r"teacher\.network=squeezenet: .*squeezenet1_"):
        ImageFeatures("network", (1, 8, 8), "squeezenet", ["features.0"]).extract(images)
    with pytest.raises(UserError, match=r"squeezenet1_1 has no layer 'feature\.0'; .*features\.0"):
        ImageFeatures("network", (1, 8, 8), "squeezenet1_1", ["feature.0"], None, 32).extract(images)

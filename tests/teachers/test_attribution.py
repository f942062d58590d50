from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from braindistill.errors import UserError
from braindistill.runtime import torch_generator
from braindistill.teachers import attribution
from braindistill.teachers.attribution import attribute, resize_maps
from braindistill.teachers.encoder import fit_ridge
from braindistill.teachers.readout import FactorisedReadout, PooledReadout
from braindistill.teachers.stimulus_features import StimulusFeatures

METHODS = ("gradient", "gradcam", "occlusion")
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 1, 16, 16)).astype(np.uint8)
CENTRE = IMAGES.mean(0, dtype=np.float64)


class ConvNetwork(nn.Module):
    """Fixed convolutions without bias, and a readout of three voxels that look at the upper left quadrant."""

    def __init__(self, pooled: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False)
        self.relu = nn.ReLU()
        self.readout: nn.Module = PooledReadout(3, (4, 8, 8)) if pooled else FactorisedReadout(3, (4, 8, 8))
        generator = torch_generator(0, "weights")
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)
        if not pooled:
            root = torch.zeros(3, 8, 8)
            root[:, :4, :4] = 1
            self.readout.root.data = root.flatten(1)
        self.requires_grad_(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.readout(self.relu(self.conv(images / 255)))


def linear(*masks: np.ndarray, sign: float = 1.0):
    """Voxels that read the pixels under a mask, with random weights."""
    rng = np.random.default_rng(1)
    weights = np.stack([sign**voxel * mask * rng.normal(size=(1, 16, 16)) for voxel, mask in enumerate(masks)])
    flat = torch.from_numpy(weights.reshape(len(masks), -1).astype(np.float32))
    centre = torch.from_numpy(CENTRE.astype(np.float32))
    return lambda images: (images - centre).flatten(1) @ flat.T


def box(top: int, left: int, side: int = 8) -> np.ndarray:
    mask = np.zeros((16, 16))
    mask[top : top + side, left : left + side] = 1
    return mask


def mass(maps: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return (maps * mask).sum((1, 2))


@pytest.mark.parametrize("method", METHODS)
def test_a_map_is_not_negative_and_adds_up_to_one(method):
    network = ConvNetwork()
    maps = attribute(network, IMAGES, method=method, layer=network.relu)
    assert maps.shape == (12, 16, 16)
    assert maps.dtype == np.float32
    assert maps.min() >= 0
    np.testing.assert_allclose(maps.sum((1, 2)), 1, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_voxels_that_look_at_a_quadrant_of_a_networks_map_are_traced_to_it(method):
    network = ConvNetwork()
    maps = attribute(network, IMAGES, method=method, layer=network.relu)
    assert mass(maps, box(0, 0)).min() > 0.8


@pytest.mark.parametrize("method", ["gradient", "occlusion"])
def test_a_ridge_on_pixels_whose_voxels_read_a_quadrant_is_traced_to_it(method):
    rng = np.random.default_rng(2)
    pixels = rng.integers(0, 256, (400, 1, 16, 16)).astype(np.uint8)
    features = pixels.reshape(400, -1).astype(np.float32) / 255
    responses = (features @ (box(8, 8).reshape(-1, 1) * rng.normal(size=(256, 20)))).astype(np.float32)
    ridge = fit_ridge(StimulusFeatures.of(features), np.arange(400), responses)
    maps = attribute(lambda images: ridge.respond(images.flatten(1) / 255), IMAGES, method=method)
    assert mass(maps, box(8, 8)).min() > 0.8


def test_the_gradient_of_a_linear_encoder_explains_all_of_it():
    """One voxel: |x − mean| × |weight| of each pixel, and before the absolute value its sum is the deviation."""
    respond = linear(np.ones((16, 16)))
    inputs = torch.from_numpy(IMAGES).float().requires_grad_()
    (slope,) = torch.autograd.grad(respond(inputs).sum(), inputs)
    parts = (slope * (inputs.detach() - torch.from_numpy(CENTRE).float()))[:, 0]
    torch.testing.assert_close(parts.sum((1, 2)), respond(inputs)[:, 0].detach(), rtol=1e-3, atol=1e-2)
    expected = parts.abs() / parts.abs().sum((1, 2), keepdim=True)
    np.testing.assert_allclose(attribute(respond, IMAGES), expected.numpy(), rtol=1e-3, atol=1e-7)


def test_the_map_is_that_of_grad_cam_where_the_readout_pools():
    from captum.attr import LayerGradCam

    network = ConvNetwork(pooled=True)
    strength = LayerGradCam(lambda images: network(images).square().mean(1).sqrt(), network.relu)
    inputs = torch.from_numpy(IMAGES).float().requires_grad_()
    expected = resize_maps(strength.attribute(inputs).detach()[:, 0].abs(), (16, 16))
    maps = attribute(network, IMAGES, method="gradcam", layer=network.relu, baseline=np.zeros((1, 16, 16)))
    np.testing.assert_allclose(maps, expected.numpy() / expected.numpy().sum((1, 2), keepdims=True), atol=1e-5)


@pytest.mark.parametrize("method", ["gradient", "occlusion"])
def test_voxels_of_opposite_sign_do_not_cancel(method):
    one = linear(box(0, 8))
    maps = attribute(lambda images: torch.cat([one(images), -one(images)], 1), IMAGES, method=method)
    assert mass(maps, box(0, 8)).min() > 0.8


@pytest.mark.parametrize("method", ["gradient", "occlusion"])
def test_a_black_region_counts_as_one_that_differs_from_the_mean(method):
    images = IMAGES.copy()
    images[0] = 0
    maps = attribute(linear(box(0, 0)), images, method=method, baseline=CENTRE)
    assert mass(maps, box(0, 0))[0] > 0.8


@pytest.mark.parametrize("method", ["gradient", "occlusion"])
def test_weights_say_which_voxels_are_explained(method):
    respond = linear(box(0, 0), box(8, 8))
    for voxel, place in enumerate([box(0, 0), box(8, 8)]):
        maps = attribute(respond, IMAGES, method=method, weights=np.eye(2)[voxel])
        assert mass(maps, place).min() > 0.8


@pytest.mark.parametrize("method", METHODS)
def test_where_nothing_is_found_the_map_is_uniform(method):
    network = ConvNetwork()
    network.readout.what.data.zero_()
    network.readout.bias.data.zero_()
    maps = attribute(network, IMAGES, method=method, layer=network.relu)
    np.testing.assert_allclose(maps, 1 / 256, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_batches_make_no_difference(method, monkeypatch):
    network = ConvNetwork()
    whole = attribute(network, IMAGES, method=method, layer=network.relu)
    monkeypatch.setattr(attribution, "_IMAGES", 5)
    np.testing.assert_allclose(attribute(network, IMAGES, method=method, layer=network.relu), whole, atol=1e-7)


def test_grad_cam_needs_a_layer_with_a_map():
    with pytest.raises(UserError, match="needs a convolutional layer, and this encoder has none; take gradient or"):
        attribute(linear(box(0, 0)), IMAGES, method="gradcam")
    network = ConvNetwork(pooled=True)
    with pytest.raises(UserError, match="the PooledReadout it was given has none"):
        attribute(network, IMAGES, method="gradcam", layer=network.readout)
    assert not network.readout._forward_hooks


def test_no_image_gives_no_map():
    assert attribute(linear(box(0, 0)), IMAGES[:0], baseline=CENTRE).shape == (0, 16, 16)


def test_resized_maps_keep_their_place_and_their_sum():
    maps = torch.zeros(1, 16, 16)
    maps[0, :8, :8] = 1 / 64
    for size in ((4, 4), (32, 48)):
        resized = resize_maps(maps, size)
        assert resized.shape == (1, *size)
        torch.testing.assert_close(resized.sum(), torch.tensor(1.0))
        assert resized[0, : size[0] // 2, : size[1] // 2].sum() > 0.8

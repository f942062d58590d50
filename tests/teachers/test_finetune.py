from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from braindistill.errors import UserError
from braindistill.runtime import Runtime
from braindistill.teachers.finetune import Finetuned, fit_finetuned, load_finetuned
from braindistill.teachers.networks import load_network
from braindistill.teachers.options import EncoderOptions, FeatureOptions

RUNTIME = Runtime(device="cpu", tensorboard=False)
N = 160


def stimuli(n: int = N, seed: int = 0) -> np.ndarray:
    """Coarse random pictures of 8 × 8 pixels, one in each quadrant."""
    blocks = np.random.default_rng(seed).integers(0, 256, (n, 1, 2, 2))
    return blocks.repeat(4, 2).repeat(4, 3).astype(np.uint8)


def respond(images: np.ndarray) -> np.ndarray:
    """Eight voxels that read the four quadrants, with gains of either sign, around a mean of 5."""
    quadrants = images[:, 0, ::4, ::4].reshape(len(images), 4) / 255 - 0.5
    return (5 + 3 * np.concatenate([quadrants, -quadrants], 1)).astype(np.float32)


def fit(
    images: np.ndarray | None = None,
    responses: np.ndarray | None = None,
    *,
    ceiling=None,
    seed=0,
    start=None,
    **options: Any,
) -> Finetuned:
    images = stimuli() if images is None else images
    responses = respond(images) if responses is None else responses
    encoding = {"encoder_epochs": 12, "encoder_lr": 0.02} | {
        k: v for k, v in options.items() if k in vars(EncoderOptions())
    }
    features = {k: v for k, v in options.items() if k in vars(FeatureOptions())}
    return fit_finetuned(
        images, np.arange(len(images)), responses, ceiling, FeatureOptions(**features),
        EncoderOptions("finetune", **encoding), seed, None, RUNTIME, start,
    )  # fmt: skip


def r2(encoder: Finetuned, images: np.ndarray) -> np.ndarray:
    measured = respond(images)
    return 1 - ((encoder.predict(images) - measured) ** 2).mean(0) / measured.var(0)


@pytest.fixture(scope="module")
def fitted() -> Finetuned:
    return fit()


@pytest.mark.parametrize("readout", ["factorised", "pooled"])
def test_it_learns_what_voxels_read_and_says_so_for_new_pictures(readout, fitted):
    if readout == "factorised":
        assert r2(fitted, stimuli(seed=1)).min() > 0.6
        assert fitted.describe()["val_r2"] > 0.6
    else:  # a pooled readout can't tell quadrants, but it can their mean
        images = stimuli()
        means = respond(images).reshape(N, 2, 4).mean(2)
        encoder = fit(images, means, readout="pooled")
        new = stimuli(seed=1)
        predicted, measured = encoder.predict(new), respond(new).reshape(N, 2, 4).mean(2)
        assert (1 - ((predicted - measured) ** 2).mean(0) / measured.var(0)).min() > 0.5


def test_masks_find_the_quadrant_that_a_voxel_reads(fitted):
    where = fitted.network.readout.where()
    side = where.shape[1] // 2
    quadrants = where.unflatten(1, (2, side)).unflatten(3, (2, side)).sum((2, 4)).flatten(1)
    assert quadrants.argmax(1).tolist() == [0, 1, 2, 3] * 2


def test_the_deviation_and_the_intercept_make_the_prediction(fitted):
    images = stimuli(20, seed=1)
    deviation = fitted.respond(torch.from_numpy(images).float())
    np.testing.assert_allclose(deviation.numpy() + fitted.intercept, fitted.predict(images), rtol=1e-5)
    assert fitted.predict(images).dtype == np.float32
    np.testing.assert_allclose(fitted.intercept, respond(stimuli()).mean(0), rtol=1e-5)
    over_its_stimuli = fitted.respond(torch.from_numpy(stimuli())).mean(0)
    np.testing.assert_allclose(over_its_stimuli.numpy(), 0, atol=1e-4)


def test_the_deviation_has_a_gradient_where_the_voxel_looks(fitted):
    images = torch.from_numpy(stimuli(20, seed=1)).float().requires_grad_()
    (slope,) = torch.autograd.grad(fitted.respond(images)[:, 0].sum(), images)
    strength = slope.abs().sum((0, 1))
    # each pixel of the map sees a margin of four pixels around it
    assert strength[:4, :4].sum() > strength[4:, 4:].sum() * 3 > 0


def test_it_comes_back_from_its_arrays_and_its_description(fitted):
    images = stimuli(20, seed=1)
    again = load_finetuned(json.loads(json.dumps(fitted.describe())), fitted.arrays())
    np.testing.assert_array_equal(again.predict(images), fitted.predict(images))
    assert again.describe() == fitted.describe()
    assert again.describe()["kind"] == "finetune"


def test_the_seed_decides(fitted):
    images = stimuli(20, seed=1)
    np.testing.assert_array_equal(fit().predict(images), fitted.predict(images))
    assert np.abs(fit(seed=1).predict(images) - fitted.predict(images)).max() > 1e-3


def test_only_its_own_rows_are_read():
    images, rows = stimuli(), np.arange(0, N, 2)
    options = FeatureOptions(), EncoderOptions("finetune", encoder_epochs=2), 0, None, RUNTIME
    one = fit_finetuned(images, rows, respond(images)[rows], None, *options)
    images[1::2] = 255 - images[1::2]
    other = fit_finetuned(images, rows, respond(stimuli())[rows], None, *options)
    np.testing.assert_array_equal(one.predict(images), other.predict(images))


def test_voxels_without_a_ceiling_are_not_learned():
    ceiling = np.array([0.5, 0.5, 0.5, 0.5, 0, -0.1, np.nan, 0])
    found = r2(fit(ceiling=ceiling), stimuli(seed=1))
    assert found[:4].min() > 0.5
    assert found[4:].max() < 0.3


def test_a_constant_voxel_is_predicted_as_it_is():
    responses = respond(stimuli())
    responses[:, 3] = 2
    predicted = fit(responses=responses, encoder_epochs=2).predict(stimuli(seed=1))
    np.testing.assert_allclose(predicted[:, 3], 2)
    assert np.isfinite(predicted).all()


def test_noise_is_not_learned():
    noise = np.random.default_rng(0).normal(size=(N, 30)).astype(np.float32)
    encoder = fit(responses=noise)
    assert encoder.describe()["val_r2"] < 0.1
    new = np.random.default_rng(1).normal(size=(N, 30))
    assert abs(np.corrcoef(encoder.predict(stimuli(seed=1)).ravel(), new.ravel())[0, 1]) < 0.1


def test_an_older_encoder_is_continued(fitted):
    images = stimuli(20, seed=1)
    still = {"encoder_epochs": 1, "encoder_lr": 1e-9}
    again = fit(start=fitted, **still)
    np.testing.assert_allclose(again.predict(images), fitted.predict(images), atol=0.3)
    assert r2(again, stimuli(seed=1)).min() > 0.5
    fewer = fit(start=fitted, responses=respond(stimuli())[:, :3], **still)
    assert fewer.predict(images).shape == (20, 3)
    old, new = (dict(encoder.network.backbone.named_parameters()) for encoder in (fitted, fewer))
    for name, weight in old.items():
        torch.testing.assert_close(new[name], weight, rtol=0, atol=1e-6)
    with pytest.raises(UserError, match="older encoder has readout=factorised, and this one readout=pooled"):
        fit(start=fitted, readout="pooled")


def test_the_layer_that_is_read_can_be_named():
    encoder = fit(layers=["2"], encoder_epochs=1)
    assert encoder.describe()["map"] == [16, 8, 8]
    assert not any(key.startswith("network.backbone.4") for key in encoder.arrays())
    with pytest.raises(UserError, match=r"teacher.layers: small_cnn has no layer 'conv1'"):
        fit(layers=["conv1"])
    with pytest.raises(UserError, match=r"small_cnn's '11' gives 96, and finetune reads a map .* take one of"):
        fit(layers=["11"])


def test_a_torchvision_network_gets_colour_its_size_and_imagenets_statistics(tmp_path):
    weights = tmp_path / "squeeze.safetensors"
    save_file(load_network("squeezenet1_1", None).state_dict(), weights)
    options = {"network": "squeezenet1_1", "image_size": 40, "layers": ["features.3"], "encoder_epochs": 1}
    encoder = fit(stimuli(24), weights=weights, **options)
    np.testing.assert_allclose(encoder.arrays()["picture_mean"], [0.485, 0.456, 0.406], rtol=1e-6)
    assert encoder.describe()["side"] == [40, 40]
    again = load_finetuned(encoder.describe(), encoder.arrays())
    np.testing.assert_array_equal(again.predict(stimuli(4)), encoder.predict(stimuli(4)))
    untrained = fit(stimuli(24), **options)
    np.testing.assert_allclose(untrained.arrays()["picture_mean"], [stimuli(24).mean() / 255], atol=0.05)


def test_a_students_weights_bring_its_own_build_and_statistics(tmp_path):
    from braindistill.students.artifact import save
    from braindistill.students.build import build

    network = build("small_cnn", 2, (1, 8, 8), 3, width=4)
    description = {"name": "small_cnn", "options": {"width": 4}, "classes": ["a", "b"], "image_shape": [1, 8, 8]}
    save(network, tmp_path, description | {"mean": [0.25], "std": [0.5]})
    encoder = fit(network="small_cnn", weights=tmp_path / "student.safetensors", encoder_epochs=1, encoder_lr=1e-9)
    assert encoder.describe()["map"] == [6, 4, 4]
    np.testing.assert_allclose(encoder.arrays()["picture_mean"], [0.25])
    found = encoder.network.state_dict()["backbone.0.weight"]
    torch.testing.assert_close(found, network.state_dict()["0.weight"], rtol=0, atol=1e-6)
    load_finetuned(encoder.describe(), encoder.arrays())


def test_too_few_stimuli_are_refused():
    with pytest.raises(UserError, match="at least 3 stimuli to be fitted on, and there are 2"):
        fit(stimuli(2))

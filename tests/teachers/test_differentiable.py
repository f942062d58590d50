"""Decoders as functions of tensors say what they say as functions of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from braindistill.errors import UserError
from braindistill.teachers.calibration import log_softmax
from braindistill.teachers.chosen_voxels import ChosenVoxels
from braindistill.teachers.decoder import fit_decoder_model
from braindistill.teachers.differentiable import known_classes, logits_of, training_mean
from braindistill.teachers.options import DecoderOptions
from braindistill.teachers.voxel_layout import voxel_layout

KINDS = ["lda", "logistic", "ridge", "prototype", "mlp", "resnet1d"]


def trials(n: int = 60, voxels: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Classes 0, 1 and 3 of four, and a constant voxel."""
    rng = np.random.default_rng(seed)
    labels = np.array([0, 1, 3])[np.arange(n) % 3]
    responses = 100 + labels[:, None] * rng.normal(size=voxels) + rng.normal(size=(n, voxels))
    responses[:, 7] = 5
    return responses.astype(np.float32), labels


def fit(kind: str, channels: Any = "one") -> Any:
    responses, labels = trials()
    options = DecoderOptions(decoder=kind, width=4, epochs=2, lr=(0.01,), channels=channels)  # type: ignore[arg-type]
    rois = {"a": np.arange(20) < 6, "b": np.arange(20) >= 9}
    layout = voxel_layout(rois, None, 20, channels) if kind == "resnet1d" else None
    return fit_decoder_model(options, responses, labels, 4, layout=layout)


@pytest.mark.parametrize("kind", [*KINDS, "resnet1d, channels"])
def test_the_logits_are_those_of_the_predictions(kind):
    decoder = fit(kind.split(",")[0], "roi" if "," in kind else "one")
    known = known_classes(decoder, 4)
    assert known.tolist() == [True, True, False, True]
    new = trials(9, seed=1)[0]
    new[0] += 60  # beyond where networks cut off
    new[1] = -40
    logits = logits_of(decoder)(torch.from_numpy(new).double()).detach().numpy()
    np.testing.assert_allclose(log_softmax(logits[:, known]), log_softmax(decoder.predict(new)[:, known]), atol=2e-4)


@pytest.mark.parametrize("kind", ["lda", "prototype", "mlp"])
def test_decoders_that_keep_their_training_mean_give_it(kind):
    responses, _ = trials()
    chosen = ChosenVoxels(np.arange(20), fit(kind))
    for decoder in (fit(kind), chosen):
        np.testing.assert_allclose(training_mean(decoder, np.zeros(20)), responses.mean(0), rtol=1e-5)


def test_others_take_what_they_are_given():
    assert training_mean(fit("ridge"), np.arange(20.0)).tolist() == list(range(20))
    narrow = ChosenVoxels(
        np.array([2, 4]), fit_decoder_model(DecoderOptions("lda"), trials()[0][:, [2, 4]], trials()[1], 4)
    )
    mean = training_mean(narrow, np.zeros(20))
    np.testing.assert_allclose(mean[[2, 4]], trials()[0][:, [2, 4]].mean(0), rtol=1e-5)
    assert np.delete(mean, [2, 4]).any() == False  # noqa: E712
    np.testing.assert_allclose(
        logits_of(narrow)(torch.ones(1, 20).double()), logits_of(narrow.decoder)(torch.ones(1, 2).double())
    )


def test_the_parts_of_a_correlation_make_up_the_whole():
    decoder = fit("prototype")
    responses = torch.from_numpy(trials(1, seed=2)[0]).double().requires_grad_()
    logit = logits_of(decoder)(responses)[0, 3]
    (slope,) = torch.autograd.grad(logit, responses)
    parts = slope * (responses - torch.from_numpy(decoder.mean))
    torch.testing.assert_close(parts.sum(), logit, rtol=1e-6, atol=1e-6)


def test_an_unknown_decoder_is_refused():
    with pytest.raises(UserError, match="a list can't be explained"):
        logits_of([])

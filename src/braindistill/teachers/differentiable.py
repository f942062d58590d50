"""Fitted decoders as functions of tensors, with slopes: from raw responses to logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from braindistill.errors import UserError
from braindistill.teachers.chosen_voxels import ChosenVoxels
from braindistill.teachers.linear_decoder import LinearDecoder
from braindistill.teachers.network_decoder import CLIP, NetworkDecoder
from braindistill.teachers.prototype_decoder import PrototypeDecoder


def logits_of(decoder: Any, device: str = "cpu") -> Callable[[Tensor], Tensor]:
    """The function from responses (n × voxels, float64) to logits (n × classes), up to a constant a row.

    Classes that the decoder doesn't know have logits of no meaning (see `known_classes`). The length of a pattern that a
    `PrototypeDecoder` correlates has no slope.

    Raises
    ------
    UserError
        A kind of decoder that is not known here.
    """
    if isinstance(decoder, ChosenVoxels):
        index, inner = torch.from_numpy(decoder.index).to(device), logits_of(decoder.decoder, device)
        return lambda responses: inner(responses[:, index])
    if isinstance(decoder, LinearDecoder):
        weights, bias = _double(decoder.weights, device), _double(decoder.bias, device)
        return lambda responses: responses @ weights + bias
    if isinstance(decoder, PrototypeDecoder):
        return _correlate(decoder, device)
    if isinstance(decoder, NetworkDecoder):
        return _run(decoder, device)
    raise UserError(f"a {type(decoder).__name__} can't be explained: it is no decoder that is known")


def known_classes(decoder: Any, n_classes: int) -> np.ndarray:
    """Which classes a decoder was fitted on (classes, bool)."""
    inner = decoder.decoder if isinstance(decoder, ChosenVoxels) else decoder
    return np.ones(n_classes, bool) if inner.counts is None else np.asarray(inner.counts) > 0


def training_mean(decoder: Any, otherwise: np.ndarray) -> np.ndarray:
    """The mean response that a decoder was fitted on (voxels), or ``otherwise`` where it keeps none."""
    if isinstance(decoder, ChosenVoxels):
        whole = otherwise.copy()
        whole[decoder.index] = training_mean(decoder.decoder, otherwise[decoder.index])
        return whole
    if isinstance(decoder, LinearDecoder):
        if decoder.means is None or decoder.counts is None:
            return otherwise
        return decoder.counts @ decoder.means.astype(np.float64) / decoder.counts.sum()
    return np.asarray(decoder.mean, np.float64)


def _correlate(decoder: PrototypeDecoder, device: str) -> Callable[[Tensor], Tensor]:
    known = np.flatnonzero(decoder.counts)
    mean, scale = _double(decoder.mean, device), _double(decoder.scale, device)
    varying = torch.isfinite(scale)

    def patterns(rows: Tensor) -> Tensor:
        rows = (rows[:, varying] - mean[varying]) / scale[varying]
        rows = rows - rows.mean(1, keepdim=True)
        return rows / rows.detach().norm(dim=1, keepdim=True).clamp_min(1e-300)

    prototypes = patterns(_double(decoder.means[known], device))

    def respond(responses: Tensor) -> Tensor:
        logits = responses.new_zeros(len(responses), len(decoder.counts))
        logits[:, known] = decoder.beta * patterns(responses) @ prototypes.T
        return logits

    return respond


def _run(decoder: NetworkDecoder, device: str) -> Callable[[Tensor], Tensor]:
    network = decoder.network.to(device).eval()
    mean, scale = _double(decoder.mean, device), _double(decoder.scale, device)
    index = torch.from_numpy(np.maximum(decoder.layout.index, 0)).to(device)
    padding = torch.from_numpy(decoder.layout.index < 0).to(device)

    def respond(responses: Tensor) -> Tensor:
        rows = ((responses - mean) / scale).clamp(-CLIP, CLIP)
        return network(rows[:, index].masked_fill(padding, 0).float()).double()

    return respond


def _double(array: np.ndarray, device: str) -> Tensor:
    return torch.from_numpy(np.array(array, np.float64)).to(device)

"""Grad-CAM of a residual network along its voxels: which stretches of the brain speak for a class."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from braindistill.errors import UserError
from braindistill.teachers.chosen_voxels import ChosenVoxels
from braindistill.teachers.contributions import HeldOut, class_scores
from braindistill.teachers.network_decoder import NetworkDecoder

_BATCH = 256


def trace_decoder(teacher: Any, held: HeldOut, places: int, device: str = "cpu") -> np.ndarray:
    """Trace the centred logit of each held-out response's own class back to voxels.

    Grad-CAM (Selvaraju et al. 2017) with the element-wise gradient (HiResCAM, Draelos & Carin 2020): the positive part of
    Σ over channels of map × gradient, which at the last map, before the global pool, is Grad-CAM itself. That map is the
    one of the project of 2021, but it has one place for every 32 voxels: where it has fewer than ``places``, the last
    earlier one that has as many is taken. A place is centred on every stride-th voxel, and voxels between two take from both.

    Parameters
    ----------
    teacher, held : see `held_out`
    places : the least length of the map, some for each ROI that is to be told apart

    Returns
    -------
    (n × voxels) not negative, each row adding up to 1; NaN where nothing speaks for the class

    Raises
    ------
    UserError
        The decoders aren't ``resnet1d`` along one axis of all voxels.
    """
    networks = [_network(teacher, k) for k in range(len(teacher.members[0].decoders))]
    found = np.zeros((len(held.rows), held.responses.shape[1]), np.float32)
    for k in np.unique(held.fold).tolist():
        decoder, columns = networks[k]
        score = class_scores(teacher, k, device)
        along = columns[decoder.layout.index[0]]
        rows = np.flatnonzero(held.fold == k)
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            x = torch.from_numpy(np.asarray(held.responses[held.rows[batch]], np.float64)).to(device)
            classes = torch.from_numpy(held.classes[batch]).to(device)
            maps = _cam(decoder, score, x, classes, places).double().cpu().numpy()
            found[np.ix_(batch, along)] = maps @ _interpolation(maps.shape[1], len(along))
    total = found.sum(1, keepdims=True)
    return np.divide(found, total, out=np.full_like(found, np.nan), where=total > 0)


def _network(teacher: Any, fold: int) -> tuple[NetworkDecoder, np.ndarray]:
    """The network of a fold, and the teacher's voxels that it reads."""
    decoder = teacher.members[0].decoders[fold]
    columns = np.asarray(teacher.members[0].columns)
    if isinstance(decoder, ChosenVoxels):
        decoder, columns = decoder.decoder, columns[decoder.index]
    kind = decoder.describe()["kind"]
    if kind != "resnet1d":
        raise UserError(f"teacher.decoder={kind} has no axis of voxels to look along; teacher.decoder=resnet1d has")
    if len(teacher.members) > 1:
        raise UserError("each ROI has a network of its own, so no map lies across them; give teacher.roi as a union")
    if len(decoder.layout.index) > 1:
        raise UserError(
            "teacher.channels=roi: ROIs lie side by side on the axis, and a map along it can't tell them apart"
        )
    return decoder, columns


def _cam(decoder: NetworkDecoder, score: Any, x: Tensor, classes: Tensor, places: int) -> Tensor:
    """The map of each row (n × places), not negative."""
    seen: list[Tensor] = []
    blocks: Any = decoder.network.blocks
    hooks = [block.register_forward_hook(lambda _block, _inputs, output: seen.append(output)) for block in blocks]
    try:
        own = score(x).gather(1, classes[:, None]).sum()
    finally:
        for hook in hooks:
            hook.remove()
    long = [maps for maps in seen if maps.shape[2] >= places]
    chosen = long[-1] if long else seen[0]
    (gradient,) = torch.autograd.grad(own, chosen)
    return (chosen.detach() * gradient).sum(1).clamp_min(0)


def _interpolation(places: int, length: int) -> np.ndarray:
    """Weights (places × length) between places that are centred on every stride-th voxel, strides being powers of two."""
    stride = 2 ** round(np.log2(length / places))
    at = np.minimum(np.arange(length) / stride, places - 1)
    return np.maximum(0, 1 - np.abs(at - np.arange(places)[:, None]))

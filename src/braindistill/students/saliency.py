"""Where students look: Grad-CAM of a few images, side by side, and how much of it lies where the brain's masks do."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from braindistill.errors import UserError
from braindistill.students.artifact import Student
from braindistill.students.taps import keep

_BATCH = 64
#: the brain's map is cut where it leaves this share of the pixels
_TOP = 0.25


class Overlap(NamedTuple):
    """How a student's attention lies to the brain's, an image each (n); NaN where one of the two says nothing.

    Attributes
    ----------
    share : of the student's attention, what lies in the top quarter of the brain's map: 0.25 if it doesn't care
    permuted_share : the same with the maps of the other images, on average: what both looking at the middle would give
    rank : Spearman's correlation over pixels
    permuted_rank : the same with the maps of the other images
    """

    share: np.ndarray
    permuted_share: np.ndarray
    rank: np.ndarray
    permuted_rank: np.ndarray


def choose_evenly(labels: np.ndarray, count: int) -> np.ndarray:
    """Rows of at most ``count`` items, as many of each class as can be, the first ones of it; sorted.

    Always the same for the same labels: nobody picked them.
    """
    labels = np.asarray(labels)
    turn = np.empty(len(labels), int)
    for value in np.unique(labels):
        members = np.flatnonzero(labels == value)
        turn[members] = np.arange(len(members))
    return np.sort(np.lexsort((labels, turn))[:count])


def find_last_map(network: nn.Module, image_shape: tuple[int, int, int]) -> str | None:
    """The layer that gives the last convolutional map before the head, of more than one place; None where there is none.

    The last convolution's map may yet be normalised, rectified and added to a shortcut: the last module whose output has
    its shape gives what goes on. A network whose convolution is followed by tokens (a vision transformer) has no such map.
    """
    runs: list[tuple[str, bool, tuple[int, ...]]] = []

    def note(name: str) -> Any:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            runs.append(
                (name, isinstance(module, nn.Conv2d), tuple(output.shape) if isinstance(output, Tensor) else ())
            )

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in network.named_modules() if name]
    weight = next(network.parameters())
    was_training = network.training
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, *image_shape, dtype=weight.dtype, device=weight.device))
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    maps = [shape for _, convolution, shape in runs if convolution and len(shape) == 4 and shape[2] * shape[3] > 1]
    if not maps:
        return None
    last = max(place for place, (_, _, shape) in enumerate(runs) if shape == maps[-1])
    return None if any(len(shape) == 3 for _, _, shape in runs[last:]) else runs[last][0]


def trace_student(student: Student, images: np.ndarray, classes: np.ndarray, device: str = "cpu") -> np.ndarray:
    """What speaks for a class in each image.

    Grad-CAM (Selvaraju et al. 2017) of the class's logit, less the mean of all logits, at `find_last_map`: the positive part
    of Σ over channels of map × gradient. The gradient is taken place by place (HiResCAM, Draelos & Carin 2020), since its
    mean over the map forgets where a head that isn't a global pool looks; where it is one, the two are equal.

    Parameters
    ----------
    images : (n × channels × height × width) uint8, may be a memory map
    classes : (n) whose logit is explained: the true class, so that students can be compared

    Returns
    -------
    (n × height × width) float32 of the images' size, the largest value 1; all 0 where nothing speaks for the class

    Raises
    ------
    UserError
        The network has no convolutional map before its head.
    """
    name = find_last_map(student.network, student.description["image_shape"])
    if name is None:
        raise UserError(
            f"student={student.description['name']} has no convolutional map before its head, which Grad-CAM needs"
        )
    student.to(device).eval()
    seen: dict[str, Tensor] = {}
    handles = keep(student.network, [name], seen)
    found = np.empty((len(images), *images.shape[2:]), np.float32)
    try:
        for start in range(0, len(images), _BATCH):
            batch = torch.from_numpy(np.array(images[start : start + _BATCH])).to(device)
            own = torch.from_numpy(np.asarray(classes[start : start + _BATCH])).to(device)
            logits = student(batch).float()
            (gradient,) = torch.autograd.grad((logits.gather(1, own[:, None])[:, 0] - logits.mean(1)).sum(), seen[name])
            maps = (seen[name].detach() * gradient).sum(1).clamp_min(0).float()
            maps = F.interpolate(maps[:, None], images.shape[2:], mode="bilinear", antialias=True)[:, 0].clamp_min(0)
            found[start : start + _BATCH] = (maps / maps.amax((1, 2), keepdim=True).clamp_min(1e-30)).cpu().numpy()
    finally:
        for handle in handles:
            handle.remove()
    return found


def compare_maps(attention: np.ndarray, brain: np.ndarray) -> Overlap:
    """Compare maps of a student with those of the brain, image by image, and with those of all other images.

    Parameters
    ----------
    attention, brain : (n × height × width), not negative
    """
    n = len(attention)
    ours, theirs = attention.reshape(n, -1).astype(np.float64), brain.reshape(n, -1).astype(np.float64)
    total = ours.sum(1, keepdims=True)
    shares = np.divide(ours, total, out=np.full_like(ours, np.nan), where=total > 0) @ _top(theirs).T
    return Overlap(*_own_and_others(shares), *_own_and_others(_standard_ranks(ours) @ _standard_ranks(theirs).T))


def _top(maps: np.ndarray) -> np.ndarray:
    """Weights (n × pixels) of 1 for the quarter with the largest values; pixels that tie at the cut share what is left."""
    wanted = _TOP * maps.shape[1]
    cut = -np.sort(-maps, axis=1)[:, [int(np.ceil(wanted)) - 1]]
    above, level = maps > cut, maps == cut
    return above + level * (wanted - above.sum(1, keepdims=True)) / level.sum(1, keepdims=True)


def _standard_ranks(maps: np.ndarray) -> np.ndarray:
    """Ranks over pixels with mean 0 and length 1 (n × pixels); NaN for a constant map."""
    from scipy.stats import rankdata

    ranks = rankdata(maps, axis=1)
    ranks -= ranks.mean(1, keepdims=True)
    length = np.linalg.norm(ranks, axis=1, keepdims=True)
    return np.divide(ranks, length, out=np.full_like(ranks, np.nan), where=length > 0)


def _own_and_others(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Diagonal of a table (images × brain maps), and the mean of what else there is in each row; NaN is left out."""
    others = np.where(np.eye(len(table), dtype=bool), np.nan, table)
    there = np.isfinite(others)
    count = there.sum(1)
    mean = np.divide(np.where(there, others, 0).sum(1), count, out=np.full(len(table), np.nan), where=count > 0)
    return np.diag(table).copy(), mean

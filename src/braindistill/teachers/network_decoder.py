"""Decoders that are networks: a perceptron over all voxels, or a residual network that slides along them."""

from __future__ import annotations

import copy
import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from braindistill.errors import UserError
from braindistill.runtime import Runtime, seeded
from braindistill.teachers.calibration import log_softmax
from braindistill.teachers.inner_split import inner_split
from braindistill.teachers.linear_continuation import check_start
from braindistill.teachers.linear_decoder import FLOOR, column_scale
from braindistill.teachers.options import DecoderOptions
from braindistill.teachers.resnet1d import build_resnet1d
from braindistill.teachers.voxel_layout import VoxelLayout
from braindistill.training import Batch, Learner, TrainingSet, TrainOptions, Validation, best_epoch, train

NETWORKS = ("mlp", "resnet1d")
#: z-scores are cut off here, lest one voxel's spike rule a trial
CLIP = 5.0
#: epochs without a better likelihood after which a rate is given up
_PATIENCE = 10
_TRAINING: dict[str, Any] = {"optimizer": "adamw", "weight_decay": 0.05, "warmup": 0.1, "channels_last": False}
_BATCH_SIZE = 16
_BATCH = 256
_SCORE = "val_log_likelihood"


@dataclass
class NetworkDecoder:
    """A fitted network and what its inputs go through.

    Attributes
    ----------
    network : module from (trials × channels × length) to logits
    layout : which voxel stands where
    mean, scale : (voxels) z-scoring by the training trials; ``scale`` is infinite for a constant voxel
    counts : (classes) trials that each class was fitted on; a class without any gets the floor
    description : kind and size, and the rate and epochs that were chosen
    """

    network: nn.Module
    layout: VoxelLayout
    mean: np.ndarray
    scale: np.ndarray
    counts: np.ndarray
    description: dict[str, Any]

    @torch.no_grad()
    def predict(self, responses: np.ndarray) -> np.ndarray:
        """Responses (trials × voxels) → log-probabilities float32 (trials × classes)."""
        self.network.eval()
        device = next(self.network.parameters()).device
        logits = np.empty((len(responses), len(self.counts)), np.float32)
        for first in range(0, len(responses), _BATCH):
            part = _inputs(responses[first : first + _BATCH], self.mean, self.scale, self.layout)
            logits[first : first + _BATCH] = self.network(part.to(device)).float().cpu().numpy()
        known = self.counts > 0
        if not known.all():
            logits = np.where(known, logits - logits[:, known].mean(1, keepdims=True), FLOOR)
        return log_softmax(logits)

    def arrays(self) -> dict[str, np.ndarray]:
        found = {"layout": self.layout.index, "mean": self.mean, "scale": self.scale, "counts": self.counts}
        weights = {name: value.cpu().numpy() for name, value in self.network.state_dict().items()}
        return found | {f"network/{name}": value for name, value in weights.items()}

    def describe(self) -> dict[str, Any]:
        return self.description


def load_network_decoder(description: dict[str, Any], arrays: dict[str, np.ndarray]) -> NetworkDecoder:
    """The inverse of `NetworkDecoder.describe` and `NetworkDecoder.arrays`."""
    layout = VoxelLayout(arrays["layout"], tuple(description["channels"]))
    network = _build(description, len(arrays["counts"]), layout, 0)
    weights = {name: value for name, value in arrays.items() if name.startswith("network/")}
    network.load_state_dict(
        {name.removeprefix("network/"): torch.from_numpy(np.array(value)) for name, value in weights.items()}
    )
    return NetworkDecoder(network.eval(), layout, arrays["mean"], arrays["scale"], arrays["counts"], description)


def fit_network_decoder(
    options: DecoderOptions,
    responses: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    *,
    groups: np.ndarray | None = None,
    layout: VoxelLayout | None = None,
    together: bool = False,
    seed: int = 0,
    start: NetworkDecoder | None = None,
    folder: Path | None = None,
    runtime: Runtime | None = None,
) -> NetworkDecoder:
    """Choose learning rate and epochs on trials held out inside the given ones, then train on all of them.

    Each rate is tried on the trials outside the inner split, and its best epoch is that of the highest likelihood of
    the trials inside. The best rate then runs over all trials along the same schedule, and ends after that epoch.
    Where there is no inner split (each class lies in one group), the first rate runs to the end of its schedule.
    The parameters are those of `fit_decoder_model`.
    """
    layout = layout or VoxelLayout(np.arange(responses.shape[1])[None], ("all",))
    size: dict[str, Any] = {"kind": options.decoder, "depth": options.depth, "width": options.width}
    description = size | {"channels": list(layout.channels)}
    if start is None:
        first = _build(description, n_classes, layout, seed)
    else:
        _check_network(start, description, responses.shape[1], n_classes)
        first = start.network
    trials = _Trials(responses, labels.astype(np.int64), layout, together)
    fit = functools.partial(
        _fit_trials, first, trials, options.epochs, seed, runtime or Runtime(device="cpu", tensorboard=False)
    )
    inner = inner_split(labels, groups, seed)
    every = np.arange(len(labels))
    if inner is None:
        lr, epochs = options.lr[0], options.epochs
        description["selection"] = "none: each class lies in one group, so that nothing can be held out inside"
    else:
        tried = []
        for rate in options.lr:
            *_, history = fit(every[~inner], every[inner], rate, None, None)
            best = best_epoch(history, _SCORE)
            tried.append({"lr": rate, "epochs": best, "log_likelihood": history[best - 1][_SCORE]})
        chosen = max(tried, key=lambda one: one["log_likelihood"])
        lr, epochs = chosen["lr"], int(chosen["epochs"])
        description["selection"] = f"log-likelihood of {inner.sum()} of {len(inner)} trials, held out inside"
        description["tried"] = tried
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    network, mean, scale, _ = fit(every, every[:0], lr, epochs, folder)
    counts = np.bincount(labels, minlength=n_classes) + (0 if start is None else start.counts)
    return NetworkDecoder(network, layout, mean, scale, counts, description | {"lr": lr, "epochs": epochs})


class _Trials(NamedTuple):
    responses: np.ndarray
    labels: np.ndarray
    layout: VoxelLayout
    together: bool


def _fit_trials(
    first: nn.Module,
    trials: _Trials,
    epochs: int,
    seed: int,
    runtime: Runtime,
    rows: np.ndarray,
    held: np.ndarray,
    lr: float,
    stop: int | None,
    folder: Path | None,
) -> tuple[nn.Module, np.ndarray, np.ndarray, list[dict[str, float]]]:
    """Train a copy of ``first`` on some rows, and score it on those that are held: network, mean, scale, history."""
    mean, scale = column_scale(trials.responses[rows], trials.together)
    scale = scale / np.sqrt(len(scale))  # that of one column
    network = copy.deepcopy(first)
    labels = torch.from_numpy(trials.labels)
    data = TrainingSet(_inputs(trials.responses[rows], mean, scale, trials.layout), labels[rows], len(rows))
    options = TrainOptions(epochs=epochs, lr=lr, batch_size=min(_BATCH_SIZE, len(rows)), **_TRAINING)
    validation = None
    if len(held):

        def score(logits: Tensor) -> float:
            return -F.cross_entropy(logits, labels[held]).item()

        validation = Validation(_inputs(trials.responses[held], mean, scale, trials.layout), score, "log_likelihood")
        options = dataclasses.replace(options, patience=_PATIENCE)
    learner = Learner(network, data, validation, _loss, seed, folder)
    return network, mean, scale, train([learner], runtime, options, stop)[0]


def _loss(logits: Tensor, batch: Batch) -> dict[str, Tensor]:
    return {"label": F.cross_entropy(logits, batch.labels)}


def _inputs(responses: np.ndarray, mean: np.ndarray, scale: np.ndarray, layout: VoxelLayout) -> Tensor:
    """Responses (trials × voxels) → z-scores (trials × channels × length)."""
    rows = np.clip((responses - mean) / scale, -CLIP, CLIP).astype(np.float32)
    return torch.from_numpy(layout.arrange(rows))


def _build(description: dict[str, Any], n_classes: int, layout: VoxelLayout, seed: int) -> nn.Module:
    with seeded(seed, "decoder"):
        if description["kind"] == "mlp":
            hidden = 4 * description["width"]
            return nn.Sequential(
                nn.Flatten(), nn.Linear(layout.index.size, hidden), nn.ReLU(), nn.Linear(hidden, n_classes)
            )
        return build_resnet1d(n_classes, len(layout.index), description["depth"], description["width"])


def _check_network(start: NetworkDecoder, description: dict[str, Any], n_voxels: int, n_classes: int) -> None:
    older = {name: start.description[name] for name in description}
    if description["kind"] == "resnet1d":
        older["channels"], newer = len(older["channels"]), description | {"channels": len(description["channels"])}
        check_start((0, len(start.counts)), (0, n_classes))  # it slides along any number of voxels
    else:
        newer = description
        check_start((len(start.mean), len(start.counts)), (n_voxels, n_classes))
    for name, value in newer.items():
        if older[name] != value:
            raise UserError(
                f"teacher.init_from: the older decoder has {name} {older[name]}, this one {value}; give the same"
            )

"""Encoder: pictures → voxels, a network trained end to end with a readout for each voxel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from braindistill.errors import UserError
from braindistill.images import channel_statistics, normalise
from braindistill.runtime import Runtime, numpy_generator, progress, seeded
from braindistill.teachers.backbone import BrainNetwork, build_backbone, find_map
from braindistill.teachers.networks import find_network
from braindistill.teachers.options import EncoderOptions, FeatureOptions
from braindistill.training import Batch, Learner, TrainingSet, TrainOptions, Validation, train

_BATCH = 128
_BATCH_SIZE = 32
_WEIGHT_DECAY = 0.1
#: epochs without a better score on the held-out stimuli, after which training stops
_PATIENCE = 20


class Finetuned:
    """A network with a readout for each voxel; it reads the pictures themselves.

    Attributes
    ----------
    network : normalised pictures (n × C × H × W) → z-scored responses (n × voxels)
    intercept, scale : (voxels) mean and standard deviation of the responses, in their unit
    layer : module whose output is the map that voxels read
    """

    def __init__(self, description: dict[str, Any], network: BrainNetwork, arrays: dict[str, np.ndarray]) -> None:
        # the layout in which it was trained: another one changes the last bits
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = network.eval().requires_grad_(False)
        self.intercept, self.scale = arrays["intercept"], arrays["scale"]
        self._pictures = arrays["picture_mean"], arrays["picture_std"]
        self._description = description

    @property
    def layer(self) -> nn.Module:
        return self.network.norm

    def predict(self, images: np.ndarray, device: str | None = None) -> np.ndarray:
        """uint8 pictures (n × C × H × W) → predicted responses float32 (n × voxels).

        ``device`` None: where the network is: where it was trained, or the CPU once loaded.
        """
        place = torch.device(device) if device else self.network.readout.bias.device
        rows = np.empty((len(images), len(self.intercept)), np.float32)
        with torch.no_grad():
            for start in progress(range(0, len(images), _BATCH), "predicted responses"):
                batch = torch.from_numpy(np.array(images[start : start + _BATCH])).to(place)
                rows[start : start + _BATCH] = self.respond(batch).cpu().numpy() + self.intercept
        return rows

    def respond(self, images: Tensor) -> Tensor:
        """Pictures 0 … 255 (n × C × H × W) → predicted deviations from the intercept (n × voxels), differentiable.

        The network follows the pictures to their device.
        """
        self.network.to(images.device)
        mean, std = (torch.from_numpy(value) for value in self._pictures)
        return self.network(normalise(images, mean, std)) * torch.from_numpy(self.scale).to(images.device)

    def arrays(self) -> dict[str, np.ndarray]:
        weights = {f"network.{name}": value.cpu().numpy() for name, value in self.network.state_dict().items()}
        mean, std = self._pictures
        return {"intercept": self.intercept, "scale": self.scale, "picture_mean": mean, "picture_std": std} | weights

    def describe(self) -> dict[str, Any]:
        """How the network is built, and how its training went; can be JSON."""
        return dict(self._description)


def fit_finetuned(
    images: np.ndarray,
    rows: np.ndarray,
    responses: np.ndarray,
    ceiling: np.ndarray | None,
    features: FeatureOptions,
    options: EncoderOptions,
    seed: int,
    folder: Path | None,
    runtime: Runtime,
    start: Finetuned | None = None,
) -> Finetuned:
    """Train a network to predict responses, with AdamW, until it gets no better on a fifth of the stimuli, held out.

    The loss is the mean squared error of z-scored responses, voxels weighted by their noise ceiling.

    Parameters
    ----------
    images : (stimuli × C × H × W) uint8, of all stimuli
    rows : index of the stimuli to be fitted on
    responses : (rows × voxels), averaged over repeats
    ceiling : (voxels) noise ceiling in R²; those at or below 0 (or unknown, NaN) are not learned. None: all weigh the same
    features : ``network``, ``weights``, ``image_size`` and the first of ``layers`` name the backbone and the map that is
        read; default: an untrained ``small_cnn``, and the last map that no pooling makes
    options : readout, most epochs, learning rate
    seed : initial weights, held-out stimuli, order
    folder : for metrics and checkpoints, or None
    start : an older encoder that is continued: its backbone, and its readout where there are as many voxels

    Raises
    ------
    UserError
        Fewer than 3 stimuli; no such network, layer or file; a layer without a map; ``start`` is built otherwise.
    """
    if len(rows) < 3:
        raise UserError(f"teacher.encoder=finetune needs at least 3 stimuli to be fitted on, and there are {len(rows)}")
    order = numpy_generator(seed, "finetune", "held out").permutation(len(rows))
    n_held = max(1, len(rows) // 5)
    held, fitted = np.sort(order[:n_held]), np.sort(order[n_held:])
    pictures = torch.from_numpy(np.array(images[rows]))
    description, network, mean, std = _prepare(features, options, pictures[fitted], responses.shape[1], seed, start)

    scale = responses[fitted].std(0)
    target = (responses - responses[fitted].mean(0)) / np.where(scale > 0, scale, 1)
    target = torch.from_numpy(target.astype(np.float32))
    weights = _weights(ceiling, responses.shape[1])
    on_device = torch.from_numpy(weights).to(runtime.device)

    def loss(outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"voxels": ((outputs - batch.targets["voxels"]).square() * on_device).mean()}

    wanted = target[held]
    # of a voxel without a ceiling nothing is asked
    total = float((wanted.square() * torch.from_numpy(weights)).sum()) or 1.0

    def score(outputs: Tensor) -> float:
        return 1 - float(((outputs - wanted).square() * torch.from_numpy(weights)).sum()) / total

    _follow(network, len(fitted))
    data = TrainingSet(
        pictures[fitted],
        torch.full((len(fitted),), -1),
        len(fitted),
        {"voxels": target[fitted]},
        mean=mean,
        std=std,
    )
    training = TrainOptions(
        epochs=options.encoder_epochs,
        batch_size=min(_BATCH_SIZE, len(fitted)),
        optimizer="adamw",
        lr=options.encoder_lr,
        weight_decay=_WEIGHT_DECAY,
        select="validation",
        patience=_PATIENCE,
    )
    learner = Learner(network, data, Validation(pictures[held], score, "r2"), loss, seed, folder)
    history = train([learner], runtime, training)[0]
    best = max(history, key=lambda entry: entry["val_r2"])
    description |= {"epochs": len(history), "best_epoch": int(best["epoch"]), "val_r2": float(best["val_r2"])}
    arrays = {"intercept": responses.mean(0).astype(np.float32), "scale": scale.astype(np.float32)}
    arrays |= {"picture_mean": mean.numpy(), "picture_std": std.numpy()}
    encoder = Finetuned(description, network, arrays)
    _centre(encoder, images[rows])
    return encoder


def load_finetuned(description: dict[str, Any], arrays: dict[str, np.ndarray]) -> Finetuned:
    """Rebuild an encoder from its ``describe()`` and ``arrays()``, on the CPU."""
    n_voxels = len(arrays["intercept"])
    network = BrainNetwork(build_backbone(description, 0), description, n_voxels)
    prefix = "network."
    state = {
        key.removeprefix(prefix): torch.from_numpy(np.array(value)) for key, value in arrays.items() if prefix in key
    }
    network.load_state_dict(state)
    return Finetuned(description, network, arrays)


def _prepare(
    features: FeatureOptions,
    options: EncoderOptions,
    pictures: Tensor,
    n_voxels: int,
    seed: int,
    start: Finetuned | None,
) -> tuple[dict[str, Any], BrainNetwork, Tensor, Tensor]:
    """How the network is built, the network, and the statistics that its pictures are normalised with."""
    shape = (pictures.shape[1], pictures.shape[2], pictures.shape[3])
    name = features.network or "small_cnn"
    loaded = find_network(name, features.weights, None, shape)
    student = features.weights and Path(features.weights).with_name("student.json")
    side = loaded.side or (features.image_size and (features.image_size,) * 2)
    description = {
        "kind": "finetune",
        "network": name,
        "origin": "student" if loaded.side else "torchvision",
        "options": json.loads(student.read_text())["options"] if student and student.is_file() else {},
        "channels": loaded.channels,
        "side": list(side) if side else None,
        "readout": options.readout,
    }
    backbone = loaded.network if features.weights else build_backbone(description, seed)
    description["layer"], description["map"] = find_map(backbone, name, features.layers, description, pictures[:1])
    with seeded(seed, "finetune", "readout"):
        network = BrainNetwork(backbone, description, n_voxels)
    if features.weights and min(loaded.std) < 1:
        mean, std = torch.tensor(loaded.mean), torch.tensor(loaded.std)
    else:
        mean, std = channel_statistics(pictures)
    if start is not None:
        older = start.describe()
        for key in ("network", "origin", "options", "layer", "map", "readout"):
            if older[key] != description[key]:
                raise UserError(
                    f"teacher.init_from: the older encoder has {key}={older[key]}, and this one {key}={description[key]}; "
                    "they must be the same to go on"
                )
        kept = start.network.state_dict()
        if len(start.intercept) != n_voxels:
            kept = {key: value for key, value in kept.items() if not key.startswith("readout.")}
        network.load_state_dict(kept, strict=False)
        mean, std = (torch.from_numpy(start.arrays()[key]) for key in ("picture_mean", "picture_std"))
    return description, network, mean, std


def _weights(ceiling: np.ndarray | None, n_voxels: int) -> np.ndarray:
    """Weights of voxels (voxels), not negative, 1 on average."""
    if ceiling is None:
        return np.ones(n_voxels, np.float32)
    weights = np.clip(np.nan_to_num(np.asarray(ceiling, np.float32)), 0, None)
    return weights / weights.mean() if weights.any() else np.ones(n_voxels, np.float32)


def _follow(network: nn.Module, n_stimuli: int) -> None:
    """Let batch normalisation's running statistics cover about one epoch. Where an epoch is a few steps, the usual tenth
    a step lags so far behind that held-out stimuli are badly scored, and training stops before it has begun."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = min(0.5, max(0.1, _BATCH_SIZE / n_stimuli))


def _centre(encoder: Finetuned, images: np.ndarray) -> None:
    """Let predicted deviations be 0 on average over the stimuli that it was fitted on, as a ridge's are."""
    with torch.no_grad():
        shift = encoder.predict(images).mean(0) - encoder.intercept
        bias = encoder.network.readout.bias
        bias.sub_(torch.from_numpy(shift / np.where(encoder.scale > 0, encoder.scale, 1)).to(bias.device))

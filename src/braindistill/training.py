"""The one training loop: students and CNN teachers run through it.

Images stay on the device as uint8; an epoch's images are augmented and normalised in large blocks, so that a step is
forward, backward and optimiser only. Order and augmentation of epoch *e* come from generators derived from (seed, e):
a run that was killed continues from its last checkpoint to the same weights.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from braindistill.errors import UserError
from braindistill.images import augment, normalise
from braindistill.runtime import Runtime, progress, torch_generator

#: images augmented at once: large enough to drown the overhead of a call, small enough to stay in the cache
_BLOCK = 4096


@dataclasses.dataclass
class TrainingSet:
    """What a network learns from; rows of all tensors correspond.

    Attributes
    ----------
    images : uint8 tensor (images × channels × height × width)
    labels : int64 tensor (images); −1 = unlabelled
    target : float tensor (images × classes) of log-probabilities, or None
    has_target : bool tensor (images), or None
    epoch_size : images an epoch goes through. Where it is larger than the set, the set is repeated: an arm that can't
        use the pool makes as many steps as those that can.
    mean, std : per-channel statistics in [0, 1] that inputs are normalised with
    """

    images: Tensor
    labels: Tensor
    target: Tensor | None
    has_target: Tensor | None
    epoch_size: int
    mean: Tensor
    std: Tensor

    def to(self, device: torch.device) -> TrainingSet:
        parts: dict[str, Any] = {name: part.to(device) for name, part in vars(self).items() if isinstance(part, Tensor)}
        return dataclasses.replace(self, **parts)


def train(
    network: nn.Module,
    data: TrainingSet,
    validation: tuple[Tensor, Tensor] | None,
    loss_function: Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor],
    seed: int,
    folder: Path,
    runtime: Runtime,
    *,
    epochs: int = 60,
    batch_size: int = 32,
    optimizer: Literal["sgd", "adamw"] = "sgd",
    lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    warmup: float = 0.1,
    crop: int = 0,
    flip: bool = False,
    select: Literal["last", "validation"] = "last",
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    channels_last: bool = True,
    threads: int = 1,
) -> list[dict[str, float]]:
    """Train ``network`` in place.

    Parameters
    ----------
    network : module from normalised images to logits
    data, validation : training set; held-out labelled (images uint8, labels), or None
    loss_function : (logits, labels, teacher log-probabilities or None, has_target or None) → scalar
    seed : seeds order and augmentation
    folder : where ``metrics.jsonl``, TensorBoard events and ``checkpoint/`` go
    epochs, batch_size : an incomplete last batch is used unless it is a single image (BatchNorm can't take one)
    optimizer, lr, momentum, weight_decay : SGD with Nesterov momentum, or AdamW (which ignores ``momentum``)
    warmup : fraction of all steps in which the rate rises linearly, before it falls along a cosine to 0
    crop, flip : augmentation: random shift by up to ``crop`` pixels; random horizontal mirror
    select : the weights kept: of the last epoch, or of the best epoch on the validation images
    precision : fp32, or autocast to bf16 or fp16 (with loss scaling; CUDA only)
    channels_last : memory layout; 1.5 times faster for convolutions on CPU
    threads : threads of one training (they change the last bits, so they are keyed). One is best for small networks

    Returns
    -------
    list of dict
        One entry an epoch: epoch, loss, lr, seconds and, with validation images, val_accuracy.

    Raises
    ------
    UserError
        The loss is not finite; ``select=validation`` without validation images; fp16 without CUDA; no epoch.
    """
    if min(epochs, batch_size) < 1:
        raise UserError(f"train.epochs={epochs}, train.batch_size={batch_size}: both must be at least 1")
    if select == "validation" and validation is None:
        raise UserError("train.select=validation needs validation images: give images.n_val=N, or train.select=last")
    device = torch.device(runtime.device)
    if precision == "fp16" and device.type != "cuda":
        raise UserError("train.precision=fp16 needs a CUDA device; take train.precision=bf16 or fp32")
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    data = data.to(device)
    size = min(batch_size, max(data.epoch_size, 2))
    batches = _batch_edges(data.epoch_size, size)
    total = epochs * len(batches)
    rule = _optimizer(network, optimizer, lr, momentum, weight_decay)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    state = _Progress(folder, network, rule, scaler)
    history = state.resume()
    writer = _tensorboard(folder) if runtime.tensorboard else None
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)

    for epoch in progress(range(len(history), epochs), "epochs", total=epochs):
        started = time.perf_counter()
        network.train()
        order = _order(len(data.images), data.epoch_size, torch_generator(seed, "order", epoch)).to(device)
        loss_sum = torch.zeros((), device=device)
        inputs = _augmented(data, order, batches, torch_generator(seed, "augment", epoch), crop, flip, layout)
        for step, (rows, batch) in enumerate(inputs, start=epoch * len(batches)):
            for group in rule.param_groups:
                group["lr"] = lr * _schedule(step, total, warmup)
            target = None if data.target is None else data.target[rows]
            has_target = None if data.has_target is None else data.has_target[rows]
            with torch.autocast(device.type, half, enabled=half is not None):
                logits = network(batch)
            loss = loss_function(logits.float(), data.labels[rows], target, has_target)
            rule.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.step(rule)
            scaler.update()
            loss_sum += loss.detach()
        entry = {"epoch": epoch + 1, "loss": loss_sum.item() / len(batches), "lr": rule.param_groups[0]["lr"]}
        if not math.isfinite(entry["loss"]):
            raise UserError(f"training diverged: the loss is {entry['loss']} in epoch {epoch + 1}; lower train.lr={lr}")
        if validation is not None:
            entry["val_accuracy"] = _accuracy(network, validation, data, layout, device)
        entry["seconds"] = time.perf_counter() - started
        history.append(entry)
        state.record(history, runtime.checkpoint_seconds, select == "validation")
        if writer:
            for name in entry.keys() - {"epoch"}:
                writer.add_scalar(f"train/{name}", entry[name], epoch + 1)
    if writer:
        writer.close()
    if select == "validation":
        network.load_state_dict(state.best)
    network.eval()
    return history


class _Progress:
    """What a killed run needs to go on: weights, optimiser state and history, saved together at the end of an epoch."""

    def __init__(
        self, folder: Path, network: nn.Module, rule: torch.optim.Optimizer, scaler: torch.amp.GradScaler
    ) -> None:
        self.log = folder / "metrics.jsonl"
        self.file = folder / "checkpoint" / "training.safetensors"
        self.network, self.rule, self.scaler = network, rule, scaler
        self.best: dict[str, Tensor] = {}
        self.best_accuracy = -1.0
        self.saved = time.monotonic()

    def resume(self) -> list[dict[str, float]]:
        if not self.file.exists():
            self.log.write_text("")
            return []
        from safetensors import safe_open

        parts: dict[str, dict[str, Tensor]] = {"network": {}, "optimizer": {}, "best": {}}
        with safe_open(self.file, "pt") as stored:
            meta = json.loads(stored.metadata()["training"])
            for name in stored.keys():  # noqa: SIM118
                part, key = name.split("/", 1)
                parts[part][key] = stored.get_tensor(name)
        self.network.load_state_dict(parts["network"])
        moments: dict[int, dict[str, Any]] = {}
        parameters = [parameter for group in self.rule.param_groups for parameter in group["params"]]
        for key, value in parts["optimizer"].items():
            index, name = key.split("/")
            parameter = parameters[int(index)]
            if value.shape == parameter.shape:
                # in the parameter's memory format: fused optimisers walk through both side by side
                value = torch.empty_like(parameter).copy_(value)
            moments.setdefault(int(index), {})[name] = value
        self.rule.load_state_dict({"state": moments, "param_groups": self.rule.state_dict()["param_groups"]})
        self.scaler.load_state_dict(meta["scaler"])
        self.best, self.best_accuracy = parts["best"], meta["best_accuracy"]
        self.log.write_text("".join(json.dumps(entry) + "\n" for entry in meta["history"]))
        return meta["history"]

    def record(self, history: list[dict[str, float]], every: float, keep_best: bool) -> None:
        with self.log.open("a") as log:
            log.write(json.dumps(history[-1]) + "\n")
        if keep_best and history[-1]["val_accuracy"] > self.best_accuracy:
            self.best_accuracy = history[-1]["val_accuracy"]
            self.best = copy.deepcopy(self.network.state_dict())
        if time.monotonic() - self.saved < every:
            return
        from safetensors.torch import save_file

        tensors = {f"network/{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"best/{name}": value for name, value in self.best.items()}
        for index, moments in self.rule.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": value for name, value in moments.items() if value is not None}
        meta = json.dumps({"history": history, "best_accuracy": self.best_accuracy, "scaler": self.scaler.state_dict()})
        self.file.parent.mkdir(exist_ok=True)
        unfinished = self.file.with_suffix(".new")
        save_file({name: value.contiguous() for name, value in tensors.items()}, unfinished, {"training": meta})
        unfinished.replace(self.file)
        self.saved = time.monotonic()


def _optimizer(network: nn.Module, name: str, lr: float, momentum: float, weight_decay: float) -> torch.optim.Optimizer:
    parameters = list(network.parameters())
    if name == "sgd":
        nesterov = momentum > 0
        return torch.optim.SGD(parameters, lr, momentum, weight_decay=weight_decay, nesterov=nesterov, fused=True)
    return torch.optim.AdamW(parameters, lr, weight_decay=weight_decay, fused=True)


def _schedule(step: int, total: int, warmup: float) -> float:
    """Linear warm-up, then cosine to zero, as a factor of the peak rate."""
    rise = warmup * total
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(total - rise, 1)))


def _order(n_images: int, epoch_size: int, generator: torch.Generator) -> Tensor:
    rounds = [torch.randperm(n_images, generator=generator) for _ in range(-(-epoch_size // n_images))]
    return torch.cat(rounds)[:epoch_size]


def _batch_edges(n: int, size: int) -> list[tuple[int, int]]:
    edges = [(start, min(start + size, n)) for start in range(0, n, size)]
    return edges[:-1] if len(edges) > 1 and edges[-1][1] - edges[-1][0] == 1 else edges


def _augmented(
    data: TrainingSet,
    order: Tensor,
    batches: list[tuple[int, int]],
    generator: torch.Generator,
    crop: int,
    flip: bool,
    layout: torch.memory_format,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (rows, normalised batch), augmenting a block of batches at a time."""
    per_block = max(1, _BLOCK // (batches[0][1] - batches[0][0]))
    for first in range(0, len(batches), per_block):
        block = batches[first : first + per_block]
        start, end = block[0][0], block[-1][1]
        pictures = augment(data.images[order[start:end]], generator, crop=crop, flip=flip)
        inputs = normalise(pictures, data.mean, data.std)
        for low, high in block:
            yield order[low:high], inputs[low - start : high - start].contiguous(memory_format=layout)


@torch.no_grad()
def _accuracy(
    network: nn.Module,
    held_out: tuple[Tensor, Tensor],
    data: TrainingSet,
    layout: torch.memory_format,
    device: torch.device,
) -> float:
    network.eval()
    images, labels = held_out
    right = 0
    for start in range(0, len(images), 512):
        batch = normalise(images[start : start + 512].to(device), data.mean, data.std).contiguous(memory_format=layout)
        right += int((network(batch).argmax(1).cpu() == labels[start : start + 512]).sum())
    return right / len(images)


def _tensorboard(folder: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))

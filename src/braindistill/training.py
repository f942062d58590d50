"""The one training loop: students, CNN teachers, network decoders and finetuned encoders run through it.

Images stay on the device as uint8; an epoch's images are augmented and normalised in large blocks, so that a step is
forward, backward and optimiser only. Order and augmentation of epoch *e* come from generators derived from (seed, e):
a run that was killed continues from its last checkpoint to the same weights.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from braindistill.errors import UserError
from braindistill.images import augment, normalise
from braindistill.runtime import Runtime, progress, torch_generator
from braindistill.training_state import TrainingState

#: images augmented at once: large enough to drown the overhead of a call, small enough to stay in the cache
_BLOCK = 4096
#: and values at once, which only large images reach: 256 MB of float32
_VALUES = 2**26


@dataclasses.dataclass
class TrainingSet:
    """What a network learns from; rows of all tensors correspond.

    Attributes
    ----------
    images : uint8 tensor (images × channels × height × width), which is augmented and normalised; or a float tensor
        (rows × …) of any other input (voxels, features), which is taken as it is
    labels : int64 tensor (images); −1 = unlabelled
    target : float tensor (images × …), such as log-probabilities of the classes or responses of voxels, or None
    has_target : bool tensor (images), or None
    epoch_size : images an epoch goes through. Where it is larger than the set, the set is repeated: an arm that can't
        use the pool makes as many steps as those that can.
    mean, std : per-channel statistics in [0, 1] that uint8 images are normalised with
    """

    images: Tensor
    labels: Tensor
    target: Tensor | None
    has_target: Tensor | None
    epoch_size: int
    mean: Tensor | None = None
    std: Tensor | None = None

    def to(self, device: torch.device) -> TrainingSet:
        parts: dict[str, Any] = {name: part.to(device) for name, part in vars(self).items() if isinstance(part, Tensor)}
        return dataclasses.replace(self, **parts)


@dataclasses.dataclass(frozen=True)
class Validation:
    """Held-out inputs and how well a network does on them.

    Attributes
    ----------
    images : as those of the training set
    score : outputs (images × …, float32, on the CPU; the first where the network returns several) → score, the higher
        the better
    name : the history records the score as ``val_{name}``
    """

    images: Tensor
    score: Callable[[Tensor], float]
    name: str = "accuracy"


def train(
    network: nn.Module,
    data: TrainingSet,
    validation: Validation | None,
    loss_function: Callable[[Any, Tensor, Tensor | None, Tensor | None, int], Tensor],
    seed: int,
    folder: Path | None,
    runtime: Runtime,
    stop: int | None = None,
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
    select: Literal["last", "validation", "test"] = "last",
    patience: int | None = None,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    channels_last: bool = True,
    threads: int = 1,
) -> list[dict[str, float]]:
    """Train ``network`` in place.

    Parameters
    ----------
    network : module from normalised images to logits, or to a tuple that begins with them
    data, validation : training set; held-out inputs with a score, or None
    loss_function : (the network's outputs as float32, labels, target or None, has_target or None, epoch from 0) → scalar
    seed : seeds order and augmentation
    folder : where ``metrics.jsonl``, TensorBoard events and ``checkpoint/`` go; None: a training within another one,
        which writes nothing and shows no progress
    stop : end after so many epochs of the schedule; None: all
    epochs, batch_size : an incomplete last batch is used unless it is a single image (BatchNorm can't take one)
    optimizer, lr, momentum, weight_decay : SGD with Nesterov momentum, or AdamW (which ignores ``momentum``)
    warmup : fraction of all steps in which the rate rises linearly, before it falls along a cosine to 0
    crop, flip : augmentation: random shift by up to ``crop`` pixels; random horizontal mirror
    select : the weights kept: of the last epoch, or of the best one on the validation images; ``test`` picks it on the
        test images (the caller passes them as ``validation``), which only serves to show what that does
    patience : stop after so many epochs without a better score on the validation images; None: never
    precision : fp32, or autocast to bf16 or fp16 (with loss scaling; CUDA only)
    channels_last : memory layout; 1.5 times faster for convolutions on CPU
    threads : threads of one training (they change the last bits, so they are keyed). One is best for small networks

    Returns
    -------
    list of dict
        One entry an epoch: epoch, loss, lr, seconds and, with validation images, ``val_{name}``.

    Raises
    ------
    UserError
        The loss is not finite; ``select`` or ``patience`` without validation images; fp16 without CUDA; no epoch.
    """
    for option, value in {"epochs": epochs, "batch_size": batch_size, "patience": patience}.items():
        if value is not None and value < 1:
            raise UserError(f"train.{option}={value}: must be at least 1")
    if validation is None and (select != "last" or patience is not None):
        given = f"select={select}" if select != "last" else f"patience={patience}"
        raise UserError(f"train.{given} needs validation images: give images.n_val=N, or leave it out")
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
    score = f"val_{validation.name}" if validation else None
    state = TrainingState(folder, network, rule, scaler, score, keep_best=select != "last")
    writer = _tensorboard(folder) if folder and runtime.tensorboard else None
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)

    left: Iterable[int] = range(len(state.history), min(epochs, stop or epochs))
    for epoch in progress(left, "epochs", total=epochs) if folder else left:
        if state.stalled(patience):
            break
        started = time.perf_counter()
        network.train()
        order = _order(len(data.images), data.epoch_size, torch_generator(seed, "order", epoch)).to(device)
        loss_sum = torch.zeros((), device=device)
        inputs = _batches(data, order, batches, torch_generator(seed, "augment", epoch), crop, flip, layout)
        for step, (rows, batch) in enumerate(inputs, start=epoch * len(batches)):
            for group in rule.param_groups:
                group["lr"] = lr * _schedule(step, total, warmup)
            target = None if data.target is None else data.target[rows]
            has_target = None if data.has_target is None else data.has_target[rows]
            with torch.autocast(device.type, half, enabled=half is not None):
                outputs = network(batch)
            loss = loss_function(_float32(outputs), data.labels[rows], target, has_target, epoch)
            rule.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.step(rule)
            scaler.update()
            loss_sum += loss.detach()
        entry = {"epoch": epoch + 1, "loss": loss_sum.item() / len(batches), "lr": rule.param_groups[0]["lr"]}
        if not math.isfinite(entry["loss"]):
            raise UserError(f"training diverged: the loss is {entry['loss']} in epoch {epoch + 1}; lower train.lr={lr}")
        if validation is not None:
            entry[f"val_{validation.name}"] = validation.score(
                _outputs(network, validation.images, data, layout, device)
            )
        entry["seconds"] = time.perf_counter() - started
        state.record(entry, runtime.checkpoint_seconds)
        if writer:
            for name in entry.keys() - {"epoch"}:
                writer.add_scalar(f"train/{name}", entry[name], epoch + 1)
    if writer:
        writer.close()
    if select != "last":
        network.load_state_dict(state.best)
    network.eval()
    return state.history


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


def _batches(
    data: TrainingSet,
    order: Tensor,
    batches: list[tuple[int, int]],
    generator: torch.Generator,
    crop: int,
    flip: bool,
    layout: torch.memory_format,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (rows, inputs of the network), augmenting a block of batches at a time."""
    block_size = min(_BLOCK, _VALUES // data.images[0].numel())
    per_block = max(1, block_size // (batches[0][1] - batches[0][0]))
    for first in range(0, len(batches), per_block):
        block = batches[first : first + per_block]
        start, end = block[0][0], block[-1][1]
        images = data.images[order[start:end]]
        if images.dtype == torch.uint8:
            images = augment(images, generator, crop=crop, flip=flip)
        inputs = _normalised(images, data)
        for low, high in block:
            yield order[low:high], _laid_out(inputs[low - start : high - start], layout)


@torch.no_grad()
def _outputs(
    network: nn.Module, images: Tensor, data: TrainingSet, layout: torch.memory_format, device: torch.device
) -> Tensor:
    """The first of the network's outputs for held-out images, on the CPU."""
    network.eval()
    rows = []
    # a network's own maps are many times its input, so large images come in smaller batches
    for part in images.split(max(1, min(512, _VALUES // 4 // images[0].numel()))):
        outputs = network(_laid_out(_normalised(part.to(device), data), layout))
        rows.append((outputs[0] if isinstance(outputs, tuple) else outputs).float().cpu())
    return torch.cat(rows)


def _normalised(images: Tensor, data: TrainingSet) -> Tensor:
    if images.dtype != torch.uint8:
        return images
    assert data.mean is not None
    assert data.std is not None
    return normalise(images, data.mean, data.std)


def _laid_out(inputs: Tensor, layout: torch.memory_format) -> Tensor:
    return inputs.contiguous(memory_format=layout if inputs.dim() == 4 else torch.contiguous_format)


def _float32(outputs: Any) -> Any:
    """The losses are computed in float32, whatever the network ran in."""
    return outputs.float() if isinstance(outputs, Tensor) else tuple(map(_float32, outputs))


def _tensorboard(folder: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))

"""The one training loop: students, CNN teachers, network decoders and finetuned encoders run through it.

A training that was killed continues from its last checkpoint, in the middle of an epoch if need be, to the same weights.
Several networks of one architecture (a student's seeds) are trained as one stack where that is faster.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from braindistill.errors import UserError
from braindistill.runtime import Runtime, deterministic, keep_freed_memory, peak_memory, progress, termination
from braindistill.students.stacking import Stacked, stack, stacking_pays, unstack
from braindistill.training.batches import Batches
from braindistill.training.data import Batch, Learner
from braindistill.training.events import open_events, write_event
from braindistill.training.losses import LossSums
from braindistill.training.optimisation import MovingAverage, ascended, make_optimizer, rate
from braindistill.training.options import TrainOptions
from braindistill.training.state import TrainingState


def train(
    learners: Sequence[Learner],
    runtime: Runtime,
    options: TrainOptions,
    stop: int | None = None,
    stacked: bool | None = None,
) -> list[list[dict[str, float]]]:
    """Train networks in place.

    Parameters
    ----------
    learners : one, or several that are alike but for their seeds
    options : how they are trained
    stop : end after so many epochs of the schedule; None: all
    stacked : train several as one network, or one after another; None: whichever is faster by their arithmetic, which is
        the same on every machine

    Returns
    -------
    list of list of dict
        For each learner an entry an epoch: epoch, loss and its terms, lr, seconds, images_per_second, memory_mb and, with
        validation images, ``val_{name}``. Those trained as one share the time.

    Raises
    ------
    UserError
        The loss is not finite; ``select`` or ``patience`` without validation images; fp16 without CUDA; a batch that is
        larger than an epoch; a checkpoint of another training.
    """
    for learner in learners:
        _check(learner, options, runtime)
    if stacked is None:
        stacked = len(learners) > 1 and not why_apart(learners, options) and _pays(learners[0], options, runtime)
    keep_freed_memory()
    groups = [list(learners)] if stacked else [[learner] for learner in learners]
    with deterministic(options.deterministic, runtime.device):
        return [history for group in groups for history in _Training(group, runtime, options).run(stop)]


def why_apart(learners: Sequence[Learner], options: TrainOptions) -> str | None:
    """Why networks must be trained one after another, or None: what would mix the seeds of a stack, or end them apart."""
    for option, off in {"patience": None, "clip": None, "sam": 0}.items():
        if getattr(options, option) != off:
            return f"train.{option} looks at all weights of a network together"
    if options.precision == "fp16":
        return "train.precision=fp16 scales the loss of a network"
    sizes = {
        (each.data.epoch_size, tuple(each.data.images.shape[1:]), each.validation and len(each.validation.images))
        for each in learners
    }
    if len(sizes) > 1:
        return "their epochs or their validation images are not equally many"
    return None


def _pays(learner: Learner, options: TrainOptions, runtime: Runtime) -> bool:
    shape = tuple(int(side) for side in learner.data.images.shape[1:])
    # heads and memories of methods beside the logits are not stacked
    if len(shape) != 3 or hasattr(learner.loss, "finish"):
        return False
    return stacking_pays(learner.network, shape, options.batch_size // options.accumulate, runtime.device)


def _check(learner: Learner, options: TrainOptions, runtime: Runtime) -> None:
    if learner.validation is None and (options.select != "last" or options.patience is not None):
        given = f"select={options.select}" if options.select != "last" else f"patience={options.patience}"
        raise UserError(f"train.{given} needs validation images: give images.n_val=N, or leave it out")
    if options.precision == "fp16" and not runtime.device.startswith("cuda"):
        raise UserError("train.precision=fp16 needs a CUDA device; take train.precision=bf16 or fp32")
    if options.batch_size > learner.data.epoch_size:
        size = learner.data.epoch_size
        raise UserError(f"train.batch_size={options.batch_size}: an epoch has only {size} images; take at most {size}")


class _Training:
    """A run of the loop over one network, or over a stack."""

    def __init__(self, learners: list[Learner], runtime: Runtime, options: TrainOptions) -> None:
        self.learners, self.runtime, self.options = learners, runtime, options
        self.device = torch.device(runtime.device)
        layout = torch.channels_last if options.channels_last else torch.contiguous_format
        networks = [learner.network for learner in learners]
        self.network = stack(networks) if len(networks) > 1 else networks[0]
        self.network.to(device=self.device, memory_format=layout)  # type: ignore[call-overload]
        self.runner = self.network
        if options.compile != "none":
            self.runner = torch.compile(self.network, mode=options.compile)  # type: ignore[assignment]
        self.rule = make_optimizer(self.network, options)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=options.precision == "fp16")
        self.average = MovingAverage(self.network, options.ema) if options.ema else None
        self.sources = [
            Batches(learner.data.to(self.device), options, learner.seed, self.device) for learner in learners
        ]
        self.state = TrainingState(learners, self.network, self.rule, self.scaler, self.average, options, self._weights)
        self.half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(options.precision)

    def run(self, stop: int | None) -> list[list[dict[str, float]]]:
        state, last = self.state, min(self.options.epochs, stop or self.options.epochs)
        left: Any = range(state.epoch, last)
        if self.learners[0].folder:
            left = progress(left, "epochs", total=last)
        writers: list[Any] = []
        with termination() as asked:
            for epoch in left:
                if state.stalled(self.options.patience):
                    break
                entries = self._epoch(epoch, asked)
                if entries is None:
                    raise KeyboardInterrupt("SIGTERM")
                state.record(entries)
                if state.due(self.runtime.checkpoint_seconds) or asked():
                    state.save()
                if self.runtime.tensorboard and not writers:  # which is slow to start
                    writers = [open_events(each.folder) for each in self.learners if each.folder]
                for writer, entry in zip(writers, entries, strict=False):
                    write_event(writer, entry, epoch + 1)
                if asked():
                    raise KeyboardInterrupt("SIGTERM")
        for writer in writers:
            writer.close()
        kept = state.best if self.options.select != "last" else self._weights()
        for learner, weights in zip(self.learners, kept, strict=True):
            learner.network.to(self.device)
            learner.network.load_state_dict(weights)
            learner.network.eval()
        return state.histories

    def _epoch(self, epoch: int, asked: Any) -> list[dict[str, float]] | None:
        """Train an epoch, or the rest of one; None where it was broken off, with a checkpoint."""
        started = time.perf_counter()
        state, first = self.state, self.state.done
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self.network.train()
        terms = LossSums(self.learners, state.totals, self.device, self.options.lr)
        for batches in zip(*(source.epoch(epoch, first) for source in self.sources), strict=True):
            terms.add(self._step(batches), batches)
            if asked() or state.due(self.runtime.checkpoint_seconds):
                state.save(batches[0].step - epoch * len(self.sources[0].edges) + 1, terms.totals())
                if asked():
                    return None
        count = len(self.sources[0].edges)
        entries = [{"epoch": epoch + 1.0, "loss": sum(sums.values()) / count} for sums in terms.totals()]
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds = time.perf_counter() - started
        images = sum(high - low for low, high in self.sources[0].edges[first:]) * len(self.learners)
        scores = self._scores()
        for k, (entry, sums) in enumerate(zip(entries, terms.totals(), strict=True)):
            if len(sums) > 1:
                entry |= {f"loss_{name}": total / count for name, total in sums.items()}
            entry |= {"lr": self.options.lr * rate((epoch + 1) * count - 1, count, self.options)} | scores[k]
            entry |= {"images_per_second": images / seconds, "memory_mb": self._memory()}
            entry |= {"seconds": time.perf_counter() - started}
        return entries

    def _step(self, batches: Sequence[Batch]) -> list[dict[str, Tensor]]:
        """One step of the optimiser; for each learner its terms, detached."""
        options, step = self.options, batches[0].step
        for group in self.rule.param_groups:
            group["lr"] = options.lr * rate(step, len(self.sources[0].edges), options)
        terms = self._passes(batches)
        if options.sam:
            with ascended(self.network, options.sam):
                self._passes(batches)
        if options.clip is not None:
            self.scaler.unscale_(self.rule)
            nn.utils.clip_grad_norm_(self.network.parameters(), options.clip)
        self.scaler.step(self.rule)
        self.scaler.update()
        self.rule.zero_grad(set_to_none=True)
        if self.average:
            self.average.update()
        for learner, batch in zip(self.learners, batches, strict=True):
            if finish := getattr(learner.loss, "finish", None):
                finish(batch)
        return terms

    def _passes(self, batches: Sequence[Batch]) -> list[dict[str, Tensor]]:
        """Forward and backward, in as many parts as asked for; gradients add up to those of the mean over the parts."""
        if self.options.accumulate == 1:
            return self._pass(batches, 1.0)
        size = -(-len(batches[0].rows) // self.options.accumulate)
        starts = range(0, len(batches[0].rows), size)
        sums: list[dict[str, Tensor]] = [{} for _ in batches]
        for start in starts:
            parts = [batch[start : start + size] for batch in batches]
            share = len(parts[0].rows) / len(batches[0].rows)
            for total, terms in zip(sums, self._pass(parts, share), strict=True):
                for name, term in terms.items():
                    total[name] = total[name] + term if name in total else term
        return sums

    def _pass(self, batches: Sequence[Batch], share: float) -> list[dict[str, Tensor]]:
        inputs = self._together([batch.inputs for batch in batches])
        with torch.autocast(self.device.type, self.half, enabled=self.half is not None):
            outputs = self.runner(inputs)
        # the losses are computed in float32, whatever the network ran in
        outputs = _float32(outputs)
        found = [
            learner.loss(own, batch)
            for learner, own, batch in zip(self.learners, self._apart(outputs), batches, strict=True)
        ]
        # each network has its own gradient of the sum
        total = sum(term for terms in found for term in terms.values())
        assert isinstance(total, Tensor)
        self.scaler.scale(total * share if share != 1 else total).backward()  # type: ignore[no-untyped-call]
        return [
            {name: term.detach() * share if share != 1 else term.detach() for name, term in terms.items()}
            for terms in found
        ]

    def _together(self, inputs: list[Tensor]) -> Tensor:
        return torch.stack(inputs) if len(self.learners) > 1 else self.sources[0].laid_out(inputs[0])

    def _apart(self, outputs: Any) -> Sequence[Any]:
        """Each learner's part of the outputs of a stack."""
        if len(self.learners) == 1:
            return [outputs]
        # one call, and one in the backward pass, whatever the number of learners
        if isinstance(outputs, Tensor):
            return outputs.unbind(0)
        return list(zip(*(self._apart(part) for part in outputs), strict=True))

    @torch.no_grad()
    def _scores(self) -> list[dict[str, float]]:
        """For each learner how well it does on its held-out images."""
        checks = [learner.validation for learner in self.learners]
        if checks[0] is None:
            return [{} for _ in self.learners]
        network = self.average.network if self.average else self.network
        network.eval()
        rows: list[list[Tensor]] = [[] for _ in self.learners]
        parts = (source.held_out(check.images) for source, check in zip(self.sources, checks, strict=True) if check)
        for inputs in zip(*parts, strict=True):
            outputs = network(self._together(list(inputs)))
            outputs = outputs[0] if isinstance(outputs, tuple) else outputs
            for own, part in zip(rows, self._apart(outputs), strict=True):
                own.append(part.float().cpu())
        return [
            {f"val_{check.name}": check.score(torch.cat(own))} for check, own in zip(checks, rows, strict=True) if check
        ]

    def _weights(self) -> list[dict[str, Tensor]]:
        """Each learner's weights as they would be kept now."""
        network = self.average.network if self.average else self.network
        return unstack(network) if isinstance(network, Stacked) else [network.state_dict()]

    def _memory(self) -> float:
        """The largest memory so far, in MB: of the device's tensors, or of the process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e6
        return peak_memory()


def _float32(outputs: Any) -> Any:
    if isinstance(outputs, Tensor):
        return outputs.float()
    if isinstance(outputs, dict):
        return {name: _float32(value) for name, value in outputs.items()}
    return type(outputs)(map(_float32, outputs))

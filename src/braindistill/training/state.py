"""What a training was up to: its histories, its best weights, and the checkpoint that a killed run goes on from."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from braindistill.errors import UserError
from braindistill.training.data import Learner
from braindistill.training.optimisation import MovingAverage
from braindistill.training.options import TrainOptions

#: options that may change between a checkpoint and its continuation: they are about how a training is run
_FREE = {"threads", "parallel_seeds"}


class TrainingState:
    """Weights, optimiser state and histories of the networks that are trained together, saved as one file.

    Parameters
    ----------
    learners : their folders receive ``metrics.jsonl``, and the first one's ``checkpoint/``; without one nothing is written
    network, rule, scaler, average : what is trained (one network or a stack), its optimiser, the loss scaling of fp16, and
        the moving average or None
    options : of the training; a checkpoint of a training with others is refused
    weights : gives each learner's weights as they would be kept now

    Attributes
    ----------
    histories : for each learner a list of dict, one entry an epoch
    best : for each learner the state dict of its best epoch so far, where one is to be kept
    done : batches of the present epoch that a checkpoint was saved after
    totals : for each learner sums of its loss terms over those batches
    """

    def __init__(
        self,
        learners: Sequence[Learner],
        network: nn.Module,
        rule: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        average: MovingAverage | None,
        options: TrainOptions,
        weights: Callable[[], list[dict[str, Tensor]]],
    ) -> None:
        folders = [learner.folder for learner in learners]
        self.logs = [folder / "metrics.jsonl" if folder else None for folder in folders]
        first = next((folder for folder in folders if folder), None)
        self.file = first / "checkpoint" / "training.safetensors" if first else None
        self.network, self.rule, self.scaler, self.average = network, rule, scaler, average
        self.weights = weights
        checks = [learner.validation for learner in learners]
        scores = [None if check is None else f"val_{check.name}" for check in checks]
        self.scores, self.keep_best = scores, options.select != "last"
        self.histories: list[list[dict[str, float]]] = [[] for _ in learners]
        self.best: list[dict[str, Tensor]] = [{} for _ in learners]
        self.done, self.totals = 0, [dict[str, float]() for _ in learners]
        self.saved = time.monotonic()
        known = {key: value for key, value in dataclasses.asdict(options).items() if key not in _FREE}
        sizes = [learner.data.epoch_size for learner in learners]
        self.identity = json.loads(
            json.dumps(known | {"seeds": [learner.seed for learner in learners], "epoch_size": sizes})
        )
        if self.file and self.file.exists():
            self._resume(self.file)
        for log, history in zip(self.logs, self.histories, strict=True):
            if log:
                log.write_text("".join(json.dumps(entry) + "\n" for entry in history))

    @property
    def epoch(self) -> int:
        """The epoch that is to be trained, from 0."""
        return len(self.histories[0])

    def stalled(self, patience: int | None) -> bool:
        """Have ``patience`` epochs passed without a better score? Read off the history, so that resuming changes nothing."""
        return patience is not None and self.epoch >= best_epoch(self.histories[0], self.scores[0]) + patience

    def record(self, entries: Sequence[dict[str, float]]) -> None:
        """Add an epoch of every learner."""
        self.done, self.totals = 0, [{} for _ in entries]
        improved = []
        for k, (entry, history, log) in enumerate(zip(entries, self.histories, self.logs, strict=True)):
            history.append(entry)
            if log:
                with log.open("a") as file:
                    file.write(json.dumps(entry) + "\n")
            if self.keep_best and best_epoch(history, self.scores[k]) == len(history):
                improved.append(k)
        if improved:
            present = self.weights()
            for k in improved:
                self.best[k] = {name: value.detach().clone() for name, value in present[k].items()}

    def due(self, every: float) -> bool:
        """Is the last checkpoint ``every`` seconds old?"""
        return self.file is not None and time.monotonic() - self.saved >= every

    def save(self, done: int = 0, totals: Sequence[dict[str, float]] = ()) -> None:
        """Save a checkpoint: after an epoch, or after ``done`` batches of one with these sums of loss terms."""
        if not self.file:
            return
        from safetensors.torch import save_file

        tensors = {f"network/{name}": value for name, value in self.network.state_dict().items()}
        if self.average:
            tensors |= {f"average/{name}": value for name, value in self.average.network.state_dict().items()}
        for k, best in enumerate(self.best):
            tensors |= {f"best/{k}/{name}": value for name, value in best.items()}
        for index, moments in self.rule.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": value for name, value in moments.items() if value is not None}
        record = {"histories": self.histories, "done": done, "totals": list(totals), "identity": self.identity}
        meta = json.dumps(record | {"scaler": self.scaler.state_dict()})
        self.file.parent.mkdir(exist_ok=True)
        unfinished = self.file.with_suffix(".new")
        # clones, as a file may not hold two views of one tensor
        save_file(
            {name: value.detach().clone().contiguous() for name, value in tensors.items()},
            unfinished,
            {"training": meta},
        )
        unfinished.replace(self.file)
        self.saved = time.monotonic()

    def _resume(self, file: Path) -> None:
        from safetensors import safe_open

        parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimizer": {}, "best": {}}
        with safe_open(file, "pt") as stored:
            meta = json.loads(stored.metadata()["training"])
            self._check(meta.get("identity", {}), file)
            for name in stored.keys():  # noqa: SIM118
                part, key = name.split("/", 1)
                parts[part][key] = stored.get_tensor(name)
        try:
            self.network.load_state_dict(parts["network"])
            if self.average:
                self.average.network.load_state_dict(parts["average"])
        except RuntimeError as error:
            reason = str(error).replace("\n", " ")[:200]
            raise UserError(f"{file}: a checkpoint of another network ({reason}); remove it to start anew") from error
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
        for key, value in parts["best"].items():
            k, name = key.split("/", 1)
            self.best[int(k)][name] = value
        self.histories, self.done = meta["histories"], meta["done"]
        self.totals = meta["totals"] or self.totals

    def _check(self, found: dict[str, Any], file: Path) -> None:
        for key, wanted in self.identity.items():
            if found.get(key) != wanted:
                raise UserError(
                    f"{file}: a checkpoint of another training ({key}={found.get(key)}, and this one has {key}={wanted}); "
                    "remove it to start anew"
                )


def best_epoch(history: list[dict[str, float]], score: str | None) -> int:
    """The first epoch (counted from 1) with the highest ``score``, 0 of an empty history; a score of NaN is the worst."""
    if score is None or not history:
        return len(history)
    scores = [-math.inf if math.isnan(entry[score]) else entry[score] for entry in history]
    return scores.index(max(scores)) + 1

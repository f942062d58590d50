"""What a training was up to: its history, its best weights, and the checkpoint that a killed run goes on from."""

from __future__ import annotations

import copy
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class TrainingState:
    """Weights, optimiser state and history, saved together at the end of an epoch.

    Parameters
    ----------
    folder : receives ``metrics.jsonl`` and ``checkpoint/``; None: nothing is written
    network, rule, scaler : what is trained, its optimiser and the loss scaling of fp16
    score : the history's entry that says how good an epoch was (higher is better), or None
    keep_best : copy the weights of the best epoch into ``best``

    Attributes
    ----------
    history : list of dict, one entry an epoch
    best : state dict of the best epoch so far
    """

    def __init__(
        self,
        folder: Path | None,
        network: nn.Module,
        rule: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        score: str | None,
        keep_best: bool,
    ) -> None:
        self.log = folder / "metrics.jsonl" if folder else None
        self.file = folder / "checkpoint" / "training.safetensors" if folder else None
        self.network, self.rule, self.scaler = network, rule, scaler
        self.score, self.keep_best = score, keep_best
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}
        self.saved = time.monotonic()
        if self.file and self.file.exists():
            self._resume(self.file)
        if self.log:
            self.log.write_text("".join(json.dumps(entry) + "\n" for entry in self.history))

    def stalled(self, patience: int | None) -> bool:
        """Have ``patience`` epochs passed without a better score? Read off the history, so that resuming changes nothing."""
        return patience is not None and len(self.history) >= best_epoch(self.history, self.score) + patience

    def record(self, entry: dict[str, float], every: float) -> None:
        """Add an epoch, and save a checkpoint where the last one is ``every`` seconds old."""
        self.history.append(entry)
        if self.log:
            with self.log.open("a") as log:
                log.write(json.dumps(entry) + "\n")
        if self.keep_best and best_epoch(self.history, self.score) == len(self.history):
            self.best = copy.deepcopy(self.network.state_dict())
        if self.file and time.monotonic() - self.saved >= every:
            self._save(self.file)

    def _save(self, file: Path) -> None:
        from safetensors.torch import save_file

        tensors = {f"network/{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"best/{name}": value for name, value in self.best.items()}
        for index, moments in self.rule.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": value for name, value in moments.items() if value is not None}
        meta = json.dumps({"history": self.history, "scaler": self.scaler.state_dict()})
        file.parent.mkdir(exist_ok=True)
        unfinished = file.with_suffix(".new")
        save_file({name: value.contiguous() for name, value in tensors.items()}, unfinished, {"training": meta})
        unfinished.replace(file)
        self.saved = time.monotonic()

    def _resume(self, file: Path) -> None:
        from safetensors import safe_open

        parts: dict[str, dict[str, Tensor]] = {"network": {}, "optimizer": {}, "best": {}}
        with safe_open(file, "pt") as stored:
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
        self.best, self.history = parts["best"], meta["history"]


def best_epoch(history: list[dict[str, float]], score: str | None) -> int:
    """The first epoch (counted from 1) with the highest ``score``, 0 of an empty history; a score of NaN is the worst."""
    if score is None or not history:
        return len(history)
    scores = [-math.inf if math.isnan(entry[score]) else entry[score] for entry in history]
    return scores.index(max(scores)) + 1

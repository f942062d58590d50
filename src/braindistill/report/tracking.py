"""Arms as runs of an experiment tracker, with their overrides as hyperparameters: TensorBoard, or wandb and mlflow (extras)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from braindistill.errors import UserError, nearest
from braindistill.report.parts import Results
from braindistill.report.reading import against, value_of


class Run(NamedTuple):
    """An arm as a tracker knows it: name, hyperparameters (words of its overrides) and final numbers."""

    arm: str
    hparams: dict[str, Any]
    metrics: dict[str, float]


def log_arms(results: Results, to: str, folder: Path) -> None:
    """Write every arm as a run, all in one group.

    Parameters
    ----------
    to : ``tensorboard``, ``wandb`` or ``mlflow``
    folder : where the tracker keeps its files; wandb and mlflow follow their own settings beyond that

    Raises
    ------
    UserError
        There is no such tracker, or it is not installed.
    """
    if to not in _TRACKERS:
        raise UserError(f"--log {to}: expected {', '.join(_TRACKERS)}; {nearest(to, _TRACKERS)}")
    _TRACKERS[to](runs_of(results), str(results.get("experiment") or "experiment"), folder)


def runs_of(results: Results) -> list[Run]:
    """The arms of an evaluation, each with the same hyperparameters: '' where it leaves one as it is."""
    arms = results.get("arms") or {}
    words = {arm: dict(_pair(word) for word in entry.get("overrides") or []) for arm, entry in arms.items()}
    names = list(dict.fromkeys(name for own in words.values() for name in own))
    found = []
    for arm, entry in arms.items():
        numbers = {key: value_of(entry.get(key)).get("mean") for key in ("accuracy", "balanced_accuracy", "nll", "ece")}
        numbers["minus_baseline"] = (against(results, arm, "baseline") or {}).get("difference")
        hparams = {"arm": arm, "labels": entry.get("labels") or 0, **{name: words[arm].get(name, "") for name in names}}
        found.append(Run(arm, hparams, {key: float(value) for key, value in numbers.items() if value is not None}))
    return found


def _pair(word: str) -> tuple[str, str]:
    name, _, value = word.lstrip("+").partition("=")
    return name, value


def _to_tensorboard(runs: Iterable[Run], experiment: str, folder: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / experiment)) as writer:  # type: ignore[no-untyped-call]
        for run in runs:
            metrics = {f"arm/{name}": value for name, value in run.metrics.items()}
            writer.add_hparams(run.hparams, metrics, run_name=run.arm)  # type: ignore[no-untyped-call]


def _to_wandb(runs: Iterable[Run], experiment: str, folder: Path) -> None:
    wandb = _extra("wandb")
    folder.mkdir(parents=True, exist_ok=True)
    for run in runs:
        opened = wandb.init(
            project="braindistill", group=experiment, name=run.arm, config=run.hparams, dir=str(folder), reinit=True
        )
        opened.log(run.metrics)
        opened.finish()


def _to_mlflow(runs: Iterable[Run], experiment: str, folder: Path) -> None:
    mlflow = _extra("mlflow")
    mlflow.set_experiment(f"braindistill {experiment}")
    for run in runs:
        with mlflow.start_run(run_name=run.arm):
            mlflow.log_params(run.hparams)
            mlflow.log_metrics(run.metrics)


def _extra(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"--log {name}: {name} is not installed; pip install {name}, or --log tensorboard") from error


_TRACKERS: dict[str, Callable[[Iterable[Run], str, Path], None]] = {
    "tensorboard": _to_tensorboard,
    "wandb": _to_wandb,
    "mlflow": _to_mlflow,
}

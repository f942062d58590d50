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
    """An arm as a tracker knows it.

    Attributes
    ----------
    hparams : words of its overrides, the arm's name and its number of labels
    metrics : final numbers, means over seeds
    seeds : those that are known of each seed, in the order of the seeds
    curves : name → epochs and means over seeds
    """

    arm: str
    hparams: dict[str, Any]
    metrics: dict[str, float]
    seeds: list[dict[str, float]]
    curves: dict[str, list[tuple[float, float]]]


def log_arms(results: Results, to: str, folder: Path) -> None:
    """Write every arm as a run, all in one group; TensorBoard has a group an arm, of a session a seed.

    Parameters
    ----------
    to : ``tensorboard``, ``wandb`` or ``mlflow``
    folder : where the tracker keeps its files; wandb and mlflow follow their own settings beyond that

    Raises
    ------
    UserError
        There is no such tracker, or it is not installed.
    """
    check_tracker(to)
    _TRACKERS[to](runs_of(results), str(results.get("experiment") or "experiment"), folder)


def check_tracker(to: str) -> None:
    """Raise UserError where there is no such tracker."""
    if to not in _TRACKERS:
        raise UserError(f"--log {to}: expected {', '.join(_TRACKERS)}; {nearest(to, _TRACKERS)}")


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
        metrics = {key: float(value) for key, value in numbers.items() if value is not None}
        found.append(Run(arm, hparams, metrics, _seeds(arms, arm), _curves(entry.get("training") or {})))
    return found


def _seeds(arms: dict[str, Any], arm: str) -> list[dict[str, float]]:
    """Accuracy, and what else was measured, of each seed of an arm; arms are paired by seed."""
    measured = arms[arm].get("measures") or {}
    values = {name: value_of(measured.get(name)).get("per_seed") or [] for name in ("nll", "ece", "brier")}
    accuracy, baseline = (
        value_of((arms.get(name) or {}).get("accuracy")).get("per_seed") or [] for name in (arm, "baseline")
    )
    values["accuracy"] = accuracy
    if arm != "baseline" and len(accuracy) == len(baseline):
        values["minus_baseline"] = [
            None if None in pair else pair[0] - pair[1] for pair in zip(accuracy, baseline, strict=True)
        ]
    return [
        {name: float(known[seed]) for name, known in values.items() if seed < len(known) and known[seed] is not None}
        for seed in range(len(accuracy))
    ]


def _curves(training: dict[str, Any]) -> dict[str, list[tuple[float, float]]]:
    epochs = training.get("epoch") or []
    curves = {
        name: [(float(x), float(y)) for x, y in zip(epochs, training.get(name) or [], strict=False) if y is not None]
        for name in ("loss", "val_accuracy")
    }
    return {name: points for name, points in curves.items() if points}


def _pair(word: str) -> tuple[str, str]:
    name, _, value = word.lstrip("+").partition("=")
    return name, value


def _to_tensorboard(runs: Iterable[Run], experiment: str, folder: Path) -> None:
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from torch.utils.tensorboard import SummaryWriter

    for run in runs:
        home = folder / experiment / run.arm
        for number, metrics in enumerate(run.seeds or [run.metrics]):
            with SummaryWriter(str(home / str(number))) as writer:  # type: ignore[no-untyped-call]
                # sessions of one trial are a group: a row of the table, with means over its sessions
                writer.file_writer.add_summary(hparams_pb(run.hparams, trial_id=run.arm))  # type: ignore[no-untyped-call]
                for name, value in metrics.items():
                    writer.add_scalar(f"arm/{name}", value)  # type: ignore[no-untyped-call]
        if run.curves:
            with SummaryWriter(str(home)) as writer:  # type: ignore[no-untyped-call]
                for name, points in run.curves.items():
                    for epoch, value in points:
                        writer.add_scalar(f"train/{name}", value, int(epoch))  # type: ignore[no-untyped-call]


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

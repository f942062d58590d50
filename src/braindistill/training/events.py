"""A training's numbers as TensorBoard events. Imports tensorboard only where they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def open_events(folder: Path) -> Any:
    """A writer of events in ``tensorboard/`` below a folder."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))


def write_event(writer: Any, entry: dict[str, float], epoch: int) -> None:
    """An epoch's numbers as one event: an event each takes longer than a small student's step."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    values = [Summary.Value(tag=f"train/{name}", simple_value=entry[name]) for name in entry if name != "epoch"]
    writer.file_writer.add_summary(Summary(value=values), epoch)

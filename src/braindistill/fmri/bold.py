"""From the volumes of a raw BOLD run to a response for each event."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from braindistill.errors import UserError
from braindistill.fmri.events import Event


def clean_run(volumes: np.ndarray) -> np.ndarray:
    """Take a straight line out of each voxel's time course and z-score it; a constant voxel becomes 0.

    Parameters
    ----------
    volumes : (volumes, voxels) float32
    """
    time = np.linspace(-1, 1, len(volumes), dtype=np.float32)
    mean = volumes.mean(axis=0, dtype=np.float64).astype(np.float32)
    volumes = volumes - mean
    if len(volumes) > 2:
        volumes -= np.outer(time, time @ volumes / (time @ time))
    deviation = volumes.std(axis=0)
    varies = deviation > 1e-5 * np.abs(mean)  # less than that is float32 rounding, real noise is 1e-3 and more
    return np.divide(volumes, deviation, out=np.zeros_like(volumes), where=varies & (deviation > 0))


def merge_blocks(events: list[Event], gap: float) -> list[Event]:
    """Join events of one label that follow each other within ``gap`` seconds: the pictures of a block.

    A block lasts from the first onset to the end of the last event; its stimulus is its label.
    """
    blocks: list[Event] = []
    end = -math.inf
    for event in sorted(events, key=lambda event: event.onset):
        if blocks and event.label and event.label == blocks[-1].label and event.onset <= end + gap + 1e-6:
            end = max(end, event.onset + event.duration)
            blocks[-1] = dataclasses.replace(blocks[-1], duration=end - blocks[-1].onset)
        else:
            end = event.onset + event.duration
            blocks.append(dataclasses.replace(event, stimulus_id=event.label or event.stimulus_id, stim_file=""))
    return blocks


def average_events(volumes: np.ndarray, events: list[Event], tr: float, lag: float, name: str) -> np.ndarray:
    """Average, for each event, the volumes acquired in [onset + lag, onset + duration + lag).

    Parameters
    ----------
    volumes : (volumes, voxels); volume i was acquired i · tr seconds after the run began
    tr, lag : seconds
    name : the file, for messages

    Raises
    ------
    UserError
        An event lies before or beyond the run, or no volume was acquired in its window.
    """
    end = len(volumes) * tr
    means = np.empty((len(events), volumes.shape[1]), dtype=np.float32)
    for row, event in enumerate(events):
        what = f"{name}: event {row + 1} ({event.stimulus_id}, {event.onset:g} s + {event.duration:g} s)"
        first, stop = (
            max(0, math.ceil((time + lag) / tr - 1e-6)) for time in (event.onset, event.onset + event.duration)
        )
        if event.onset < 0 or event.onset + event.duration > end + 1e-6 or first >= len(volumes):
            raise UserError(
                f"{what} with a lag of {lag:g} s is outside the run of {end:g} s; check the events and TR {tr:g} s"
            )
        if first >= stop:
            raise UserError(
                f"{what} is over between two volumes (TR {tr:g} s); give it a longer duration, or use beta maps"
            )
        means[row] = volumes[first:stop].mean(axis=0)
    return means

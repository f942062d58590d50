"""Few-shot curves: accuracy of every arm against the number of labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from braindistill.statistics import two_way_interval


def collect(config: Mapping[str, Any], inputs: Mapping[str, Path], labels: ArrayLike) -> list[dict[str, Any]]:
    """Read the predictions ``curve/N/ARM/SEED``.

    Parameters
    ----------
    config : of the evaluation: ``eval.seeds``, and the ``arms`` in table order
    inputs : name → folder; other inputs are left alone
    labels : (images) the test images' classes

    Returns
    -------
    list of dict
        ``arm``, ``n_train``, ``accuracy`` (mean, its two-way interval over seeds and images, ``per_seed``): by arm, then by
        number. An arm that has not every seed's predictions at a number is left out there.
    """
    truth = np.asarray(labels)
    seeds = config["eval"]["seeds"]
    numbers = sorted({int(name.split("/")[1]) for name in inputs if name.startswith("curve/")})
    found = []
    for arm in config["arms"]:
        for number in numbers:
            folders = [inputs.get(f"curve/{number}/{arm}/{seed}") for seed in seeds]
            hits = [_correct(folder, truth) for folder in folders if folder is not None]
            if len(hits) == len(seeds):
                found.append({"arm": arm, "n_train": number, "accuracy": _accuracy(np.stack(hits))})
    return found


def _correct(folder: Path, labels: np.ndarray) -> np.ndarray:
    return np.load(folder / "log_probabilities.npy", allow_pickle=False).argmax(1) == labels


def _accuracy(hits: np.ndarray) -> dict[str, Any]:
    interval = two_way_interval(hits.astype(float))
    return {
        "mean": interval.estimate,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "per_seed": hits.mean(1).tolist(),
    }

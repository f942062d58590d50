"""Few-shot curves: accuracy of every arm against the number of labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from braindistill.verdict.values import accuracy_of


def collect(config: Mapping[str, Any], inputs: Mapping[str, Path], labels: ArrayLike) -> list[dict[str, Any]]:
    """Read the predictions ``curve/N/ARM/SEED``, of an arm with several subjects ``curve/N/ARM/SUBJECT/SEED``.

    Parameters
    ----------
    config : of the evaluation: ``eval.seeds``, and the ``arms`` in table order with their ``subjects``
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
    for arm, described in config["arms"].items():
        for number in numbers:
            places = [f"{arm}/{subject}" for subject in described.get("subjects") or []] or [arm]
            names = [[f"curve/{number}/{place}/{seed}" for seed in seeds] for place in places]
            if all(name in inputs for own in names for name in own):
                hits = np.stack([np.stack([_correct(inputs[name], truth) for name in own]) for own in names])
                found.append(
                    {"arm": arm, "n_train": number, "accuracy": accuracy_of(hits if len(hits) > 1 else hits[0])}
                )
    return found


def _correct(folder: Path, labels: np.ndarray) -> np.ndarray:
    return np.load(folder / "log_probabilities.npy", allow_pickle=False).argmax(1) == labels

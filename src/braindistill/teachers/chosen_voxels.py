"""A decoder that reads some of the voxels only, chosen on its own training trials."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from braindistill.teachers.linear_decoder import LinearDecoder


@dataclass
class ChosenVoxels:
    """A decoder of chosen voxels in the place of one of all.

    Attributes
    ----------
    index : (chosen voxels) their places
    decoder : reads these
    """

    index: np.ndarray
    decoder: Any

    def predict(self, responses: np.ndarray) -> np.ndarray:
        """Responses of all voxels (trials × voxels) → log-probabilities (trials × classes)."""
        return self.decoder.predict(responses[:, self.index])

    def arrays(self) -> dict[str, np.ndarray]:
        return {"chosen": self.index} | self.decoder.arrays()

    def describe(self) -> dict[str, Any]:
        return self.decoder.describe() | {"chosen": len(self.index)}


def choose_voxels(responses: np.ndarray, labels: np.ndarray, count: int | None) -> np.ndarray:
    """The ``count`` voxels with the largest one-way F of their responses over classes, as a sorted index."""
    n_voxels = responses.shape[1]
    if count is None or count >= n_voxels:
        return np.arange(n_voxels)
    _, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), n_voxels))
    np.add.at(sums, place, responses)
    grand = responses.mean(0, dtype=np.float64)
    between = (counts[:, None] * (sums / counts[:, None] - grand) ** 2).sum(0)
    total = ((responses - grand) ** 2).sum(0, dtype=np.float64)
    # F rises with the share that classes explain, which is finite where they explain all; of a constant voxel both are
    # rounding errors
    varies = total > 1e-12 * len(labels) * grand**2
    share = np.divide(between, total, out=np.zeros_like(between), where=varies)
    return np.sort(np.argsort(-share, kind="stable")[:count])


def widen(decoder: Any, index: np.ndarray, n_voxels: int) -> Any:
    """The decoder of chosen voxels as one of all; a linear one stays linear."""
    if len(index) == n_voxels:
        return decoder
    if not isinstance(decoder, LinearDecoder):
        return ChosenVoxels(index, decoder)
    weights = np.zeros((n_voxels, decoder.weights.shape[1]), np.float32)
    weights[index] = decoder.weights
    description = decoder.description | {"chosen": len(index)}
    return dataclasses.replace(decoder, weights=weights, means=None, description=description)

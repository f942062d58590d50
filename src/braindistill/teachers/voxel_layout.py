"""Voxels in a line, for networks that slide along them: by ROI, then by place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from braindistill.errors import UserError

#: name of the voxels that lie in no ROI
REST = "rest"


@dataclass(frozen=True)
class VoxelLayout:
    """Where each voxel stands in the input of a network.

    Attributes
    ----------
    index : (channels × length) numbers of voxels; −1 = padding, which reads as zero
    channels : names of the channels
    """

    index: np.ndarray
    channels: tuple[str, ...]

    @property
    def n_voxels(self) -> int:
        return int((self.index >= 0).sum())

    def arrange(self, rows: np.ndarray) -> np.ndarray:
        """Responses (trials × voxels) → (trials × channels × length)."""
        found = rows[:, self.index.ravel()].reshape(len(rows), *self.index.shape)
        return np.where(self.index >= 0, found, np.zeros((), rows.dtype))


def voxel_layout(
    rois: dict[str, np.ndarray],
    coordinates: np.ndarray | None,
    n_voxels: int,
    channels: Literal["one", "roi"] = "one",
) -> VoxelLayout:
    """Order voxels by ROI, then by place.

    ROIs come in the order of the data; a voxel of several counts for the first, and those of none come last. Inside an
    ROI voxels follow a Z-order (Morton) curve through the brain: the bits of their x, y and z positions are interleaved
    to one number, so that neighbours in the line were mostly neighbours in space. Without coordinates they are in the
    order of the file.

    Parameters
    ----------
    rois : name → mask (voxels, bool)
    coordinates : (voxels × 3) in mm or voxel index, or None
    n_voxels
    channels : ``one`` holds all; ``roi``: one channel each (for those with voxels of their own, and one for the rest),
        aligned on the left and padded on the right

    Raises
    ------
    UserError
        More ROIs than voxels; ``channels="roi"`` of data without ROIs.
    """
    used = {name: np.asarray(mask, bool) for name, mask in rois.items() if np.any(mask)}
    if len(used) > n_voxels:
        raise UserError(
            f"teacher.decoder=resnet1d: the data have more ROIs ({len(used)}) than voxels ({n_voxels}): give larger or fewer "
            "masks"
        )
    if channels == "roi" and not used:
        raise UserError("teacher.channels=roi: the data have no ROIs; take teacher.channels=one")
    owner = np.full(n_voxels, len(used))
    for number, mask in reversed(list(enumerate(used.values()))):
        owner[mask] = number
    place = np.zeros(n_voxels, np.int64) if coordinates is None else _z_order(np.asarray(coordinates, float))
    order = np.lexsort((np.arange(n_voxels), place, owner))
    if channels == "one":
        return VoxelLayout(order[None], ("all",))
    parts = {name: order[owner[order] == number] for number, name in enumerate([*used, REST])}
    parts = {name: part for name, part in parts.items() if len(part)}
    index = np.full((len(parts), max(map(len, parts.values()))), -1)
    for row, part in zip(index, parts.values(), strict=True):
        row[: len(part)] = part
    return VoxelLayout(index, tuple(parts))


def _z_order(coordinates: np.ndarray) -> np.ndarray:
    """Place of each voxel (voxels × 3 coordinates) along a Z-order curve (Morton 1966), by ranks along each axis."""
    code = np.zeros(len(coordinates), np.int64)
    for axis in range(3):
        # rounded, since a voxel's position in mm went through an affine
        _, rank = np.unique(np.round(coordinates[:, axis], 3), return_inverse=True)
        for bit in range(21):
            code |= ((rank.astype(np.int64) >> bit) & 1) << (3 * bit + axis)
    return code

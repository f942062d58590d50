"""Features as a target: what layers of a teacher's network give for each image."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from braindistill.errors import UserError
from braindistill.images import ImageSet, Split
from braindistill.joining import find_rows
from braindistill.methods import average_down
from braindistill.runtime import progress, say
from braindistill.students.artifact import Student
from braindistill.students.taps import find_stages, keep, read_shapes
from braindistill.targets.asking import check_control, chosen_images, deal, describe_rows
from braindistill.targets.store import read_rows, write_rows
from braindistill.targets.views import ViewMaker, see
from braindistill.teachers.answer import UNSEEN
from braindistill.teachers.artifact import load_teacher
from braindistill.teachers.network_teacher import NetworkTeacher

_BATCH = 256
#: bytes from which rows are made on disk, and their size is told
_LARGE = 1e9
#: largest number of half precision
_MOST = 65504.0


@dataclass
class Features:
    """A target on disk: ``rows.npy``, ``ids.npz`` and ``target.json``.

    Attributes
    ----------
    image_id : (images) str
    rows : float16, images × width or, with views, images × views × width; all layers of an image, one behind the other
    layers : their names in the teacher's network
    shapes : of each for one image: (channels, height, width), (tokens, width) or (width,)
    record : provenance, as of `SoftLabels`; with views, what they were made with
    source, fold : (images) as in `Answer`
    """

    kind: ClassVar[str] = "features"

    image_id: np.ndarray
    rows: np.ndarray
    layers: list[str]
    shapes: list[tuple[int, ...]]
    record: dict[str, Any] = field(default_factory=dict)
    source: np.ndarray | None = None
    fold: np.ndarray | None = None

    def rows_for(self, image_id: np.ndarray, layers: Sequence[int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Join on image id.

        Parameters
        ----------
        image_id : (images) str, in any order
        layers : numbers of the layers that are wanted, in the order wanted; None: all

        Returns
        -------
        rows : float16, images × width, or images × views × width; 0 where there is none
        found : (images) bool, which images have one
        """
        row, found = find_rows(self.image_id, image_id)
        parts = self._parts(layers)
        rows = np.zeros((len(image_id), *self.rows.shape[1:-1], sum(map(_width, parts))), np.float16)
        asked = np.flatnonzero(found)
        for low in range(0, len(asked), _BATCH):
            batch = asked[low : low + _BATCH]
            stored, start = self.rows[row[batch]], 0
            for part in parts:
                rows[batch, ..., start : start + _width(part)] = stored[..., part]
                start += _width(part)
        return rows, found

    def numbers_for(self, image_id: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Join on image id: what `fetch_on` calls each image's row (int64; with views images × views), and who has one."""
        row, found = find_rows(self.image_id, image_id)
        views = self.rows.shape[1] if self.rows.ndim == 3 else 0
        return (row[:, None] * views + np.arange(views) if views else row), found

    def fetch_on(self, device: str, layers: Sequence[int] | None = None) -> Callable[[Tensor], Tensor]:
        """A function from `numbers_for` some images to their rows (float16, images × width), read when they are wanted."""
        stored, parts = self.rows.reshape(-1, self.rows.shape[-1]), self._parts(layers)

        def fetch(numbers: Tensor) -> Tensor:
            picked = stored[numbers.cpu().numpy()]
            return torch.from_numpy(np.concatenate([picked[:, part] for part in parts], 1)).to(device)

        return fetch

    def _parts(self, layers: Sequence[int] | None) -> list[slice]:
        """Where layers lie in a row."""
        ends = np.cumsum([prod(shape) for shape in self.shapes]).tolist()
        wanted = range(len(self.layers)) if layers is None else layers
        return [slice(ends[number] - prod(self.shapes[number]), ends[number]) for number in wanted]

    def save(self, folder: Path) -> None:
        """Write the target into an existing folder."""
        described = {"kind": self.kind, "layers": self.layers, "shapes": [list(shape) for shape in self.shapes]}
        write_rows(folder, self.image_id, self.source, self.fold, {"rows": self.rows}, {}, described | self.record)

    @classmethod
    def load(cls, folder: Path) -> Features:
        """Read what `save` wrote; rows are memory-mapped."""
        stored = read_rows(folder, ["rows"])
        record = {key: value for key, value in stored.record.items() if key not in ("kind", "layers", "shapes")}
        shapes = [tuple(shape) for shape in stored.record["shapes"]]
        rows, layers = stored.arrays["rows"], stored.record["layers"]
        return cls(stored.image_id, rows, layers, shapes, record, stored.source, stored.fold)


def _width(part: slice) -> int:
    return int(part.stop - part.start)


def split_layers(rows: Tensor, shapes: Sequence[tuple[int, ...]]) -> tuple[Tensor, ...]:
    """Rows (N × width) as the layers that they hold, N × shape each."""
    parts = rows.split([prod(shape) for shape in shapes], 1)
    return tuple(part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True))


def export_features(
    teacher_folder: Path | None,
    image_set: ImageSet,
    split: Split,
    device: str,
    view_maker: ViewMaker | None = None,
    *,
    images: Literal["labelled", "pool", "all"] = "all",
    layers: list[str] | None = None,
    pool: int | None = None,
    views: int = 0,
    control: Literal["shuffled_within", "shuffled_across"] | None = None,
    seed: int = 0,
) -> Features:
    """Let a teacher's network look at the student's training images. Needs no labels.

    Parameters
    ----------
    teacher_folder, image_set, split, device : the teacher's artifact, the pictures and their roles
    view_maker : draws the views
    images : which training images get a target
    layers : modules of the network, ``NAME:input`` for what a module is given. None: the last one of each spatial
        resolution, and the features before the last linear layer
    pool : side that maps are averaged down to; None: as they are
    views : so many augmented views of each image, and the student sees no others; 0: the images as they are, whose maps
        are only right for a student that sees them so
    control : ``shuffled_within`` (rows dealt to other images of the class; labelled images only) or ``shuffled_across``
    seed : draws the control

    Raises
    ------
    UserError
        The teacher has no network, or several; no such layer.
    """
    assert teacher_folder is not None
    check_control(control, image_set, split, images)
    if pool is not None and pool < 1:
        raise UserError(f"target.pool={pool}: expected a side of 1 or more, or null for maps as they are")
    teacher = load_teacher(teacher_folder)
    network = _network_of(teacher)
    chosen = chosen_images(split, images)
    shape = image_set.image_shape
    names = layers or find_stages(network.network, shape)
    shapes = [_pooled(found, pool) for found in read_shapes(network.network, shape, names, "target.layers")]
    width = sum(prod(each) for each in shapes)
    record: dict[str, Any] = {"pool": pool}
    moves = None
    if views:
        if view_maker is None:
            raise UserError(
                f"target.views={views}: give the training's augmentation and seed, ViewMaker(augmentation, seed)"
            )
        moves = view_maker.draw(image_set.train_images, views)
        record |= view_maker.record(views)
    rows = _room((len(chosen), *([views] if views else []), width))
    # a control's images are looked at in the order of those that get their rows
    dealt = chosen[deal(control, image_set, chosen, seed)]
    pictures = image_set.train_images
    for start in progress(range(0, len(dealt), _BATCH), "features"):
        batch = dealt[start : start + _BATCH]
        if moves is None:
            rows[start : start + len(batch)] = _look(network, pictures[batch], names, pool, device)
        for view in range(views):
            assert moves is not None
            seen = see(pictures, batch, view, moves)
            rows[start : start + len(batch), view] = _look(network, seen, names, pool, device)
    source = np.where(np.isin(image_set.train_ids[dealt], np.array(teacher.trained_on, str)), "in_sample", "predicted")
    fold = np.full(len(dealt), UNSEEN, np.int16)
    record = describe_rows(teacher.name, source, fold, control) | record
    return Features(image_set.train_ids[chosen], rows, list(names), shapes, record, source.astype("<U9"), fold)


def _network_of(teacher: Any) -> Student:
    if not isinstance(teacher, NetworkTeacher):
        raise UserError(
            f"target=features: teacher={teacher.name} has no network whose layers could be read; take teacher=cnn or self, "
            "or target=voxels"
        )
    if len(teacher.networks) > 1:
        raise UserError(
            f"target=features: teacher={teacher.name} has {len(teacher.networks)} networks, whose features mean different "
            "things; take teacher=cnn with teacher.cross_fit=1, or teacher=self"
        )
    return teacher.networks[0]


@torch.no_grad()
def _look(network: Student, images: np.ndarray, names: Sequence[str], pool: int | None, device: str) -> np.ndarray:
    """All layers of some images, float16 (images × width)."""
    network.to(device)
    seen: dict[str, Tensor] = {}
    handles = keep(network.network, names, seen, "target.layers")
    try:
        network(torch.from_numpy(np.ascontiguousarray(images)))
    finally:
        for handle in handles:
            handle.remove()
    parts: Iterator[Tensor] = (
        average_down(part, (min(pool, part.shape[2]), min(pool, part.shape[3]))) if pool and part.ndim == 4 else part
        for part in (seen[name].float() for name in names)
    )
    rows = torch.cat([part.flatten(1) for part in parts], 1)
    return rows.clamp(-_MOST, _MOST).half().cpu().numpy()


def _pooled(shape: tuple[int, ...], pool: int | None) -> tuple[int, ...]:
    if pool is None or len(shape) != 3:
        return shape
    return (shape[0], min(pool, shape[1]), min(pool, shape[2]))


def _room(shape: tuple[int, ...]) -> np.ndarray:
    """An array to fill, on disk where it is large."""
    size = 2 * prod(shape)
    if size <= _LARGE:
        return np.empty(shape, np.float16)
    each = " × ".join(map(str, shape))
    say(
        f"target=features: {size / 1e9:.1f} GB on disk ({each} half-precision numbers); fewer with target.layers and pool"
    )
    return np.memmap(tempfile.TemporaryFile(), np.float16, "w+", shape=shape)  # type: ignore[no-untyped-call, call-overload, return-value]

"""Relations as a target: how alike the patterns are that a teacher gives to any two images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from braindistill.errors import UserError
from braindistill.images import ImageSet, Split
from braindistill.joining import find_rows
from braindistill.runtime import warn
from braindistill.targets.asking import ask_voxels, check_control, chosen_images, deal, describe_rows
from braindistill.targets.rdm_file import read_rdm
from braindistill.targets.store import read_rows, write_rows
from braindistill.teachers.answer import UNSEEN

if TYPE_CHECKING:
    import torch


@dataclass
class Relations:
    """A target on disk: ``patterns.npy`` or ``similarity.npy``, with ``ids.npz`` and ``target.json``.

    Attributes
    ----------
    image_id : (images) str
    patterns : (images × width) float16 or float32 of length 1, so that the similarity of two images is the inner product of
        their rows; or None
    similarity : (images × images) float16 or float32, 1 on the diagonal; where ``patterns`` is None
    record : provenance, as of `SoftLabels`
    source, fold : (images) as in `Answer`
    """

    kind: ClassVar[str] = "relations"

    image_id: np.ndarray
    patterns: np.ndarray | None = None
    similarity: np.ndarray | None = None
    record: dict[str, Any] = field(default_factory=dict)
    source: np.ndarray | None = None
    fold: np.ndarray | None = None

    def rows_for(self, image_id: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Join on image id: the row of each image (int64, for `block`), and which images have one."""
        return find_rows(self.image_id, image_id)

    def block(self, rows: np.ndarray) -> np.ndarray:
        """Similarities of some rows with each other, float32 (rows × rows)."""
        if self.patterns is None:
            assert self.similarity is not None
            return np.asarray(self.similarity[rows][:, rows], np.float32)
        picked = np.asarray(self.patterns[rows], np.float32)
        return picked @ picked.T

    def blocks_on(self, device: str) -> Callable[[torch.Tensor], torch.Tensor]:
        """`block` as a function of tensors, with all rows on a device."""
        import torch

        patterns = self.patterns is not None
        stored = torch.from_numpy(np.array(self.patterns if patterns else self.similarity)).to(device)

        def block(rows: torch.Tensor) -> torch.Tensor:
            picked = stored[rows].float()
            return picked @ picked.T if patterns else picked[:, rows]

        return block

    def save(self, folder: Path) -> None:
        """Write the target into an existing folder."""
        parts = {"patterns": self.patterns, "similarity": self.similarity}
        arrays = {name: part for name, part in parts.items() if part is not None}
        write_rows(folder, self.image_id, self.source, self.fold, arrays, {}, {"kind": self.kind} | self.record)

    @classmethod
    def load(cls, folder: Path) -> Relations:
        """Read what `save` wrote; rows are memory-mapped."""
        stored = read_rows(folder, ["patterns", "similarity"])
        record = {key: value for key, value in stored.record.items() if key != "kind"}
        patterns, similarity = stored.arrays.get("patterns"), stored.arrays.get("similarity")
        return cls(stored.image_id, patterns, similarity, record, stored.source, stored.fold)


def export_relations(
    teacher_folder: Path | None,
    image_set: ImageSet,
    split: Split,
    device: str,
    *,
    images: Literal["labelled", "pool", "all"] = "all",
    rdm: Path | None = None,
    responses: Literal["predicted", "measured"] = "predicted",
    similarity: Literal["correlation", "cosine"] = "correlation",
    roi: str | None = None,
    precision: Literal["float16", "float32"] = "float16",
    control: Literal["shuffled_within", "shuffled_across"] | None = None,
    seed: int = 0,
) -> Relations:
    """Similarities between the student's training images, of a brain teacher's patterns or from a file. Needs no labels.

    Parameters
    ----------
    teacher_folder, image_set, split, device : the teacher's artifact (None with ``rdm``), the pictures and their roles
    images : which training images get a target
    rdm : an ``.npz`` with ``rdm`` (n × n; 0 on the diagonal, or similarities with 1 there) and ``image_id`` (n), in the place
        of a teacher; images that it does not name get no target
    responses : ``predicted`` for every image (by a fold that held it out), or ``measured`` where it was shown
    similarity : ``correlation`` (Pearson, over voxels) or ``cosine`` of two patterns, as the teacher gives them
    roi : voxels of this ROI only; None: all of the teacher's
    precision : how rows are stored
    control : ``shuffled_within`` (patterns dealt to other images of the class; labelled images only) or ``shuffled_across``
    seed : draws the control

    Raises
    ------
    UserError
        There is neither teacher nor file; the teacher has no voxels, or no such ROI; a file that is no RDM, or of others
        images.
    """
    if teacher_folder is None and rdm is None:
        raise UserError("target=relations needs a brain teacher (teacher=…) or target.rdm=FILE")
    check_control(control, image_set, split, images)
    chosen = chosen_images(split, images)
    if rdm is not None:
        return _from_file(Path(rdm), image_set, chosen, precision, control, seed)
    assert teacher_folder is not None
    teacher, answer = ask_voxels(teacher_folder, image_set, chosen, device, measured=responses == "measured")
    rows = answer.rows if roi is None else answer.rows[:, teacher.roi_index(roi)]
    patterns = _unit(rows, similarity)
    dealt = deal(control, image_set, chosen, seed)
    record = describe_rows(teacher.name, answer.source, answer.fold, control) | {"similarity": similarity, "roi": roi}
    image_id, source, fold = image_set.train_ids[chosen], answer.source[dealt], answer.fold[dealt]
    return Relations(image_id, patterns[dealt].astype(precision), None, record, source, fold)


def _unit(rows: np.ndarray, similarity: str) -> np.ndarray:
    """Rows (images × voxels) of length 1, centred for correlations, and at most as wide as there are images."""
    patterns = rows - rows.mean(1, keepdims=True) if similarity == "correlation" else rows
    length = np.linalg.norm(patterns, axis=1, keepdims=True)
    patterns = patterns / np.where(length > 0, length, 1)
    if patterns.shape[1] <= len(patterns):
        return patterns
    # more voxels than images: the principal components keep every inner product
    values, vectors = np.linalg.eigh(patterns.astype(np.float64) @ patterns.T.astype(np.float64))
    kept = values > len(values) * np.finfo(np.float64).eps * max(values[-1], 1e-30)
    return (vectors[:, kept] * np.sqrt(values[kept])).astype(np.float32)


def _from_file(
    path: Path, image_set: ImageSet, chosen: np.ndarray, precision: str, control: str | None, seed: int
) -> Relations:
    matrix, named = read_rdm(path)
    row, found = find_rows(named, image_set.train_ids[chosen])
    if found.sum() < 3:
        raise UserError(
            f"target.rdm={path}: names {found.sum()} of the {len(chosen)} training images, at least 3 are needed; its ids are "
            f"like {', '.join(named[:3].tolist())}, the images' like {', '.join(image_set.train_ids[chosen][:3].tolist())}"
        )
    without = image_set.train_ids[chosen][~found]
    if len(without):
        warn(f"target.rdm={path}: no row for {len(without)} training images (first: {', '.join(without[:5].tolist())})")
    chosen, row = chosen[found], row[found]
    order = row[deal(control, image_set, chosen, seed)]
    source, fold = np.full(len(row), "file"), np.full(len(row), UNSEEN, np.int16)
    record = describe_rows("file", source, fold, control) | {
        "n_without": len(without),
        "n_unused": len(named) - len(row),
    }
    similarity = matrix[np.ix_(order, order)].astype(precision)
    return Relations(image_set.train_ids[chosen], None, similarity, record, source, fold)

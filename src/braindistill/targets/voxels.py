"""Responses as a target: what the voxels of a brain teacher say about each image, whole or reduced."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from braindistill.errors import UserError
from braindistill.images import ImageSet, Split
from braindistill.joining import find_rows
from braindistill.runtime import derive, say
from braindistill.targets.asking import ask_voxels, check_control, chosen_images, deal, describe_rows
from braindistill.targets.store import read_rows, write_rows

#: weight of a voxel of which nothing can be predicted
_LEAST = 0.01


@dataclass
class Voxels:
    """A target on disk: ``rows.npy``, ``ids.npz`` and ``target.json``.

    Attributes
    ----------
    image_id : (images) str
    rows : (images × width) float16 or float32, z-scored over the images, which half precision can hold in any unit
    centre, scale : (width) float32: what the z-scores were made with
    weight : (width) float32, not negative: how far a column can be trusted; their mean is 1
    names : of the columns, where they have any (ROIs, principal components)
    record : provenance, as of `SoftLabels`
    source, fold : (images) as in `Answer`
    """

    kind: ClassVar[str] = "voxels"

    image_id: np.ndarray
    rows: np.ndarray
    centre: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    names: list[str] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)
    source: np.ndarray | None = None
    fold: np.ndarray | None = None

    def rows_for(self, image_id: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Join on image id: float32 (images × width) in the teacher's units, and which images have a row."""
        row, found = find_rows(self.image_id, image_id)
        rows = np.zeros((len(image_id), len(self.scale)), np.float32)
        rows[found] = np.asarray(self.rows[row[found]], np.float32) * self.scale + self.centre
        return rows, found

    def save(self, folder: Path) -> None:
        """Write the target into an existing folder."""
        columns = {
            "centre": self.centre,
            "scale": self.scale,
            "weight": self.weight,
            "names": np.array(self.names, str),
        }
        record = {"kind": self.kind} | self.record
        write_rows(folder, self.image_id, self.source, self.fold, {"rows": self.rows}, columns, record)

    @classmethod
    def load(cls, folder: Path) -> Voxels:
        """Read what `save` wrote; rows are memory-mapped."""
        stored = read_rows(folder, ["rows"])
        record = {key: value for key, value in stored.record.items() if key != "kind"}
        centre, scale, weight = (stored.names[name] for name in ("centre", "scale", "weight"))
        names = stored.names["names"].tolist()
        rows = stored.arrays["rows"]
        return cls(stored.image_id, rows, centre, scale, weight, names, record, stored.source, stored.fold)


def export_voxels(
    teacher_folder: Path | None,
    image_set: ImageSet,
    split: Split,
    device: str,
    *,
    images: Literal["labelled", "pool", "all"] = "all",
    responses: Literal["predicted", "measured"] = "predicted",
    reduce: Literal["none", "pca", "roi"] = "none",
    components: int = 50,
    precision: Literal["float16", "float32"] = "float16",
    control: Literal["shuffled_within", "shuffled_across"] | None = None,
    seed: int = 0,
) -> Voxels:
    """Ask a brain teacher's encoder about the student's training images. Needs no labels.

    Parameters
    ----------
    teacher_folder, image_set, split, device : the teacher's artifact, the pictures and their roles
    images : which training images get a target
    responses : ``predicted`` for every image (by a fold that held it out), or ``measured`` where it was shown
    reduce : ``none``; ``pca``: principal components of the z-scored voxels, each voxel scaled by the root of its weight,
        so that the error over components is the weighted error over voxels; ``roi``: the mean z-score of each ROI
    components : of ``pca``, at most
    precision : how z-scored rows are stored
    control : ``shuffled_within`` (rows dealt to other images of the class; labelled images only) or ``shuffled_across``
    seed : draws the control

    Raises
    ------
    UserError
        The teacher has no voxels, or no ROIs to reduce to.
    """
    assert teacher_folder is not None
    check_control(control, image_set, split, images)
    chosen = chosen_images(split, images)
    teacher, answer = ask_voxels(teacher_folder, image_set, chosen, device, measured=responses == "measured")
    record = describe_rows(teacher.name, answer.source, answer.fold, control) | {"reduce": reduce}
    rows, weight, names = answer.rows, trust(teacher, answer.rows.shape[1]), []
    if reduce == "pca":
        rows, weight, record["explained_variance"] = _components(answer.rows, answer.source, weight, components, seed)
        names = [f"pc{number + 1}" for number in range(len(weight))]
    elif reduce == "roi":
        rows, weight, names = _roi_means(answer.rows, weight, getattr(teacher, "rois", {}))
    standard, centre, scale = z_score(rows)
    dealt = deal(control, image_set, chosen, seed)
    return Voxels(
        image_set.train_ids[chosen],
        standard[dealt].astype(precision),
        centre,
        scale,
        (weight / weight.mean()).astype(np.float32),
        names,
        record,
        answer.source[dealt],
        answer.fold[dealt],
    )


def z_score(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows (images × width) with mean 0 and deviation 1 in each column, float32, and what was subtracted and divided by.

    A column that hardly varies is divided by 1.
    """
    centre = rows.mean(0, dtype=np.float64)
    scale = rows.std(0, dtype=np.float64)
    scale = np.where(scale > 1e-6 * np.maximum(np.abs(centre), 1e-6), scale, 1)
    centre, scale = centre.astype(np.float32), scale.astype(np.float32)
    return (rows - centre) / scale, centre, scale


def trust(teacher: Any, n_voxels: int) -> np.ndarray:
    """Weight of each voxel: its noise ceiling or, where there is none, the encoder's out-of-fold R².

    Clipped to [`_LEAST`, 1], so that a control whose encoder predicts nothing keeps all voxels. Ones where the teacher has
    neither.
    """
    scores = getattr(teacher, "voxel_scores", {})
    weight = scores.get("ceiling_r2", scores.get("r2"))
    return np.ones(n_voxels) if weight is None else np.clip(np.nan_to_num(np.asarray(weight, float)), _LEAST, 1)


def _components(
    rows: np.ndarray, source: np.ndarray, weight: np.ndarray, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    from sklearn.decomposition import PCA

    predicted = source == "predicted"
    if predicted.sum() <= count:  # measured responses all or nearly all: there is nothing else to fit on
        predicted[:] = True
    if count < 1:
        raise UserError(f"target.components={count}: must be at least 1")
    most = min(int(predicted.sum()), rows.shape[1])
    if count > most:
        say(f"target.components={count}: {most} images or voxels have no more than {most} components; these are kept")
        count = most
    _, centre, scale = z_score(rows[predicted])
    scaled = (rows - centre) / scale * np.sqrt(weight).astype(np.float32)
    model = PCA(count, random_state=derive(seed, "target", "pca") % 2**32).fit(scaled[predicted])
    share = model.explained_variance_ratio_.astype(np.float64)
    described = {"total": float(share.sum()), "components": [round(float(part), 6) for part in share]}
    return model.transform(scaled).astype(np.float32), share, described


def _roi_means(
    rows: np.ndarray, weight: np.ndarray, rois: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    indices = {name: np.arange(rows.shape[1])[index] for name, index in rois.items()}  # of a mask, too
    indices = {name: index for name, index in indices.items() if len(index)}
    if not indices:
        raise UserError(
            "target.reduce=roi: the teacher's voxels belong to no named ROI; take target.reduce=pca or none"
        )
    standard, _, _ = z_score(rows)
    means = np.stack([standard[:, index].mean(1) for index in indices.values()], axis=1)
    trusted = np.array([weight[index].mean() for index in indices.values()])
    return means, trusted if trusted.any() else np.ones(len(trusted)), list(indices)

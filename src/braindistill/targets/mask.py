"""Spatial attention as a target: where in each image the predicted activity of a ROI comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from braindistill.errors import UserError
from braindistill.images import ImageSet, Split, fit_pictures
from braindistill.joining import find_rows
from braindistill.runtime import warn
from braindistill.targets.asking import chosen_images, describe_rows
from braindistill.targets.store import read_rows, write_rows
from braindistill.teachers.answer import UNSEEN
from braindistill.teachers.artifact import load_teacher
from braindistill.teachers.attribution import attribute, resize_maps

_BATCH = 1024


@dataclass
class Masks:
    """A target on disk: ``maps.npy``, ``ids.npz`` and ``target.json``.

    Attributes
    ----------
    image_id : (images) str
    maps : (images × height × width) float16, each relative to its largest value, as half precision can't hold the small
        numbers of a map that adds up to 1
    record : provenance, as of `SoftLabels`, with attribution, ROI, and how many maps are ``uniform``: nothing was found
    source, fold : (images) as in `Answer`
    """

    kind: ClassVar[str] = "mask"

    image_id: np.ndarray
    maps: np.ndarray
    record: dict[str, Any] = field(default_factory=dict)
    source: np.ndarray | None = None
    fold: np.ndarray | None = None

    def rows_for(
        self, image_id: np.ndarray, size: int | tuple[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Join on image id.

        Parameters
        ----------
        image_id : (images) str, in any order
        size : height and width (or the side) that maps are brought to, those of the images; None: as stored

        Returns
        -------
        maps : (images × height × width) float32, not negative, each adding up to 1; 0 where there is none
        found : (images) bool, which images have one
        """
        row, found = find_rows(self.image_id, image_id)
        height, width = (size, size) if isinstance(size, int) else size or self.maps.shape[1:]
        maps = np.zeros((len(image_id), height, width), np.float32)
        asked = np.flatnonzero(found)
        for start in range(0, len(asked), _BATCH):
            batch = asked[start : start + _BATCH]
            stored = torch.from_numpy(np.array(self.maps[row[batch]], np.float32))
            stored /= stored.sum((1, 2), keepdim=True)
            maps[batch] = resize_maps(stored, (height, width)).numpy()
        return maps, found

    def save(self, folder: Path) -> None:
        """Write the target into an existing folder."""
        record = {"kind": self.kind} | self.record
        write_rows(folder, self.image_id, self.source, self.fold, {"maps": self.maps}, {}, record)

    @classmethod
    def load(cls, folder: Path) -> Masks:
        """Read what `save` wrote; maps are memory-mapped."""
        stored = read_rows(folder, ["maps"])
        record = {key: value for key, value in stored.record.items() if key != "kind"}
        return cls(stored.image_id, stored.arrays["maps"], record, stored.source, stored.fold)


def export_mask(
    teacher_folder: Path | None,
    image_set: ImageSet,
    split: Split,
    device: str,
    *,
    images: Literal["labelled", "pool", "all"] = "all",
    attribution: Literal["gradient", "gradcam", "occlusion"] = "gradient",
    roi: str | None = None,
    size: int | None = None,
) -> Masks:
    """Trace an encoder's predictions back to pixels, for the student's training images. Needs no labels.

    A stimulus is explained by the encoder of the fold that held it out, any other image by the mean of all folds'. Voxels
    weigh as their out-of-fold r, where it is positive.

    Parameters
    ----------
    teacher_folder, image_set, split, device : the teacher's artifact, the pictures and their roles
    images : which training images get a mask
    attribution : ``gradient`` (× input), ``gradcam`` or ``occlusion``, see `attribute`
    roi : the voxels that are explained; None: all
    size : side of the stored maps; None: that of the images

    Raises
    ------
    UserError
        The teacher has no encoder, no such ROI, or, for ``gradcam``, no convolutional layer.
    """
    assert teacher_folder is not None
    teacher = load_teacher(teacher_folder)
    if not getattr(teacher, "encoders", None):
        raise UserError(
            f"target=mask: teacher={teacher.name} has no encoder, whose predictions could be traced back to pixels; take "
            "teacher=encoder or teacher=brain"
        )
    if size is not None and size < 1:
        raise UserError(f"target.size={size}: expected a side of 1 pixel or more, or null for that of the images")
    chosen = chosen_images(split, images)
    voxels, weights = _voxels(teacher, roi)
    # of all images that may be asked for, so that an image's mask doesn't depend on which of them are
    baseline = _mean_picture(image_set.train_images, chosen_images(split, "all"), teacher.reader.shape)
    image_id = image_set.train_ids[chosen]
    side = (size, size) if size else image_set.train_images.shape[2:]
    maps = np.empty((len(chosen), *side), np.float16)
    fold = np.full(len(chosen), UNSEEN, np.int16)
    uniform = 0
    for group, encoders, k in teacher.encoder_views(image_id):
        fold[group] = k
        readings = _readings(teacher.reader, encoders, voxels, attribution, device)
        for start in range(0, len(group), _BATCH):
            rows = group[start : start + _BATCH]
            pictures = fit_pictures(image_set.train_images[chosen[rows]], teacher.reader.shape)
            found = np.zeros((len(rows), *pictures.shape[2:]), np.float32)
            for respond, layer in readings:
                found += attribute(
                    respond,
                    pictures,
                    method=attribution,
                    weights=weights,
                    layer=layer,
                    baseline=baseline,
                    device=device,
                )
            uniform += int((np.ptp(found, (1, 2)) == 0).sum())
            resized = resize_maps(torch.from_numpy(found), side).numpy()
            maps[rows] = resized / resized.max((1, 2), keepdims=True)
    if uniform:
        warn(f"target=mask: {uniform} of {len(chosen)} masks are uniform, as {attribution} found nothing in the image")
    alone = len(teacher.encoders) == 1
    source = np.where(alone & np.isin(image_id, teacher.stimulus_id), "in_sample", "predicted").astype("<U9")
    record = describe_rows(teacher.name, source, fold, None)
    record |= {"attribution": attribution, "roi": roi, "n_voxels": len(voxels), "uniform": uniform}
    return Masks(image_id, maps, record, source, fold)


def _mean_picture(images: np.ndarray, rows: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """The mean of some images, as a picture of the teacher's (channels × height × width), uint8."""
    total = np.zeros(images.shape[1:], np.int64)
    for start in range(0, len(rows), _BATCH):
        total += images[rows[start : start + _BATCH]].sum(0, dtype=np.int64)
    return fit_pictures(np.rint(total / max(len(rows), 1)).astype(np.uint8)[None], shape)[0]


def _voxels(teacher: Any, roi: str | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The voxels that are explained (indices), and their weights; None: all the same."""
    voxels = teacher.roi_index(roi)
    if not len(voxels):
        raise UserError(f"target.roi={roi}: has no voxel of this teacher; take another one")
    if teacher.voxel_r is None:
        return voxels, None
    weights = np.clip(np.nan_to_num(teacher.voxel_r[voxels]), 0, None)
    if not weights.any():
        warn("target=mask: the encoder predicts no voxel out of fold (r ≤ 0), so all voxels weigh the same")
        return voxels, None
    return voxels, weights


def _readings(
    reader: Any, encoders: list[Any], voxels: np.ndarray, attribution: str, device: str
) -> list[tuple[Callable[[Tensor], Tensor], nn.Module | None]]:
    """Functions from pictures to deviations of the voxels, with the layer that ``gradcam`` looks at.

    One, the mean of the encoders; but for ``gradcam`` one for each finetuned network, as each has a layer of its own.
    """
    if reader.kind == "images" and attribution == "gradcam":
        return [(_mean_response(nn.Identity(), [encoder], voxels), encoder.layer) for encoder in encoders]
    module = reader.module(device)
    if reader.kind == "images":
        return [(_mean_response(module, encoders, voxels), None)]
    layer = module.network.get_submodule(reader.layers[-1]) if reader.kind == "network" else None
    return [(_mean_response(module, [encoder.columns(voxels) for encoder in encoders], None), layer)]


def _mean_response(module: nn.Module, encoders: list[Any], voxels: np.ndarray | None) -> Callable[[Tensor], Tensor]:
    def respond(images: Tensor) -> Tensor:
        features = module(images)
        deviations = torch.stack([encoder.respond(features) for encoder in encoders]).mean(0)
        return deviations if voxels is None else deviations[:, torch.from_numpy(voxels).to(deviations.device)]

    return respond

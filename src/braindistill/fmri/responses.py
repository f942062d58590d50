"""What every reader returns and every teacher takes: trials × voxels, with their stimuli, runs and ROIs."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from braindistill.errors import UserError, nearest
from braindistill.fmri.response_checks import check_images, check_labels, check_responses, check_strings, find_absent
from braindistill.fmri.storage import compact, is_stored, row_blocks, writable_map


def mask_of(roi: str | Sequence[str], rois: Mapping[str, np.ndarray], n_voxels: int, nuisance: str) -> np.ndarray:
    """The voxels (bool) that `Responses.select` keeps; maybe none.

    Raises
    ------
    UserError
        An ROI is unknown (known ones are listed).
    """
    mask = np.zeros(n_voxels, dtype=bool)
    names = [roi] if isinstance(roi, str) else list(roi)
    left_out = [name.removeprefix("-") for name in names if name.startswith("-") and name not in rois]
    taken = [name for name in names if not name.startswith("-") or name in rois]
    taken = taken or (["all"] if left_out else [])
    for name in [*taken, *left_out]:
        if name not in rois and name != "all":
            raise UserError(f"ROI '{name}' is not in this data set; {nearest(name, [*rois, 'all'])}")
    for name in taken:
        every = ~rois[nuisance] if nuisance in rois else np.ones_like(mask)
        mask |= every if name == "all" else rois[name]
    for name in left_out:
        mask &= ~rois[name]
    return mask


@dataclasses.dataclass
class Responses:
    """Single-trial fMRI responses of one subject.

    Attributes
    ----------
    responses : (trials, voxels) float32, may be a memory map
    stimulus_id : (trials,) str
    run, session, label, split : (trials,) str or None; the label '' means unlabelled
    rois : name → (voxels,) bool
    voxel_coordinates : (voxels, 3) float, mm or voxel index, or None
    affine : (4, 4) voxel index → mm, or None
    ceiling : (voxels,) noise ceiling in R² units (0 to 1) of the mean over a stimulus's repeats, or None
    images : (stimuli, C, H, W) uint8 with C = 1 or 3, or None
    image_id : (stimuli,) str, the stimulus id of each image, or None
    preparation : what was done to the data since they were read (see `preprocess`), or None
    """

    responses: np.ndarray
    stimulus_id: np.ndarray
    run: np.ndarray | None = None
    session: np.ndarray | None = None
    label: np.ndarray | None = None
    split: np.ndarray | None = None
    rois: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    voxel_coordinates: np.ndarray | None = None
    affine: np.ndarray | None = None
    ceiling: np.ndarray | None = None
    images: np.ndarray | None = None
    image_id: np.ndarray | None = None
    preparation: dict[str, Any] | None = None

    def check(self, name: str = "responses", values: bool = True) -> None:
        """Raise UserError, with ``name`` in front, where two parts contradict each other or a value is not finite.

        A voxel that is NaN in every trial passes: it was not measured, and `drop_constant` leaves it out.
        ``values=False`` looks at no response, which saves a pass over a large file.
        """
        check_responses(self.responses, name)
        trials, voxels = self.responses.shape
        for key in ("stimulus_id", "run", "session", "label", "split"):
            check_strings(getattr(self, key), f"{name}: {key}", trials, "trials")
        for roi, mask in self.rois.items():
            if mask.shape != (voxels,) or mask.dtype != bool:
                found = f"{mask.dtype} {mask.shape}"
                raise UserError(f"{name}: ROI {roi} is {found}; expected a bool mask over the {voxels} voxels")
        if "all" in self.rois:
            raise UserError(f"{name}: an ROI is called 'all', which already means every voxel; rename it")
        for key, shape in (("voxel_coordinates", (voxels, 3)), ("affine", (4, 4)), ("ceiling", (voxels,))):
            value = getattr(self, key)
            if value is not None and value.shape != shape:
                raise UserError(f"{name}: {key} has shape {value.shape}; expected {shape}")
        if values:
            self.find_unusable(name)
        check_labels(self.stimulus_id, self.label, name)
        check_images(self.images, self.image_id, self.stimulus_id, name)

    def find_unusable(self, name: str = "responses") -> tuple[np.ndarray, np.ndarray]:
        """Find the voxels that say nothing, in one pass over the responses.

        Returns
        -------
        constant, absent : (voxels,) bool, the same in every trial, and NaN in every trial

        Raises
        ------
        UserError
            A value is infinite, or NaN in some trials only: says how many, and where the first is.
        """
        lowest = np.array(self.responses[0])
        highest = lowest.copy()
        for rows in row_blocks(len(self.responses), len(lowest), most=1024):
            block = self.responses[rows]
            np.minimum(lowest, block.min(axis=0), out=lowest)  # NaN wins in both
            np.maximum(highest, block.max(axis=0), out=highest)
        suspect = np.flatnonzero(~np.isfinite(lowest) | ~np.isfinite(highest))
        absent = np.zeros(len(lowest), dtype=bool)
        if len(suspect):
            absent[suspect] = find_absent(self.responses, suspect, self.stimulus_id, name)
        return lowest == highest, absent

    def drop_constant(self) -> tuple[Responses, int]:
        """Remove voxels that are the same (or NaN) in every trial; also say how many they were.

        A memory map that `allocate` made is rewritten block by block, never read as a whole.
        """
        constant, absent = self.find_unusable()
        unusable = constant | absent
        dropped = int(np.count_nonzero(unusable))
        return (self.keep_voxels(~unusable) if dropped else self), dropped

    def keep_voxels(self, mask: np.ndarray) -> Responses:
        """Restrict to the voxels of a bool mask for good: a writable memory map becomes a smaller file."""
        if not writable_map(self.responses):
            return self._keep(mask)
        return self._keep(mask, compact(self.responses, mask))

    def select(self, roi: str | Sequence[str], nuisance: str = "nuisance") -> Responses:
        """Restrict to the voxels of an ROI, of several (their union), or of ``"all"``.

        Parameters
        ----------
        roi : ``"all"`` stands for every voxel outside the mask that ``nuisance`` names, where there is one; ``"-V1"``
            takes the voxels of V1 out (of ``"all"``, where only such are named).
        nuisance : an ROI that only controls use.

        Raises
        ------
        UserError
            The ROI is unknown (known ones are listed) or has no voxel.
        """
        mask = mask_of(roi, self.rois, self.responses.shape[1], nuisance)
        if not mask.any():
            raise UserError(f"ROI {roi!r} has no voxel among the {len(mask)} of this data set; choose another")
        return self._keep(mask)

    def average(self) -> tuple[np.ndarray, np.ndarray]:
        """Average the repeats: (stimuli, voxels) float32, and the stimulus ids in order of first appearance."""
        trials: dict[str, list[int]] = {}
        for trial, stimulus in enumerate(self.stimulus_id.tolist()):
            trials.setdefault(stimulus, []).append(trial)
        mean = np.empty((len(trials), self.responses.shape[1]), dtype=np.float32)
        for row, members in enumerate(trials.values()):
            mean[row] = self.responses[members].mean(axis=0, dtype=np.float64)
        return mean, np.array(list(trials), dtype=str)

    def without(self, stimuli: np.ndarray) -> Responses:
        """Leave out the trials, and the pictures, of some stimuli."""
        kept = ~np.isin(self.stimulus_id, stimuli)
        if kept.all():
            return self
        follow: dict[str, Any] = {
            key: value[kept]
            for key in ("stimulus_id", "run", "session", "label", "split")
            if (value := getattr(self, key)) is not None
        }
        if self.images is not None and self.image_id is not None:
            shown = ~np.isin(self.image_id, stimuli)
            follow |= {"images": self.images[shown], "image_id": self.image_id[shown]}
        return dataclasses.replace(self, responses=np.asarray(self.responses)[kept], **follow)

    def save(self, folder: Path) -> None:
        """Write ``responses.npy``, ``images.npy`` (where there are images) and ``arrays.npz`` with everything else."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        rest = {key: getattr(self, key) for key in _SMALL if getattr(self, key) is not None}
        rest |= {f"roi_{roi}": mask for roi, mask in self.rois.items()}
        if is_stored(self.responses, folder / "responses.npy"):
            self.responses.flush()  # type: ignore[attr-defined]  # it lies there already
        else:
            _write(folder / "responses.npy", self.responses)
        if self.images is not None:
            _write(folder / "images.npy", self.images)
        else:
            (folder / "images.npy").unlink(missing_ok=True)
        _write(folder / "arrays.npz", rest)
        if self.preparation is not None:
            (folder / "preparation.json").write_text(json.dumps(self.preparation, indent=1) + "\n", encoding="utf-8")
        else:
            (folder / "preparation.json").unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: Path) -> Responses:
        """Read what `save` wrote; responses and images stay on disk (read-only memory maps) until they are used."""
        folder = Path(folder)
        missing = [file for file in ("responses.npy", "arrays.npz") if not (folder / file).exists()]
        if missing:
            raise UserError(f"{folder}: no {' and '.join(missing)}; expected a folder written by Responses.save")
        with np.load(folder / "arrays.npz", allow_pickle=False) as stored:
            rest: dict[str, Any] = {key: stored[key] for key in stored.files if not key.startswith("roi_")}
            rois = {key.removeprefix("roi_"): stored[key] for key in stored.files if key.startswith("roi_")}
        responses = np.load(folder / "responses.npy", mmap_mode="r", allow_pickle=False)
        if (folder / "images.npy").exists():
            rest["images"] = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
        if (folder / "preparation.json").exists():
            rest["preparation"] = json.loads((folder / "preparation.json").read_text(encoding="utf-8"))
        return cls(responses=responses, rois=rois, **rest)

    def _keep(self, mask: np.ndarray, chosen: np.ndarray | None = None) -> Responses:
        """Restrict to the voxels of a bool mask; ROIs that lose all their voxels go too."""
        index = np.flatnonzero(mask)
        where: Any = index
        if len(index) and index[-1] - index[0] + 1 == len(index):
            where = slice(int(index[0]), int(index[-1]) + 1)  # neighbours: a view, nothing is read or copied
        # np.take keeps the rows contiguous (indexing would return them transposed) and copies just what is asked for
        if chosen is None:
            chosen = self.responses[:, where] if isinstance(where, slice) else np.take(self.responses, where, axis=1)
        rois = {roi: kept[where] for roi, kept in self.rois.items() if kept[where].any()}
        follow = {
            key: value[where] for key in ("voxel_coordinates", "ceiling") if (value := getattr(self, key)) is not None
        }
        return dataclasses.replace(self, responses=chosen, rois=rois, **follow)


_SMALL = ["stimulus_id", "run", "session", "label", "split", "voxel_coordinates", "affine", "ceiling", "image_id"]


def _write(path: Path, content: np.ndarray | dict[str, np.ndarray]) -> None:
    """Write beside and rename: no half file after a kill, and a memory-mapped source can be saved over."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        if isinstance(content, dict):
            np.savez(file, **content)  # type: ignore[arg-type]
        else:
            np.save(file, content, allow_pickle=False)
    os.replace(partial, path)

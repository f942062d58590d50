"""Algonauts Project 2023: NSD responses on the cortical surface, averaged over repeats."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from braindistill.errors import UserError
from braindistill.fmri.named_rois import label_masks, read_pickled_names, select_voxels
from braindistill.fmri.pictures import read_pictures
from braindistill.fmri.responses import Responses
from braindistill.fmri.storage import allocate, row_blocks

HEMISPHERES = ("lh", "rh")
LAYOUT = "expected subjNN/training_split/{training_fmri,training_images} and subjNN/roi_masks of the challenge data"


def files_algonauts2023(options: Mapping[str, Any], subject: int) -> list[str]:
    """Patterns of the files below ``root`` that a subject is read from, so that only they are fingerprinted."""
    return [f"subj{subject:02d}/*"]


def load_algonauts2023(
    workspace: Path | None = None,
    *,
    root: Path,
    subject: int = 1,
    roi: str | list[str] | None = None,
    image_size: int | None = 64,
) -> Responses:
    """Read the training split of one subject (Gifford et al. 2023, arXiv:2301.03198).

    The responses come z-scored a session and averaged over an image's repeats, so they have no noise ceiling. A
    stimulus is called ``nsd-00013`` after its 0-based number among NSD's 73,000 images, as in ``fmri=nsd``.

    Parameters
    ----------
    root : folder with ``subj01`` … ``subj08``
    roi : one ROI (``V1v``: both hemispheres, ``lh_V1v``, ``lh``), several, or None for every vertex
    image_size : side in pixels that pictures are brought to; None keeps their 425 × 425.

    Raises
    ------
    UserError
        A file is missing, cut short, or does not fit the others; an ROI is unknown or empty; a table of ROI names holds
        anything but a dict of ints and strings.
    """
    folder = root / f"subj{subject:02d}"
    if not folder.is_dir():
        found = ", ".join(sorted(path.name for path in root.glob("subj*"))) or "no subjNN"
        raise UserError(f"{folder}: no such folder; fmri.root={root} has {found}; {LAYOUT}")
    pictures = _find_pictures(folder / "training_split" / "training_images")
    split = folder / "training_split" / "training_fmri"
    hemispheres = [_open(split / f"{side}_training_fmri.npy", 2) for side in HEMISPHERES]
    for side, values in zip(HEMISPHERES, hemispheres, strict=True):
        if len(values) != len(pictures):
            raise UserError(
                f"{split / f'{side}_training_fmri.npy'}: {len(values)} rows, but {len(pictures)} pictures in "
                f"{folder / 'training_split' / 'training_images'}; expected a row for each"
            )
    sizes = [values.shape[1] for values in hemispheres]
    masks, single = _read_rois(folder / "roi_masks", sizes)
    inside, rois = select_voxels(masks, roi, np.ones(sum(sizes), dtype=bool), f"Algonauts {folder.name}", single)
    columns = [np.flatnonzero(part) for part in np.split(inside, sizes[:1])]
    responses = allocate(workspace, len(pictures), int(np.count_nonzero(inside)))
    for rows in row_blocks(len(pictures), sum(sizes)):
        start = 0
        for values, chosen in zip(hemispheres, columns, strict=True):
            responses[rows, start : start + len(chosen)] = np.asarray(values[rows])[:, chosen]
            start += len(chosen)
    stimulus_id = np.array([path.stem.split("_")[1] for path in pictures])
    return Responses(
        responses,
        stimulus_id,
        split=np.full(len(pictures), "train"),
        rois=rois,
        images=read_pictures(pictures, image_size),
        image_id=stimulus_id,
    )


def _find_pictures(folder: Path) -> list[Path]:
    """Training pictures in the order of the responses: their names start with the number of their row, from 1."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; {LAYOUT}")
    found = sorted(folder.glob("*.png"))
    for row, path in enumerate(found, start=1):
        name = re.fullmatch(r"train-(\d+)_nsd-\d{5}", path.stem)
        if not name or int(name[1]) != row:
            raise UserError(
                f"{path}: picture {row} of {len(found)} in order; expected the name train-{row:04d}_nsd-NNNNN.png, one "
                "for each row of the responses: a picture is missing, or the folder holds others"
            )
    if not found:
        raise UserError(f"{folder}: no train-NNNN_nsd-NNNNN.png; {LAYOUT}")
    return found


def _read_rois(folder: Path, sizes: list[int]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """ROIs over both hemispheres (and ``lh``, ``rh`` themselves), and those of one hemisphere as ``lh_NAME``."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; {LAYOUT}")
    ends = np.cumsum([0, *sizes])
    both: dict[str, np.ndarray] = {}
    single: dict[str, np.ndarray] = {}
    for side, first, stop in zip(HEMISPHERES, ends, ends[1:], strict=False):
        both[side] = (np.arange(ends[-1]) >= first) & (np.arange(ends[-1]) < stop)
        for file in sorted(folder.glob(f"{side}.*_challenge_space.npy")):
            kind = file.name.removeprefix(f"{side}.").removesuffix("_challenge_space.npy")
            labels = _open(file, 1)
            if len(labels) != stop - first:
                raise UserError(f"{file}: {len(labels)} vertices, but {side}_training_fmri.npy has {stop - first}")
            for name, mask in label_masks(labels, read_pickled_names(folder / f"mapping_{kind}.npy")).items():
                whole = np.zeros(ends[-1], dtype=bool)
                whole[first:stop] = mask
                single[f"{side}_{name}"] = whole
                both[name] = both[name] | whole if name in both else whole
    return both, single


def _open(path: Path, dimensions: int) -> np.ndarray:
    """Memory-map a ``.npy`` file of plain numbers."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; {LAYOUT}")
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path}: not a readable .npy file of numbers ({error}); copy it again") from error
    if values.ndim != dimensions or values.dtype.kind not in "fiub":
        raise UserError(f"{path}: {values.dtype} {values.shape}; expected numbers in {dimensions} dimension(s)")
    return values

"""BOLD5000, release 2: single-trial betas of slow event-related fMRI, a session a file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from braindistill.errors import UserError
from braindistill.fmri.named_rois import blank_incomplete, find_incomplete, select_voxels
from braindistill.fmri.nifti import check_grid, open_nifti, read_voxels
from braindistill.fmri.pictures import read_pictures
from braindistill.fmri.responses import Responses
from braindistill.fmri.storage import allocate, row_blocks
from braindistill.runtime import progress, say

RUN = 37  # trials of a run
SPELLINGS = {"LO": "LOC", "RRSC": "RSC"}  # masks of CSI2 and CSI3 on OpenNeuro
PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"}


def load_bold5000(
    workspace: Path | None = None,
    *,
    root: Path,
    subject: int = 1,
    roi: str | list[str] | None = None,
    betas: str = "FITHRF-GLMDENOISE-RR",
    sessions: int | None = None,
    stimuli: Path | None = None,
    image_size: int | None = 64,
) -> Responses:
    """Read one subject of BOLD5000 (Chang et al. 2019, Scientific Data 6, 49), release 2, in percent signal change.

    Files are found by name, wherever they lie below ``root``: ``CSI1_GLMbetas-TYPED-…_ses-01.nii.gz``,
    ``CSI1_imgnames.txt``, ``CSI1_brainmask.nii.gz`` and ``sub-CSI1_mask-LHPPA.nii.gz``. Without session volumes, the
    ROI arrays ``CSI1_GLMbetas-…_allses_LHPPA.npy`` (trials × voxels) are taken; they do not say where a session ends.
    A stimulus is called like its picture, without the ending. Labels: the WordNet id of an ImageNet picture, the scene
    of a scene (``concert5.jpg`` → ``concert``), none for COCO.

    Parameters
    ----------
    roi : ``LHPPA``, ``PPA`` (both hemispheres), several, or None for the brain mask (else: every ROI)
    betas : the GLM version, as files call it after the part that starts with TYPE
    sessions : read the first so many; None reads all.
    stimuli : folder with the pictures, at any depth; None looks below ``root``, and does without where there are none.
    image_size : side in pixels that pictures are brought to; None keeps their size.

    Raises
    ------
    UserError
        A file is missing, cut short or on another grid than the others; the number of trials differs from the names'.
    """
    if not root.is_dir():
        raise UserError(f"fmri.root={root}: no such folder; expected the files of BOLD5000 release 2 below it")
    person = f"CSI{subject}"
    files = sorted(path for path in root.rglob("*") if path.is_file())
    names = _read_names(files, person, root)
    volumes = _find_sessions(files, person, betas, sessions)
    if volumes:
        found = _read_volumes(workspace, volumes, files, person, roi, names, whole=sessions is None)
    else:
        found = _read_arrays(workspace, files, person, roi, betas, names, root)
    found.label = np.array([_label(name) for name in found.stimulus_id.tolist()])
    _add_pictures(found, files if stimuli is None else None, stimuli, image_size)
    return found


def _read_volumes(
    workspace: Path | None,
    volumes: dict[int, Path],
    files: list[Path],
    person: str,
    roi: str | list[str] | None,
    names: list[str],
    *,
    whole: bool,
) -> Responses:
    """Sessions in order; their trials continue through the list of names."""
    paths = list(volumes.values())
    grid = open_nifti(paths[0])
    shapes = [open_nifti(path).shape for path in paths]
    for path, shape in zip(paths, shapes, strict=True):
        if len(shape) != 4 or shape[:3] != shapes[0][:3]:
            raise UserError(
                f"{path}: shape {shape}, but {paths[0]} {shapes[0]}; expected X × Y × Z × trials, on one grid"
            )
    lengths = [int(shape[3]) for shape in shapes]
    trials = sum(lengths)
    if trials > len(names) or (whole and trials != len(names)):
        raise UserError(
            f"{person}: {trials} trials in {len(lengths)} sessions, but {person}_imgnames.txt names {len(names)} "
            "pictures; expected one each: fetch the sessions that are missing, or read the first with fmri.sessions=N"
        )
    masks, brain, affine = _read_masks(files, person, grid, paths[0])
    inside, rois = select_voxels(masks, roi, brain, f"BOLD5000 {person}")
    responses = allocate(workspace, trials, int(np.count_nonzero(inside)), max(lengths))
    ends = np.cumsum([0, *lengths])
    incomplete = np.zeros(responses.shape[1], dtype=bool)
    for number, path in enumerate(progress(paths, f"BOLD5000 {person}", total=len(paths))):
        values = read_voxels(open_nifti(path), path, inside)
        incomplete |= find_incomplete(values)
        responses[ends[number] : ends[number + 1]] = values
    blank_incomplete(responses, incomplete, f"BOLD5000 {person}")
    session = [f"{number:02d}" for number in volumes]
    run = [f"{s}-{trial // RUN + 1:02d}" for s, length in zip(session, lengths, strict=True) for trial in range(length)]
    return Responses(
        responses,
        np.array(names[:trials]),
        run=np.array(run) if all(length % RUN == 0 for length in lengths) else None,
        session=np.repeat(session, lengths),
        rois=rois,
        voxel_coordinates=np.argwhere(inside) @ affine[:3, :3].T + affine[:3, 3],
        affine=affine,
    )


def _read_arrays(
    workspace: Path | None,
    files: list[Path],
    person: str,
    roi: str | list[str] | None,
    betas: str,
    names: list[str],
    root: Path,
) -> Responses:
    """The arrays of the ROIs side by side; a voxel of two ROIs is there twice."""
    pattern = re.compile(rf"{person}_GLMbetas-[^_-]+-{re.escape(betas)}_allses_([LR]H)(\w+)\.npy")
    found = {f"{m[1]}{m[2]}": path for path in files if (m := pattern.fullmatch(path.name))}
    if not found:
        versions = {
            m[1] for path in files if (m := re.match(rf"{person}_GLMbetas-[^_-]+-(.+?)_(?:ses|allses)", path.name))
        }
        raise UserError(
            f"fmri.root={root}: no {person}_GLMbetas-TYPE?-{betas}_ses-NN.nii.gz and no …_allses_LHEarlyVis.npy; "
            f"versions found (fmri.betas): {', '.join(sorted(versions)) or 'none'}"
        )
    arrays = {name: _open(path, len(names)) for name, path in found.items()}
    owner = np.repeat(list(arrays), [values.shape[1] for values in arrays.values()])
    masks = _unite({name: owner == name for name in arrays})
    inside, rois = select_voxels(masks, roi, np.ones(len(owner), dtype=bool), f"BOLD5000 {person}")
    responses = allocate(workspace, len(names), int(np.count_nonzero(inside)))
    for rows in row_blocks(len(names), len(owner)):
        start = 0
        for name in arrays:
            if inside[owner == name].any():  # an array is taken whole or not at all
                block = arrays[name][rows]
                responses[rows, start : start + block.shape[1]] = block
                start += block.shape[1]
    say(
        f"BOLD5000 {person}: ROI arrays, which do not tell sessions apart; fmri.zscore=session needs the session volumes"
    )
    run = np.array([f"{trial // RUN + 1:03d}" for trial in range(len(names))]) if len(names) % RUN == 0 else None
    return Responses(responses, np.array(names), run=run, rois=rois)


def _read_names(files: list[Path], person: str, root: Path) -> list[str]:
    """The stimulus of each trial: its picture's name without the ending."""
    path = next((path for path in files if path.name == f"{person}_imgnames.txt"), None)
    if path is None:
        people = sorted({m[1] for file in files if (m := re.match(r"(CSI\d)_", file.name))})
        raise UserError(
            f"fmri.root={root}: no {person}_imgnames.txt below it; found files of {', '.join(people) or 'no subject'}"
        )
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise UserError(f"{path}: empty; expected the name of a picture for each trial")
    return [_stem(Path(line)) for line in lines]


def _find_sessions(files: list[Path], person: str, betas: str, sessions: int | None) -> dict[int, Path]:
    """Session number → its volume, from the first without a gap; {} where there is none."""
    pattern = re.compile(rf"{person}_GLMbetas-[^_-]+-{re.escape(betas)}_ses-(\d+)\.nii(\.gz)?")
    found: dict[int, Path] = {}
    for path in files:
        if match := pattern.fullmatch(path.name):
            if int(match[1]) in found:
                raise UserError(f"{path}: session {int(match[1])} is also {found[int(match[1])]}; keep one of them")
            found[int(match[1])] = path
    if not found:
        return {}
    if sessions is not None and sessions < 1:
        raise UserError(f"fmri.sessions={sessions}: expected 1 or more, or null for all")
    wanted = range(1, (sessions or max(found)) + 1)
    lacking = [f"ses-{number:02d}" for number in wanted if number not in found]
    if lacking:
        raise UserError(
            f"{person}: no file of {', '.join(lacking)}, but of {len(found)} sessions up to ses-{max(found):02d}; the "
            "names of the pictures continue through all sessions, so none may be missing in between"
        )
    return {number: found[number] for number in wanted}


def _read_masks(
    files: list[Path], person: str, grid: Any, grid_path: Path
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """ROIs, the brain, and the affine of the brain mask: the one in the headers of the betas is known to be wrong."""
    pattern = re.compile(rf"(?:sub-)?{person}_mask-([LR]H)(\w+)\.nii(\.gz)?")
    found = [(match, path) for path in files if (match := pattern.fullmatch(path.name))]
    brain = [path for path in files if path.name in (f"{person}_brainmask.nii.gz", f"{person}_brainmask.nii")]
    paths = [*brain[:1], *(path for _, path in found)]
    if not paths:
        raise UserError(
            f"{person}: no {person}_brainmask.nii.gz and no sub-{person}_mask-LHPPA.nii.gz; fetch one of them"
        )
    images = [open_nifti(path) for path in paths]
    masks = []
    for image, path in zip(images, paths, strict=True):
        if tuple(image.shape[:3]) != tuple(grid.shape[:3]):
            raise UserError(
                f"{path}: shape {tuple(image.shape[:3])}, but {grid_path} {tuple(grid.shape[:3])}; expected one grid"
            )
        check_grid(image.shape, image.affine, path, images[0], paths[0])
        masks.append(read_voxels(image, path, np.ones(image.shape[:3], dtype=bool))[0].reshape(image.shape[:3]) > 0)
    rois = masks[len(brain[:1]) :]
    named = {f"{m[1]}{SPELLINGS.get(m[2], m[2])}": mask for (m, _), mask in zip(found, rois, strict=True)}
    return _unite(named), masks[0] if brain else np.logical_or.reduce(rois), np.asarray(images[0].affine, np.float64)


def _unite(masks: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Add ``PPA`` to ``LHPPA`` and ``RHPPA``."""
    both: dict[str, np.ndarray] = {}
    for name, mask in masks.items():
        both[name[2:]] = both[name[2:]] | mask if name[2:] in both else mask
    return masks | both


def _open(path: Path, trials: int) -> np.ndarray:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path}: not a readable .npy file of numbers ({error}); copy it again") from error
    if values.ndim != 2 or values.dtype.kind != "f" or len(values) != trials:
        raise UserError(
            f"{path}: {values.dtype} {values.shape}; expected a row for each of the {trials} names of pictures"
        )
    return values


def _add_pictures(found: Responses, files: list[Path] | None, stimuli: Path | None, size: int | None) -> None:
    if stimuli and not stimuli.is_dir():
        raise UserError(f"fmri.stimuli={stimuli}: no such folder; expected BOLD5000's pictures in it, at any depth")
    candidates = sorted(stimuli.rglob("*")) if stimuli else files or []
    by_name = {_stem(path): path for path in candidates if path.suffix.lower() in PICTURES}
    unique = np.unique(found.stimulus_id)
    if not stimuli and not any(name in by_name for name in unique.tolist()):
        say("BOLD5000: no pictures below fmri.root; fmri.stimuli=DIR names a folder of them")
        return
    lacking = [name for name in unique.tolist() if name not in by_name]
    if lacking:
        raise UserError(
            f"{stimuli or 'fmri.root'}: {len(lacking)} stimuli have no picture: {', '.join(lacking[:5])}; add them"
        )
    found.images = read_pictures([by_name[name] for name in unique.tolist()], size)
    found.image_id = unique


def _stem(path: Path) -> str:
    """The presentation lists mark the repeated pictures by a leading ``rep_``."""
    return path.stem.removeprefix("rep_")


def _label(stimulus: str) -> str:
    if match := re.fullmatch(r"(n\d{8})_\d+", stimulus):
        return match[1]
    return "" if stimulus.startswith("COCO_") else stimulus.rstrip("0123456789")

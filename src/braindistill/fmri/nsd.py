"""Natural Scenes Dataset: single-trial betas of 7T fMRI, a session a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from braindistill.errors import UserError
from braindistill.fmri.atlas import read_label_names
from braindistill.fmri.hdf5 import open_hdf5
from braindistill.fmri.named_rois import blank_incomplete, find_incomplete, label_masks, select_voxels
from braindistill.fmri.nifti import check_grid, open_nifti, read_voxels
from braindistill.fmri.pictures import resize_pictures
from braindistill.fmri.responses import Responses
from braindistill.fmri.storage import allocate
from braindistill.runtime import progress, say

TRIALS = 750  # a session
IMAGES = 73000
SCALE = 300  # betas that are stored as integers are percent signal change times 300
FLOC = ("floc-bodies", "floc-faces", "floc-places", "floc-words")
LISTED = ("nsdgeneral", "prf-visualrois", "prf-eccrois", *FLOC, "streams")  # others are called COLLECTION:NAME
Space = Literal["func1pt8mm", "fsaverage"]
PARTS: dict[str, tuple[tuple[str, ...], str, str]] = {  # prefixes of a session's files, endings of betas and labels
    "func1pt8mm": (("",), ".nii.gz", ".nii.gz"),
    "fsaverage": (("lh.", "rh."), ".mgh", ".mgz"),
}


def files_nsd(options: Mapping[str, Any], subject: int) -> list[str]:
    """Patterns of the files below ``root`` that a subject is read from, so that only they are fingerprinted."""
    person, space = f"subj{subject:02d}", options["space"]
    return [
        f"nsddata_betas/ppdata/{person}/{space}/{options['betas']}/*",
        "nsddata/experiments/nsd/*",
        f"nsddata/ppdata/{person}/{space}/*",
        f"nsddata/freesurfer/{person}/label/*",
        "nsddata/freesurfer/fsaverage/label/*",
        "nsddata/templates/*",
        "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5",
    ]


def load_nsd(
    workspace: Path | None = None,
    *,
    root: Path,
    subject: int = 1,
    roi: str | list[str] | None = "nsdgeneral",
    space: Literal["func1pt8mm", "fsaverage"] = "func1pt8mm",
    betas: str = "betas_fithrf_GLMdenoise_RR",
    sessions: int | None = None,
    stimuli: Path | None = None,
    image_size: int | None = 64,
) -> Responses:
    """Read one subject of NSD (Allen et al. 2022, Nature Neuroscience 25, 116–126), in percent signal change.

    The image of trial t is ``subjectim[subject, masterordering[t]]``, both counted from 1 in ``nsd_expdesign.mat``.
    Stimuli are called ``nsd-00013`` after the image's number counted from 0, the row of ``nsd_stimuli.hdf5``: the
    same names as in the file names of ``fmri=algonauts2023``.

    Parameters
    ----------
    root : folder with ``nsddata`` and ``nsddata_betas``
    roi : ``nsdgeneral``, an ROI (``V1v``, ``FFA-1``), one of another atlas (``Kastner2015:hV4``), a whole collection
        (``floc-faces``), several of them, or None for the brain mask (on fsaverage: every vertex).
    betas : folder of the GLM version
    sessions : read the first so many; None reads those that are there.
    stimuli : ``nsd_stimuli.hdf5``; None takes it from ``root`` where it is there, else there are no pictures.
    image_size : side in pixels that pictures are brought to; None keeps their 425 × 425.

    Returns
    -------
    Responses whose ceiling comes from the data set's ``ncsnr``: NC = ncsnr² / (ncsnr² + mean over stimuli of 1 / n),
    n the repeats that were read; without that file there is none yet.

    Raises
    ------
    UserError
        A file is missing, cut short or on another grid than the others; an index of the design is out of range; an ROI
        is unknown or empty.
    """
    folder = root / "nsddata_betas" / "ppdata" / f"subj{subject:02d}" / space / betas
    files = _find_sessions(folder, space, sessions)
    grids = [open_nifti(path) for path in next(iter(files.values()))]
    design = _read_design(root / "nsddata" / "experiments" / "nsd" / "nsd_expdesign.mat")
    image, run = _look_up(design, subject, list(files))
    inside, rois = _choose_voxels(root, subject, space, roi, grids)
    sizes = np.cumsum([np.prod(grid.shape[:3]) for grid in grids])[:-1]
    parts = [part.reshape(grid.shape[:3]) for part, grid in zip(np.split(inside, sizes), grids, strict=True)]
    responses = allocate(workspace, TRIALS * len(files), int(np.count_nonzero(inside)), TRIALS)
    first = next(iter(files.values()))
    incomplete = np.zeros(responses.shape[1], dtype=bool)
    for index, paths in enumerate(progress(files.values(), f"NSD subject {subject}", total=len(files))):
        column = 0
        for path, grid, grid_path, part in zip(paths, grids, first, parts, strict=True):
            stop = column + int(np.count_nonzero(part))
            values = responses[index * TRIALS : (index + 1) * TRIALS, column:stop]
            _read_session(path, grid, grid_path, part, values)
            incomplete[column:stop] |= find_incomplete(values)
            column = stop
    blank_incomplete(responses, incomplete, f"NSD subject {subject}")
    unique = np.unique(image)
    pictures = _read_stimuli(root, stimuli, unique, image_size)
    affine = np.asarray(grids[0].affine, dtype=np.float64) if space == "func1pt8mm" else None
    return Responses(
        responses,
        _names(image),
        run=run,
        session=np.repeat([f"{number:02d}" for number in files], TRIALS),
        rois=rois,
        voxel_coordinates=None if affine is None else np.argwhere(parts[0]) @ affine[:3, :3].T + affine[:3, 3],
        affine=affine,
        ceiling=_read_ceiling(folder, space, parts, image),
        images=pictures,
        image_id=None if pictures is None else _names(unique),
    )


def _find_sessions(folder: Path, space: Space, sessions: int | None) -> dict[int, list[Path]]:
    """Session number → its files, one a part."""
    prefixes, ending, _ = PARTS[space]
    layout = f"expected {prefixes[0]}betas_session01{ending} and so on"
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; {layout} there, in fmri.root/nsddata_betas/ppdata")
    pattern = re.compile(re.escape(prefixes[0]) + r"betas_session(\d+)" + re.escape(ending))
    found = sorted(int(name[1]) for path in folder.iterdir() if (name := pattern.fullmatch(path.name)))
    if sessions is not None and sessions < 1:
        raise UserError(f"fmri.sessions={sessions}: expected 1 or more, or null for all")
    numbers = found if sessions is None else list(range(1, sessions + 1))
    if not numbers:
        raise UserError(f"{folder}: no {prefixes[0]}betas_sessionNN{ending}; {layout}")
    files = {n: [folder / f"{prefix}betas_session{n:02d}{ending}" for prefix in prefixes] for n in numbers}
    for path in (path for paths in files.values() for path in paths if not path.is_file()):
        raise UserError(f"{path}: no such file; found {len(found)} sessions in {folder.name}; fetch it, or read fewer")
    if numbers[-1] > len(numbers):
        say(f"{folder}: read {len(numbers)} sessions, though the last is session {numbers[-1]}: some are missing")
    return files


def _read_design(path: Path) -> dict[str, np.ndarray]:
    from scipy.io import loadmat

    if not path.is_file():
        raise UserError(f"{path}: no such file; expected NSD's experimental design")
    try:
        design = loadmat(path)
    except (ValueError, TypeError, OSError, NotImplementedError, EOFError) as error:
        raise UserError(f"{path}: not a readable MATLAB file ({error}); copy it again") from error
    lacking = [key for key in ("subjectim", "masterordering") if key not in design]
    if lacking:
        found = ", ".join(key for key in design if not key.startswith("__"))
        raise UserError(f"{path}: no array {' and '.join(lacking)}; found {found or 'none'}")
    return design | {"path": path}


def _look_up(design: dict[str, Any], subject: int, sessions: list[int]) -> tuple[np.ndarray, np.ndarray | None]:
    """For each trial of these sessions, the image counted from 0, and the run (None where the design has no pattern)."""
    path, images, order = design["path"], design["subjectim"].astype(int), design["masterordering"].ravel().astype(int)
    if not 1 <= subject <= len(images):
        raise UserError(f"fmri.subject={subject}: {path} has the subjects 1 to {len(images)}")
    if sessions[-1] * TRIALS > len(order):
        raise UserError(
            f"{path}: masterordering has {len(order)} trials, but session {sessions[-1]} ends with {sessions[-1] * TRIALS}"
        )
    trials = np.concatenate([np.arange((number - 1) * TRIALS, number * TRIALS) for number in sessions])
    for key, values, top in (
        ("masterordering", order[trials], images.shape[1]),
        ("subjectim", images[subject - 1], IMAGES),
    ):
        if values.min() < 1 or values.max() > top:
            found = f"{values.min()} to {values.max()}"
            raise UserError(f"{path}: {key} goes from {found}; expected 1 to {top}, counted from 1")
    return images[subject - 1, order[trials] - 1] - 1, _runs(design.get("stimpattern"), sessions)


def _runs(pattern: np.ndarray | None, sessions: list[int]) -> np.ndarray | None:
    """``SESSION-RUN`` of each trial, from the (sessions, runs, trials) pattern of stimulus (1) and blank (0) trials."""
    if pattern is None or pattern.ndim != 3 or len(pattern) < sessions[-1]:
        return None
    counts = pattern[np.array(sessions) - 1].astype(int).sum(axis=2)
    if (counts.sum(axis=1) != TRIALS).any():
        return None
    names = [f"{number:02d}-{run:02d}" for number in sessions for run in range(1, counts.shape[1] + 1)]
    return np.repeat(names, counts.ravel())


def _read_session(path: Path, grid: Any, grid_path: Path, inside: np.ndarray, values: np.ndarray) -> None:
    """Fill (trials, voxels) with percent signal change; integers are scaled by the header first, as it may say."""
    image = open_nifti(path)
    check_grid(image.shape, image.affine, path, grid, grid_path)
    if image.ndim != 4 or image.shape[3] != TRIALS:
        found = image.shape[3] if image.ndim == 4 else f"a volume of shape {image.shape}"
        raise UserError(f"{path}: {found} trials; expected the {TRIALS} of an NSD session")
    read_voxels(image, path, inside, values)
    if image.get_data_dtype().kind in "iu":
        values /= np.float32(SCALE)


def _choose_voxels(
    root: Path, subject: int, space: Space, roi: str | list[str] | None, grids: list[Any]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The voxels to read, flat over a session's files, and ROIs among them."""
    person = f"subj{subject:02d}"
    folder = root / "nsddata" / "ppdata" / person / space / "roi"
    brain = folder.parent / "brainmask.nii.gz"
    if space == "fsaverage":
        folder = root / "nsddata" / "freesurfer" / "fsaverage" / "label"
    wanted = [] if roi is None else [roi] if isinstance(roi, str) else roi
    masks: dict[str, np.ndarray] = {}
    unlisted: dict[str, np.ndarray] = {}
    for collection, files in _find_collections(folder, space).items():
        names = _read_names(root, person, collection)
        if space == "fsaverage" and not names and collection != "nsdgeneral":
            continue  # that folder also holds maps that are no ROIs
        if collection not in LISTED and not any(name.split(":")[0] == collection for name in wanted):
            known = [collection, *(f"{collection}:{name}" for name in names.values())]
            unlisted |= dict.fromkeys(known, np.zeros(0, dtype=bool))  # large atlases are read only when asked for
            continue
        labels = np.concatenate([_read_labels(file, grid) for file, grid in zip(files, grids, strict=True)])
        found = {} if collection == "nsdgeneral" else label_masks(labels, names)
        prefix = "" if collection in LISTED else f"{collection}:"
        masks |= {f"{prefix}{name}": mask for name, mask in found.items()}
        (unlisted if found else masks)[collection] = labels > 0
    everything = np.ones(sum(int(np.prod(grid.shape[:3])) for grid in grids), dtype=bool)
    if space == "func1pt8mm" and roi is None and (brain.is_file() or masks):
        everything = _read_labels(brain, grids[0]) > 0 if brain.is_file() else np.logical_or.reduce([*masks.values()])
    if wanted and not masks and not unlisted:
        raise UserError(
            f"{folder}: no ROI files (such as nsdgeneral{PARTS[space][2]}); fetch them, or set fmri.roi=null"
        )
    return select_voxels(masks, roi, everything, f"NSD {person} in {space}", unlisted)


def _find_collections(folder: Path, space: Space) -> dict[str, list[Path]]:
    """Collection → its files, in the order of the parts."""
    ending = PARTS[space][2]
    files = {path.name.removesuffix(ending): path for path in sorted(folder.glob(f"*{ending}"))}
    if space == "func1pt8mm":  # lh.NAME and rh.NAME are there too: the halves of NAME
        return {name: [path] for name, path in files.items() if not name.startswith(("lh.", "rh."))}
    pairs = {name.removeprefix("lh."): [path, path.with_name(f"rh{path.name[2:]}")] for name, path in files.items()}
    return {name: pair for name, pair in pairs.items() if pair[0].name.startswith("lh.") and pair[1].is_file()}


def _read_names(root: Path, person: str, collection: str) -> dict[int, str]:
    """Label → name, without the background; {} where the collection has no table."""
    surfer = root / "nsddata" / "freesurfer"
    tables = [surfer / owner / "label" / f"{collection}.mgz.ctab" for owner in (person, "fsaverage")]
    tables.append(root / "nsddata" / "templates" / f"{collection}.ctab")
    table = next((path for path in tables if path.is_file()), None)
    return {label: name for label, name in read_label_names(table).items() if label > 0} if table else {}


def _read_labels(path: Path, grid: Any) -> np.ndarray:
    """A volume of labels, flat, on the grid of the betas."""
    image = open_nifti(path)
    found, expected = (tuple(map(int, volume.shape[:3])) for volume in (image, grid))
    if found != expected:
        raise UserError(f"{path}: shape {found}, but the betas have {expected}; is it this subject's?")
    return read_voxels(image, path, np.ones(grid.shape[:3], dtype=bool))[0]


def _read_ceiling(folder: Path, space: Space, parts: list[np.ndarray], image: np.ndarray) -> np.ndarray | None:
    prefixes, ending, _ = PARTS[space]
    files = [folder / f"{prefix}ncsnr{ending}" for prefix in prefixes]
    if not all(path.is_file() for path in files):
        return None
    grid_values = [_read_labels(path, part) for path, part in zip(files, parts, strict=True)]
    ncsnr = np.concatenate([values[part.ravel()] for values, part in zip(grid_values, parts, strict=True)])
    signal = np.nan_to_num(ncsnr.astype(np.float64)) ** 2
    return signal / (signal + np.mean(1 / np.unique(image, return_counts=True)[1]))


def _read_stimuli(root: Path, stimuli: Path | None, rows: np.ndarray, size: int | None) -> np.ndarray | None:
    """(images, 3, H, W) uint8 of these rows (sorted, counted from 0), a few at a time."""
    path = stimuli or root / "nsddata_stimuli" / "stimuli" / "nsd" / "nsd_stimuli.hdf5"
    if not path.is_file():
        if stimuli:
            raise UserError(f"fmri.stimuli={stimuli}: no such file; expected nsd_stimuli.hdf5")
        say(f"{path}: not there, so the stimuli have no pictures")
        return None
    with open_hdf5(path, "NSD's nsd_stimuli.hdf5") as file:
        if "imgBrick" not in file:
            raise UserError(f"{path}: no data set imgBrick; found {', '.join(file) or 'none'}")
        brick = file["imgBrick"]
        if rows[-1] >= len(brick):
            raise UserError(f"{path}: imgBrick has {len(brick)} images, counted from 0, but a trial shows {rows[-1]}")
        starts = range(0, len(rows), 64)
        blocks = [resize_pictures(brick[rows[start : start + 64]], size) for start in progress(starts, "NSD pictures")]
    return np.concatenate(blocks)


def _names(images: np.ndarray) -> np.ndarray:
    return np.array([f"nsd-{image:05d}" for image in images.tolist()])

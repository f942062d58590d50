"""BIDS-like NIfTI data of one subject: beta maps, a volume a trial, or raw BOLD of block and slow-event designs."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from braindistill.errors import UserError
from braindistill.fmri.events import Event, read_events, read_pictures
from braindistill.fmri.nifti import check_grid, find_brain, open_nifti, read_masks, read_voxels, repetition_time
from braindistill.fmri.responses import Responses
from braindistill.runtime import say


def load_bids(
    workspace: Path | None = None,
    *,
    root: Path,
    masks: Path | None = None,
    stimuli: Path | None = None,
    lag: float = 5.0,
) -> Responses:
    """Read one subject's runs and their events, run by run and only inside the masks.

    Beta maps: a volume is a trial. Raw BOLD: each voxel of a run is detrended linearly and z-scored, and the response
    to an event is the mean of the volumes acquired in [onset + lag, onset + duration + lag); no GLM is fitted.

    Parameters
    ----------
    root : folder with ``*_betas.nii[.gz]`` or ``*_bold.nii[.gz]`` and an ``*_events.tsv`` for each, in itself, in
        ``func/`` or in ``ses-*/func/``. Where there are both, the beta maps are read.
    masks : folder of NIfTI masks, or one file; a mask's file name is its ROI's name. None takes ``root/masks`` or, if
        that does not exist, no ROIs and every voxel that looks like brain.
    stimuli : folder that the column ``stim_file`` starts from. None takes ``root/stimuli`` if it exists.
    lag : haemodynamic lag in seconds, for raw BOLD only.

    Raises
    ------
    UserError
        Files are missing, damaged or on different grids, or events and volumes do not fit together.
    """
    kind, paths = _find_runs(root)
    images = [open_nifti(path) for path in paths]
    for image, path in zip(images, paths, strict=True):
        if image.ndim != 4:
            raise UserError(f"{path}: shape {image.shape}; expected four axes, the last one volumes")
        check_grid(image.shape, image.affine, path, images[0], paths[0])
    events = [read_events(_events_file(path)) for path in paths]
    for image, path, run in zip(images, paths, events, strict=True):
        if kind == "betas" and image.shape[3] != len(run):
            raise UserError(f"{path}: {image.shape[3]} beta maps, but {len(run)} events; expected one map an event")

    rois, inside = _choose_voxels(root, masks, images, paths)
    responses = np.empty((sum(map(len, events)), np.count_nonzero(inside)), dtype=np.float32)
    start = 0
    for image, path, run in zip(images, paths, events, strict=True):
        values = read_voxels(image, path, inside)
        if kind == "bold":
            values = average_events(_standardise(values), run, repetition_time(image, path), lag, str(path))
        responses[start : start + len(run)] = values
        start += len(run)

    trials = [event for run in events for event in run]
    pictures = stimuli or (root / "stimuli" if (root / "stimuli").is_dir() else None)
    shown, image_id = read_pictures(trials, pictures) if pictures else (None, None)
    session = [_entities(path).get("ses", "") for path in paths]
    lengths = [len(run) for run in events]
    index = np.argwhere(inside)
    affine = np.asarray(images[0].affine, dtype=np.float64)
    found = Responses(
        responses,
        np.array([event.stimulus_id for event in trials]),
        run=np.repeat(_name_runs(paths), lengths),
        session=np.repeat(np.array(session), lengths) if all(session) else None,
        label=np.array([event.label for event in trials]) if any(event.label for event in trials) else None,
        rois={name: mask[inside] for name, mask in rois.items()},
        voxel_coordinates=index @ affine[:3, :3].T + affine[:3, 3],
        affine=affine,
        images=shown,
        image_id=image_id,
    )
    found.check(str(root))
    return found


def average_events(volumes: np.ndarray, events: list[Event], tr: float, lag: float, name: str) -> np.ndarray:
    """Average, for each event, the volumes acquired in [onset + lag, onset + duration + lag).

    Parameters
    ----------
    volumes : (volumes, voxels); volume i was acquired i · tr seconds after the run began
    tr, lag : seconds
    name : the file, for messages

    Raises
    ------
    UserError
        An event lies before or beyond the run, or no volume was acquired in its window.
    """
    end = len(volumes) * tr
    means = np.empty((len(events), volumes.shape[1]), dtype=np.float32)
    for row, event in enumerate(events):
        what = f"{name}: event {row + 1} ({event.stimulus_id}, {event.onset:g} s + {event.duration:g} s)"
        first, stop = (
            max(0, math.ceil((time + lag) / tr - 1e-6)) for time in (event.onset, event.onset + event.duration)
        )
        if event.onset < 0 or event.onset + event.duration > end + 1e-6 or first >= len(volumes):
            raise UserError(
                f"{what} with a lag of {lag:g} s is outside the run of {end:g} s; check the events and TR {tr:g} s"
            )
        if first >= stop:
            raise UserError(
                f"{what} is over between two volumes (TR {tr:g} s); give it a longer duration, or use beta maps"
            )
        means[row] = volumes[first:stop].mean(axis=0)
    return means


def _find_runs(root: Path) -> tuple[str, list[Path]]:
    """The kind of the runs, ``betas`` or ``bold``, and their files in order."""
    if not root.is_dir():
        raise UserError(f"fmri.root={root}: no such folder; expected one subject's NIfTI runs and events")
    folders = [root, root / "func", *sorted(root.glob("ses-*/func"))]
    for kind, pattern in (("betas", r"_betas?\.nii(\.gz)?$"), ("bold", r"_bold\.nii(\.gz)?$")):
        found = [file for folder in folders if folder.is_dir() for file in folder.iterdir()]
        files = sorted((file for file in found if re.search(pattern, file.name)), key=_natural)
        if files:
            subjects = sorted({_entities(file)["sub"] for file in files if "sub" in _entities(file)})
            if len(subjects) > 1:
                raise UserError(f"fmri.root={root}: files of subjects {', '.join(subjects)}; expected one subject")
            return kind, files
    subjects = sorted(folder.name for folder in root.glob("sub-*") if folder.is_dir())
    hint = f"; choose one subject: fmri.root={root / subjects[0]}" if subjects else ""
    raise UserError(f"fmri.root={root}: no *_betas.nii[.gz] or *_bold.nii[.gz] here, in func/ or in ses-*/func/{hint}")


def _events_file(path: Path) -> Path:
    """The events of a run; BIDS leaves out the entities that only describe how the images were processed."""
    stem = _stem(path)
    exact = path.with_name(f"{stem}_events.tsv")
    plain = path.with_name(re.sub(r"_(space|desc|res|den)-[^_]+", "", stem) + "_events.tsv")
    return plain if plain.is_file() and not exact.is_file() else exact


def _choose_voxels(
    root: Path, masks: Path | None, images: list[Any], paths: list[Path]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """ROI masks in the volume, and the union of them: the voxels that are kept."""
    source = masks or (root / "masks" if (root / "masks").is_dir() else None)
    if source:
        rois = read_masks(source, images[0], paths[0])
        return rois, np.logical_or.reduce(list(rois.values()))
    inside = find_brain(images, paths)
    if not inside.any():
        raise UserError(f"fmri.root={root}: no voxel stands out as brain; give fmri.masks=DIR")
    say(f"{root}: no masks; kept the {np.count_nonzero(inside)} of {inside.size} voxels that look like brain")
    return {}, inside


def _standardise(volumes: np.ndarray) -> np.ndarray:
    """Take a straight line out of each voxel's time course and z-score it; a constant voxel becomes 0."""
    time = np.linspace(-1, 1, len(volumes), dtype=np.float32)
    mean = volumes.mean(axis=0, dtype=np.float64).astype(np.float32)
    volumes = volumes - mean
    if len(volumes) > 2:
        volumes -= np.outer(time, time @ volumes / (time @ time))
    deviation = volumes.std(axis=0)
    varies = deviation > 1e-5 * np.abs(mean)  # less than that is float32 rounding, real noise is 1e-3 and more
    return np.divide(volumes, deviation, out=np.zeros_like(volumes), where=varies & (deviation > 0))


def _name_runs(paths: list[Path]) -> np.ndarray:
    """The ``run`` entity where it tells the files apart, else (several sessions or tasks) the whole stem."""
    names = [_entities(path).get("run", _stem(path)) for path in paths]
    return np.array(names if max(Counter(names).values()) == 1 else [_stem(path) for path in paths])


def _entities(path: Path) -> dict[str, str]:
    return dict(re.findall(r"([a-zA-Z]+)-([^_]+)", _stem(path)))


def _stem(path: Path) -> str:
    return re.sub(r"_(betas?|bold)\.nii(\.gz)?$", "", path.name)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts run-2 before run-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]

"""BIDS-like NIfTI data of one subject: beta maps, a volume a trial, or raw BOLD of block and slow-event designs."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from pathlib import Path

import numpy as np

from braindistill.errors import UserError, nearest
from braindistill.fmri.bold import average_events, clean_run, merge_blocks
from braindistill.fmri.events import Event, read_event_pictures, read_events
from braindistill.fmri.nifti import (
    check_grid,
    count_volumes,
    find_brain,
    open_nifti,
    read_masks,
    read_voxels,
    repetition_time,
)
from braindistill.fmri.responses import Responses
from braindistill.fmri.storage import allocate
from braindistill.fmri.trials_table import read_trials, trial_runs
from braindistill.runtime import progress, say


@dataclasses.dataclass
class _Source:
    """A NIfTI file and its events: one a volume, or (``bold``) in seconds; ``kept`` are the events that are read."""

    path: Path
    bold: bool
    events: list[Event]
    kept: list[int]


def load_bids(
    workspace: Path | None = None,
    *,
    root: Path,
    trials: Path | None = None,
    masks: Path | None = None,
    roi: str | list[str] | None = None,
    conditions: list[str] | None = None,
    stimuli: Path | None = None,
    image_size: int | None = None,
    lag: float = 5.0,
    block_gap: float | None = None,
) -> Responses:
    """Read one subject's runs and their events, file by file and only inside the masks.

    Beta maps: a volume is a trial. Raw BOLD: each voxel of a run is detrended linearly and z-scored, and the response
    to an event is the mean of the volumes acquired in [onset + lag, onset + duration + lag); no GLM is fitted.

    Parameters
    ----------
    root : folder with ``*_betas.nii[.gz]`` or ``*_bold.nii[.gz]`` and an ``*_events.tsv`` for each, in itself, in
        ``func/`` or in ``ses-*/func/``. Where there are both, the beta maps are read.
    trials : a table instead, a row a trial (see `read_trials`): ``file`` is a 3-D NIfTI file, or a 4-D one whose rows
        follow its volumes, starting from ``root``. None takes ``root/trials.tsv`` if it exists.
    masks : folder of NIfTI masks or label atlases, or one file; a mask's file name is its ROI's name. None takes
        ``root/masks`` or, if that does not exist, no ROIs and every voxel that looks like brain.
    roi : read only the voxels of these ROIs; None reads those of all masks.
    conditions : read only the events with these ``trial_type``; None reads all.
    stimuli : folder that the column ``stim_file`` starts from. None takes ``root/stimuli`` if it exists.
    image_size : side in pixels that pictures are brought to; None takes them as they are.
    lag : haemodynamic lag in seconds, for raw BOLD only.
    block_gap : join events of one ``trial_type`` that follow each other within so many seconds, for raw BOLD whose
        events list every picture of a block. None takes each event by itself.

    Raises
    ------
    UserError
        Files are missing, damaged or on different grids, events and volumes do not fit together, or a condition or ROI
        does not exist.
    """
    table = trials or (root / "trials.tsv" if (root / "trials.tsv").is_file() else None)
    sources, run, session = _tabled(root, table) if table else _found(root, block_gap)
    kept = _keep_conditions(sources, conditions)
    rois, inside = _choose_voxels(root, masks, roi, [source.path for source in sources])
    responses = allocate(workspace, len(kept), int(np.count_nonzero(inside)))
    start = 0
    for source in progress(sources, "reading"):
        if source.kept:
            responses[start : start + len(source.kept)] = _read_source(source, inside, lag)
            start += len(source.kept)

    events = [source.events[row] for source in sources for row in source.kept]
    pictures = stimuli or (root / "stimuli" if (root / "stimuli").is_dir() else None)
    shown, image_id = read_event_pictures(events, pictures, image_size) if pictures else (None, None)
    affine = np.asarray(open_nifti(sources[0].path).affine, dtype=np.float64)
    found = Responses(
        responses,
        np.array([event.stimulus_id for event in events]),
        run=run if run is None else run[kept],
        session=session if session is None else session[kept],
        label=np.array([event.label for event in events]) if any(event.label for event in events) else None,
        rois={name: mask[inside] for name, mask in rois.items()},
        voxel_coordinates=np.argwhere(inside) @ affine[:3, :3].T + affine[:3, 3],
        affine=affine,
        images=shown,
        image_id=image_id,
    )
    found.check(str(root), values=False)  # NaN voxels are left to `preprocess`
    return found


def _found(root: Path, block_gap: float | None) -> tuple[list[_Source], np.ndarray, np.ndarray | None]:
    """The runs of ``root`` with the events beside them; run and session of each event."""
    kind, paths = _find_runs(root)
    sources = []
    for path in paths:
        image = open_nifti(path)
        if image.ndim != 4:
            raise UserError(f"{path}: shape {image.shape}; expected four axes, the last one volumes")
        events = read_events(_events_file(path))
        if kind == "bold" and block_gap is not None:
            events = merge_blocks(events, block_gap)
        if kind == "betas" and image.shape[3] != len(events):
            raise UserError(f"{path}: {image.shape[3]} beta maps, but {len(events)} events; expected one map an event")
        sources.append(_Source(path, kind == "bold", events, list(range(len(events)))))
    lengths = [len(source.events) for source in sources]
    session = [_entities(path).get("ses", "") for path in paths]
    return (
        sources,
        np.repeat(_name_runs(paths), lengths),
        np.repeat(np.array(session), lengths) if all(session) else None,
    )


def _tabled(root: Path, table: Path) -> tuple[list[_Source], np.ndarray | None, np.ndarray | None]:
    """The files that a table of trials names, in order of first appearance; run and session of each of their trials."""
    rows = read_trials(table)
    if not rows[0].file:
        raise UserError(f"{table}: no column file; expected the NIfTI file of each trial, starting from {root}")
    by_file: dict[str, list[int]] = {}
    for row, trial in enumerate(rows):
        by_file.setdefault(trial.file, []).append(row)
    lacking = [file for file in by_file if not (root / file).is_file()]
    if lacking:
        raise UserError(f"{table}: {len(lacking)} files are not in {root}: {', '.join(lacking[:5])}; add them")
    sources = []
    for file, members in by_file.items():
        image = open_nifti(root / file)
        if image.ndim not in (3, 4) or count_volumes(image) != len(members):
            raise UserError(
                f"{root / file}: shape {image.shape}, but {len(members)} rows of {table.name} name it; "
                "expected a volume for each row"
            )
        events = [Event(0.0, 0.0, rows[row].label, rows[row].stimulus_id, rows[row].stim_file) for row in members]
        sources.append(_Source(root / file, False, events, list(range(len(events)))))
    run, session = trial_runs(rows)
    order = [row for members in by_file.values() for row in members]
    return sources, run if run is None else run[order], session if session is None else session[order]


def _keep_conditions(sources: list[_Source], conditions: list[str] | None) -> np.ndarray:
    """Leave out the events of other conditions; the places of the kept ones among all events."""
    everything = [event.label for source in sources for event in source.events]
    if conditions is None:
        return np.arange(len(everything))
    known = set(everything) - {""}
    for condition in conditions:
        if condition not in known:
            raise UserError(f"fmri.conditions={condition}: no event has this trial_type; {nearest(condition, known)}")
    for source in sources:
        source.kept = [row for row, event in enumerate(source.events) if event.label in conditions]
    kept = np.flatnonzero(np.isin(everything, conditions))
    if not len(kept):
        raise UserError(f"fmri.conditions=[]: no event is left; {nearest('', known)}")
    return kept


def _read_source(source: _Source, inside: np.ndarray, lag: float) -> np.ndarray:
    """The (kept events, voxels) responses of one file."""
    image = open_nifti(source.path)
    values = read_voxels(image, source.path, inside)
    if not source.bold:
        return values[source.kept]
    events = [source.events[row] for row in source.kept]
    return average_events(clean_run(values), events, repetition_time(image, source.path), lag, str(source.path))


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
    root: Path, masks: Path | None, roi: str | list[str] | None, paths: list[Path]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """ROI masks in the volume, and the union of them: the voxels that are kept."""
    first = open_nifti(paths[0])
    for path in paths[1:]:
        image = open_nifti(path)
        check_grid(image.shape, image.affine, path, first, paths[0])
    source = masks or (root / "masks" if (root / "masks").is_dir() else None)
    if source:
        rois = read_masks(source, first, paths[0])
        chosen = rois if roi is None else [roi] if isinstance(roi, str) else roi
        for name in chosen:
            if name not in rois:
                raise UserError(f"fmri.roi={name}: {source} has no such ROI; {nearest(name, rois)}")
        rois = {name: mask for name, mask in rois.items() if name in chosen}
        if not rois:
            raise UserError(f"fmri.roi=[]: no ROI is left; {nearest('', chosen)}")
        return rois, np.logical_or.reduce(list(rois.values()))
    if roi is not None:
        raise UserError(f"fmri.roi={roi}: {root} has no masks; give fmri.masks=DIR, or leave fmri.roi out")
    inside = find_brain(paths)
    if not inside.any():
        raise UserError(f"fmri.root={root}: no voxel stands out as brain; give fmri.masks=DIR")
    say(f"{root}: no masks; kept the {np.count_nonzero(inside)} of {inside.size} voxels that look like brain")
    return {}, inside


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

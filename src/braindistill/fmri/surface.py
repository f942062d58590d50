"""Surface data of one subject: trials × vertices from FreeSurfer MGH, GIFTI or CIFTI files."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np

from braindistill.errors import UserError, nearest
from braindistill.fmri.events import Event, read_event_pictures
from braindistill.fmri.responses import Responses
from braindistill.fmri.storage import allocate
from braindistill.fmri.surface_files import Hemispheres, count_frames, hemisphere, read_frames, read_parcels
from braindistill.fmri.trials_table import Trial, read_trials, trial_runs
from braindistill.runtime import progress

DATA = (".mgh", ".mgz", ".func.gii", ".dscalar.nii", ".dtseries.nii")


@dataclasses.dataclass
class _Part:
    """The frames of one run: one file of both hemispheres (``both``), or one a hemisphere (``lh``, ``rh``)."""

    files: dict[str, Path]
    frames: int
    vertices: Hemispheres


def load_surface(
    workspace: Path | None = None,
    *,
    root: Path,
    pattern: str = "*",
    trials: Path | None = None,
    masks: Path | None = None,
    roi: str | list[str] | None = None,
    stimuli: Path | None = None,
    image_size: int | None = None,
) -> Responses:
    """Read the frames of surface files, each of them a trial; left and right hemisphere are put side by side.

    Vertices of the left hemisphere come first; the ROIs ``lh`` and ``rh`` say which is which. Of CIFTI files only the
    cortex is read.

    Parameters
    ----------
    root : folder with ``.mgh``, ``.mgz``, ``.func.gii`` (an array a trial), ``.dscalar.nii`` or ``.dtseries.nii``
        files. A hemisphere is told by ``hemi-L``, ``lh`` or ``.L.`` in the name; names of a pair differ in it only.
    pattern : which of them, as in ``glob``: ``func/*_betas.func.gii``
    trials : table with a row a frame (see `read_trials`), in the files' order; with a column ``file`` (either
        hemisphere's), the rows of a file follow its frames. None takes ``root/trials.tsv``.
    masks : folder of label files, or one: ``.label.gii``, ``.annot``, ``.label``, or ``.mgh``/``.mgz`` (a mask, or an
        atlas with a table of names beside it); the hemisphere is told by the name, and equal names are united. None
        takes ``root/masks`` if it exists.
    roi : read only the vertices of these ROIs (``lh`` and ``rh`` too); None reads those of all masks, or all vertices
        where there are none.
    stimuli : folder that the column ``stim_file`` starts from. None takes ``root/stimuli`` if it exists.
    image_size : side in pixels that pictures are brought to; None takes them as they are.

    Raises
    ------
    UserError
        Files are missing or damaged, hemispheres, label files, frames and rows do not fit together, or an ROI does not
        exist.
    """
    parts = _find_parts(root, pattern)
    rows = _join(parts, read_trials(trials or root / "trials.tsv"), trials or root / "trials.tsv")
    vertices = parts[0].vertices
    rois, wanted = _choose_vertices(root, masks, roi, vertices)
    responses = allocate(workspace, len(rows), int(np.count_nonzero(wanted)))
    start = 0
    for part in progress(parts, "reading"):
        column = 0
        for side, file in part.files.items():
            count = sum(map(len, vertices.values())) if side == "both" else len(vertices[side])
            inside = wanted[column : column + count] if side != "both" else wanted
            stop = np.count_nonzero(wanted[:column])
            values = read_frames(file)[:, inside]
            responses[start : start + part.frames, stop : stop + values.shape[1]] = values
            column += count
        start += part.frames

    events = [Event(0.0, 0.0, trial.label, trial.stimulus_id, trial.stim_file) for trial in rows]
    pictures = stimuli or (root / "stimuli" if (root / "stimuli").is_dir() else None)
    shown, image_id = read_event_pictures(events, pictures, image_size) if pictures else (None, None)
    run, session = trial_runs(rows)
    found = Responses(
        responses,
        np.array([trial.stimulus_id for trial in rows]),
        run=run,
        session=session,
        label=np.array([trial.label for trial in rows]) if any(trial.label for trial in rows) else None,
        rois={name: mask[wanted] for name, mask in rois.items() if mask[wanted].any()},
        images=shown,
        image_id=image_id,
    )
    found.check(str(root), values=False)  # NaN voxels are left to `preprocess`
    return found


def _find_parts(root: Path, pattern: str) -> list[_Part]:
    """The files, hemispheres paired, in the order of their names; all of one size."""
    if not root.is_dir():
        raise UserError(f"fmri.root={root}: no such folder; expected surface files ({', '.join(DATA)})")
    files = sorted((file for file in root.glob(pattern) if file.name.endswith(DATA)), key=_natural)
    if not files:
        raise UserError(f"fmri.root={root}: no {', '.join(DATA)} file matches fmri.pattern={pattern}")
    pairs: dict[str, dict[str, Path]] = {}
    for file in files:
        side, name = ("both", file.name) if file.name.endswith(".nii") else hemisphere(file)
        twin = pairs.setdefault(str(file.parent / name), {}).setdefault(side, file)
        if twin != file:
            raise UserError(f"{file} and {twin} are the same hemisphere of one run; narrow fmri.pattern")
    parts: list[_Part] = []
    for sides in pairs.values():
        sides = dict(sorted(sides.items()))  # lh before rh
        first = next(iter(sides.values()))
        if parts and set(sides) != set(parts[0].files):
            expected = " and ".join(parts[0].files)
            raise UserError(f"{first}: {' and '.join(sides)} only, but other runs have {expected}; add the other file")
        frames = 0
        vertices: Hemispheres = {}
        for side, file in sides.items():
            count, here = count_frames(file, side)
            if frames and count != frames:
                raise UserError(f"{file}: {count} frames, but {first} has {frames}; expected as many")
            frames, vertices = count, vertices | here
        if parts:
            _check_size(first, vertices, parts[0])
        parts.append(_Part(sides, frames, vertices))
    return parts


def _check_size(file: Path, vertices: Hemispheres, first: _Part) -> None:
    for side, here in vertices.items():
        there = first.vertices[side]
        if len(here) != len(there):
            other = next(iter(first.files.values()))
            raise UserError(
                f"{file}: {len(here)} vertices in {side}, but {other} {len(there)}; bring all to one surface"
            )
        if not np.array_equal(here, there):
            raise UserError(f"{file}: its vertices of {side} are others than in the first file; bring all to one mesh")


def _join(parts: list[_Part], rows: list[Trial], table: Path) -> list[Trial]:
    """The rows of the table in the order of the frames."""
    frames = sum(part.frames for part in parts)
    if not rows[0].file:
        if len(rows) != frames:
            raise UserError(f"{table}: {len(rows)} rows, but {frames} frames in {len(parts)} files; expected one each")
        return rows
    by_part: dict[int, list[Trial]] = {number: [] for number in range(len(parts))}
    names = {file.name: number for number, part in enumerate(parts) for file in part.files.values()}
    for line, trial in enumerate(rows, start=2):
        name = Path(trial.file).name
        if name not in names:
            raise UserError(f"{table}, line {line}: {trial.file} is none of the files read; {nearest(name, names)}")
        by_part[names[name]].append(trial)
    for number, members in by_part.items():
        if len(members) != parts[number].frames:
            file = next(iter(parts[number].files.values()))
            raise UserError(f"{file}: {parts[number].frames} frames, but {len(members)} rows of {table.name} name it")
    return [trial for members in by_part.values() for trial in members]


def _choose_vertices(
    root: Path, masks: Path | None, roi: str | list[str] | None, vertices: Hemispheres
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """ROIs over all vertices, and the vertices that are kept."""
    sides = np.repeat(list(vertices), [len(index) for index in vertices.values()])
    source = masks or (root / "masks" if (root / "masks").is_dir() else None)
    parcels = read_parcels(source, vertices) if source else {}
    rois = parcels | {side: sides == side for side in vertices}
    if roi is None:
        wanted = np.logical_or.reduce(list(parcels.values())) if parcels else np.ones(len(sides), dtype=bool)
        return rois, wanted
    chosen = [roi] if isinstance(roi, str) else roi
    for name in chosen:
        if name not in rois:
            raise UserError(f"fmri.roi={name}: {source or root} has no such ROI; {nearest(name, rois)}")
    if not chosen:
        raise UserError(f"fmri.roi=[]: no ROI is left; {nearest('', rois)}")
    kept = {name: mask for name, mask in rois.items() if name in [*chosen, *vertices]}
    return kept, np.logical_or.reduce([rois[name] for name in chosen])


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts run-2 before run-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]

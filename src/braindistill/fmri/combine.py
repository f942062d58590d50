"""Several subjects as one: voxels side by side on the stimuli they share, or trials of a shared space stacked."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.fmri.storage import allocate, row_blocks
from braindistill.runtime import say


def combine_subjects(
    responses: Sequence[Responses],
    names: Sequence[str] | None = None,
    workspace: Path | None = None,
    *,
    combine: Literal["concatenate", "stack"] = "concatenate",
) -> Responses:
    """Join the data of several subjects.

    Parameters
    ----------
    responses : one for each subject
    names : what subjects are called in ROI and run names; None takes ``sub1``, ``sub2`` …
    workspace : folder for a memory map; None takes memory.
    combine : ``concatenate`` puts voxels side by side. Stimuli that every subject saw (in the same split) are kept; the
        k-th repeat of one subject is joined with the k-th of the others, up to the least number of repeats. ROIs are
        called ``sub1_V1`` …, with ``V1`` for their union and ``sub1`` for all voxels of a subject; runs and sessions,
        which differ between subjects, are forgotten. ``stack`` puts trials one below the other, for subjects in a
        shared space (equal voxels): runs are called ``sub1_RUN``, ROIs that differ are left out, ceilings are
        forgotten.

    Raises
    ------
    UserError
        No stimulus is shared, labels contradict each other, or (``stack``) voxel counts differ.
    """
    names = list(names) if names is not None else [f"sub{number}" for number in range(1, len(responses) + 1)]
    if len(responses) < 2 or len(set(names)) != len(responses):
        raise UserError(f"fmri.subject=[{', '.join(names)}]: expected two or more different subjects")
    _check_labels_agree(responses, names)
    join = _concatenate if combine == "concatenate" else _stack
    return dataclasses.replace(
        join(responses, names, workspace),
        preparation={
            "combine": combine,
            "subjects": {name: one.preparation for name, one in zip(names, responses, strict=True)},
        },
    )


def _concatenate(responses: Sequence[Responses], names: Sequence[str], workspace: Path | None) -> Responses:
    split = all(one.split is not None for one in responses)
    trials = [_by_stimulus(one, split) for one in responses]
    shared = [key for key in trials[0] if all(key in other for other in trials)]
    if not shared:
        raise UserError(f"fmri.subject: {', '.join(names)} share no stimulus; combine=stack does without")
    counts = [min(len(each[key]) for each in trials) for key in shared]
    rows = [np.concatenate([each[key][:n] for key, n in zip(shared, counts, strict=True)]) for each in trials]
    found = ", ".join(f"{name} {len(each)}" for name, each in zip(names, trials, strict=True))
    say(f"{len(shared)} stimuli are shared ({found}), {sum(counts)} trials of each subject")

    widths = [one.responses.shape[1] for one in responses]
    joined = allocate(workspace, sum(counts), sum(widths))
    rois: dict[str, np.ndarray] = {}
    start = 0
    for one, name, chosen, width in zip(responses, names, rows, widths, strict=True):
        where = slice(start, start + width)
        for block in row_blocks(len(chosen), width):
            joined[block, where] = one.responses[chosen[block]]
        for roi, mask in {"": np.ones(width, dtype=bool), **one.rois}.items():
            for full in (f"{name}_{roi}" if roi else name, roi):
                if full:
                    rois.setdefault(full, np.zeros(sum(widths), dtype=bool))[where] |= mask
        start += width
    first = responses[0]
    ids = first.stimulus_id[rows[0]]
    label = _labels(responses, ids)
    images, image_id = _pictures(responses, ids)
    affines = [one.affine for one in responses]
    return Responses(
        joined,
        ids,
        label=label,
        split=first.split[rows[0]] if split and first.split is not None else None,
        rois=rois,
        voxel_coordinates=_join(responses, "voxel_coordinates"),
        affine=affines[0] if all(_equal(affine, affines[0]) for affine in affines) else None,
        ceiling=_join(responses, "ceiling"),
        images=images,
        image_id=image_id,
    )


def _stack(responses: Sequence[Responses], names: Sequence[str], workspace: Path | None) -> Responses:
    widths = [one.responses.shape[1] for one in responses]
    if len(set(widths)) > 1:
        found = ", ".join(f"{name} {width}" for name, width in zip(names, widths, strict=True))
        raise UserError(f"fmri.combine=stack: voxel counts differ ({found}); expected subjects in a shared space")
    stacked = allocate(workspace, sum(len(one.responses) for one in responses), widths[0])
    start = 0
    for one in responses:
        for block in row_blocks(*one.responses.shape):
            stacked[start + block.start : start + block.stop] = one.responses[block]
        start += len(one.responses)
    ids = np.concatenate([one.stimulus_id for one in responses])
    trials: dict[str, Any] = {}
    for key in ("run", "session", "split"):
        values = [getattr(one, key) for one in responses]
        if all(value is not None for value in values):
            prefix = [f"{name}_" if key != "split" else "" for name in names]
            trials[key] = np.concatenate([np.char.add(p, value) for p, value in zip(prefix, values, strict=True)])
    first = responses[0]
    same = {
        key: getattr(first, key) if all(_equal(getattr(one, key), getattr(first, key)) for one in responses) else None
        for key in ("voxel_coordinates", "affine")
    }
    rois = {roi: mask for roi, mask in first.rois.items() if all(_equal(one.rois.get(roi), mask) for one in responses)}
    images, image_id = _pictures(responses, ids)
    label = _labels(responses, ids)
    return Responses(stacked, ids, label=label, rois=rois, images=images, image_id=image_id, **trials, **same)


def _by_stimulus(one: Responses, split: bool) -> dict[tuple[str, str], np.ndarray]:
    """(split, stimulus) → its trials, in order of first appearance."""
    splits = one.split.tolist() if split and one.split is not None else [""] * len(one.stimulus_id)
    trials: dict[tuple[str, str], list[int]] = {}
    for trial, key in enumerate(zip(splits, one.stimulus_id.tolist(), strict=True)):
        trials.setdefault(key, []).append(trial)
    return {key: np.array(members) for key, members in trials.items()}


def _known_labels(one: Responses) -> dict[str, str]:
    if one.label is None:
        return {}
    pairs = zip(one.stimulus_id.tolist(), one.label.tolist(), strict=True)
    return {stimulus: label for stimulus, label in pairs if label}


def _check_labels_agree(responses: Sequence[Responses], names: Sequence[str]) -> None:
    known: dict[str, tuple[str, str]] = {}
    for one, name in zip(responses, names, strict=True):
        for stimulus, label in _known_labels(one).items():
            other, by = known.setdefault(stimulus, (label, name))
            if other != label:
                raise UserError(
                    f"fmri.subject: stimulus {stimulus} has the label '{other}' in {by} and '{label}' in {name}; "
                    "expected one label a stimulus"
                )


def _labels(responses: Sequence[Responses], ids: np.ndarray) -> np.ndarray | None:
    if all(one.label is None for one in responses):
        return None
    known = {stimulus: label for one in responses for stimulus, label in _known_labels(one).items()}
    return np.array([known.get(stimulus, "") for stimulus in ids.tolist()])


def _pictures(responses: Sequence[Responses], ids: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The pictures of the stimuli that are left; each is taken from the first subject that has it."""
    if any(one.images is None for one in responses):
        return None, None
    place: dict[str, tuple[np.ndarray, int]] = {}
    for one in responses:
        assert one.images is not None
        assert one.image_id is not None
        for row, identifier in enumerate(one.image_id.tolist()):
            place.setdefault(identifier, (one.images, row))
    shown = set(ids.tolist())
    wanted = [identifier for identifier in place if identifier in shown]
    shapes = sorted({place[identifier][0].shape[1:] for identifier in wanted})
    if len(shapes) > 1:
        raise UserError(f"fmri.subject: pictures of shapes {shapes[0]} and {shapes[1]}; bring all to one size")
    return np.stack([place[identifier][0][place[identifier][1]] for identifier in wanted]), np.array(wanted)


def _join(responses: Sequence[Responses], key: str) -> np.ndarray | None:
    values = [getattr(one, key) for one in responses]
    return np.concatenate(values) if all(value is not None for value in values) else None


def _equal(first: np.ndarray | None, second: np.ndarray | None) -> bool:
    return first is not None and second is not None and np.array_equal(first, second)

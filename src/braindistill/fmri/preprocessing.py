"""What is done to any data set after it was read: labels from a table, z-scores, averages, the best voxels.

All of it is fitted on training trials, and what was done is recorded in ``Responses.preparation``.
"""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np

from braindistill.errors import UserError
from braindistill.fmri.reliability import noise_ceiling, split_half
from braindistill.fmri.responses import Responses
from braindistill.fmri.storage import allocate, compact, row_blocks
from braindistill.runtime import say, warn

HELD_OUT = ("test", "imagery")  # splits from which nothing is fitted


def preprocess(
    responses: Responses,
    workspace: Path | None = None,
    *,
    zscore: Literal["none", "run", "session", "all"] = "none",
    average: bool = False,
    top_voxels: int | None = None,
    top_by: Literal["correlation", "ceiling"] = "ceiling",
    labels: Path | None = None,
) -> Responses:
    """Prepare responses for teachers; ``responses.responses`` is changed in place where it can be.

    In this order: labels are joined, voxels that are constant or NaN in every trial go, each voxel is z-scored, its
    noise ceiling is estimated from repeats (where the data set brought none), the best voxels are kept, repeats are
    averaged. A memory map is worked on block by block.

    Training trials are those whose split is neither ``test`` nor ``imagery``; without splits, all of them.

    Parameters
    ----------
    workspace : folder for a memory map, where the responses cannot be written to; None takes memory.
    zscore : mean and standard deviation of a voxel over the training trials of each run (of a session), of each
        session, or of all. A run or session without training trials uses its own trials: their mean is a property of
        that run, and no other is known. A voxel without variance there becomes 0.
    average : average the trials of a stimulus, within split. Runs (sessions) stay where all repeats of every stimulus
        agree on them, and are forgotten otherwise.
    top_voxels : how many voxels to keep; None keeps all.
    top_by : rank them by noise ceiling or by split-half correlation, both over repeats among the training trials, and
        both blind to labels, so that no label leaks from trials that a teacher must not learn from.
    labels : table (.csv or .tsv) with the columns ``stimulus_id`` and ``label``; replaces the data set's own labels.
        Stimuli without a row are unlabelled.

    Raises
    ------
    UserError
        An option needs what the data set lacks, or no voxel is left.
    """
    options = {"zscore": zscore, "average": average, "top_voxels": top_voxels, "top_by": top_by}
    record: dict[str, Any] = {"options": options, "trials": len(responses.responses)}
    if labels is not None:
        responses, record["labels"] = join_labels(responses, labels)
    constant, absent = responses.find_unusable("fmri")
    record["dropped"] = {"constant": int(constant.sum()), "nan": int(absent.sum())}
    keep = ~(constant | absent)
    if not keep.any():
        raise UserError(
            f"fmri: all {len(keep)} voxels are constant over trials ({absent.sum()} of them NaN); "
            "check that the responses were stored"
        )
    _say_dropped(record["dropped"], len(keep))
    training = training_trials(responses)
    if zscore != "none":
        values = _writable(responses.responses, workspace)
        groups = _group(responses, zscore)
        varies, own = standardise(values, groups, training)
        responses = dataclasses.replace(responses, responses=values)
        record["zscore"] = {"groups": len(set(groups.tolist())), "training_trials": int(training.sum()), "own": own}
        record["dropped"]["constant in training"] = int((keep & ~varies).sum())
        keep &= varies
    if responses.ceiling is None:
        ceiling = noise_ceiling(responses.responses, responses.stimulus_id)
        record["ceiling"] = "repeats" if ceiling is not None else None
        responses = dataclasses.replace(responses, ceiling=ceiling)
    else:
        record["ceiling"] = "data set"
    if top_voxels is not None:
        score = _score(responses, training, top_by)
        keep, record["top_voxels"] = _best(score, keep, top_voxels)
    repeats = group_repeats(responses) if average else None
    if repeats is not None and len(repeats) < len(responses.responses):
        responses = _average(responses, keep, repeats)
        record["averaged"] = {"trials": record["trials"], "into": len(repeats)}
    elif not keep.all():
        responses = responses.keep_voxels(keep)
    return dataclasses.replace(responses, preparation=record)


def training_trials(responses: Responses) -> np.ndarray:
    """(trials,) bool: the trials from which something may be fitted."""
    if responses.split is None:
        return np.ones(len(responses.responses), dtype=bool)
    training = ~np.isin(responses.split, HELD_OUT)
    return training if training.any() else np.ones_like(training)


def standardise(values: np.ndarray, groups: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """z-score each voxel within each group of trials, in place, with statistics of the group's training trials.

    Parameters
    ----------
    values : (trials, voxels) float32, may be a memory map; one group at a time is looked at, in blocks
    groups : (trials,) str
    training : (trials,) bool

    Returns
    -------
    varies : (voxels,) bool, whether a voxel varies over the fitted trials of any group
    own : the groups without training trials, which were fitted on their own

    Raises
    ------
    UserError
        A group has a single trial to fit.
    """
    varies = np.zeros(values.shape[1], dtype=bool)
    own = []
    for group in dict.fromkeys(groups.tolist()):
        rows = np.flatnonzero(groups == group)
        fitted = rows[training[rows]]
        if not len(fitted):
            own.append(group)
            fitted = rows
        if len(fitted) < 2:
            raise UserError(f"fmri.zscore: {group or 'the data set'} has a single trial to fit; z-score a larger group")
        mean, deviation = _moments(values, fitted)
        varies |= deviation > 0
        scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)
        for block in row_blocks(len(rows), values.shape[1]):
            where = _neighbours(rows[block])
            values[where] = (values[where] - mean) * scale
    return varies, own


def group_repeats(responses: Responses) -> list[np.ndarray]:
    """The trials of each stimulus within each split, in order of first appearance."""
    split = responses.split if responses.split is not None else np.full(len(responses.stimulus_id), "")
    trials: dict[tuple[str, str], list[int]] = {}
    for trial, key in enumerate(zip(split.tolist(), responses.stimulus_id.tolist(), strict=True)):
        trials.setdefault(key, []).append(trial)
    return [np.array(members) for members in trials.values()]


def join_labels(responses: Responses, table: Path) -> tuple[Responses, dict[str, Any]]:
    """Take labels from a table, joined on the stimulus id.

    Returns
    -------
    The labelled responses, and counts: stimuli with a label, stimuli without, ids of the table that were never shown.

    Raises
    ------
    UserError
        The table is missing, lacks a column, gives a stimulus two labels, or names no stimulus of the data set.
    """
    known = _read_table(table)
    shown = list(dict.fromkeys(responses.stimulus_id.tolist()))
    unknown = sorted(set(known) - set(shown))
    found = [stimulus for stimulus in shown if stimulus in known]
    if not found:
        raise UserError(
            f"fmri.labels={table}: none of its {len(known)} ids is a stimulus of the data set; the table names "
            f"{', '.join(list(known)[:3])}, the data {', '.join(shown[:3])}"
        )
    if unknown:
        warn(f"{table}: {len(unknown)} ids are no stimulus of the data set: {', '.join(unknown[:5])}")
    if len(found) < len(shown):
        say(f"{table}: {len(shown) - len(found)} of {len(shown)} stimuli have no row and stay unlabelled")
    label = np.array([known.get(stimulus, "") for stimulus in responses.stimulus_id.tolist()])
    counts = {"labelled": len(found), "unlabelled": len(shown) - len(found), "unknown": len(unknown)}
    return dataclasses.replace(responses, label=label), counts


def _read_table(table: Path) -> dict[str, str]:
    if not table.is_file():
        raise UserError(f"fmri.labels={table}: no such file; expected a .csv or .tsv with stimulus_id and label")
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t" if table.suffix == ".tsv" else ","))
    except UnicodeDecodeError as error:
        raise UserError(f"fmri.labels={table}: not a UTF-8 text file ({error}); save it as UTF-8") from error
    columns = [column for column in (rows[0] if rows else {}) if column]
    missing = [column for column in ("stimulus_id", "label") if column not in columns]
    if missing:
        raise UserError(
            f"fmri.labels={table}: no column {' and '.join(missing)}; found: {', '.join(columns) or 'none'}"
        )
    known: dict[str, str] = {}
    for line, row in enumerate(rows, start=2):
        stimulus, label = (row["stimulus_id"] or "").strip(), (row["label"] or "").strip()
        if known.setdefault(stimulus, label) != label:
            raise UserError(
                f"fmri.labels={table}, line {line}: stimulus {stimulus} has the labels '{known[stimulus]}' and "
                f"'{label}'; expected one label a stimulus"
            )
    return known


def _group(responses: Responses, zscore: str) -> np.ndarray:
    """The name of each trial's group. Run 1 of one session is another run than run 1 of the next."""
    if zscore == "all":
        return np.full(len(responses.responses), "")
    names = responses.run if zscore == "run" else responses.session
    if names is None:
        known = [key for key in ("run", "session") if getattr(responses, key) is not None]
        raise UserError(
            f"fmri.zscore={zscore}: the data set names no {zscore}s; take one of {', '.join([*known, 'all'])}"
        )
    if zscore == "run" and responses.session is not None:
        pairs = zip(responses.session.tolist(), names.tolist(), strict=True)
        return np.array([f"session {session}, run {run}" for session, run in pairs])
    return np.array([f"{zscore} {name}" for name in names.tolist()])


def _writable(values: np.ndarray, workspace: Path | None) -> np.ndarray:
    if values.flags.writeable:
        return values
    copy = allocate(workspace, *values.shape)
    for rows in row_blocks(*values.shape):
        copy[rows] = values[rows]
    return copy


def _moments(values: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (float32) of some rows; exactly 0 for a constant voxel."""
    shift = np.array(values[rows[0]])
    total, squares = np.zeros((2, values.shape[1]))
    for block in row_blocks(len(rows), values.shape[1], most=256):  # few rows, so that float32 sums lose nothing
        difference = values[_neighbours(rows[block])] - shift
        total += difference.sum(axis=0)
        squares += np.einsum("ij,ij->j", difference, difference)
    mean = total / len(rows)
    variance = np.maximum(0.0, squares / len(rows) - mean**2)
    return (shift + mean).astype(np.float32), np.sqrt(variance).astype(np.float32)


def _neighbours(rows: np.ndarray) -> Any:
    """A slice where rows follow each other: a view instead of a copy."""
    return slice(int(rows[0]), int(rows[-1]) + 1) if rows[-1] - rows[0] + 1 == len(rows) else rows


def _score(responses: Responses, training: np.ndarray, top_by: str) -> np.ndarray:
    """What voxels are ranked by, from training trials only."""
    if top_by == "ceiling" and training.all() and responses.ceiling is not None:
        return responses.ceiling
    estimate = noise_ceiling if top_by == "ceiling" else split_half
    score = estimate(responses.responses, responses.stimulus_id, np.flatnonzero(training))
    if score is None:
        repeats = Counter(responses.stimulus_id[training].tolist()).values()
        raise UserError(
            f"fmri.top_voxels with fmri.top_by={top_by} needs stimuli that repeat among the training trials; "
            f"{sum(count > 1 for count in repeats)} of {len(repeats)} do: leave it out, or choose fmri.roi"
        )
    return score


def _best(score: np.ndarray, keep: np.ndarray, count: int) -> tuple[np.ndarray, dict[str, Any]]:
    if count < 1:
        raise UserError(f"fmri.top_voxels={count}: expected 1 or more, or null for all")
    score = np.where(keep & np.isfinite(score), score, -np.inf)
    order = np.argsort(-score, kind="stable")[: min(count, int(keep.sum()))]
    best = np.zeros_like(keep)
    best[order] = True
    return best & keep, {"kept": int((best & keep).sum()), "of": int(keep.sum()), "least": float(score[order[-1]])}


def _average(responses: Responses, keep: np.ndarray, repeats: list[np.ndarray]) -> Responses:
    first = np.array([members[0] for members in repeats])
    narrow = dataclasses.replace(responses, responses=responses.responses[:1])._keep(keep)
    trials: dict[str, Any] = {}
    for key in ("stimulus_id", "run", "session", "label", "split"):
        values = getattr(responses, key)
        unanimous = values is not None and all((values[members] == values[members[0]]).all() for members in repeats)
        trials[key] = values[first] if unanimous else None
    return dataclasses.replace(narrow, responses=compact(responses.responses, keep, repeats), **trials)


def _say_dropped(dropped: dict[str, int], voxels: int) -> None:
    if dropped["constant"]:
        say(f"left out {dropped['constant']} of {voxels} voxels that are constant over all trials")
    if dropped["nan"]:
        say(f"left out {dropped['nan']} of {voxels} voxels that are NaN in every trial")

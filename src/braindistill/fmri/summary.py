"""What a data set holds, as a table for people."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from braindistill.fmri.responses import Responses

QUANTILES = (5, 25, 50, 75, 95)  # percent of an ROI's voxels


def summarise(responses: Responses, title: str = "") -> str:
    """Describe responses: trials, stimuli, repeats, runs, splits, labels, pictures, voxels and ceilings of each ROI.

    Returns
    -------
    Lines of text. Ceilings are in R² units (of the mean over repeats); the ceiling of a correlation is their root.
    """
    trials, voxels = responses.responses.shape
    repeats = np.array(list(Counter(responses.stimulus_id.tolist()).values()))
    rows = [
        ("trials", f"{trials:,}"),
        ("stimuli", f"{len(repeats):,}"),
        ("repeats", f"{repeats.min()} / {np.median(repeats):g} / {repeats.max()} (least, median, most)"),
        ("runs", _count(responses.run, "not named")),
        ("sessions", _count(responses.session, "not named")),
        ("splits", _each(responses.split)),
        ("classes", _classes(responses)),
        ("pictures", _pictures(responses)),
        ("preprocessing", _preparation(responses.preparation)),
    ]
    lines = [title] if title else []
    lines += [f"{name:<14}{text}" for name, text in rows]
    rois = {"all voxels": np.ones(voxels, dtype=bool), **responses.rois}
    width = max(len(roi) for roi in rois) + 2
    columns = "".join(f"{f'{quantile} %':>7}" for quantile in QUANTILES)
    if responses.ceiling is None:
        lines += ["", f"{'':<{width}}{'voxels':>8}   no ceiling: single trials"]
    else:
        lines += ["", f"{'':<{width}}{'':>8}   noise ceiling (R²), quantiles over voxels"]
        lines += [f"{'':<{width}}{'voxels':>8} {columns}"]
    for roi, mask in rois.items():
        line = f"{roi:<{width}}{int(mask.sum()):>8,} "
        if responses.ceiling is not None:
            line += "".join(f"{value:>7.2f}" for value in _quantiles(responses.ceiling[mask]))
        lines.append(line.rstrip())
    return "\n".join(lines)


def _quantiles(ceiling: np.ndarray) -> np.ndarray:
    known = ceiling[np.isfinite(ceiling)]
    return np.percentile(known, QUANTILES) if len(known) else np.full(len(QUANTILES), np.nan)


def _count(values: np.ndarray | None, absent: str) -> str:
    return absent if values is None else f"{len(set(values.tolist())):,}"


def _each(values: np.ndarray | None) -> str:
    if values is None:
        return "none named"
    return ", ".join(f"{name or '(none)'} {count:,}" for name, count in Counter(values.tolist()).items())


def _classes(responses: Responses) -> str:
    if responses.label is None:
        return "no labels"
    label = dict(zip(responses.stimulus_id.tolist(), responses.label.tolist(), strict=True))
    classes = Counter(name for name in label.values() if name)
    if not classes:
        return "no labels"
    unlabelled = sum(not name for name in label.values())
    names = ", ".join(sorted(classes)[:8]) + (", …" if len(classes) > 8 else "")
    sizes = f"{min(classes.values())} to {max(classes.values())} stimuli each"
    return f"{len(classes)} ({names}), {sizes}" + (f"; {unlabelled} stimuli unlabelled" if unlabelled else "")


def _pictures(responses: Responses) -> str:
    shown = set(responses.stimulus_id.tolist())
    if responses.images is None or responses.image_id is None:
        return f"none: {len(shown):,} stimuli have no picture"
    missing = len(shown - set(responses.image_id.tolist()))
    count, channels, height, width = responses.images.shape
    kind = "grey" if channels == 1 else "colour"
    return f"{count:,} of {width} × {height} pixels, {kind}; {missing} missing"


def _preparation(record: dict[str, Any] | None) -> str:
    """One line about what `preprocess` and `combine_subjects` recorded."""
    if record is None:
        return "none"
    if "subjects" in record:
        each = [f"{name}: {_preparation(part)}" for name, part in record["subjects"].items()]
        return f"{record['combine']} of {len(each)} subjects; " + "; ".join(each)
    said = [f"left out {count:,} {why}" for why, count in record["dropped"].items() if count]
    if "zscore" in record:
        done = record["zscore"]
        own = f", {len(done['own'])} of them by their own trials" if done["own"] else ""
        said.append(
            f"z-scored by {record['options']['zscore']} ({done['groups']} groups{own}; "
            f"{done['training_trials']:,} of {record['trials']:,} trials fitted)"
        )
    if "top_voxels" in record:
        best, by = record["top_voxels"], record["options"]["top_by"]
        said.append(f"kept the best {best['kept']:,} of {best['of']:,} voxels by {by}")
    if "averaged" in record:
        said.append(f"averaged {record['averaged']['trials']:,} trials into {record['averaged']['into']:,}")
    if "labels" in record:
        said.append(f"labels from a table for {record['labels']['labelled']:,} stimuli")
    return "; ".join(said) or "none needed"

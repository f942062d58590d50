"""Dissimilarity matrices of students and of the brain, on the same few stimuli in the same order: to look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from braindistill.metrics.rdms import rdm

#: stimuli of a matrix, and matrices of a picture: more, and a phone shows neither
_MOST_STIMULI, _MOST_MATRICES = 60, 9
#: shown, beside the first brain arm, where there are too many arms
_TELLING = ("baseline", "kd", "features")


def take_evenly(items: np.ndarray, most: int) -> np.ndarray:
    """At most so many items, from the first to the last at equal steps."""
    return items[np.linspace(0, len(items) - 1, min(len(items), most)).round().astype(int)]


def make_rdms(
    stimuli: np.ndarray, labels: np.ndarray | None, student: np.ndarray, brain: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Dissimilarities (1 − r, in [0, 2]) of at most 60 stimuli, evenly chosen, those of a class side by side.

    Parameters
    ----------
    stimuli : ids (n)
    labels : their classes (n), '' for none; None where there are no classes
    student : features (n × units)
    brain : ROI → mean responses (n × voxels)

    Returns
    -------
    What `read_rdms` reads: ``student`` and ``roi/NAME`` (m × m) float16, without those of which a row is constant (of an ROI
    of one voxel); ``stimuli`` (m), and ``labels`` (m) where there are any.
    """
    known = np.full(len(stimuli), "") if labels is None else np.asarray(labels, str)
    rows = take_evenly(np.lexsort((stimuli, known, known == "")), _MOST_STIMULI)
    found = {"stimuli": np.asarray(stimuli, str)[rows]} | ({"labels": known[rows]} if (known != "").any() else {})
    for name, values in {"student": student, **{f"roi/{roi}": own for roi, own in brain.items()}}.items():
        try:
            found[name] = rdm(values[rows]).astype(np.float16)
        except ValueError:
            continue
    return found


def read_rdms(folders: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Matrices to be shown side by side: those of the brain's ROIs (``V1 (brain)``), then those of arms.

    Parameters
    ----------
    folders : arm → artifact of ``measure`` of its first seed; one without ``rdms.npz`` is passed over

    Returns
    -------
    name → (m × m) float16, at most nine: of all arms or, where these are too many, of baseline, kd, features and the first
    brain arm. Then ``stimuli`` (m), ``labels`` (m) where there are any, and ``left_out``: arms that were measured on other
    stimuli than the first one. Empty where no arm has a file.
    """
    stored = {arm: _read(folder / "rdms.npz") for arm, folder in folders.items() if (folder / "rdms.npz").is_file()}
    if not stored:
        return {}
    first = next(iter(stored.values()))
    alike = {arm: own for arm, own in stored.items() if np.array_equal(own["stimuli"], first["stimuli"])}
    regions = [name for name in first if name.startswith("roi/")]
    arms = [arm for arm, own in alike.items() if "student" in own]
    if len(regions) + len(arms) > _MOST_MATRICES:
        brain = next((arm for arm in arms if arm.startswith("brain")), None)
        arms = [arm for arm in arms if arm in (*_TELLING, brain)] or arms[:4]
    regions = regions[: _MOST_MATRICES - len(arms)]
    matrices = {f"{name.removeprefix('roi/')} (brain)": first[name] for name in regions}
    matrices |= {arm: alike[arm]["student"] for arm in arms}
    about = {name: first[name] for name in ("stimuli", "labels") if name in first}
    return matrices | about | {"left_out": np.array([arm for arm in stored if arm not in alike], str)}


def _read(file: Path) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as opened:
        return {name: opened[name] for name in opened.files}

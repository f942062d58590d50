"""Subjects whose voxels carry as much of the pictures as a test asks for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from braindistill.config import bundled, parameters
from braindistill.fmri.responses import Responses
from braindistill.teachers import BrainTeacher, extract_stimuli
from braindistill.teachers import brain as fits
from braindistill.teachers.cross_fitting import Labels


@pytest.fixture
def make_subject() -> Callable[..., Responses]:
    """A factory of subjects looking at 6 × 6 pictures: a prototype a class, and noise; voxels are linear in the pixels."""

    def make(
        n: int = 40,
        n_classes: int = 2,
        *,
        voxels: int = 30,
        signal: float = 1.0,
        repeats: int = 1,
        runs: int = 0,
        pictures: bool = True,
        seed: int = 0,
    ) -> Responses:
        rng = np.random.default_rng(seed)
        classes = rng.permutation(np.arange(n) % n_classes)
        prototypes = rng.uniform(60, 190, (n_classes, 1, 6, 6))
        images = np.clip(prototypes[classes] + rng.normal(0, 25, (n, 1, 6, 6)), 0, 255).astype(np.uint8)
        readout = rng.normal(0, 1, (36, voxels)) / 6
        clean = (images.reshape(n, 36) - images.reshape(n, 36).mean(0)) / 25 @ readout
        order = np.concatenate([rng.permutation(n) for _ in range(repeats)])
        responses = signal * clean[order] + rng.normal(0, 1, (len(order), voxels))
        names = np.array([f"s{row:03d}" for row in rng.permutation(n)])
        return Responses(
            responses.astype(np.float32),
            names[order],
            run=np.array([f"run{place % runs}" for place in range(len(order))]) if runs else None,
            label=np.array(["abcdefghij"[classes[row]] for row in order]),
            rois={"left": np.arange(voxels) < voxels // 2, "nuisance": np.arange(voxels) >= voxels - 4},
            images=images if pictures else None,
            image_id=names if pictures else None,
        )

    return make


@pytest.fixture
def know() -> Callable[..., Labels]:
    """Labels of a subject's stimuli: of all, or of the first ``n`` in the order of their names."""

    def make(subject: Responses, n: int | None = None, source: str = "all") -> Labels:
        assert subject.label is not None
        classes = sorted(set(subject.label.tolist()))
        given = dict(zip(subject.stimulus_id.tolist(), subject.label.tolist(), strict=True))
        return Labels(classes, {name: classes.index(given[name]) for name in sorted(given)[:n]}, source)

    return make


@pytest.fixture
def fit() -> Callable[..., BrainTeacher]:
    """Fit a brain teacher by name, its options as flat as on the command line."""

    def run(name: str, subject: Responses, known: Labels | None = None, **options: Any) -> BrainTeacher:
        function = getattr(fits, f"fit_{name}")
        needs = parameters("teacher", name)
        given = bundled(function, options)
        if "known" in needs:
            given["known"] = known
        if "stimuli" in needs:
            given["stimuli"] = extract_stimuli(subject, given["features"])
        return function(subject, **given)

    return run


@pytest.fixture
def session() -> Callable[..., Responses]:
    """One showing of some stimuli (by the order of their names) to a subject that saw each of them several times."""

    def make(subject: Responses, stimuli: Sequence[int], repeat: int = 0) -> Responses:
        names = np.unique(subject.stimulus_id)
        trials = np.arange(len(names) * repeat, len(names) * (repeat + 1))
        trials = trials[np.isin(subject.stimulus_id[trials], names[list(stimuli)])]
        run = None if subject.run is None else subject.run[trials]
        return dataclasses.replace(
            subject,
            responses=subject.responses[trials],
            stimulus_id=subject.stimulus_id[trials],
            label=subject.label[trials],
            run=run,
        )

    return make


@pytest.fixture
def enlarged() -> Callable[..., Responses]:
    """The same subject, its pictures twice as large: big enough for a network."""

    def make(subject: Responses) -> Responses:
        return dataclasses.replace(subject, images=subject.images.repeat(2, 2).repeat(2, 3))

    return make


@pytest.fixture
def kept() -> Callable[..., Path]:
    """Fit and save."""

    def make(fit: Callable[..., BrainTeacher], folder: Path, *rest: Any, **options: Any) -> Path:
        folder.mkdir(exist_ok=True)
        fit(*rest, **options).save(folder)
        return folder

    return make

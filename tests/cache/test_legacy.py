"""Caches that released versions wrote must still load.

``tests/fixtures/cache-v1`` was written by version 0.1 (manifest format 1). Never regenerate it: when the format or the
keys change, add ``cache-v2`` and keep this one, which must then load or be refused with a clear message.
"""

import shutil
from pathlib import Path

import pytest

from braindistill.cache import Cache
from braindistill.cache.step import Step

FIXTURE = Path(__file__).parent.parent / "fixtures" / "cache-v1"

TEACHER = Step(
    stage="train-teacher",
    version=1,
    config={
        "teacher": {"features": "gabor", "decoder": "logistic", "roi": None, "folds": "auto", "disjoint": True},
        "regularisation": [0.1, 1.0, 10.0, 1e-05],
        "label": "Größe ≥ 1",
        "seed": 0,
    },
    files={"fmri.path": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
    title="brain teacher",
)
STUDENT = Step(
    stage="distill",
    version=3,
    config={"method": {"name": "kd", "temperature": 4.0, "weight": 0.9}, "seed": 0},
    inputs={"teacher": TEACHER},
    title="kd, seed 0",
)


def test_keys_are_what_they_were():
    assert TEACHER.key == "6f427f494387a3a15f6c6f85a3a809db032ff04202fb701b7818792d465b767d"
    assert STUDENT.key == "6d6cc6853b6e19650892775de2d914de1e6fb4173a883bd4a0c9fa366df02746"


@pytest.mark.parametrize("step", [TEACHER, STUDENT])
def test_an_artifact_of_version_1_still_loads(tmp_path, step):
    said: list[str] = []
    cache = Cache(shutil.copytree(FIXTURE, tmp_path / "cache"), say=said.append, warn=said.append)
    folder = cache.lookup(step)
    assert folder is not None, said
    assert (folder / "scores.json").read_text() == '{"decoder": {"accuracy": 0.5}}\n'
    assert (folder / "weights" / "layer.bin").read_bytes() == bytes(range(16))
    assert cache.find(step.key[:12]) == folder
    assert cache.build(step, lambda folder: pytest.fail("rebuilt")) == folder
    assert cache.verify() == []
    assert {entry.state for entry in cache.entries()} == {"ok"}
    assert said == []

from __future__ import annotations

import dataclasses

import numpy as np

from braindistill.fmri.preprocessing import preprocess
from braindistill.fmri.responses import Responses
from braindistill.fmri.summary import summarise


def test_the_table_counts_what_is_there(subject: Responses) -> None:
    text = summarise(subject, "fmri=x")
    lines = dict(line.split(maxsplit=1) for line in text.splitlines() if len(line.split()) > 1)
    assert text.startswith("fmri=x\n")
    assert lines["trials"] == "6"
    assert lines["stimuli"] == "3"
    assert lines["repeats"].startswith("2 / 2 / 2")
    assert lines["runs"] == "2"
    assert lines["sessions"] == "1"
    assert lines["splits"] == "train 6"
    assert lines["classes"] == "2 (cat, dog), 1 to 1 stimuli each; 1 stimuli unlabelled"
    assert lines["pictures"] == "3 of 2 × 2 pixels, grey; 0 missing"
    assert lines["preprocessing"] == "none"
    assert lines["V1"].split() == ["2", "0.01", "0.05", "0.10", "0.15", "0.19"]


def test_single_trials_have_no_ceiling_and_no_number(subject: Responses) -> None:
    ids = np.array([f"s{i}" for i in range(6)])
    alone = dataclasses.replace(
        subject, ceiling=None, stimulus_id=ids, label=None, run=None, split=None, images=None, image_id=None
    )
    text = summarise(preprocess(alone))
    assert "no ceiling: single trials" in text
    assert "nan" not in text
    assert "none: 6 stimuli have no picture" in text
    assert "quantiles" not in text


def test_what_was_done_is_said(subject: Responses) -> None:
    done = preprocess(dataclasses.replace(subject, session=None), zscore="run", average=True, top_voxels=3)
    text = summarise(done)
    assert "z-scored by run (2 groups; 6 of 6 trials fitted)" in text
    assert "kept the best 3 of 5 voxels by ceiling" in text
    assert "averaged 6 trials into 3" in text

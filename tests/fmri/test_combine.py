from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from braindistill import fmri
from braindistill.errors import UserError
from braindistill.fmri.combine import combine_subjects
from braindistill.fmri.responses import Responses


def person(stimuli: str, voxels: int, seed: int) -> Responses:
    """A subject whose responses say the stimulus and the trial: 10 · letter + repeat, + voxel / 10 + seed · 1000."""
    seen = {letter: 0 for letter in stimuli}
    values = np.empty((len(stimuli), voxels), np.float32)
    for trial, letter in enumerate(stimuli):
        values[trial] = 1000 * seed + 10 * ord(letter) + seen[letter] + np.arange(voxels) / 10
        seen[letter] += 1
    ids = np.array(sorted(set(stimuli)))
    return Responses(
        values,
        np.array(list(stimuli)),
        run=np.array(["1"] * len(stimuli)),
        label=np.array([letter.upper() for letter in stimuli]),
        rois={"V1": np.arange(voxels) < 2},
        ceiling=np.full(voxels, seed / 10),
        images=np.array([ord(letter) for letter in ids], np.uint8)[:, None, None, None],
        image_id=ids,
    )


@pytest.mark.parametrize("on_disk", [True, False])
def test_voxels_side_by_side_on_shared_stimuli(tmp_path: Path, on_disk: bool) -> None:
    joined = combine_subjects([person("abcab", 3, 1), person("dbbab", 4, 2)], None, tmp_path if on_disk else None)
    joined.check("x")
    assert joined.stimulus_id.tolist() == ["a", "b", "b"]  # the second subject saw a once
    first, second = joined.responses[:, :3], joined.responses[:, 3:]
    assert np.round(first[:, 0]).tolist() == [1970, 1980, 1981]
    assert np.round(second[:, 0]).tolist() == [2970, 2980, 2981]
    assert joined.run is None
    assert joined.label is not None
    assert joined.label.tolist() == ["A", "B", "B"]
    assert joined.image_id is not None
    assert joined.image_id.tolist() == ["a", "b"]
    assert joined.images is not None
    assert joined.images.ravel().tolist() == [97, 98]
    masks = {roi: np.flatnonzero(mask).tolist() for roi, mask in joined.rois.items()}
    assert masks == {"sub1": [0, 1, 2], "sub1_V1": [0, 1], "V1": [0, 1, 3, 4], "sub2": [3, 4, 5, 6], "sub2_V1": [3, 4]}
    np.testing.assert_allclose(joined.ceiling, [0.1] * 3 + [0.2] * 4)
    assert isinstance(joined.responses, np.memmap) == on_disk


def test_trials_of_a_shared_space_stacked(tmp_path: Path) -> None:
    joined = combine_subjects([person("ab", 3, 1), person("bcb", 3, 2)], ["sub1", "sub7"], tmp_path, combine="stack")
    joined.check("x")
    assert joined.stimulus_id.tolist() == list("abbcb")
    assert joined.run is not None
    assert joined.run.tolist() == ["sub1_1"] * 2 + ["sub7_1"] * 3
    assert np.round(joined.responses[:, 0]).tolist() == [1970, 1980, 2980, 2990, 2981]
    assert list(joined.rois) == ["V1"]
    assert joined.ceiling is None
    assert joined.image_id is not None
    assert joined.image_id.tolist() == list("abc")


def test_what_cannot_be_joined_is_refused() -> None:
    one, other = person("ab", 3, 1), person("cd", 4, 2)
    with pytest.raises(UserError, match="sub1, sub2 share no stimulus"):
        combine_subjects([one, other])
    with pytest.raises(UserError, match=r"voxel counts differ \(sub1 3, sub2 4\)"):
        combine_subjects([one, other], combine="stack")
    with pytest.raises(UserError, match="expected two or more different subjects"):
        combine_subjects([one])
    clash = dataclasses.replace(one, label=np.array(["A", "Z"]))
    with pytest.raises(UserError, match="stimulus b has the label 'B' in sub1 and 'Z' in sub2"):
        combine_subjects([one, clash])


def test_stimuli_of_other_splits_are_other_stimuli() -> None:
    one, other = (
        dataclasses.replace(person("ab", 3, seed), split=np.array(["train", split]))
        for seed, split in ((1, "test"), (2, "train"))
    )
    assert combine_subjects([one, other]).stimulus_id.tolist() == ["a"]


def test_load_takes_several_subjects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_people(workspace: Path | None = None, *, subject: int = 1, roi: str | None = None) -> Responses:
        return person("abab", 2 + subject, subject)

    own = fmri.__getattr__
    monkeypatch.setattr("braindistill.fmri.definitions", lambda folder: {"load_people": None})
    monkeypatch.setitem(vars(fmri), "load_people", load_people)
    monkeypatch.setattr(fmri, "__getattr__", lambda name: load_people if name == "load_people" else own(name))
    joined = fmri.load("people", subject=[1, 3], average=True, workspace=tmp_path)
    assert joined.responses.shape == (2, 8)
    assert {"sub1", "sub3", "sub3_V1"} <= set(joined.rois)
    assert joined.preparation is not None
    assert joined.preparation["subjects"]["sub3"]["averaged"] == {"trials": 4, "into": 2}
    assert "concatenate of 2 subjects; sub1: averaged 4 trials into 2" in fmri.summarise(joined)
    assert [file.name for file in tmp_path.iterdir()] == ["responses.npy"]
    assert fmri.load("people", subject=2).responses.shape == (4, 4)
    with pytest.raises(UserError, match="voxel counts differ"):
        fmri.load("people", subject=[1, 2], combine="stack")

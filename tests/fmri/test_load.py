from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import yaml

from braindistill import fmri
from braindistill.errors import UserError
from braindistill.fmri.combine import combine_subjects
from braindistill.fmri.preprocessing import preprocess

CONFIGS = Path(__file__).parents[2] / "configs" / "fmri"


def write(path: Path, **change: np.ndarray) -> str:
    values = np.random.default_rng(0).normal(size=(4, 3))
    np.savez(path, **{"responses": values, "stimulus_id": np.array(list("abab"))} | change)
    return str(path)


def test_a_path_may_be_a_string_and_repeats_give_a_ceiling(tmp_path: Path) -> None:
    read = fmri.load("arrays", path=write(tmp_path / "a.npz"))
    np.testing.assert_array_equal(read.ceiling, fmri.noise_ceiling(read.responses, read.stimulus_id))


def test_single_trials_give_none(tmp_path: Path) -> None:
    assert fmri.load("arrays", path=write(tmp_path / "a.npz", stimulus_id=np.arange(4))).ceiling is None


def test_constant_voxels_are_left_out_aloud(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    values = np.random.default_rng(0).normal(size=(4, 3))
    values[:, 1] = 2
    read = fmri.load("arrays", path=write(tmp_path / "a.npz", responses=values))
    assert read.responses.shape == (4, 2)
    assert read.ceiling.shape == (2,)
    assert "left out 1 of 3 voxels that are constant" in capsys.readouterr().err
    with pytest.raises(UserError, match="all 3 voxels are constant"):
        fmri.load("arrays", path=write(tmp_path / "b.npz", responses=np.ones((4, 3))))


def test_unknown_names_and_options_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"fmri=simulate: .* did you mean 'simulated'\? known: algonauts2023, arrays, bids"
    ):
        fmri.load("simulate")
    with pytest.raises(UserError, match=r"fmri\.sn: fmri=simulated has no such option; did you mean 'snr'"):
        fmri.load("simulated", sn=1)
    with pytest.raises(UserError, match=r"fmri=arrays needs fmri\.path=…"):
        fmri.load("arrays")


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_yaml_lists_every_option_with_its_default(file: Path) -> None:
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert config.pop("name") == file.stem
    functions = [getattr(fmri, f"load_{file.stem}"), preprocess]
    if "subject" in inspect.signature(functions[0]).parameters:
        functions.append(combine_subjects)
    expected = {
        option.name: "???" if option.default is option.empty else option.default
        for function in functions
        for option in inspect.signature(function).parameters.values()
        if option.kind is option.KEYWORD_ONLY
    }
    # where a file lies by default is the config's business: "data:" means a data folder
    looked_up = {name for name, value in config.items() if str(value).startswith("data:")}
    looked_up.add("zscore")  # and how a data set is z-scored by convention
    assert {name: value for name, value in config.items() if name not in looked_up} == {
        name: value for name, value in expected.items() if name not in looked_up
    }
    assert file.read_text(encoding="utf-8").startswith("# ")

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.fmri.digits69 import load_digits69
from braindistill.runtime import find_data


def write(path: Path, **change: Any) -> Path:
    from scipy.io import savemat

    generator = np.random.default_rng(0)
    content: dict[str, Any] = {}
    for suffix, count in (("Trn", 90), ("Test", 10)):
        content[f"stim{suffix}"] = generator.integers(0, 256, (count, 784)).astype(np.uint8)
        content[f"fmri{suffix}"] = generator.normal(size=(count, 20))
        content[f"label{suffix}"] = np.arange(count)[:, None] % 2 + 1
    content |= change
    savemat(path, {key: value for key, value in content.items() if value is not None})
    return path


def test_pairs_ids_labels_and_splits(tmp_path: Path) -> None:
    stim = np.zeros((90, 784), np.uint8)
    stim[3, 28 * 5 + 2] = 255  # column 5, row 2
    read = load_digits69(path=write(tmp_path / "d.mat", stimTrn=stim))
    assert read.responses.shape == (100, 20)
    assert read.stimulus_id[[0, 89, 90, 99]].tolist() == [
        "digits69-train-001",
        "digits69-train-090",
        "digits69-test-001",
        "digits69-test-010",
    ]
    assert read.label[:3].tolist() == ["6", "9", "6"]
    assert [np.count_nonzero(read.split == split) for split in ("train", "test")] == [90, 10]
    assert read.run is None
    assert read.images.shape == (100, 1, 28, 28)
    assert np.argwhere(read.images[3, 0]).tolist() == [[2, 5]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stimTrn": None}, "no array stimTrn; found .*fmriTrn"),
        ({"stimTest": np.zeros((10, 100), np.uint8)}, r"stimTest \(10, 100\).*expected 10 × 784"),
        ({"labelTrn": np.full((90, 1), 3)}, r"labels out of \[3\]"),
        ({"labelTrn": np.ones((80, 1))}, "80 labels"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_digits69(path=write(tmp_path / "d.mat", **change))


def test_a_file_that_is_no_mat_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.mat").write_bytes(b"no matlab here" * 30)
    with pytest.raises(UserError, match="not a readable MATLAB file"):
        load_digits69(path=tmp_path / "d.mat")


def test_a_missing_file_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"not found in fmri\.path=.*none\.mat"):
        load_digits69(path=tmp_path / "none.mat")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BRAINDISTILL_DATA", raising=False)
    with pytest.raises(UserError, match=r"BRAINDISTILL_DATA, data/ .*van Gerven.*fmri\.path=FILE"):
        load_digits69()


def test_real_images_stand_upright_and_responses_decode() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    mnist = [find_data(f"digits69/t10k-{part}-ubyte.gz") for part in ("images-idx3", "labels-idx1")]
    if find_data("digits69/digit69.mat") is None or None in mnist:
        pytest.skip("digits69/digit69.mat and MNIST's t10k files are not here")
    read = load_digits69()
    assert read.responses.shape == (100, 3092)
    pixels, labels = (np.frombuffer(gzip.decompress(Path(file).read_bytes()), np.uint8) for file in mnist if file)
    known = np.isin(labels[8:], (6, 9))
    upright = KNeighborsClassifier(1).fit(pixels[16:].reshape(-1, 784)[known], labels[8:][known].astype(str))
    assert upright.score(read.images.reshape(100, -1), read.label) > 0.95
    assert upright.score(read.images.swapaxes(2, 3).reshape(100, -1), read.label) < 0.8
    decoder = make_pipeline(StandardScaler(), LogisticRegression(C=0.01))
    assert cross_val_score(decoder, read.responses, read.label, cv=StratifiedKFold(5)).mean() > 0.9

"""Rows by image id: exact, whatever the order."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braindistill.errors import UserError
from braindistill.joining import find_rows
from braindistill.targets import Relations, SoftLabels, Voxels
from braindistill.targets.store import load_target, read_rows, write_rows

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6)


@given(st.lists(NAMES, max_size=12, unique=True), st.lists(NAMES, max_size=12))
def test_the_join_is_that_of_a_dictionary(names: list[str], asked: list[str]) -> None:
    asked = asked + names[::2]
    place = {name: row for row, name in enumerate(names)}
    row, found = find_rows(np.array(names, str), np.array(asked, str))
    assert found.tolist() == [name in place for name in asked]
    assert row.tolist() == [place.get(name, 0) for name in asked]


@given(st.lists(NAMES, max_size=12, unique=True))
def test_any_id_comes_back(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("rows")
    rows = np.arange(2.0 * len(names)).reshape(-1, 2)
    fold = np.arange(len(names), dtype=np.int16)
    write_rows(
        folder, np.array(names, str), None, fold, {"rows": rows}, {"classes": np.array(["é", "b"])}, {"kind": "x"}
    )
    back = read_rows(folder, ["rows", "others"])
    assert back.image_id.tolist() == names
    assert back.names["classes"].tolist() == ["é", "b"]
    assert (back.source, back.fold.tolist(), back.record) == (None, fold.tolist(), {"kind": "x"})
    assert list(back.arrays) == ["rows"]
    np.testing.assert_array_equal(back.arrays["rows"], rows)


def test_a_few_bytes_an_id(tmp_path: Path) -> None:
    ids = np.array([f"train-{row:05d}" for row in range(20_000)])
    write_rows(tmp_path, ids, np.full(20_000, "predicted"), np.full(20_000, -1, np.int16), {}, {}, {})
    assert (tmp_path / "ids.npz").stat().st_size < 6 * 20_000


def test_targets_of_every_kind_are_read_by_their_container(tmp_path: Path) -> None:
    one = np.ones(1, np.float32)
    ids = np.array(["x"])
    for target in (
        SoftLabels(ids, np.zeros((1, 1)), ["a"]),
        Voxels(ids, one[None], one, one, one),
        Relations(ids, one[None]),
    ):
        folder = tmp_path / target.kind
        folder.mkdir()
        target.save(folder)
        assert type(load_target(folder)) is type(target)
        assert json.loads((folder / "target.json").read_text())["kind"] == target.kind
    with pytest.raises(UserError, match=r"holds no target \(target\.json is missing\)"):
        load_target(tmp_path)
    (tmp_path / "target.json").write_text('{"teacher": "brain"}')
    with pytest.raises(UserError, match="another version of braindistill; export it again"):
        load_target(tmp_path)

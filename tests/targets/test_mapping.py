"""Classes of an fMRI data set carried over to those of a student."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.targets.mapping import map_classes, read_mapping

TABLE = {"cat": {"animal": 1.0}, "dog": {"animal": 2.0, "pet": 6.0}}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "# made by hand\nfmri class,student\ncat,animal\ndog,animal,2\n\ndog,pet,6\n"),
        ("t.tsv", "cat\tanimal\ndog\tanimal\t2\ndog\tpet\t6\n"),
        ("t.json", json.dumps({"cat": "animal", "dog": {"animal": 2, "pet": 6}})),
    ],
)
def test_three_kinds_of_table(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_mapping(tmp_path / name) == TABLE


def test_a_list_of_partners_and_names_with_commas(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('{"cat": ["a", "b"]}')
    assert read_mapping(tmp_path / "t.json") == {"cat": {"a": 1.0, "b": 1.0}}
    (tmp_path / "t.csv").write_text('"goose, grey",bird\n')
    assert read_mapping(tmp_path / "t.csv") == {"goose, grey": {"bird": 1.0}}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.txt", "a,b", r"expected a \.csv, \.tsv or \.json"),
        ("t.csv", "a\n", r"row 1 is \['a'\]; expected fMRI class, student class"),
        ("t.csv", "a,b,much\n", "could not convert string to float: 'much'"),
        ("t.csv", "a,b,-1\n", "the weight of 'a' → 'b' is -1; weights are positive"),
        ("t.csv", "a,b\na,b\n", "'a' → 'b' is given twice"),
        ("t.csv", "\n", "holds no row"),
        ("t.json", "[1]", "expected an object"),
        ("t.json", '{"a": 3}', "'a' maps to 3"),
        ("t.json", '{"a": {"b": null}}', "float"),
        ("t.json", "{", "Expecting"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_mapping(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"target.mapping={tmp_path / name}: ")
    with pytest.raises(UserError, match=r"other\.csv: no such file"):
        read_mapping(tmp_path / "other.csv")


def test_sums_splits_drops_and_renormalises(capsys: pytest.CaptureFixture[str]) -> None:
    p = np.array([[0.5, 0.4, 0.1], [0.1, 0.2, 0.7]])  # cat, dog, car
    rows, record = map_classes(np.log(p), ["cat", "dog", "car"], ["pet", "plant", "animal"], TABLE)
    wanted = np.array([[0.3, 0.0, 0.6], [0.15, 0.0, 0.15]]) / [[0.9], [0.3]]
    np.testing.assert_allclose(np.exp(rows), wanted, atol=1e-6)
    assert (rows[:, 1] == -30).all()
    assert record["dropped_classes"] == ["car"]
    assert record["unmapped_student_classes"] == ["plant"]
    assert record["dropped_mass"] == pytest.approx({"mean": 0.4, "max": 0.7})
    assert "1 classes of the student have no partner, so their probability is 0: plant" in capsys.readouterr().err


def test_a_partner_that_the_student_lacks_loses_its_share() -> None:
    rows, record = map_classes(np.log([[0.5, 0.5]]), ["cat", "dog"], ["animal"], TABLE)
    assert rows.tolist() == [[0.0]]
    assert record["dropped_mass"]["max"] == pytest.approx(0.5 * 6 / 8)


def test_a_row_whose_mass_is_nearly_all_dropped_keeps_its_shape() -> None:
    table = {"a": {"a": 1.0}, "b": {"b": 1.0}}
    rows, _ = map_classes(np.array([[-900.0, -901.0, 0.0]]), ["a", "b", "c"], ["a", "b"], table)
    assert rows[0, 0] - rows[0, 1] == pytest.approx(1, abs=1e-5)
    rows, _ = map_classes(np.array([[-np.inf, -np.inf, 0.0]]), ["a", "b", "c"], ["a", "b"], table)
    np.testing.assert_allclose(np.exp(rows), [[0.5, 0.5]], rtol=1e-6)


def test_names_of_neither_side(capsys: pytest.CaptureFixture[str]) -> None:
    map_classes(np.zeros((1, 1)), ["cat"], ["animal"], TABLE)
    assert "2 names are classes of neither teacher nor student: dog, pet" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"no row leads from a class of the teacher \(lion …\) to one of the student"):
        map_classes(np.zeros((1, 1)), ["lion"], ["animal"], TABLE)

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from braindistill.report.table import render, write_csv
from braindistill.statistics import claim


def test_table_is_aligned_and_narrow(results: dict[str, Any]) -> None:
    results["arms"]["brain_" + "very_" * 20 + "long_name"] = results["arms"]["brain"]
    results["warnings"].append("a long warning " * 20)
    lines = render(results).splitlines()
    assert max(map(len, lines)) <= 120
    table = lines[: 2 + len(results["arms"])]
    assert len({len(line) for line in table}) == 1
    assert table[0].startswith("arm")
    assert table[2].startswith("baseline ")


def test_row_holds_the_numbers_of_its_arm(results: dict[str, Any]) -> None:
    arm = results["arms"]["brain"]
    arm["accuracy"].update(mean=0.9271, ci_low=0.91, ci_high=1.004)
    versus = next(row for row in results["comparisons"] if (row["a"], row["b"]) == ("brain", "baseline"))
    versus.update(difference=0.041, ci_low=0.02, ci_high=0.062, p=0.001, p_adjusted=0.0123)
    row = next(line for line in render(results).splitlines() if line.startswith("brain "))
    assert row.split() == ["brain", "10", "40", "92.7", "[91.0,", "100.0]", "+4.1", "[+2.0,", "+6.2]", "0.012", "89.7"]


def test_reversed_comparison_is_turned_round(results: dict[str, Any]) -> None:
    turned = {"a": "baseline", "b": "brain", "difference": -0.041, "ci_low": -0.062, "ci_high": -0.02, "p": 0.03}
    results["comparisons"] = [turned]
    text = render(results)
    assert "+4.1 [+2.0, +6.2]  0.030" in text
    assert "(Holm)" not in text


def test_what_is_not_in_the_rows_follows_them(results: dict[str, Any]) -> None:
    text = render(results)
    assert "not run: human — the data set has no human soft labels" in text
    assert "missing: The arm kd_matched failed: the CNN teacher's loss became NaN" in text
    assert "note: random_readout: in-sample targets on 40 labelled images" in text
    assert "labels_matched is the arm to beat" in text
    assert "warning: images.allow_overlap=true" in text
    assert "“brain helped”: the claim holds — brain beats each of label_smoothing, kd" in text
    assert "“brain_early helped”: the claim does not hold — brain_early − " in text
    assert "does not hold: " not in text  # said once


def test_undecided_claim_says_why(results: dict[str, Any]) -> None:
    correct = {"brain": [[True, True]] * 2, "kd": [[False, True]] * 2}
    results["claims"] = [claim("brain", correct, ["kd"], {})]
    assert "“brain helped”: the claim cannot be decided — 2 seeds cannot reach p < 0.05" in render(results)


def test_partial_results_are_rendered(partial: dict[str, Any]) -> None:
    text = render(partial)
    assert "90.0" in text
    assert "The arm brain has 1 of 10 seeds" in text
    assert "only one arm has finished" in text
    assert "No arm has finished" in render({})


def test_csv_has_a_row_for_every_arm(results: dict[str, Any], tmp_path: Path) -> None:
    write_csv(results, tmp_path / "results.csv")
    with (tmp_path / "results.csv").open(newline="", encoding="utf-8") as sheet:
        rows = {row["arm"]: row for row in csv.DictReader(sheet)}
    assert list(rows) == [*results["arms"], *results["not_run"], *results["failed"]]
    assert float(rows["brain"]["accuracy"]) == results["arms"]["brain"]["accuracy"]["mean"]
    assert rows["baseline"]["minus_baseline"] == ""
    assert (rows["human"]["status"], rows["human"]["accuracy"]) == ("not run", "")
    assert (rows["kd_matched"]["status"], rows["kd_matched"]["reason"]) == ("failed", results["failed"]["kd_matched"])
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


def test_failed_write_leaves_the_old_file(
    results: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "results.csv"
    target.write_text("old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_csv(results, target)
    assert target.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1

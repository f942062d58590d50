"""The benchmark's parts run, in miniature; what they find is no matter here."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"
#: a command line that writes what a training writes, to whatever cache it is given
PROGRAM = """
import pathlib, sys
if sys.argv[1] == "distill" and "train.epocs=3" not in sys.argv and "--help" not in sys.argv:
    cache = next(word for word in sys.argv if word.startswith("runtime.cache=")).split("=")[1]
    folder = pathlib.Path(cache) / "distill" / ".abc.partial"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("{}")
"""


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``scripts/benchmark.py``, as a module beside which it finds its parts."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("benchmark")


@pytest.fixture
def rows(benchmark: ModuleType) -> ModuleType:
    return importlib.import_module("benchmarks.rows")


@pytest.mark.parametrize("part", ["augmentation", "step", "engine", "epoch", "seeds", "logging", "memory"])
def test_part_in_miniature(part, benchmark, monkeypatch):
    processes = importlib.import_module("benchmarks.processes")
    monkeypatch.setattr(processes, "in_new_process", lambda function, *args: function(*args))
    found = benchmark.PARTS[part](benchmark.QUICK)
    assert found
    for row in found:
        figures = [value for value in (row.ours, row.theirs, row.ratio) if value is not None]
        assert all(math.isfinite(value) for value in figures), row
        assert row.unit in ("%", "MB") or row.ours > 0
        assert row.asked == "" or row.met is not None
    json.dumps([dataclasses.asdict(row) for row in found])


def test_start_ends_with_the_first_line_of_metrics(benchmark, monkeypatch, tmp_path):
    processes = importlib.import_module("benchmarks.processes")
    fake = tmp_path / "fake.py"
    fake.write_text(PROGRAM)
    monkeypatch.setattr(processes, "PROGRAM", [sys.executable, "-S", str(fake)])
    monkeypatch.setattr(processes, "IMPORTS", "import json")
    first, mistake, _ = processes.time_start(benchmark.QUICK)
    assert (first.asked, mistake.asked) == ("≤ 3 s", "≤ 0.6 s")
    assert 0 < first.ours < 3
    fake.write_text("raise SystemExit('no such thing')")
    with pytest.raises(Exception, match=r"no such thing|non-zero exit status"):
        processes.time_start(benchmark.QUICK)


def test_all_parts_are_described(benchmark):
    for part in benchmark.PARTS:
        assert f"``{part}``: " in benchmark.__doc__


def test_command_line(benchmark, monkeypatch, capsys):
    part = lambda sizes: [benchmark.Row("what", sizes.repeats, "s", "other", 4.0, 2.0, "≥ 3")]  # noqa: E731
    monkeypatch.setattr(benchmark, "PARTS", {"one": part, "two": part})
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "two", "--json", "--repeats", "3"])
    benchmark.main()
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["what"], row["ours"], row["ratio"], row["met"]) == ("what", 3, 2.0, False)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--quick"])
    benchmark.main()
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["what", "ours", "instead", "theirs", "ratio", "asked"]
    assert len(lines) == 2
    assert "MISSED" not in lines[0], "a miniature is not judged"
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "thre"])
    with pytest.raises(SystemExit):
        benchmark.main()


class TestRows:
    @pytest.mark.parametrize(
        ("asked", "met"),
        [
            ("≤ 1.5", True),
            ("≤ 1.03", False),
            ("≥ 1.5", True),
            ("≥ 2", False),
            ("≤ 3 s", True),
            ("≤ 2 s", False),
            ("", None),
        ],
    )
    def test_what_was_asked_for(self, rows, asked, met):
        assert rows.Row("what", 3.0, "s", "other", 2.0, 1.5, asked).met is met

    def test_sides_take_turns_after_a_warm_up(self, rows):
        calls: list[str] = []

        def side(name: str) -> object:
            return lambda: calls.append(name) or float(len(calls))

        given = rows.take_turns(3, {"a": side("a"), "b": side("b")})
        assert calls == list("abbaabba")
        assert given == {"a": [4.0, 5.0, 8.0], "b": [3.0, 6.0, 7.0]}

    def test_ratio_is_a_median_of_turns_in_the_direction_asked(self, rows):
        given = {"ours": [1.0, 2.0, 10.0], "theirs": [2.0, 6.0, 10.0]}
        row = rows.compare("what", given, "ours", "theirs", "≥ 2", per=2)
        assert (row.ours, row.theirs, row.ratio, row.spread) == (1.0, 3.0, 2.0, (1.0, 3.0))
        assert rows.compare("what", given, "ours", "theirs", "≤ 1").ratio == 0.5
        assert rows.compare("what", given, "ours", "theirs", gain=True).ratio == 2.0

    def test_table_is_aligned(self, rows):
        text = rows.table([rows.Row("a", 0.00123, "s"), rows.Row("longer", 12345.6, "MB", "b", 2.0, 1.5, "≤ 1")])
        head, first, second = text.splitlines()
        assert first.split() == ["a", "0.00123", "s"]
        assert second.split() == ["longer", "12,346", "MB", "b", "2", "MB", "1.5", "≤", "1", "MISSED"]
        assert head.index("ours") == first.index("0.00123") == second.index("12,346")

"""``scripts/simulate_coverage.py``, with as many simulations as there is time for."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def script() -> ModuleType:
    file = Path(__file__).parents[1] / "scripts" / "simulate_coverage.py"
    spec = importlib.util.spec_from_file_location("simulate_coverage", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("spread", ["typical", "seeds differ", "images differ"])
@pytest.mark.parametrize("effect", [0.0, 0.02])
def test_the_interval_covers_the_truth_as_often_as_it_says(script: ModuleType, spread: str, effect: float) -> None:
    simulations = 400
    cell = script.simulate(spread, 10, 200, effect, simulations)
    tolerance = 3.3 * np.sqrt(0.95 * 0.05 / simulations)  # one of a thousand such tests would fail by chance
    assert cell.coverage == pytest.approx(0.95, abs=tolerance)
    if effect == 0:
        assert cell.excludes_zero == pytest.approx(1 - cell.coverage)  # zero is the truth
    else:
        assert cell.excludes_zero > 1 - cell.coverage


def test_it_errs_towards_wide_intervals_where_arms_do_not_differ_by_seed_or_image(script: ModuleType) -> None:
    assert script.simulate("neither", 10, 200, 0.0, 300).coverage > 0.95 - 3.3 * np.sqrt(0.95 * 0.05 / 300)


def test_the_true_difference_is_the_stated_one(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    compare = script.compare

    def watch(*arms):
        found.append([float(arm.mean()) for arm in arms])
        return compare(*arms)

    monkeypatch.setattr(script, "compare", watch)
    script.simulate("images differ", 20, 400, 0.02, 300)
    one, other = np.mean(found, axis=0)
    assert other == pytest.approx(0.8, abs=0.004)
    assert one - other == pytest.approx(0.02, abs=0.003)


def test_the_table_has_a_line_for_every_cell(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--simulations", "20", "--seeds", "6", "10", "--images", "50", "--spreads", "typical"]
    cells = script.main(arguments)
    assert [(cell.seeds, cell.effect) for cell in cells] == [(6, 0.0), (6, 0.02), (10, 0.0), (10, 0.02)]
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| typical")]
    assert len(lines) == 4
    assert lines[3].startswith("| typical | 10 | 2 | ")
    assert script.main(arguments) == cells  # the same draws every time


def test_subjects_are_crossed_with_what_they_share(script: ModuleType) -> None:
    cell = script.simulate("seeds differ", 8, 100, 0.02, 150, subjects=7)
    assert cell.coverage > 0.95 - 3.3 * np.sqrt(0.95 * 0.05 / 150)
    assert cell.over_subjects < 0.85, "the baseline's seeds are the same for all subjects"
    assert script.simulate("typical", 6, 50, 0.0, 5).over_subjects is None

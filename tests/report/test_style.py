"""How pictures look, and the shared kinds of plot."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

from braindistill.report.parts import Figure, Findings
from braindistill.report.plots import Dots, Lines, draw_dots, draw_heat, draw_lines
from braindistill.report.sections.differences import difference_figures, forests
from braindistill.report.sections.training import encoding_figures
from braindistill.report.sections.verdicts import arm_figures
from braindistill.report.style import COLOURS, SPARE, colour, line_style, rendered

VALUE = {"mean": 0.5, "ci_low": 0.4, "ci_high": 0.6, "per_seed": [0.45, None, 0.55]}


def test_colours_are_fixed_and_brain_arms_share_the_strongest() -> None:
    assert len(set(COLOURS.values())) == len(COLOURS)
    assert colour("brain@V1") == colour("brain_voxels") == colour("brain") == "#D55E00"
    assert colour("my_own_arm") == colour("my_own_arm")
    assert colour("my_own_arm") in SPARE
    assert not set(SPARE) & set(COLOURS.values())


def test_arms_of_one_colour_differ_in_dashes_or_marks() -> None:
    arms = ["kd", "brain", *(f"brain@V{number}" for number in range(1, 7))]
    styles = [line_style(arm, arms) for arm in arms]
    assert len({(style["color"], style["linestyle"], style["marker"]) for style in styles}) == len(arms)
    assert styles[1]["linewidth"] > styles[0]["linewidth"]


@pytest.mark.parametrize("kind", ["svg", "pdf"])
def test_a_picture_is_the_same_each_time(kind: str, results: dict[str, Any]) -> None:
    for make in (arm_figures, encoding_figures):
        figure = next(iter(make(Findings(results))))
        first = rendered(figure, [kind])[kind]
        assert first == rendered(figure, [kind])[kind]
        assert first.startswith(b"%PDF" if kind == "pdf" else b"<?xml")


def test_drawing_leaves_pyplot_alone(results: dict[str, Any]) -> None:
    sys.modules.pop("matplotlib.pyplot", None)
    for figure in difference_figures(Findings(results)):
        assert ET.fromstring(rendered(figure)["svg"]).tag.endswith("svg")
    assert "matplotlib.pyplot" not in sys.modules


def test_a_dot_a_seed_in_the_arms_colour(results: dict[str, Any]) -> None:
    def dots() -> int:
        (figure,) = arm_figures(Findings(results))
        return rendered(figure)["svg"].decode().count(COLOURS["kd"].lower())

    before = dots()
    results["arms"]["kd"]["accuracy"]["per_seed"] *= 2
    assert dots() == before + 10


def every_kind() -> list[Figure]:
    nothing: dict[str, Any] = {"mean": None, "ci_low": None, "ci_high": None, "per_seed": [None]}
    panels = [Dots("x", {"a": VALUE, "b": 0.4, "c": nothing}, 100, {"a": VALUE}, line=0.3, band=(0.1, 0.2))] * 3
    series = {"a": [(1.0, VALUE), (2.0, 0.6)], "brain": [(1.0, nothing), (2.0, VALUE)], "empty": []}
    grid = np.array([[1.0, np.nan, -2.0]])
    return [
        draw_dots("dots", "Dots. More.", panels, seeds=True),
        draw_lines("lines", "Lines.", [Lines("one", series, 100), Lines("two", series)], "x", "y", ticks=[1, 2]),
        draw_lines("log", "Log.", [Lines("", {"a": [(10.0, 0.5), (100.0, 0.6)]})], "x", "y", logarithmic=True),
        draw_heat("heat", "Heat.", ["row"], ["p", "q", "r"], grid, "nats"),
        draw_heat("nothing", "Nothing.", ["row"], ["p"], np.array([[np.nan]]), "nats"),
    ]


@pytest.mark.parametrize("figure", every_kind(), ids=lambda figure: figure.name)
def test_every_kind_of_plot_bears_what_is_not_known(figure: Figure) -> None:
    assert ET.fromstring(rendered(figure)["svg"]).tag.endswith("svg")
    assert len({len(row) for row in figure.data}) == 1, "a table"
    assert figure.alt.startswith(figure.caption.split(".")[0])


def test_numbers_below_narrow_panels_have_room() -> None:
    from matplotlib.figure import Figure as Canvas

    values = {"a": {"mean": -0.185}, "b": {"mean": -0.09}}
    figure = draw_dots("dots", "Dots.", [Dots("r", values)] * 3)
    canvas = Canvas(figsize=(figure.width, figure.height), layout="constrained")
    figure.draw(canvas)
    for axes in canvas.axes[:3]:
        low, high = axes.get_xlim()
        assert 2 <= sum(low <= tick <= high for tick in axes.get_xticks()) <= 4


def test_alternative_text_and_data_hold_the_numbers(results: dict[str, Any]) -> None:
    results["arms"]["brain"]["accuracy"].update(mean=0.9271, ci_low=0.91, ci_high=0.945)
    (figure,) = arm_figures(Findings(results))
    assert "brain 92.7 [91.0, 94.5]" in figure.alt
    assert ["test accuracy, %", "brain", "value", 0.9271, 0.91, 0.945] in figure.data
    results["claims"] = []
    results["comparisons"] = [{"a": "brain", "b": "kd", "difference": 0.041}, {"a": "brain", "b": "x"}]
    (figure,) = difference_figures(Findings(results))
    assert "− kd +4.1; − x –" in figure.alt


def test_forests_begin_with_the_claim_and_leave_brain_pairs_out(results: dict[str, Any]) -> None:
    brain, early = forests(results)
    assert [part["b"] for part in brain[:4]] == ["label_smoothing", "kd", "features", "shuffled_fmri"]
    assert [bool(part.get("claimed")) for part in brain] == [True] * 4 + [False] * (len(brain) - 4)
    assert "nuisance" in {part["b"] for part in brain}
    assert "brain_early" not in {part["b"] for part in brain}
    assert {part["a"] for part in early} == {"brain_early"}
    assert forests({}) == []
    rows = [dict(row, a="brain@V1") for row in brain if not row.get("claimed")]
    results["arms"]["brain@V1"], results["comparisons"] = {}, results["comparisons"] + rows
    assert len(forests(results)) == 2, "no claim is made about single regions"
    assert len(forests(results | {"claims": []})) == 3
    results["comparisons"].append({"a": "brain", "b": "random", "difference": 1.0, "measure": "nll"})
    assert "random" not in {part["b"] for part in forests(results)[0]}, "only accuracies are compared here"

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from typing import Any

from braindistill.report.figures import COLOURS, colour, draw_accuracy, draw_differences, draw_encoder, forests


def test_pictures_are_valid_equal_svgs_without_pyplot(results: dict[str, Any]) -> None:
    sys.modules.pop("matplotlib.pyplot", None)
    parts = forests(results)[0]
    for draw in (
        lambda: draw_accuracy(results),
        lambda: draw_differences(parts),
        lambda: draw_encoder(results["encoder_r"]),
    ):
        svg, alt = draw()
        assert ET.fromstring(svg).tag.endswith("svg")
        assert svg == draw()[0]
        assert len(alt) > 40
    assert "matplotlib.pyplot" not in sys.modules


def test_a_dot_a_seed_in_the_arm_s_colour(results: dict[str, Any]) -> None:
    before = draw_accuracy(results)[0].count(COLOURS["brain"].lower())
    results["arms"]["brain"]["accuracy"]["per_seed"] *= 2
    assert draw_accuracy(results)[0].count(COLOURS["brain"].lower()) == before + 10


def test_colours_are_fixed_and_distinct() -> None:
    assert len(set(COLOURS.values())) == len(COLOURS)
    assert colour("brain") == COLOURS["brain"]
    assert colour("brain_V1") == colour("brain_V1")
    assert colour("brain_V1") not in COLOURS.values()


def test_forests_begin_with_the_claim_and_leave_brain_pairs_out(results: dict[str, Any]) -> None:
    brain, early = forests(results)
    assert [part["b"] for part in brain[:4]] == ["label_smoothing", "kd", "features", "shuffled_fmri"]
    assert [bool(part.get("claimed")) for part in brain] == [True] * 4 + [False] * (len(brain) - 4)
    assert "nuisance" in {part["b"] for part in brain}
    assert "brain_early" not in {part["b"] for part in brain}
    assert {part["a"] for part in early} == {"brain_early"}
    assert forests({}) == []


def test_alternative_text_holds_the_numbers(results: dict[str, Any]) -> None:
    results["arms"]["brain"]["accuracy"].update(mean=0.9271, ci_low=0.91, ci_high=0.945)
    assert "brain 92.7 [91.0, 94.5]" in draw_accuracy(results)[1]
    assert "kd +4.1;" in draw_differences([{"a": "brain", "b": "kd", "difference": 0.041}, {"a": "brain", "b": "x"}])[1]
    assert "brain: 2 voxels, median 0.30" in draw_encoder({"brain": [0.2, 0.4, float("nan")], "empty": []})[1]

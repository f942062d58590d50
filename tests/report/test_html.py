from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from braindistill.report.html import sections, write_report
from braindistill.report.reading import PURPOSE

VOID = {"meta", "img", "br", "link", "hr", "input"}


class Page(HTMLParser):
    """Checks that tags nest, and collects text, tags and image attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.words = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words += data


def write(results: dict[str, Any], folder: Path) -> tuple[str, Page]:
    write_report(results, folder / "report.html")
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert [path.name for path in folder.iterdir()] == ["report.html"]
    return text, Page(text)


def test_page_stands_alone(results: dict[str, Any], tmp_path: Path) -> None:
    text, page = write(results, tmp_path)
    assert len(text.encode()) < 1_000_000
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)|url\(|@import""", text)
    assert len(page.images) == 4  # accuracy, two brain arms, encoder
    for image in page.images:
        assert str(image["src"]).startswith("data:image/svg+xml;base64,")
        assert len(str(image["alt"])) > 40


def test_page_says_everything(results: dict[str, Any], tmp_path: Path) -> None:
    _, page = write(results, tmp_path)
    assert page.words.index("“brain helped”: the claim holds") < page.words.index("Accuracy of the arms")
    for arm in results["arms"]:
        assert PURPOSE.get(arm, "the brain is what is tested here") in page.words
        assert f"teacher={arm}" in page.words
    assert "not run: the data set has no human soft labels" in page.words
    assert "The arm kd_matched failed" in page.words
    assert results["arms"]["brain"]["keys"]["students"][3] in page.words
    assert results["command"] in page.words
    assert "5 folds over stimuli" in page.words
    assert page.tags.count("table") == 10


def test_scores_without_a_column_are_still_shown(results: dict[str, Any], tmp_path: Path) -> None:
    results["arms"]["brain"]["teacher"]["scores"]["encoder"]["r_normalised"] = 0.777
    results["tuning_budget"] = "12 settings an arm"
    _, page = write(results, tmp_path)
    assert "encoder r_normalised 0.777" in page.words
    assert "12 settings an arm" in page.words


def test_text_is_escaped(results: dict[str, Any], tmp_path: Path) -> None:
    results["warnings"] = ["<script>alert(1)</script>"]
    results["not_run"]["a<b"] = '"quoted" & <i>'
    text, page = write(results, tmp_path)
    assert "<script" not in text
    assert "<script>alert(1)</script>" in page.words
    assert "i" not in page.tags


def test_partial_results_say_what_is_missing(partial: dict[str, Any], tmp_path: Path) -> None:
    _, page = write(partial, tmp_path)
    assert "No claim was tested" in page.words
    assert "No two arms were compared: only one arm has finished." in page.words
    assert "The arm brain has 1 of 10 seeds." in page.words
    assert "The arm kd_matched failed" in page.words
    assert len(page.images) == 1
    assert "Warnings" not in page.words


@pytest.mark.parametrize(
    "results",
    [
        {},
        {"arms": {"brain": {}}},
        {"arms": None, "claims": None, "comparisons": None},
        {"failed": {"kd": "x"}, "encoder_r": {}},
    ],
)
def test_almost_nothing_still_makes_a_page(results: dict[str, Any], tmp_path: Path) -> None:
    _, page = write(results, tmp_path)
    assert "What is missing" in page.words


@pytest.mark.parametrize("absent", ["comparisons", "claims", "chance", "versions", "encoder_r", "n_seeds", "not_run"])
def test_any_part_may_be_absent(results: dict[str, Any], tmp_path: Path, absent: str) -> None:
    del results[absent]
    _, page = write(results, tmp_path)
    assert all(arm in page.words for arm in results["arms"]), "what is there is still shown"


def test_many_arms_stay_under_a_megabyte(results: dict[str, Any], tmp_path: Path) -> None:
    for number in range(30):
        name = f"brain_roi{number}"
        results["arms"][name] = results["arms"]["brain"]
        results["encoder_r"][name] = results["encoder_r"]["brain"]
        found = [row for row in results["comparisons"] if row["a"] == "brain"]
        results["comparisons"] += [dict(row, a=name) for row in found]
    text, page = write(results, tmp_path)
    assert len(text.encode()) < 1_000_000
    assert "Pictures of the first 10 of 32 brain arms" in page.words
    assert "brain_roi29 − kd" in page.words


def test_sections_are_a_list_in_reading_order(results: dict[str, Any]) -> None:
    titles = [section.title for section in sections(results)]
    assert titles[0] == "Warnings"
    assert titles.index("Accuracy of the arms") < titles.index("Differences") < titles.index("Provenance")
    assert titles[-1] == "What is missing"


def test_package_offers_its_functions() -> None:
    import braindistill.report

    assert braindistill.report.write_report is write_report
    assert {"render", "write_csv", "write_report"} <= set(dir(braindistill.report))

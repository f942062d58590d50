"""The page: that it stands alone, says what was found and what is missing, and survives whatever is absent."""

from __future__ import annotations

import csv
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from braindistill.report.contents import SECTIONS
from braindistill.report.html import compose_page, write_report
from braindistill.report.parts import Findings
from braindistill.report.reading import PURPOSE
from braindistill.report.sections.glossary import TERMS, link_terms

VOID = {"meta", "img", "br", "link", "hr", "input"}


class Markup(HTMLParser):
    """Checks that tags nest, and collects text, tags, links and image attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.words = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        self.ids += [found["id"]] if found.get("id") else []
        self.links += [found["href"]] if found.get("href") else []
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(found)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words += data


def write(results: dict[str, Any], folder: Path, extras: Path | None = None) -> tuple[str, Markup]:
    out = folder / "page"
    out.mkdir()
    write_report(results, out / "report.html", extras)
    text = (out / "report.html").read_text(encoding="utf-8")
    page = Markup(text)
    assert len(set(page.ids)) == len(page.ids)
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids), "every link leads somewhere on the page"
    return text, page


@pytest.fixture
def extras(tmp_path: Path) -> Path:
    """The folder of an evaluation, with pictures, maps and matrices beside the results."""
    rng = np.random.default_rng(2)
    folder = tmp_path / "evaluation"
    folder.mkdir()
    rows, columns = np.mgrid[:32, :32]
    pictures = rng.integers(0, 90, (6, 3, 32, 32), dtype=np.uint8)
    pictures[:, :, 8:24, 8:24] += 120
    blob = np.exp(-((rows - 15) ** 2 + (columns - 15) ** 2) / 60)
    arms = np.array(["baseline", "kd", "brain"])
    maps = (blob * rng.random((3, 6, 1, 1)) + 0.1 * rng.random((3, 6, 32, 32))).astype(np.float16)
    np.savez(folder / "saliency.npz", images=pictures, labels=np.arange(6), arms=arms, maps=maps)
    np.savez(folder / "rdms.npz", **{name: rng.random((20, 20)) for name in ("V1", "IT", "baseline", "kd", "brain")})
    return folder


def test_the_whole_page_stands_alone(everything: dict[str, Any], extras: Path, tmp_path: Path) -> None:
    text, page = write(everything, tmp_path, extras)
    assert "could not be shown" not in text
    assert len(text.encode()) < 5_000_000
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)|url\(|@import""", text)
    for section in SECTIONS:
        assert section.title in page.words, "nothing of what there can be is absent"
    assert "Sections that this evaluation has no data for" not in page.words
    assert len(page.images) >= 20
    for image in page.images:
        assert str(image["src"]).startswith("data:image/svg+xml;base64,")
        assert len(str(image["alt"])) > 25
    figures = tmp_path / "page" / "figures"
    names = {file.stem for file in figures.iterdir()}
    assert len(names) == len(page.images)
    assert {file.name for file in figures.iterdir()} == {f"{n}.{kind}" for n in names for kind in ("svg", "pdf", "csv")}
    for file in figures.glob("*.csv"):
        rows = list(csv.reader(file.open(encoding="utf-8")))
        assert len(rows) >= 2
        assert len({len(row) for row in rows}) == 1
    assert {file.name for file in (tmp_path / "page").iterdir()} == {
        "report.html",
        "figures",
        "results.md",
        "results.tex",
    }


def test_sections_come_in_reading_order() -> None:
    titles = [section.title for section in SECTIONS]
    expected = ["Warnings", "Did the brain help?", "Arms", "What each arm rules out", "Differences", "Few-shot curves"]
    expected += ["Regions of the brain", "Calibration", "Robustness", "Training", "Methods", "Steps", "Provenance"]
    assert [title for title in titles if title in expected] == expected
    assert len(set(titles)) == len(titles)


@pytest.mark.usefixtures("sketched")
class TestWithSketches:
    def test_page_says_everything(self, results: dict[str, Any], tmp_path: Path) -> None:
        _, page = write(results, tmp_path)
        claim = page.words.index("“brain helped”: the claim holds")
        assert page.words.index("3 stimuli are also test images") < claim < page.words.index("balanced %")
        assert re.search(r"Decided by brain − \w+\.", page.words)
        for arm in results["arms"]:
            assert PURPOSE.get(arm, "the brain is what is tested here") in page.words
            assert f"teacher={arm}" in page.words
        assert "not run: the data set has no human soft labels" in page.words
        assert "The arm kd_matched failed" in page.words
        assert results["arms"]["brain"]["keys"]["students"][3] in page.words
        assert f"{results['command']} 'eval.arms=[kd]'" in page.words
        assert "5 folds over stimuli" in page.words

    def test_scores_without_a_column_are_still_shown(self, results: dict[str, Any], tmp_path: Path) -> None:
        results["arms"]["brain"]["teacher"]["scores"]["encoder"]["r_normalised"] = 0.777
        results["tuning_budget"] = "12 settings an arm"
        _, page = write(results, tmp_path)
        assert "encoder r_normalised 0.777" in page.words
        assert "12 settings an arm" in page.words

    def test_text_is_escaped(self, results: dict[str, Any], tmp_path: Path) -> None:
        results["warnings"] = ["<script>alert(1)</script>"]
        results["not_run"]["a<b"] = '"quoted" & <i>'
        results["arms"]["x</details><script>"] = results["arms"]["kd"]
        text, page = write(results, tmp_path)
        assert "<script" not in text
        assert "<script>alert(1)</script>" in page.words
        assert "i" not in page.tags

    def test_partial_results_say_what_is_missing(self, partial: dict[str, Any], tmp_path: Path) -> None:
        text, page = write(partial, tmp_path)
        assert "No claim was tested" in page.words
        assert "No two arms were compared: only one arm has finished." in page.words
        assert "The arm brain has 1 of 10 seeds." in page.words
        assert "The arm kd_matched failed" in page.words
        assert len(page.images) == 1
        assert "could not be shown" not in text
        assert "Robustness: eval.measures=[robustness,attacks]" in page.words

    @pytest.mark.parametrize(
        "results",
        [
            {},
            {"arms": {"brain": {}}},
            {"arms": None, "claims": None, "comparisons": None},
            {"failed": {"kd": "x"}, "encoder_r": {}},
            {"arms": {"kd": {"measures": None, "accuracy": {"mean": None}}}, "rois": {"single": {"V1": "gone"}}},
        ],
    )
    def test_almost_nothing_still_makes_a_page(self, results: dict[str, Any], tmp_path: Path) -> None:
        text, page = write(results, tmp_path)
        assert "What is missing" in page.words
        assert "could not be shown" not in text

    def test_many_arms_stay_small(self, results: dict[str, Any], tmp_path: Path) -> None:
        for number in range(30):
            name = f"brain@roi{number}"
            results["arms"][name] = results["arms"]["brain"]
            results["encoder_r"][name] = results["encoder_r"]["brain"]
            found = [row for row in results["comparisons"] if row["a"] == "brain"]
            results["comparisons"] += [dict(row, a=name) for row in found]
            results["claims"].append(dict(results["claims"][0], arm=name, components=[]))
        text, page = write(results, tmp_path)
        assert len(text.encode()) < 1_000_000
        assert "Pictures of the first 6 of 32 brain arms" in page.words
        assert "brain@roi29 − kd" in page.words

    def test_a_reason_is_given_for_a_measure_that_was_skipped(self, results: dict[str, Any], tmp_path: Path) -> None:
        results["skipped_measures"] = {"severity": "no hierarchy of these classes", "n_train=500": "too few images"}
        _, page = write(results, tmp_path)
        assert "Severity of errors: no hierarchy of these classes" in page.words
        assert "n_train=500: too few images" in page.words

    def test_one_odd_part_does_not_cost_the_page(self, everything: dict[str, Any], tmp_path: Path) -> None:
        everything["curves"] = [{"arm": "kd"}]
        everything["explain"]["contributions"] = 7
        _, page = write(everything, tmp_path)
        assert "Few-shot curves could not be shown: KeyError" in page.words
        assert "Contributions of regions to soft labels could not be shown" in page.words
        assert "Test accuracy of every arm" in page.words

    def test_arms_with_like_names_have_files_of_their_own(self, results: dict[str, Any]) -> None:
        rows = [row for row in results["comparisons"] if row["a"] == "brain"]
        for name in ("brain@V1", "brain_V1"):
            results["arms"][name] = results["arms"]["brain"]
            results["comparisons"] += [dict(row, a=name) for row in rows]
            results["claims"].append({"arm": name, "holds": None, "components": []})
        page = compose_page(Findings(results))
        assert {"differences_brain_V1.svg", "differences_brain_V1_.svg"} <= set(page.files)
        numbers = [picture.number for part in page.parts for picture in part.pictures]
        assert numbers == list(range(1, len(numbers) + 1))

    def test_any_part_may_be_absent(self, everything: dict[str, Any], extras: Path) -> None:
        whole = compose_page(Findings(everything, extras))
        assert not [line for line in whole.missing if "could not" in line]
        for key in everything:
            found = {other: value for other, value in everything.items() if other != key}
            page = compose_page(Findings(found, extras))
            assert not [line for line in page.missing if "could not" in line], key
            if key in ("curves", "rois", "power", "explain"):
                lost = {part.title for part in whole.parts} - {part.title for part in page.parts}
                assert lost or key in ("power", "explain"), key

    def test_any_measure_may_be_absent(self, everything: dict[str, Any]) -> None:
        titles = {
            "reliability": "Calibration",
            "severity": "Severity of errors",
            "selective": "Precision at a chosen confidence",
            "human": "Agreement with people",
            "robustness": "Robustness",
            "brain_score": "Brain score of the students",
        }
        for measure, title in titles.items():
            gone = {arm: entry["measures"].pop(measure) for arm, entry in everything["arms"].items()}
            page = compose_page(Findings(everything))
            assert not [line for line in page.missing if "could not" in line], measure
            if measure != "reliability":  # the table of NLL and ECE stays
                assert title not in {part.title for part in page.parts}
                assert any(line.startswith(f"{title}: ") for line in page.absent)
            for arm, value in list(gone.items())[1:]:  # one arm lacks it, the others have it
                everything["arms"][arm]["measures"][measure] = value


def test_terms_are_linked_once_and_only_as_words() -> None:
    linked = link_terms(
        "ECE, ECEs & <b> RSA of arms; charm", lambda text: text.replace("&", "&amp;").replace("<", "&lt;")
    )
    assert linked.count('href="#term-ece"') == 1
    assert '<a class="term" href="#term-arm">arms</a>' in linked
    assert "charm" in linked
    assert "&amp; &lt;b>" in linked
    assert all(TERMS.values())


def test_package_offers_its_functions() -> None:
    import braindistill.report

    assert braindistill.report.write_report is write_report
    assert {"render", "write_csv", "write_report", "write_merged", "as_latex"} <= set(dir(braindistill.report))

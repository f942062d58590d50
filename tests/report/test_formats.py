"""Tables and texts to paste: Markdown, LaTeX, BibTeX."""

from __future__ import annotations

import re
from typing import Any

import pytest

from braindistill.report.formats import (
    as_latex,
    as_markdown,
    cite_latex,
    cite_plain,
    escape_latex,
    escape_markdown,
    keys_of,
    latex_table,
    markdown_table,
)
from braindistill.report.parts import Findings, Grid, Upstream
from braindistill.report.sections.methods import method_passages, method_text
from braindistill.report.sources import SOURCES, bibtex_of

ODD = Grid(["a|b_c", "50 %"], [["x & y\\z", "−1.0 [−2, ≤ 3]"], ["#1 $2 {3} ~^ <b>", "*4*"]])


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("a_b & 50 % of $1 #2", r"a\_b \& 50 \% of \$1 \#2"),
        ("\\{}", r"\textbackslash{}\{\}"),
        ("−1.0 ± 2 ≥ x", r"$-$1.0 $\pm$ 2 $\geq$ x"),
        ("~^<>|", r"\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}\textbar{}"),
        ("“yes” — é", "``yes'' --- é"),
    ],
)
def test_latex_prints_text_as_it_is(text: str, latex: str) -> None:
    assert escape_latex(text) == latex


def test_markdown_prints_text_as_it_is() -> None:
    assert escape_markdown("a_b|c*d <b> [x] `y` #") == r"a\_b\|c\*d \<b\> \[x\] \`y\` \#"
    assert escape_markdown("- item\nnext") == r"\- item next"
    assert escape_markdown("3. third") == r"\3. third"
    assert escape_markdown("−1.0 – 2") == "−1.0 – 2"


def test_a_markdown_table_has_equal_rows() -> None:
    lines = markdown_table(ODD).splitlines()
    assert len(lines) == 4
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {3}
    assert lines[1] == "| --- | ---: |"
    assert markdown_table(Grid(["a"], [])) == latex_table(Grid(["a"], []), "", "") == ""


def test_a_latex_table_has_equal_rows_and_balanced_braces() -> None:
    text = latex_table(ODD, "50 % of_it", "odd")
    assert r"\caption{50 \% of\_it}" in text
    assert r"\begin{tabular}{lr}" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 3
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {1}
    assert len(re.findall(r"(?<!\\)\{", text)) == len(re.findall(r"(?<!\\)\}", text))


def test_an_evaluation_as_markdown_and_latex(results: dict[str, Any]) -> None:
    text = as_markdown(results)
    for title in ("# demo", "## Arms", "## Components of the claim", "## Differences", "## What each arm rules out"):
        assert f"{title}\n" in text
    assert "“brain helped”: the claim holds" in text
    assert r"shuffled\_fmri" in text
    latex = as_latex(results)
    assert latex.count(r"\begin{table}") == latex.count(r"\end{table}") == text.count("## ")
    assert all(line.isascii() or line.startswith("%") for line in latex.splitlines()), "no sign that LaTeX might lack"
    assert as_markdown({}) == "# experiment\n\n- Missing: No arm has finished, so there is nothing to compare.\n" + (
        "- Missing: No claim was tested: no brain arm has finished.\n"
    )


def test_citations() -> None:
    text = "Holm's [@holm1979] and two 50 % [@brier1950; @guo2017]."
    assert cite_plain(text) == "Holm's (Holm, 1979) and two 50 % (Brier, 1950; Guo et al., 2017)."
    assert cite_latex(text) == r"Holm's \citep{holm1979} and two 50 \% \citep{brier1950,guo2017}."
    assert keys_of(text) == ["holm1979", "brier1950", "guo2017"]
    assert keys_of("a [bracket] and an @sign") == []


def test_bibtex_is_well_formed() -> None:
    entries = bibtex_of(SOURCES).split("\n\n")
    assert len(entries) == len(SOURCES)
    for key, entry in zip(sorted(SOURCES), entries, strict=True):
        assert re.match(rf"@(article|inproceedings|misc|techreport|incollection)\{{{key},\n", entry)
        assert entry.count("{") == entry.count("}")
        assert {"author", "title", "year"} <= set(re.findall(r"^  (\w+) = ", entry, re.MULTILINE))
        assert str(SOURCES[key][5]) in SOURCES[key][0], "cited by the year of its entry"
        assert key.endswith(str(SOURCES[key][5]))


SETTINGS: dict[str, dict[str, Any]] = {
    "distill": {
        "student": {"name": "resnet20", "width": 16},
        "method": {"name": "kd", "temperature": 4.0, "target_weight": 0.9},
        "train": {"epochs": 60, "optimizer": "adamw", "lr": 0.001, "batch_size": 32, "crop": 4, "select": "last"},
    },
    "export": {"target": {"name": "soft_labels", "images": "all"}},
    "train-teacher": {"teacher": {"name": "brain", "roi": ["V1", "V2"], "encoder": "ridge", "features": "pixels"}},
    "prepare": {"fmri": {"name": "god", "subject": 3, "path": "/somewhere"}},
    "images": {"images": {"name": "cifar10"}},
}
SETTINGS["train-teacher"]["teacher"] |= {"decoder": "lda", "n_folds": 5, "disjoint": True}


def test_methods_say_what_was_done(results: dict[str, Any]) -> None:
    found = Findings(results, None, Upstream(settings={"brain": SETTINGS}))
    text = "\n".join(" ".join(paragraph) for paragraph in method_text(found))
    assert "data set god [@horikawa2017] (subject 3)" in text
    assert "40 labelled training images, 360 unlabelled ones and 40 labelled images for validation of cifar10" in text
    assert (
        "resnet20 [@he2016] (width 16), trained for 60 epochs by adamw [@loshchilov2019] (learning rate 0.001" in text
    )
    assert "augmented by crop (4)" in text
    assert "ROI V1, V2) consisted of encoder ridge on pixels and decoder lda" in text
    assert "encoder and decoder never shared a stimulus" in text
    assert "kd [@hinton2015] (temperature 4.000, target weight 0.900)" in text
    assert "10 seeds" in text
    assert "/somewhere" not in text
    assert "kd (teacher=kd target=soft_labels method=kd method.temperature=4.0)" in text, "where arms differ"
    assert "labels_matched 400" in text, "and in labels"
    assert "brier1950" not in text, "what was not measured is not claimed"


def test_methods_name_what_was_measured(everything: dict[str, Any]) -> None:
    cited = set(keys_of(" ".join(word for paragraph in method_text(Findings(everything)) for word in paragraph)))
    assert {"brier1950", "hendrycks2019", "madry2018", "kriegeskorte2008", "shapley1953", "schuirmann1987"} <= cited
    assert cited <= set(SOURCES)


def test_methods_can_be_copied_in_three_forms(results: dict[str, Any]) -> None:
    passages = list(method_passages(Findings(results)))
    copies = {passage.name: passage.text for passage in passages if passage.verbatim}
    assert list(copies) == ["Markdown", "LaTeX (natbib)", "BibTeX"]
    assert "Holm (1979). A simple sequentially rejective" in copies["Markdown"]
    assert r"\citep{holm1979}" in copies["LaTeX (natbib)"]
    assert "@article{holm1979," in copies["BibTeX"]
    assert not list(method_passages(Findings({})))

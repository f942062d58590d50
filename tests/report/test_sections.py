"""Single sections: that labels and captions say what the numbers are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from braindistill.metrics.confidence import selective
from braindistill.metrics.severity import severity
from braindistill.report.parts import Figure, Findings
from braindistill.report.sections.measures import (
    human_tables,
    selective_figures,
    selective_tables,
    severity_figures,
    severity_tables,
)
from braindistill.report.sections.rois import explain_figures, rdm_figures
from braindistill.report.sections.training import saliency_figures, training_tables
from braindistill.report.style import rendered

CLASSES = ["cat", "dog", "lorry"]
GROUPS = {"cat": ["animal"], "dog": ["animal"], "lorry": ["thing"]}
#: twelve pictures of cats: three are called dogs, one is called a lorry
SAID = np.array([0] * 8 + [1] * 3 + [2])
TRUTH = np.zeros(12, int)


def measured(name: str, scores: dict[str, Any]) -> Findings:
    return Findings({"arms": {"brain": {"measures": {name: scores}}}})


def cells(grid: Any) -> dict[str, str]:
    return dict(zip(grid.heading, grid.rows[0], strict=True))


def test_severity_is_a_share_of_the_mistakes() -> None:
    found = measured("severity", severity(SAID, TRUTH, GROUPS, CLASSES))
    (grid,) = severity_tables(found)
    told = cells(grid)
    assert (told["severe, % of mistakes"], told["mild, % of mistakes"]) == ("25.0", "75.0")
    assert told["LCA height, mean over mistakes"] == "1.250"
    (figure,) = severity_figures(found)
    assert "severe, % of mistakes: brain 25.0" in figure.alt
    assert "shares of the mistakes, not of all images" in figure.caption


def test_selective_shares_are_of_what_is_accepted() -> None:
    confidence = np.where(np.arange(12) < 2, 0.5, 0.9)  # two right answers are declined
    table = np.full((12, 3), 0.0)
    table[:] = (1 - confidence[:, None]) / 2
    table[np.arange(12), SAID] = confidence
    scores = selective(table, TRUTH, 0.8, np.array([0, 0, 1])) | {"threshold": 0.8}
    found = measured("selective", scores)
    (grid,) = selective_tables(found)
    told = cells(grid)
    assert told["accepted, % of images"] == "83.3"
    shares = [float(told[f"{kind}, % of accepted"]) for kind in ("right", "severe", "mild")]
    assert shares == [60.0, 10.0, 30.0]
    (figure,) = selective_figures(found)
    assert "mild, % of accepted: brain 30.0" in figure.alt


def test_headings_of_shares_say_so() -> None:
    (grid,) = human_tables(measured("human", {"cross_entropy": 0.5, "top1_agreement": 0.75}))
    assert cells(grid) == {"arm": "brain", "cross-entropy, nats": "0.500", "same first choice, %": "75.0"}


def test_maps_are_said_to_be_of_the_true_class(everything: dict[str, Any], tmp_path: Path) -> None:
    images, maps = np.zeros((2, 1, 8, 8), np.uint8), np.random.default_rng(0).random((1, 2, 8, 8))
    np.savez(tmp_path / "saliency.npz", images=images, labels=np.arange(2), arms=np.array(["brain"]), maps=maps)
    (figure,) = saliency_figures(Findings(everything, tmp_path))
    assert "for the true class" in figure.caption
    assert "class they name" not in figure.caption


def test_validation_is_a_column_where_there_was_any(everything: dict[str, Any]) -> None:
    (grid,) = training_tables(Findings(everything))
    assert grid.heading == ["arm", "epochs", "last loss", "last validation %"]
    for entry in everything["arms"].values():
        entry["training"]["val_accuracy"] = [None] * 30
    (grid,) = training_tables(Findings(everything))
    assert grid.heading == ["arm", "epochs", "last loss"]
    assert {len(row) for row in grid.rows} == {3}


def test_intervals_are_said_to_be_over_what_they_are_over(everything: dict[str, Any]) -> None:
    captions = {figure.name: figure.caption for figure in explain_figures(Findings(everything))}
    assert "interval over them" in captions["contributions"]  # over classes
    assert "intervals over the folds" in captions["decoder_cam"]
    assert "intervals over groups of pictures" in captions["mask_overlap"]


def draw_rdms(folder: Path, **more: np.ndarray) -> Figure:
    rng = np.random.default_rng(4)
    tables = {name: rng.random((4, 4)) for name in ("V1 (brain)", "kd")}
    matrices = {name: table + table.T for name, table in tables.items()}
    np.savez(folder / "rdms.npz", **matrices, **more)
    (figure,) = rdm_figures(Findings({}, folder))
    assert figure.data[0] == ["picture", "other picture", "V1 (brain)", "kd"]
    assert len(figure.data) == 1 + 6, "a row a pair"
    assert figure.data[1][2] == pytest.approx(matrices["V1 (brain)"][0, 1])
    assert rendered(figure)["svg"]
    return figure


def test_the_grid_of_matrices_says_which_pictures_in_which_order(tmp_path: Path) -> None:
    stimuli, labels = np.array(["a", "b", "c", "d"]), np.array(["cat", "cat", "dog", ""])
    figure = draw_rdms(tmp_path, stimuli=stimuli, labels=labels, left_out=np.array(["labels_matched"]))
    assert figure.data[1][:2] == ["a", "b"]
    assert "the same 4 stimuli" in figure.caption
    assert "by class, with ticks where the next begins (cat, dog, no class)" in figure.caption
    assert "Measured on other stimuli, so not shown: labels_matched." in figure.caption
    assert figure.alt == "Dissimilarity matrices of V1 (brain), kd, over 4 pictures."


def test_matrices_without_classes_are_in_the_order_of_ids(tmp_path: Path) -> None:
    figure = draw_rdms(tmp_path, stimuli=np.array(list("abcd")), left_out=np.array([], str))
    assert "in the order of their ids" in figure.caption
    assert "not shown" not in figure.caption

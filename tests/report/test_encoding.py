"""The picture of an encoder's scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from braindistill.report.encoding import draw_encoding


def scores(n: int = 400, ceiling: bool = True) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {
        "r": rng.normal(0.2, 0.15, n).clip(-0.3, 0.9),
        "r2": rng.normal(0, 0.1, n),
        "r_fold": rng.normal(size=(5, n)),
    }
    return found | ({"ceiling_r2": rng.uniform(-0.05, 0.7, n)} if ceiling else {})


def rois(number: int, n: int = 400) -> dict[str, np.ndarray]:
    return {f"region-{row:02d}": np.arange(n)[row::number] for row in range(number)}


@pytest.mark.parametrize("ceiling", [True, False])
@pytest.mark.parametrize("number", [0, 3, 30])
def test_a_row_an_roi(tmp_path: Path, ceiling: bool, number: int) -> None:
    from PIL import Image

    path = tmp_path / "encoding.png"
    draw_encoding(scores(ceiling=ceiling), rois(number), path)
    with Image.open(path) as image:
        width, height = image.size
        grey = np.asarray(image.convert("L"))
    assert 700 <= width <= 1200
    assert 150 + 40 * number <= height <= 400 + 60 * number
    assert (grey < 200).mean() > 0.01, "something is drawn"
    assert (grey[:, :3] > 250).all(), "and nothing is cut off at the edges"
    assert (grey[:, -3:] > 250).all()
    draw_encoding(scores(ceiling=ceiling), rois(number), tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == path.read_bytes()


def test_the_ceiling_is_drawn_where_there_is_one(tmp_path: Path) -> None:
    for ceiling in (True, False):
        draw_encoding(scores(ceiling=ceiling), rois(3), tmp_path / f"{ceiling}.png")
    assert (tmp_path / "True.png").read_bytes() != (tmp_path / "False.png").read_bytes()


def test_unknown_ceilings_and_a_single_voxel_are_drawn(tmp_path: Path) -> None:
    found = scores()
    found["ceiling_r2"][:200] = np.nan
    half = {"known": np.arange(200, 400), "unknown": np.arange(200), "one": np.array([7])}
    draw_encoding(found, half, tmp_path / "encoding.png")
    assert (tmp_path / "encoding.png").stat().st_size > 5000

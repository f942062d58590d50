"""How students and teachers were trained, and where the students look."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from braindistill.report.parts import Figure, Findings, Grid
from braindistill.report.plots import Lines, draw_lines
from braindistill.report.reading import is_brain
from braindistill.report.style import shorten

MOST_IMAGES, MOST_MAPS = 8, 5  # on a page that a phone can show; the file holds all
_MIDDLE = 1 / 2.1  # of the overview: where its right half begins
#: picture that a stage has drawn → name and caption of the figure
_DRAWN = {
    "encoding": (
        "encoding_by_roi",
        "Out-of-fold encoding scores by ROI of the first brain arm's first teacher, with noise ceilings where known.",
    ),
    "left": ("responses_by_roi", "The responses: noise ceilings by ROI; of single trials, mean responses."),
    "overview": (
        "brain",
        "The responses: noise ceilings on slices of the brain or, where voxels have no places, over all voxels.",
    ),
}


def training_figures(found: Findings) -> Iterable[Figure]:
    """Loss and validation accuracy by epoch."""
    panels = []
    for key, title, scale in (("loss", "training loss", 1), ("val_accuracy", "validation accuracy, %", 100)):
        series = {}
        for arm in found.main_arms:
            training = found.arms[arm].get("training") or {}
            epochs = training.get("epoch") or range(1, 1 + len(training.get(key) or []))
            points = [(float(x), y) for x, y in zip(epochs, training.get(key) or [], strict=False) if y is not None]
            if points:
                series[arm] = points
        if series:
            panels.append(Lines(title, series, scale))
    if panels:
        caption = (
            "Training of the students: the loss that each method minimises (not comparable between methods) and, where "
            "images were kept for it, the validation accuracy; means over seeds."
        )
        yield draw_lines("training", caption, panels, "epoch", "", columns=1, bands=False)


def saliency_figures(found: Findings) -> Iterable[Figure]:
    """Where each student looks, side by side: rows are pictures, columns are arms."""
    explain = found.results.get("explain") or {}
    file = found.folder / str((explain.get("saliency") or {}).get("file") or "saliency.npz") if found.folder else None
    if file is None or not file.is_file():
        return
    images, maps = read_maps(file)
    if not len(images) or not maps:
        return
    arms = [arm for arm in ("baseline", "kd", "brain") if arm in maps] if len(maps) > MOST_MAPS else list(maps)
    names = ["picture", *(arms or list(maps)[:MOST_MAPS])]

    def draw(canvas: Any) -> None:
        grid = canvas.subplots(len(images), len(names), squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for row, image in enumerate(images):
            shown = {"cmap": "gray", "vmin": 0, "vmax": 255} if image.ndim == 2 else {}
            height, width = image.shape[:2]
            for column, name in enumerate(names):
                axes = grid[row, column]
                axes.imshow(image, interpolation="nearest", extent=(0, width, height, 0), **shown)
                if column:
                    over = maps[name][row].astype(float)
                    over = (over - over.min()) / (np.ptp(over) or 1)
                    place: dict[str, Any] = {"extent": (0, width, height, 0), "vmin": 0, "vmax": 1}
                    axes.imshow(over, cmap="inferno", alpha=0.25 + 0.6 * over, interpolation="nearest", **place)
                if row == 0:
                    axes.set_title(shorten(name, 13), fontsize=8.5)

    caption = (
        "Where each arm's first student looks for the true class, right or wrong (Grad-CAM; bright: more, each map by its own "
        "largest value), on the same test pictures."
    )
    alt = f"Saliency maps of {', '.join(names[1:])} over {len(images)} test pictures."
    sums: list[list[Any]] = [["picture", "arm", "mean", "max"]]
    sums += [
        [row, arm, float(m[row].mean()), float(m[row].max())] for arm, m in maps.items() for row in range(len(images))
    ]
    side = min(4.6 / len(names), 1.1)
    yield Figure("saliency", caption, alt, draw, sums, 0.25 + side * len(images), 0.2 + side * len(names))


def read_maps(file: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Pictures (n × H × W [× 3], uint8) and arm → maps (n × h × w) of a ``saliency.npz``; at most eight pictures.

    The file holds ``images``, channels first, and ``maps`` (arms × n × h × w) of the ``arms`` named.
    """
    with np.load(file, allow_pickle=False) as stored:
        images, names, maps = stored["images"][:MOST_IMAGES], stored["arms"].tolist(), stored["maps"]
    if images.ndim == 4:
        images = images.transpose(0, 2, 3, 1)
        images = images[..., 0] if images.shape[-1] < 3 else images[..., :3]
    return images, {str(name): own[: len(images)] for name, own in zip(names, maps, strict=True)}


def encoding_figures(found: Findings) -> Iterable[Figure]:
    """Encoding scores by ROI of the first brain arm's teacher, histograms of all, and the brain where it has places."""
    values = {arm: np.asarray(r, dtype=float) for arm, r in (found.results.get("encoder_r") or {}).items()}
    values = {arm: r[np.isfinite(r)] for arm, r in values.items() if len(r)}
    if values:
        yield _histograms(dict(list(values.items())[:10]))
    for folder, name in _drawn(found):
        if name == "overview":  # two pictures in one, which a phone could not show
            yield embed_picture(folder / "overview.png", *_DRAWN["left"], (0, _MIDDLE))
            yield embed_picture(folder / "overview.png", *_DRAWN[name], (_MIDDLE, 1))
        else:
            yield embed_picture(folder / f"{name}.png", *_DRAWN[name])


def embed_picture(file: Path, name: str, caption: str, part: tuple[float, float] = (0, 1)) -> Figure:
    """A picture that a stage has drawn, or a part of it from left to right (shares of its width), as a figure."""
    from PIL import Image

    with Image.open(file) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    pixels = pixels[:, round(part[0] * pixels.shape[1]) : round(part[1] * pixels.shape[1])]
    height, width = pixels.shape[:2]

    def draw(canvas: Any) -> None:
        canvas.set_layout_engine("none")
        axes = canvas.add_axes((0, 0, 1, 1))
        axes.imshow(pixels, interpolation="lanczos")
        axes.set_axis_off()

    size = [["file", "width", "height"], [file.name, width, height]]
    return Figure(name, caption, caption, draw, size, 4.8 * height / width)


def training_tables(found: Findings) -> Iterable[Grid]:
    """Where training ended."""
    rows = []
    for arm, entry in found.arms.items():
        training = entry.get("training") or {}
        losses, known = training.get("loss") or [], [v for v in training.get("val_accuracy") or [] if v is not None]
        if losses:
            last = f"{100 * known[-1]:.1f}" if known else "–"
            rows.append([arm, f"{(training.get('epoch') or [len(losses)])[-1]:g}", f"{losses[-1]:.3f}", last])
    heading = ["arm", "epochs", "last loss", "last validation %"]
    if all(row[-1] == "–" for row in rows):  # no image was kept for validation
        heading, rows = heading[:-1], [row[:-1] for row in rows]
    yield Grid(heading, rows)


def _histograms(values: dict[str, np.ndarray]) -> Figure:
    from braindistill.report.style import INK, colour

    ends = [bound for r in values.values() if r.size for bound in (r.min(), r.max())] or [0.0, 1.0]
    edges = np.linspace(min(0.0, *ends), max(0.1, *ends), 41)
    words = {n: f"{r.size} voxels, median " + (f"{np.median(r):.2f}" if r.size else "–") for n, r in values.items()}

    def draw(canvas: Any) -> None:
        grid = canvas.subplots(len(values), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (name, r) in zip(grid, values.items(), strict=True):
            axes.hist(r, bins=edges, color=colour(name), alpha=0.75, histtype="stepfilled")
            axes.axvline(0, color=INK, linewidth=0.8)
            axes.set_title(f"{shorten(name)}: {words[name]}", loc="left", fontsize=8.5)
            axes.locator_params(axis="y", nbins=3)
        grid[-1].set_xlabel("out-of-fold correlation r, predicted and measured")
        canvas.supylabel("voxels", fontsize=9.5)

    caption = "Encoding scores: out-of-fold correlation of predicted and measured response of every voxel, not divided by its ceiling."
    alt = "Histograms of voxel correlations. " + "; ".join(f"{name}: {text}" for name, text in words.items())
    data: list[list[Any]] = [["arm", "voxel", "r"]]
    data += [[name, place, float(x)] for name, r in values.items() for place, x in enumerate(r)]
    return Figure("encoding", caption, alt, draw, data, 0.6 + 0.85 * len(values))


def _drawn(found: Findings) -> Iterable[tuple[Path, str]]:
    """Folder and name of what the stages behind the first brain arm have drawn, or what lies beside the results."""
    for name, stage in (("encoding", "train-teacher"), ("overview", "prepare")):
        places = [found.upstream.folders.get(arm, {}).get(stage) for arm in found.arms if is_brain(arm)]
        for folder in (*places[:1], found.folder):
            if folder is not None and (folder / f"{name}.png").is_file():
                yield folder, name
                break

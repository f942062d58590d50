"""Which part of the brain helped: single ROIs, all but one, and what the student shares with the brain afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from braindistill.report.parts import Figure, Findings, Grid
from braindistill.report.plots import Dots, draw_dots, draw_heat
from braindistill.report.reading import (
    against,
    as_share,
    interval_text,
    number,
    percent,
    percent_interval,
    points_interval,
    value_of,
)
from braindistill.report.style import COLOURS, colour, shorten


def roi_figures(found: Findings) -> Iterable[Figure]:
    """Each ROI alone, and the brain without it."""
    rois = found.results.get("rois") or {}
    single, without = _present(found, "single"), _present(found, "without")
    whole = value_of((found.arms.get(rois.get("of", "")) or {}).get("accuracy"))
    panels = []
    if single:
        values = {roi: as_share(found.arms[arm]["accuracy"]) for roi, arm in single.items()}
        teachers = {roi: {"mean": _teacher_accuracy(found, arm)} for roi, arm in single.items()}
        teachers = {roi: value for roi, value in teachers.items() if value["mean"] is not None}
        panels.append(Dots("one ROI alone: accuracy, %", values, 100, teachers, line=whole.get("mean")))
    if without:
        values = {roi: _loss(found, rois.get("of", ""), arm) for roi, arm in without.items()}
        values = {roi: value for roi, value in values.items() if value}
        panels.append(Dots("lost without it, points", values, 100, line=0.0))
    panels = [panel for panel in panels if panel.values]
    if panels:
        caption = (
            "What each ROI is worth to the student. Filled: the student taught by that ROI alone, or what it loses when "
            "the ROI is left out, with 95 % intervals and a small dot a seed. Hollow: accuracy of that ROI's teacher. "
            f"Dotted: the student of {rois.get('of') or 'all ROIs'}, or no loss."
        )
        yield draw_dots("rois", caption, panels, lambda _: COLOURS["brain"], seeds=True)


def roi_tables(found: Findings) -> Iterable[Grid]:
    """The same in numbers, with voxel counts, teachers' accuracies and ceilings."""
    rois = found.results.get("rois") or {}
    single, without, counts = _present(found, "single"), _present(found, "without"), rois.get("n_voxels") or {}
    rows = []
    for roi in dict.fromkeys([*(rois.get("single") or {}), *(rois.get("without") or {}), *counts]):
        alone = percent_interval(found.arms[single[roi]]["accuracy"]) if roi in single else "–"
        loss = (
            points_interval(against(found.results, rois.get("of", ""), without[roi]) or {}) if roi in without else "–"
        )
        arm = single.get(roi)
        encoder = _scores(found, arm).get("encoder") or {}
        rows.append(
            [
                roi,
                number(counts.get(roi)),
                alone,
                loss,
                percent(_teacher_accuracy(found, arm)),
                number(encoder.get("r_median")),
                number(encoder.get("ceiling_r2_median")),
            ]
        )
    heading = ["ROI", "voxels", "alone, accuracy % [95\N{NO-BREAK SPACE}%]", "lost without it, points", "its teacher %"]
    yield Grid([*heading, "encoder r, median", "ceiling R², median"], rows)


def brain_score_figures(found: Findings) -> Iterable[Figure]:
    """How well each student predicts held-out responses, and whether it arranges pictures as the brain does."""
    scores = found.measured("brain_score")
    regions = list(dict.fromkeys(roi for entry in scores.values() for roi in entry))
    panels, shapes = [], []
    for roi in regions:
        values = {arm: entry[roi] for arm, entry in scores.items() if entry.get(roi)}
        normalised = any(value_of(value.get("normalised_r")).get("mean") is not None for value in values.values())
        key = "normalised_r" if normalised else "r"
        untrained = {} if normalised else {arm: value.get("untrained_r") for arm, value in values.items()}
        title = f"{roi}: r" + (" / ceiling" if normalised else "")
        panels.append(Dots(title, {arm: value.get(key) for arm, value in values.items()}, 1, untrained))
        ceiling = next(filter(None, (_ends(value) for value in values.values())), None)
        rsa = {arm: value["rsa"] for arm, value in values.items() if value_of(value.get("rsa"))}
        if rsa:
            shapes.append(Dots(f"{roi}: RSA", rsa, 1, band=ceiling))
    if panels:
        caption = (
            "Brain score of each student: correlation of held-out responses with a ridge regression on its features, out of "
            "fold, divided by the noise ceiling where there is one."
        )
        if any(panel.others for panel in panels):
            caption += " Hollow: the same network before training."
        yield draw_dots("brain_score", caption, panels)
    if shapes:
        caption = (
            "Likeness of representational geometry: rank correlation of each student's RDM with the brain's. "
            "Grey band: between the lower and the upper noise ceiling."
        )
        yield draw_dots("rsa", caption, shapes)


def brain_score_tables(found: Findings) -> Iterable[Grid]:
    """The same in numbers."""
    rows = []
    for arm, entry in found.measured("brain_score").items():
        for roi, value in entry.items():
            low, high = _ends(value) or (None, None)
            cells = [interval_text(value.get(key)) for key in ("r", "untrained_r", "normalised_r", "rsa")]
            rows.append([arm, roi, *cells, f"{number(low)} to {number(high)}" if low is not None else "–"])
    yield Grid(["arm", "ROI", "r", "r before training", "r / ceiling", "RSA", "RSA ceiling"], rows, (0, 1))


def rdm_figures(found: Findings) -> Iterable[Figure]:
    """A grid of dissimilarity matrices from ``rdms.npz`` (`read_rdms`): name → (m × m), and what they are of."""
    import numpy as np

    file = found.folder / "rdms.npz" if found.folder else None
    if file is None or not file.is_file():
        return
    with np.load(file, allow_pickle=False) as opened:
        stored = {name: opened[name] for name in opened.files}
    matrices = {name: matrix for name, matrix in stored.items() if matrix.ndim == 2}
    if not matrices:
        return
    names, size = list(matrices), len(next(iter(matrices.values())))
    stimuli, labels = stored.get("stimuli", np.arange(size)).tolist(), stored.get("labels")
    borders = [] if labels is None else (np.flatnonzero(labels[1:] != labels[:-1]) + 0.5).tolist()
    columns = min(3, len(names))
    rows = -(-len(names) // columns)

    def draw(canvas: Any) -> None:
        grid = canvas.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(names) :]:
            axes.set_axis_off()
        for axes, name in zip(grid.flat, names, strict=False):
            axes.imshow(_ranks(matrices[name]), cmap="viridis", interpolation="nearest")
            axes.set_title(shorten(name, 18), fontsize=8.5)
            axes.set(xticks=borders, yticks=borders, xticklabels=[], yticklabels=[])
            axes.tick_params(length=2.5, width=0.5)
            axes.spines[:].set_visible(False)

    alt = f"Dissimilarity matrices of {', '.join(names)}, over {size} pictures."
    above = list(zip(*np.triu_indices(size, 1), strict=True))
    data: list[list[Any]] = [["picture", "other picture", *names]]
    data += [[stimuli[i], stimuli[j], *(float(matrices[name][i, j]) for name in names)] for i, j in above]
    yield Figure("rdms", _rdm_caption(stored, size), alt, draw, data, 0.2 + 1.75 * rows)


def _rdm_caption(stored: dict[str, Any], size: int) -> str:
    labels, left_out = stored.get("labels"), list(stored.get("left_out", []))
    classes = [] if labels is None else [name or "no class" for name in dict.fromkeys(labels.tolist())]
    listed = f" ({', '.join(classes)})" if len(classes) <= 12 else ""
    order = f"by class, with ticks where the next begins{listed}" if classes else "in the order of their ids"
    return (
        "Representational dissimilarity matrices (1 − r), as ranks in each: dark pairs of pictures are alike, bright ones "
        "differ. Of the mean responses of ROIs, marked (brain), and of the last features of each arm's first student; the "
        f"same {size} stimuli everywhere, evenly chosen among those of the brain scores, {order}."
        + (f" Measured on other stimuli, so not shown: {', '.join(left_out)}." if left_out else "")
    )


def contribution_figures(found: Findings) -> Iterable[Figure]:
    """Contribution of each ROI to each soft label, and the ranking over classes."""
    import numpy as np

    classes = (found.results.get("explain") or {}).get("contributions") or {}
    regions = list(dict.fromkeys(roi for entry in classes.values() for roi in entry))
    if not regions:
        return
    kinds = [
        kind for kind in ("shapley", "gradient_input") if any(kind in e for c in classes.values() for e in c.values())
    ]
    panels, words = [], {"shapley": "Shapley value, nats", "gradient_input": "gradient × input, nats"}
    for kind in kinds:
        means = {roi: _over_classes(classes, roi, kind) for roi in regions}
        ranked = sorted(regions, key=lambda roi: -(means[roi].get("mean") or 0))
        panels.append(Dots(words[kind], {roi: means[roi] for roi in ranked}, 1, line=0.0))
    caption = (
        "Contribution of each ROI to the centred logit of a response's own class, of the first seed's teacher, out of fold; "
        "mean over classes with a 95 % interval over them, ranked."
    )
    yield draw_dots("contributions", caption, panels, lambda _: COLOURS["brain"])
    grid = np.array([[_mean_of(entry, roi, kinds[0]) for roi in regions] for entry in classes.values()])
    caption = f"The same, class by class ({words[kinds[0]]}). Red: the ROI speaks for the class; blue: against it."
    yield draw_heat("contributions_by_class", caption, list(classes), regions, grid, words[kinds[0]])


def contribution_tables(found: Findings) -> Iterable[Grid]:
    """Contributions in numbers, a row a class and ROI."""
    classes = (found.results.get("explain") or {}).get("contributions") or {}
    rows = [
        [name, roi, interval_text(value.get("shapley")), interval_text(value.get("gradient_input"))]
        for name, entry in classes.items()
        for roi, value in entry.items()
    ]
    heading = ["class", "ROI", "Shapley, nats", "gradient × input, nats"]
    yield Grid(
        heading, rows[:120], (0, 1), "Contributions class by class, with 95 % intervals over the teacher's folds"
    )


def cam_figures(found: Findings) -> Iterable[Figure]:
    """The decoder's class activation over its voxels, summed by ROI and ranked."""
    cam = (found.results.get("explain") or {}).get("decoder_cam") or {}
    if cam:
        ranked = sorted(cam, key=lambda roi: -(value_of(cam[roi]).get("mean") or 0))
        caption = (
            "Where along its voxels the decoder looks: Grad-CAM for each held-out response's own class, summed by ROI, "
            "ranked, with 95 % intervals over the folds of the first seed's teacher. Hollow: the ROI's share of the voxels, "
            "which a decoder that does not care would give it."
        )
        even = {roi: {"mean": cam[roi]["uniform"]} for roi in ranked if value_of(cam[roi]).get("uniform") is not None}
        panel = Dots("share of the map, %", {roi: cam[roi] for roi in ranked}, 100, even)
        yield draw_dots("decoder_cam", caption, [panel], lambda _: COLOURS["brain"])


def overlap_figures(found: Findings) -> Iterable[Figure]:
    """How far each student looks where the brain's mask is."""
    overlap = (found.results.get("explain") or {}).get("mask_overlap") or {}
    if overlap:
        caption = (
            "Share of the attention of each arm's first student (Grad-CAM for the true class) inside the top quarter of the "
            "brain's map of the same picture, with 95 % intervals over groups of pictures. Hollow: the same with maps of "
            "other pictures, which looking at the middle gives."
        )
        chance = {arm: value["permuted"] for arm, value in overlap.items() if value_of(value).get("permuted")}
        yield draw_dots("mask_overlap", caption, [Dots("inside the brain's map, %", overlap, 100, chance)], colour)


def explain_figures(found: Findings) -> Iterable[Figure]:
    """Everything about what the teachers read and where the students look."""
    for draw in (contribution_figures, cam_figures, overlap_figures):
        yield from draw(found)


def _ends(value: dict[str, Any]) -> tuple[float, float] | None:
    """Lower and upper ceiling of RSA, where there are any."""
    ends = [float(end) for end in value.get("rsa_ceiling") or []]
    return (ends[0], ends[1]) if len(ends) == 2 else None


def _present(found: Findings, kind: str) -> dict[str, str]:
    """ROI → arm, of those arms that have finished."""
    named = (found.results.get("rois") or {}).get(kind) or {}
    return {roi: arm for roi, arm in named.items() if value_of((found.arms.get(arm) or {}).get("accuracy"))}


def _loss(found: Findings, whole: str, arm: str) -> dict[str, Any]:
    row = against(found.results, whole, arm)
    if row:
        return {"mean": row.get("difference"), "ci_low": row.get("ci_low"), "ci_high": row.get("ci_high")}
    with_it, left = (value_of((found.arms.get(name) or {}).get("accuracy")).get("mean") for name in (whole, arm))
    return {} if with_it is None or left is None else {"mean": with_it - left}


def _scores(found: Findings, arm: str | None) -> dict[str, Any]:
    return ((found.arms.get(arm or "") or {}).get("teacher") or {}).get("scores") or {}


def _teacher_accuracy(found: Findings, arm: str | None) -> float | None:
    teacher = (found.arms.get(arm or "") or {}).get("teacher") or {}
    pool = teacher.get("accuracy_pool")
    return pool if pool is not None else teacher.get("accuracy_labelled")


def _over_classes(classes: dict[str, Any], roi: str, kind: str) -> dict[str, Any]:
    import numpy as np

    from braindistill.statistics import across_subjects  # a one-sample t interval, whatever the replicates are

    values = [_mean_of(entry, roi, kind) for entry in classes.values()]
    values = [value for value in values if np.isfinite(value)]
    if not values:
        return {}
    interval = across_subjects(values)
    return {"mean": interval.estimate, "ci_low": interval.low, "ci_high": interval.high, "per_seed": values}


def _mean_of(entry: dict[str, Any], roi: str, kind: str) -> float:
    mean = value_of((entry.get(roi) or {}).get(kind)).get("mean")
    return float("nan") if mean is None else float(mean)


def _ranks(matrix: Any) -> Any:
    """Ranks of the pairs, from 0 to 1, equal ones alike; 0 on the diagonal."""
    import numpy as np
    from scipy.stats import rankdata

    above = np.triu_indices(len(matrix), 1)
    ranks = np.zeros(matrix.shape)
    ranks[above] = rankdata(matrix[above]) / max(1, len(above[0]))
    return ranks + ranks.T

"""explain (part of the verb eval): which part of the brain spoke, and where the students look.

Whatever can't be had is skipped with the reason. Every figure is ``{"mean", "ci_low", "ci_high", "per_seed"}`` like the rest
of the results, but of a single teacher and a single student an arm (those of the first seed): ``per_seed`` holds the mean of
each *fold* of the teacher (contributions, decoder_cam), or of each of ten *groups of images* (mask_overlap), and the interval
is a t interval over these. It says how sure one can be of this teacher, not of another draw.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.images import ImageSet, Split
from braindistill.runtime import Runtime
from braindistill.statistics import across_subjects
from braindistill.students import load
from braindistill.students.saliency import choose_evenly, compare_maps, trace_student
from braindistill.targets import Masks, export_mask
from braindistill.teachers import load_teacher
from braindistill.teachers.contributions import Cover, HeldOut, contribute, disjoint_cover, held_out
from braindistill.teachers.controls import control_responses
from braindistill.teachers.decoder_cam import trace_decoder
from braindistill.teachers.linear_decoder import LinearDecoder
from braindistill.teachers.options import VoxelOptions
from braindistill.teachers.shapley import EXACT

#: images shown side by side, and test images over which attention is compared with the brain's
SHOWN, COMPARED = 12, 200
#: groups of images that an interval is taken over
_GROUPS = 10
#: responses that are explained at most; and passes of a response through a network, which Shapley values ask for
_RESPONSES, _PASSES = 4096, 2**15
_PERMUTATIONS = 128
#: places on the axis of a residual network for each ROI
_PLACES = 4


def run(config: dict[str, Any], inputs: dict[str, Path], out: Path, runtime: Runtime) -> None:
    """Write ``explain.json`` and, where there are students, ``saliency.npz``.

    Parameters
    ----------
    config : ``teacher``, the brain arm's options: read for its voxels where folds are by run
    inputs : ``images``, ``student/ARM`` for each arm to be shown, in that order; ``responses`` and ``teacher`` of the brain
        arm, ``masks`` (a mask target) to take in the place of masks made from its encoder: all of these may be absent
    """
    image_set = ImageSet.load(inputs["images"])
    teacher = load_teacher(inputs["teacher"]) if "teacher" in inputs else None
    students = {name.removeprefix("student/"): folder for name, folder in inputs.items() if name.startswith("student/")}
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "contributions": lambda: _contributions(config, inputs, teacher, image_set, runtime.device),
        "decoder_cam": lambda: _decoder_cam(config, inputs, teacher, image_set, runtime.device),
        "saliency": lambda: _saliency(students, image_set, out, runtime.device),
        "mask_overlap": lambda: _mask_overlap(inputs, students, teacher, image_set, runtime.device),
    }
    found: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    for part, make in parts.items():
        try:
            found |= make()
        except UserError as error:
            skipped[part] = str(error)
    (out / "explain.json").write_text(json.dumps(found | {"skipped": skipped}, indent=1, allow_nan=False))


def _contributions(
    config: dict[str, Any], inputs: dict[str, Path], teacher: Any, image_set: ImageSet, device: str
) -> dict[str, Any]:
    """Of each ROI to each class, in nats of its centred logit; ``shares`` over all classes; and how they were found."""
    held, cover = _explained(config, inputs, teacher, image_set)
    n = _affordable(teacher, len(cover.parts))
    every, held = len(held.rows), held.take(choose_evenly(held.fold * len(teacher.classes) + held.classes, n))
    found = contribute(teacher, held, cover, device, _PERMUTATIONS)
    kinds = {"gradient_input": found.gradient_input, "shapley": found.shapley}
    by_class: dict[str, Any] = {}
    for number in np.unique(held.classes).tolist():
        rows = held.classes == number
        by_class[teacher.classes[number]] = {
            roi: {kind: _over(held.fold[rows], values[rows, at]) for kind, values in kinds.items()}
            for at, roi in enumerate(found.names)
        }
    shares = {}
    for at, roi in enumerate(found.names):
        shares[roi] = {kind: _share(held.fold, values, at) for kind, values in kinds.items()}
    about = {
        "unit": "nats of the class's centred logit, against the mean training response",
        "responses": len(held.rows),
        "of": every,
        "folds": len(np.unique(held.fold)),
        "n_voxels": {roi: len(index) for roi, index in cover.parts.items()},
        "left_out": cover.left_out,
        "exact": len(cover.parts) <= EXACT,
        "sampling_error": float(found.error.max()),
    }
    return {"contributions": by_class, "contribution_shares": shares, "contributions_of": about}


def _decoder_cam(
    config: dict[str, Any], inputs: dict[str, Path], teacher: Any, image_set: ImageSet, device: str
) -> dict[str, Any]:
    """Share of the decoder's map that lies in each ROI, the largest first; ``uniform``: the ROI's share of the voxels."""
    held, cover = _explained(config, inputs, teacher, image_set)
    held = held.take(choose_evenly(held.fold * len(teacher.classes) + held.classes, _RESPONSES))
    maps = trace_decoder(teacher, held, _PLACES * len(cover.parts), device)
    told = np.isfinite(maps[:, 0])
    if not told.any():
        raise UserError("the decoder's map is empty: nothing along the voxels speaks for any response's own class")
    found = {
        roi: _over(held.fold[told], maps[told][:, index].sum(1)) | {"uniform": len(index) / maps.shape[1]}
        for roi, index in cover.parts.items()
    }
    return {"decoder_cam": dict(sorted(found.items(), key=lambda item: -item[1]["mean"]))}


def _saliency(students: dict[str, Path], image_set: ImageSet, out: Path, device: str) -> dict[str, Any]:
    """Maps of a few test images, evenly over classes and the first ones of each, for every student that has a map."""
    if not students:
        raise UserError("no student is at hand")
    rows = choose_evenly(image_set.test_labels, SHOWN)
    images, labels = np.asarray(image_set.test_images[rows]), image_set.test_labels[rows]
    maps, without = _attention(students, images, labels, device)
    np.savez(
        out / "saliency.npz",
        images=images,
        labels=labels,
        arms=np.array(list(maps), str),
        maps=np.stack(list(maps.values())).astype(np.float16),
    )
    return {"saliency": {"images": len(rows), "file": "saliency.npz", "without": without}}


def _mask_overlap(
    inputs: dict[str, Path], students: dict[str, Path], teacher: Any, image_set: ImageSet, device: str
) -> dict[str, Any]:
    """Share of each student's attention in the top quarter of the brain's map, beside what maps of other images give."""
    if not students:
        raise UserError("no student is at hand")
    images, labels, masks = _masks(inputs, teacher, image_set, device)
    maps, _ = _attention(students, images, labels, device)
    # each class is dealt to the groups in turn
    order = np.argsort(labels, kind="stable")
    group = np.empty(len(order), int)
    group[order] = np.arange(len(order)) % _GROUPS
    found = {}
    for arm, attention in maps.items():
        compared = compare_maps(attention, masks)
        told = np.isfinite(np.stack(compared)).all(0)
        if told.any():
            share, permuted, rank, permuted_rank = (_over(group[told], values[told]) for values in compared)
            found[arm] = share | {"permuted": permuted, "rank": rank, "permuted_rank": permuted_rank}
            found[arm]["excess"] = _over(group[told], (compared.share - compared.permuted_share)[told])
    if not found:
        raise UserError("maps of the brain or of all students are flat, so there is nothing to compare")
    return {"mask_overlap": found, "mask_overlap_of": {"images": len(images)}}


def _explained(
    config: dict[str, Any], inputs: dict[str, Path], teacher: Any, image_set: ImageSet
) -> tuple[HeldOut, Cover]:
    """Held-out responses of the teacher, and its ROIs."""
    if teacher is None:
        raise UserError("no brain arm was run, whose teacher could be explained")
    responses = Responses.load(inputs["responses"]) if "responses" in inputs else None
    trials = None
    if responses is not None and (getattr(teacher, "held", np.zeros(0)) < 0).any():
        chosen = {key: value for key, value in config.get("teacher", {}).items() if key in ("roi", "nuisance")}
        trials = control_responses(responses, VoxelOptions(**chosen), 0)
    held = held_out(teacher, _labels(teacher.classes, responses, image_set), trials)
    cover = disjoint_cover({name: index for name, index in teacher.rois.items() if len(index)}, held.responses.shape[1])
    if not any(name in teacher.rois for name in cover.parts):
        raise UserError("the teacher's voxels lie in no ROI, so there are no parts of the brain to compare")
    return held, cover


def _labels(classes: list[str], responses: Responses | None, image_set: ImageSet) -> dict[str, int]:
    """Class of each stimulus that has a label anywhere: nothing is fitted here, so that every label may be used."""
    place = {name: number for number, name in enumerate(classes)}
    labelled = image_set.train_labels >= 0
    names = np.array(image_set.classes, str)[image_set.train_labels[labelled]]
    pairs = dict(zip(image_set.train_ids[labelled].tolist(), names.tolist(), strict=True))
    if responses is not None and responses.label is not None:
        pairs |= dict(zip(responses.stimulus_id.tolist(), responses.label.tolist(), strict=True))
    return {stimulus: place[name] for stimulus, name in pairs.items() if name in place}


def _affordable(teacher: Any, n_rois: int) -> int:
    """How many responses are explained: networks are asked about each of them for every set of ROIs."""
    if all(isinstance(decoder, LinearDecoder) for member in teacher.members for decoder in member.decoders):
        return _RESPONSES
    sets = 2**n_rois if n_rois <= EXACT else (n_rois + 1) * _PERMUTATIONS
    return max(len(teacher.classes), min(_RESPONSES, _PASSES // sets))


def _attention(
    students: dict[str, Path], images: np.ndarray, labels: np.ndarray, device: str
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Maps of each student, and why others have none."""
    maps: dict[str, np.ndarray] = {}
    without: dict[str, str] = {}
    for arm, folder in students.items():
        try:
            maps[arm] = trace_student(load(folder), images, labels, device)
        except UserError as error:
            without[arm] = str(error)
    if not maps:
        raise UserError(next(iter(without.values())))
    return maps, without


def _masks(
    inputs: dict[str, Path], teacher: Any, image_set: ImageSet, device: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, their labels and the brain's maps of them: a mask target's, or test images' by the teacher's encoder."""
    height, width = image_set.image_shape[1:]
    if "masks" in inputs:
        target = Masks.load(inputs["masks"])
        known = np.isin(image_set.train_ids, target.image_id) & (image_set.train_labels >= 0)
        rows = np.flatnonzero(known)
        rows = rows[choose_evenly(image_set.train_labels[rows], COMPARED)]
        if not len(rows):
            raise UserError("none of the masks is of a labelled training image, whose class could be explained")
        masks, _ = target.rows_for(image_set.train_ids[rows], (height, width))
        return np.asarray(image_set.train_images[rows]), image_set.train_labels[rows], masks
    if teacher is None:
        raise UserError("no brain arm was run, whose encoder could say where it looks")
    if not getattr(teacher, "encoders", None):
        raise UserError(f"teacher={teacher.name} has no encoder, which could say where in a picture its voxels look")
    rows = choose_evenly(image_set.test_labels, COMPARED)
    images, labels, names = (
        np.asarray(image_set.test_images[rows]),
        image_set.test_labels[rows],
        image_set.test_ids[rows],
    )
    # in the role of training images, which is what masks are made for
    stand_in = ImageSet(images, names, labels, images[:0], names[:0], labels[:0], image_set.classes)
    none = np.zeros(0, np.int64)
    masks = export_mask(inputs["teacher"], stand_in, Split(np.arange(len(rows)), none, none), device, images="labelled")
    return images, labels, masks.rows_for(names, (height, width))[0]


def _share(fold: np.ndarray, values: np.ndarray, at: int) -> dict[str, Any]:
    """A part's share of the sum over all parts (n × parts), from the totals of each fold."""
    totals = [(values[fold == k, at].sum(), values[fold == k].sum()) for k in np.unique(fold)]
    return _value([part / whole for part, whole in totals if whole > 0])


def _over(group: np.ndarray, values: np.ndarray) -> dict[str, Any]:
    return _value([values[group == number].mean() for number in np.unique(group)])


def _value(each: list[float]) -> dict[str, Any]:
    """Mean and t interval over folds, or over groups of images."""
    if not each:
        return {"mean": None, "ci_low": None, "ci_high": None, "per_seed": []}
    found = across_subjects(each)
    return {
        "mean": found.estimate,
        "ci_low": found.low,
        "ci_high": found.high,
        "per_seed": [float(one) for one in each],
    }

"""What stands behind an arm: its teacher's diagnostics, the labels it has seen, and the marks that a reader must see."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from braindistill.images import ImageSet, Split

#: teachers that are in sample on the labelled images because ordinary KD is
_NETWORKS = ("cnn", "self")


def describe_arm(
    described: Mapping[str, Any],
    targets: Sequence[Path],
    teacher: Path | None,
    image_set: ImageSet,
    split: Split,
) -> dict[str, Any]:
    """``labels`` that the arm has seen, ``marks`` and ``teacher`` (None without a target), as the results hold them.

    Parameters
    ----------
    described : the arm's options, as `pipeline` keeps them
    targets : artifacts, one a seed, or none
    teacher : artifact of the first seed, if there is one
    """
    part, marks, extra = _teacher_part(described, targets, teacher, image_set, split)
    overlap = described["student"].get("overlap") or "not declared"
    if described["student"].get("init") == "pretrained":
        marks.append(f"the student started from pretrained weights; overlap with the test classes: {overlap}")
    if described["train"]["select"] == "test":
        marks.append("UNSOUND: epoch chosen on the test images (train.select=test)")
    if described["images"]["allow_overlap"]:
        marks.append("stimuli among the test images were allowed (images.allow_overlap=true)")
    return {"labels": len(split.labelled) + len(split.val) + extra, "marks": marks, "teacher": part}


def read_encoder_r(teacher: Path | None) -> list[float] | None:
    """Out-of-fold r of every voxel; None where the teacher has no encoder."""
    if teacher is None or not (teacher / "voxel_scores.npz").exists():
        return None
    with np.load(teacher / "voxel_scores.npz", allow_pickle=False) as stored:
        return stored["r"].astype(float).tolist()


def mean_of(values: Sequence[float | None]) -> float | None:
    """The mean of the known ones."""
    known = [float(value) for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _teacher_part(
    described: Mapping[str, Any], targets: Sequence[Path], folder: Path | None, image_set: ImageSet, split: Split
) -> tuple[dict[str, Any] | None, list[str], int]:
    """What stood behind an arm's targets: diagnostics, marks for the table, and labels beyond the student's."""
    if not targets:
        return None, [], 0
    records = [json.loads((target / "target.json").read_text()) for target in targets]
    teacher, extra = described["teacher"], 0
    scores = {} if folder is None else json.loads((folder / "scores.json").read_text())
    marks = []
    in_sample = records[0]["sources"].get("in_sample", 0)
    if in_sample:
        usual = ", as ordinary KD has it" if teacher.get("name") in _NETWORKS else ""
        marks.append(f"in-sample targets on {in_sample} labelled images{usual}")
    if teacher.get("pretrained"):
        marks.append("read by a pretrained network (teacher.weights): its images and labels are behind the targets")
    if teacher.get("original_protocol"):
        marks.append("UNSOUND: the protocol of 2021 (in-sample soft labels, softmax twice at 0.1)")
    if teacher.get("disjoint") is False:
        marks.append("encoder and decoder share stimuli (teacher.disjoint=false): labels leak around the brain")
    if teacher.get("labels") == "all":
        record = json.loads((folder / "teacher.json").read_text()) if folder else {}
        known = set(image_set.train_ids[split.labelled].tolist())
        extra = len(set(record.get("labelled", [])) - known)
    part = {
        "accuracy_pool": mean_of([record.get("accuracy_pool") for record in records]),
        "accuracy_labelled": mean_of([record.get("accuracy_labelled") for record in records]),
        "entropy": mean_of([record.get("entropy") for record in records]),
        "temperature": mean_of([(record.get("temperature") or {}).get("measured") for record in records]),
        "scores": scores,
    }
    return part, marks, extra

"""measure (part of the verb eval): what a student's predictions don't tell: robustness, attacks, and its brain score."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from braindistill.fmri.responses import Responses
from braindistill.images import ImageSet, open_images
from braindistill.runtime import Runtime
from braindistill.students import load
from braindistill.verdict import Unmeasurable, measure_attacks, measure_brain, measure_corruptions


def run(config: dict[str, Any], inputs: dict[str, Path], out: Path, runtime: Runtime) -> None:
    """Write ``measures.json``: ``robustness``, ``brain_score``, ``skipped`` (measure → reason) and ``notes``.

    With ``brain_score`` comes ``rdms.npz``, of `make_rdms`.
    """
    run_together([config], [inputs], [out], runtime)


def run_together(
    configs: Sequence[dict[str, Any]],
    inputs: Sequence[dict[str, Path]],
    outs: Sequence[Path | None],
    runtime: Runtime,
) -> None:
    """`run` for several students of one arm: images are corrupted once for all. Where ``outs`` is None nothing is done."""
    wanted = [(configs[k], inputs[k], out) for k, out in enumerate(outs) if out is not None]
    options, asked = configs[0]["eval"], configs[0]["eval"]["measures"]
    image_set = ImageSet.load(inputs[0]["images"])
    students = [load(own["student"]) for _, own, _ in wanted]
    found: list[dict[str, Any]] = [{"robustness": {}, "skipped": {}, "notes": []} for _ in wanted]
    if "robustness" in asked:
        corrupted = measure_corruptions(students, image_set, options.get("corruptions"), runtime.device)
        for made, scores in zip(found, corrupted, strict=True):
            made["robustness"] |= scores
    for (config, own, out), student, made in zip(wanted, students, found, strict=True):
        if "attacks" in asked:
            made["robustness"] |= measure_attacks(student, image_set, options["epsilons"], runtime.device)
        if "brain_score" in asked:
            _add_brain_score(made, config, own, student, out, runtime.device)
        (out / "measures.json").write_text(json.dumps(made, indent=1, allow_nan=False))


def _add_brain_score(
    made: dict[str, Any], config: dict[str, Any], inputs: dict[str, Path], student: Any, out: Path, device: str
) -> None:
    if "responses" not in inputs:
        made["skipped"]["brain_score"] = "there are no fMRI responses"
        return
    image_set = ImageSet.load(inputs["images"])
    trained_on = image_set.train_ids.tolist()
    if "images" in config:  # the roles: not all of them were taken
        _, split = open_images(inputs["images"], config["images"], config["seed"])
        trained_on = image_set.train_ids[np.concatenate([split.labelled, split.pool])].tolist()
    responses = Responses.load(inputs["responses"])
    try:
        scores, note, rdms = measure_brain(student, responses, trained_on, config.get("seed", 0), device)
    except Unmeasurable as error:
        made["skipped"]["brain_score"] = str(error)
        return
    made["brain_score"] = scores
    np.savez(out / "rdms.npz", **rdms)  # type: ignore[arg-type]
    made["notes"] += [note] if note else []

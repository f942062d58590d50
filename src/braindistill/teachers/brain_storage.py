"""A brain teacher on disk: ``teacher.json``, ``teacher.safetensors``, and larger arrays as memory maps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from braindistill.teachers.brain_teacher import BrainTeacher, Member
from braindistill.teachers.chosen_voxels import ChosenVoxels
from braindistill.teachers.decoder import load_decoder
from braindistill.teachers.encoder import load_ridge
from braindistill.teachers.features import ImageFeatures


def save_brain(teacher: BrainTeacher, folder: Path) -> None:
    """Write ``teacher.json``, ``teacher.safetensors``, ``scores.json``, ``averaged.npy`` and what else there is."""
    from safetensors.numpy import save_file

    arrays: dict[str, np.ndarray] = {"held": teacher.held, "spoken": teacher.spoken, "in_sample": teacher.in_sample}
    models = {f"encoder/{k}": model for k, model in enumerate(teacher.encoders)}
    for m, member in enumerate(teacher.members):
        arrays |= {f"member/{m}/columns": member.columns, f"member/{m}/measured": member.measured}
        models |= {f"decoder/{m}/{k}": model for k, model in enumerate(member.decoders)}
    for name, model in models.items():
        arrays |= {f"{name}/{part}": value for part, value in model.arrays().items()}
    save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, folder / "teacher.safetensors")
    np.save(folder / "averaged.npy", teacher.averaged, allow_pickle=False)
    if teacher.support is not None:
        np.save(folder / "support.npy", teacher.support, allow_pickle=False)
    if teacher.voxel_scores:
        np.savez(folder / "voxel_scores.npz", **teacher.voxel_scores)  # type: ignore[arg-type]
    record = {
        "kind": "brain",
        "name": teacher.name,
        "classes": teacher.classes,
        "reader": teacher.reader.describe() if teacher.reader else None,
        "models": {name: model.describe() for name, model in models.items()},
        "members": [member.roi for member in teacher.members],
        "temperature": teacher.temperature,
        "stimulus_id": teacher.stimulus_id.tolist(),
        "roles": ["".join(row) for row in teacher.roles],
        "rois": {name: index.tolist() for name, index in teacher.rois.items()},
        "labelled": teacher.labelled,
        "original_protocol": teacher.original_protocol,
        "before": teacher.before,
    }
    (folder / "teacher.json").write_text(json.dumps(record))
    (folder / "scores.json").write_text(json.dumps(teacher.scores, indent=1))


def load_brain(folder: Path, record: dict[str, Any]) -> BrainTeacher:
    """Read back what `save_brain` wrote; ``record`` is its ``teacher.json``."""
    from safetensors.numpy import load_file

    arrays = load_file(folder / "teacher.safetensors")
    support = _mapped(folder / "support.npy")
    described = record["reader"]

    def models(prefix: str) -> list[Any]:
        found = {name: text for name, text in record["models"].items() if name.startswith(prefix)}
        return [_load_model(name, text, arrays, support) for name, text in found.items()]

    members = [
        Member(roi, arrays[f"member/{m}/columns"], models(f"decoder/{m}/"), arrays[f"member/{m}/measured"])
        for m, roi in enumerate(record["members"])
    ]
    scores = folder / "voxel_scores.npz"
    voxel_scores = {}
    if scores.exists():
        with np.load(scores, allow_pickle=False) as stored:
            voxel_scores = {name: stored[name] for name in stored.files}
    return BrainTeacher(
        record["name"],
        record["classes"],
        ImageFeatures(**{**described, "shape": tuple(described["shape"])}) if described else None,
        np.array(record["stimulus_id"], str),
        np.load(folder / "averaged.npy", mmap_mode="r", allow_pickle=False),
        models("encoder/"),
        members,
        arrays["held"],
        np.array([list(row) for row in record["roles"]]),
        arrays["spoken"],
        arrays["in_sample"],
        {name: np.array(index) for name, index in record["rois"].items()},
        support,
        json.loads((folder / "scores.json").read_text()),
        voxel_scores,
        record["temperature"],
        record["labelled"],
        record["original_protocol"],
        {name: (held, roles) for name, (held, roles) in record["before"].items()},
    )


def _load_model(name: str, description: dict[str, Any], arrays: dict[str, np.ndarray], support: Any) -> Any:
    own = {key.removeprefix(f"{name}/"): value for key, value in arrays.items() if key.startswith(f"{name}/")}
    if "chosen" in own:
        return ChosenVoxels(own.pop("chosen"), load_decoder(description, own))
    if name.startswith("decoder/"):
        return load_decoder(description, own)
    if description["kind"] == "ridge":
        return load_ridge(own, support)
    from braindistill.teachers.finetune import load_finetuned

    return load_finetuned(description, own)


def _mapped(path: Path) -> np.ndarray | None:
    return np.load(path, mmap_mode="r", allow_pickle=False) if path.exists() else None

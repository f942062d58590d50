"""The arms of an evaluation: those that the data can have, those of its ROIs, and those of other label budgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from braindistill.cache import Cache
from braindistill.cache.step import Step
from braindistill.errors import UserError, nearest
from braindistill.images.assembly import SPLIT
from braindistill.planning.arms import Arm, described_by, needs_teacher, uses_target
from braindistill.planning.evaluation import makes_claim
from braindistill.words import key_of, override

#: makes an arm of a name, its own overrides, and further words for the command line
Maker = Callable[[str, list[str], list[str]], Arm]


@dataclass(frozen=True)
class Data:
    """What was prepared, as far as arms depend on it: masks of ROIs, number of the student's classes, its pictures' folder."""

    rois: dict[str, np.ndarray]
    n_classes: int
    images: Path


def what_data_have(cache: Cache, images: Step, responses: Step) -> Data | None:
    """None where they aren't prepared yet, as before a dry run."""
    folders = cache.lookup(images), cache.lookup(responses)
    if folders[0] is None or folders[1] is None:
        return None
    from braindistill.fmri.responses import Responses
    from braindistill.images import ImageSet

    return Data(Responses.load(folders[1]).rois, len(ImageSet.load(folders[0]).classes), folders[0])


def why_not(arm: Arm, arms: list[Arm], seed: int, data: Data | None) -> str | None:
    """The reason why the data or the experiment can't have an arm, or None."""
    config = described_by(arm.config(seed))
    teacher = config["teacher"]
    taught = uses_target(config) and needs_teacher(config)
    control = config["target"].get("control") if uses_target(config) else None
    if config["images"]["labels_matched"]:
        decoders = [other.config(seed)["teacher"] for other in arms if uses_target(other.config(seed))]
        if not any(decoder.get("labels") == "all" for decoder in decoders):
            return "decoder and students have the same labels (teacher.labels=student), so the budget is equal as it is"
    if taught and teacher.get("control") == "nuisance" and data and teacher["nuisance"] not in data.rois:
        return f"the data have no mask '{teacher['nuisance']}' of voxels outside visual cortex"
    if taught and teacher.get("control") == "random_readout" and teacher["name"] == "decoder":
        return "it reads out the features of an encoder, and teacher=decoder has none"
    if control in ("random_matched", "shuffled_within"):
        if config["images"]["n_pool"] and config["target"]["images"] != "labelled":
            return "targets are on an unlabelled pool, where it would use labels that no other arm has"
        if control == "random_matched" and data and data.n_classes == 2:
            return "with two classes there is only one other class, and nothing to permute"
    return None


@dataclass(frozen=True)
class RoiArms:
    """What ``eval.rois`` adds: arms, those that can't be run with the reason, and what the results say of them."""

    arms: list[Arm]
    not_run: dict[str, str]
    context: dict[str, Any]


def roi_arms(arms: list[Arm], config: Mapping[str, Any], seed: int, data: Data | None, make: Maker) -> RoiArms:
    """For the first brain arm, ``brain``: ``brain@V1`` of each ROI alone, and ``brain@-V1`` of what the brain arm reads
    but the ROI.

    A ROI alone differs from the brain arm in ``teacher.roi`` only and, with ``eval.match_voxels``, in
    ``teacher.top_voxels``, which is then the number of voxels of the smallest ROI.

    Raises
    ------
    UserError
        No brain arm; a ROI that the data lack; ``each`` or ``match_voxels`` before the data were prepared.
    """
    asked = config["eval"]
    if not asked["rois"]:
        return RoiArms([], {}, {})
    brain = next((arm for arm in arms if makes_claim(arm, seed)), None)
    if brain is None:
        raise UserError("eval.rois: none of the arms has a brain for its teacher; add eval.arms=[…,brain]")
    taught = described_by(brain.config(seed))
    nuisance = taught["teacher"]["nuisance"]
    names = _roi_names(asked["rois"], nuisance, data)
    sizes = {name: int(data.rois[name].sum()) for name in names} if data else {}
    matched = (
        [override("teacher.top_voxels", _smallest(sizes, taught["target"]["name"]))] if asked["match_voxels"] else []
    )
    single = {name: f"{brain.name}@{name}" for name in names}
    without = {name: f"{brain.name}@-{name}" for name in names}
    read = [taught["teacher"]["roi"]] if isinstance(taught["teacher"]["roi"], str) else list(taught["teacher"]["roi"])
    not_run = {without[name]: why for name in names if (why := _why_not_without(name, read, nuisance, data))}
    made = []
    for arms_of, roi_of, more in ((single, lambda name: name, matched), (without, lambda name: _less(read, name), [])):
        for name, arm_name in arms_of.items():
            if arm_name in {arm.name for arm in arms}:
                raise UserError(
                    f"eval.arms: eval.rois adds an arm {arm_name} itself; take it out, or name it otherwise"
                )
            if arm_name in not_run:
                continue
            words = [override("teacher.roi", roi_of(name)), *more]
            kept = [word for word in brain.own if key_of(word) not in {key_of(new) for new in words}]
            arm = replace(make(arm_name, [*kept, *words], []), exploratory=True)
            if described_by(arm.config(seed))["teacher"]["roi"] != roi_of(name):
                raise UserError(
                    f"eval.rois: the terms of arm {brain.name} set teacher.roi themselves; leave it to the arm"
                )
            made.append(arm)
    return RoiArms(made, not_run, {"of": brain.name, "single": single, "without": without, "n_voxels": sizes})


def label_budgets(config: Mapping[str, Any], seed: int, data: Data | None) -> dict[int, list[str]]:
    """Number of labels of ``eval.n_train`` → the words that give every arm so many.

    The pool stays as large as the experiment has it where so many images are left, and gets smaller otherwise; a batch is
    no larger than an epoch.

    Raises
    ------
    UserError
        There are fewer labelled images.
    """
    found: dict[int, list[str]] = {}
    for number in sorted(config["eval"]["n_train"]):
        pool = config["images"]["n_pool"] if data is None else _pool_left(config, seed, data, number)
        found[number] = [override("images.n_train", number), override("images.n_pool", pool)]
        if number + pool < config["train"]["batch_size"]:
            found[number].append(override("train.batch_size", number + pool))
    return found


def curve_arms(arms: list[Arm], budgets: Mapping[int, list[str]], make: Maker) -> dict[int, list[Arm]]:
    """Number of labels → every arm at that number, but for those whose own overrides set ``images.n_train``."""
    free = [arm for arm in arms if "images.n_train" not in {key_of(word) for word in arm.own}]
    return {
        number: [replace(make(arm.name, arm.own, words), exploratory=arm.exploratory) for arm in free]
        for number, words in budgets.items()
    }


def _roi_names(asked: list[str], nuisance: str, data: Data | None) -> list[str]:
    if "each" in asked and data is None:
        raise UserError(
            "eval.rois=[each]: the names of ROIs are known after `braindistill prepare`; run it first, or name them"
        )
    names = [name for word in asked for name in _each(word, nuisance, data)]
    if not names:
        raise UserError("eval.rois=[each]: the data have no ROIs")
    if len(set(names)) != len(names):
        raise UserError(f"eval.rois={asked}: name each ROI once")
    for name in names:
        if data and name not in data.rois:
            raise UserError(f"eval.rois: ROI '{name}' is not in this data set; {nearest(name, [*data.rois, 'each'])}")
    return names


def _each(word: str, nuisance: str, data: Data | None) -> list[str]:
    if word != "each" or data is None or "each" in data.rois:
        return [word]
    return [name for name in data.rois if name != nuisance]


def _smallest(sizes: Mapping[str, int], target: str) -> int:
    if target != "soft_labels":
        raise UserError(
            f"eval.match_voxels=true limits the voxels that a decoder reads (teacher.top_voxels), and target={target} "
            "asks none"
        )
    if not sizes:
        raise UserError(
            "eval.match_voxels=true: how large ROIs are is known after `braindistill prepare`; run it first"
        )
    return min(sizes.values())


def _less(read: list[str], name: str) -> str | list[str]:
    """What the brain arm reads, as ``teacher.roi``, without a ROI."""
    return f"-{name}" if read == ["all"] else [*read, f"-{name}"]


def _why_not_without(name: str, read: list[str], nuisance: str, data: Data | None) -> str | None:
    if read == ["each"]:
        return (
            "the brain arm's teacher is one for each ROI (teacher.roi=each); the arms of single ROIs show what they say"
        )
    if read == ["all"] and name == nuisance:
        return f"'{name}' is not among the voxels of the others as it is"
    if data is None:
        return None
    from braindistill.fmri.responses import mask_of

    whole, rest = (mask_of(roi, data.rois, len(data.rois[name]), nuisance) for roi in (read, _less(read, name)))
    if (whole == rest).all():
        return f"the brain arm doesn't read '{name}' (teacher.roi={','.join(read)})"
    return None if rest.any() else f"no voxel is left without '{name}'"


def _pool_left(config: Mapping[str, Any], seed: int, data: Data, number: int) -> int:
    """The pool that ``number`` labelled images leave, as large as the experiment's at most."""
    from braindistill.images import open_images

    roles = {key: config["images"][key] for key in SPLIT}
    try:
        image_set, split = open_images(data.images, roles | {"n_train": number, "n_pool": 0}, seed)
    except UserError as error:
        raise UserError(f"eval.n_train={number}: {error}") from error
    return min(roles["n_pool"], len(image_set.train_images) - len(split.labelled) - len(split.val))

"""Which stage needs which artifact: the graph of steps behind a verb. The only place that knows the order."""

from __future__ import annotations

import copy
import json
import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from braindistill import config as schema
from braindistill import fmri
from braindistill.cache import Cache
from braindistill.cache.fingerprint import fingerprint
from braindistill.cache.provenance import code_digest
from braindistill.cache.step import Step
from braindistill.errors import UserError
from braindistill.images.assembly import SPLIT
from braindistill.methods.signatures import takes
from braindistill.planning.arms import is_combined, needs_teacher, terms_of
from braindistill.plugins import source
from braindistill.runtime import progress
from braindistill.training.options import AUGMENTATION

#: meaning of each stage's output: raise the number by hand when it changes, and old artifacts are no longer used
VERSIONS = {
    "prepare": 2,
    "images": 1,
    "features": 1,
    "train-teacher": 2,
    "export": 2,
    "distill": 1,
    "predict": 2,
    "measure": 2,
    "explain": 1,
    "eval": 4,
}
#: the verb that a person types to get a stage's artifact
VERBS = {"images": "prepare", "features": "train-teacher", "predict": "eval", "measure": "eval", "explain": "eval"}
#: measures that look at the student itself and not at its predictions only
MEASURED = ("robustness", "attacks", "brain_score")
#: what a teacher that is continued is known by
_TEACHER_FILES = ["teacher.json", "*.safetensors", "*.npy"]


class Planner:
    """Makes the steps that a checked config stands for; a fingerprint is taken once.

    ``flags`` (``--config-dir DIR``) end the command lines that are recorded.
    """

    def __init__(self, cache: Cache, flags: list[str]) -> None:
        self.cache = cache
        self.flags = flags
        self._known: dict[str, Step] = {}

    def responses(self, config: Mapping[str, Any], words: list[str]) -> Step:
        return self.step("prepare", {"fmri": config["fmri"]}, {}, words, f"responses of {config['fmri']['name']}")

    def images(self, config: Mapping[str, Any], words: list[str]) -> Step:
        group = {key: value for key, value in config["images"].items() if key not in SPLIT}
        inputs = {"responses": self.responses(config, words)}
        return self.step("images", {"images": group}, inputs, words, f"images of {group['name']}")

    def features(self, config: Mapping[str, Any], words: list[str]) -> Step:
        """What is read from the stimuli: shared by every teacher that reads it so, whatever its ROIs."""
        read = {key: config["teacher"][key] for key in schema.fields("teachers", "FeatureOptions")}
        parts = {"teacher": {"name": "features", **read}, "train": {"threads": config["train"]["threads"]}}
        inputs = {"responses": self.responses(config, words)}
        return self.step("features", parts, inputs, words, f"{read['features']} of the stimuli")

    def teacher(self, config: Mapping[str, Any], words: list[str]) -> Step:
        teacher = dict(config["teacher"])
        needs = schema.parameters("teacher", teacher["name"])
        if teacher.get("init_from"):
            try:
                teacher["init_from"] = str(self._artifact(teacher["init_from"]))
            except UserError as error:
                raise UserError(f"teacher.init_from: {error}") from error
        parts: dict[str, Any] = {"teacher": teacher}
        inputs: dict[str, Step] = {}
        # test images that were shown in the scanner are kept out of what a teacher is fitted on
        shown = "responses" in needs and config["images"]["name"] == "stimuli"
        if "image_set" in needs or teacher.get("labels") == "student" or shown:
            parts |= {"images": _split_options(config), "seed": config["seed"]}
            inputs["images"] = self.images(config, words)
        if "student" in needs:
            parts["student"] = config["student"]
        if "training" in needs:
            parts["train"] = _training(config)
        elif "runtime" in needs:
            parts["train"] = {"threads": config["train"]["threads"]}
        if "responses" in needs:
            inputs["responses"] = self.responses(config, words)
        if "stimuli" in needs:
            inputs["features"] = self.features(config, words)
        if "brain" in needs:
            own = {key: teacher[key] for key in schema.options("teacher", teacher["reference"]) if key in teacher}
            brain = schema.check_group("teacher", {"name": teacher["reference"], **own}, False)
            inputs["brain"] = self.teacher({**config, "teacher": brain}, words)
        control = f", {teacher['control']}" if teacher.get("control") else ""
        title = f"{teacher['name']} teacher{control}, seed {teacher.get('seed', 0)}"
        return self.step("train-teacher", parts, inputs, words, title)

    def target(self, config: Mapping[str, Any], words: list[str]) -> Step:
        parts = {
            "target": config["target"],
            "images": _split_options(config),
            "seed": config["seed"],
            "train": {"threads": config["train"]["threads"]},
        }
        if config["target"].get("views"):  # the teacher sees what the student will see
            parts["train"] |= {key: config["train"][key] for key in AUGMENTATION}
        inputs = {"images": self.images(config, words)}
        origin = "a file"
        if needs_teacher(config):
            inputs["teacher"] = self.teacher(config, words)
            origin = inputs["teacher"].title
        return self.step("export", parts, inputs, words, f"{config['target']['name']} of {origin}")

    def student(
        self, config: Mapping[str, Any], words: list[str], stack: list[int] | None = None, label: str = ""
    ) -> Step:
        """A student; ``stack`` names the seeds that are trained at once, and ``label`` tells stacks of equal options apart."""
        parts = {key: config[key] for key in ("student", "method", "seed")} | {
            "train": _training(config),
            "images": _split_options(config),
        }
        inputs = {"images": self.images(config, words)}
        terms = terms_of(config)
        for name, term in terms.items():
            kinds, target = takes(term["method"]["name"]), term["target"]["name"]
            if {"file": "soft_labels"}.get(target, target) not in kinds:
                raise UserError(
                    f"method={term['method']['name']} learns from {' or '.join(kinds)}, and target={target} holds no such: "
                    f"take target={kinds[0]}"
                )
            inputs[f"target/{name}" if is_combined(config) else "target"] = self.target(term, words)
        if is_combined(config):
            parts["method"] = config["method"] | {
                "terms": {name: term["method"] for name, term in config["terms"].items()}
            }
        together = ""
        if stack and len(stack) > 1:
            parts["stack"] = stack
            together = json.dumps([label, parts | {"seed": None}], sort_keys=True)
        what = f"{config['student']['name']} by {config['method']['name']}, seed {config['seed']}"
        return self.step("distill", parts, inputs, words, what, together)

    def prediction(
        self, config: Mapping[str, Any], words: list[str], stack: list[int] | None = None, label: str = ""
    ) -> Step:
        inputs = {"images": self.images(config, words), "student": self.student(config, words, stack, label)}
        parts: dict[str, Any] = {"train": {"threads": config["train"]["threads"]}}
        if config["images"]["n_val"]:  # of those images, too, which the roles choose
            parts |= {"images": _split_options(config), "seed": config["seed"]}
        return self.step("predict", parts, inputs, words, f"predictions of {inputs['student'].title}")

    def measure(
        self, config: Mapping[str, Any], words: list[str], student: Step | None = None, label: str = ""
    ) -> Step:
        """What ``eval.measures`` asks of a student itself; those of one ``label`` and one make are measured together."""
        asked = config["eval"]
        wanted = [name for name in MEASURED if name in asked["measures"]]
        parts: dict[str, Any] = {
            "eval": {"measures": wanted, "corruptions": asked["corruptions"], "epsilons": asked["epsilons"]},
            "train": {"threads": config["train"]["threads"]},
        }
        inputs = {"images": self.images(config, words), "student": student or self.student(config, words)}
        if "brain_score" in wanted:  # on stimuli that the student was not trained on
            inputs["responses"] = self.responses(config, words)
            parts |= {"images": _split_options(config), "seed": config["seed"]}
        together = json.dumps(["measure", label, parts | {"seed": None}], sort_keys=True)
        words = [*words, f"eval.measures=[{','.join(wanted)}]"]
        title = f"{', '.join(wanted)} of {inputs['student'].title}"
        return self.step("measure", parts, inputs, words, title, together)

    def _artifact(self, key_or_folder: str) -> Path:
        folder = Path(key_or_folder)
        return folder if folder.is_dir() else self.cache.find(key_or_folder)

    def step(
        self,
        stage: str,
        parts: dict[str, Any],
        inputs: dict[str, Step],
        words: list[str],
        title: str,
        together: str = "",
    ) -> Step:
        identity = json.dumps([stage, parts, {name: step.key for name, step in inputs.items()}], sort_keys=True)
        if identity in self._known:
            return self._known[identity]
        parts = copy.deepcopy(parts)
        memo = self.cache.root / "fingerprints.json"
        files, paths = {}, {}
        for group, option in _files_of(parts):
            # what a file holds is keyed, not where it lies
            path = parts[group].pop(option)
            paths[f"{group}.{option}"] = os.path.abspath(path)
            try:
                only = _used_files(parts["fmri"]) if (group, option) == ("fmri", "root") else []
                only = _TEACHER_FILES if option == "init_from" else only
                files[f"{group}.{option}"] = fingerprint(Path(path), memo, lambda f: progress(f, "hashing"), only)
            except UserError as error:
                raise UserError(f"{group}.{option}: {error}") from error
        for module in _plugins_of(parts):
            files[f"plugin {module}"] = fingerprint(source(module), memo)
        code = code_digest(f"braindistill.stages.{stage.replace('-', '_')}")
        command = f"braindistill {VERBS.get(stage, stage)} {shlex.join([*words, *self.flags])}".rstrip()
        step = Step(stage, VERSIONS[stage], parts, inputs, files, code, command, title, paths, together)
        self._known[identity] = step
        return step


def step_for(
    verb: str, planner: Planner, config: Mapping[str, Any], words: list[str], under: Callable[[int], Mapping[str, Any]]
) -> list[Step]:
    """The artifacts that a verb (other than eval) is asked for; the last one is the one it prints.

    ``under`` gives the config under another seed: ``distill`` with ``train.parallel_seeds`` makes those of several.
    """
    if verb == "prepare":
        # somebody who only names fMRI data has no student's pictures to join them with yet
        named = any(word.lstrip("+").startswith(("images", "experiment")) for word in words)
        return [*([planner.images(config, words)] if named else []), planner.responses(config, words)]
    if verb == "train-teacher":
        return [planner.teacher(config, words)]
    if verb == "export":
        return [planner.target(config, words)]
    seeds = [config["seed"] + offset for offset in range(config["train"]["parallel_seeds"])]
    if len(seeds) == 1:
        return [planner.student(config, words)]
    return [planner.student(under(seed), [*words, f"seed={seed}"], seeds) for seed in seeds]


def _files_of(parts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(group, option) of the input files and folders that a step's options name."""
    members = {group: str(parts[group].get("name", group)) for group in schema.GROUPS if group in parts}
    return [
        (group, key)
        for group, name in members.items()
        if name != group or group in schema.SINGLE  # else these are only the images' roles
        for key, option in schema.options(group, name).items()
        if option.is_path and parts[group].get(key) is not None
    ]


def _used_files(options: Mapping[str, Any]) -> list[str]:
    """Patterns of the files below ``fmri.root`` that the reader uses, where it names them; none: all of them."""
    name_files = getattr(fmri, f"files_{options['name']}", None)
    if name_files is None:
        return []
    subjects = options["subject"] if isinstance(options["subject"], list) else [options["subject"]]
    return [pattern for subject in subjects for pattern in name_files(options, subject)]


def _training(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of one training: which others go on beside it is no part of them."""
    return {key: value for key, value in config["train"].items() if key != "parallel_seeds"}


def _split_options(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: config["images"][key] for key in SPLIT}


def _plugins_of(parts: Mapping[str, Any]) -> list[str]:
    """The users' modules behind the members that a step names: their source goes into its key, having no version."""
    members = [(group, parts[group].get("name", "")) for group in schema.GROUPS if group in parts]
    members.append(("student", parts.get("teacher", {}).get("network") or ""))
    return sorted({schema.plugged(group)[name] for group, name in members if name in schema.plugged(group)})

"""The plan: what makes another key and what doesn't, what is said about it, and what a stage reads of its config."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from braindistill import config as schema
from braindistill.cache import Cache
from braindistill.compose import checked, make_arms, prepare_words
from braindistill.execution import ensure
from braindistill.jobs import handed_over
from braindistill.pipeline import Planner
from braindistill.planning.evaluation import plan_evaluation
from braindistill.runtime import Runtime

STAGES = ["prepare", "images", "features", "train-teacher", "export", "distill"]


@pytest.fixture
def keys(run, tiny):
    """The keys that `distill` plans to build: stage → key, in the order of the plan."""

    def plan(*words: str, verb: str = "distill", base: list[str] = tiny) -> dict[str, str]:
        ran = run(verb, *base, "runtime.dry_run=true", *words, cache="cache")
        assert ran.code == 0, ran.err
        return dict(re.findall(r"^build  ([a-z-]+)/([0-9a-f]{12})  ", ran.out, re.M))

    return plan


def test_the_plan_of_a_student(keys):
    assert list(keys()) == STAGES
    assert list(keys("method=none")) == ["prepare", "images", "distill"]


@pytest.mark.parametrize(
    "words",
    [
        ["train.lr=1e-1", "method=kd", "train.weight_decay=0.0005"],
        ["runtime.workers=2", "runtime.device=cpu", "runtime.verbosity=0", "runtime.tensorboard=true"],
        ["images.classes=[0,1]", "images.classes=null"],
        ["eval.arms=[kd]", "eval.seeds=7"],
    ],
)
def test_another_spelling_is_the_same_key(words, keys):
    assert keys("train.lr=0.1", *words) == keys("train.lr=.10")


def test_another_order_is_the_same_key(keys, tiny):
    assert keys("images.classes=[0,1]") == keys("images.classes=['0','1']", base=tiny[::-1])


#: what is changed → the stages that are built again; above all: those above them are not
CHANGES = {
    "seed=1": ["train-teacher", "export", "distill"],
    "train.lr=0.2": ["distill"],
    "train.threads=2": ["features", "train-teacher", "export", "distill"],
    "teacher.features=gabor": ["features", "train-teacher", "export", "distill"],
    "teacher.roi=-nuisance": ["train-teacher", "export", "distill"],
    "teacher.control=random_readout": ["train-teacher", "export", "distill"],
    "target.control=shuffled_across": ["export", "distill"],
    "method.temperature=7": ["distill"],
    "method=label_smoothing": ["distill"],
    "student.width=5": ["distill"],
    "target.precision=float16": ["export", "distill"],
    "teacher.penalty=0.2": ["train-teacher", "export", "distill"],
    "teacher.seed=9": ["train-teacher", "export", "distill"],
    "teacher=decoder": ["train-teacher", "export", "distill"],
    "images.n_train=10": ["train-teacher", "export", "distill"],
    "images.n_test=10": ["images", "train-teacher", "export", "distill"],
    "images.allow_overlap=true": ["images", "train-teacher", "export", "distill"],
}


@pytest.mark.parametrize(("word", "again"), CHANGES.items(), ids=CHANGES)
def test_a_change_reaches_the_stages_that_it_concerns(word, again, keys):
    before, after = keys(), keys(word)
    assert [stage for stage in after if after[stage] != before[stage]] == again


def test_a_teacher_for_itself_does_not_depend_on_the_students_labels(keys):
    before, after = (
        keys("teacher.labels=all", word)["train-teacher"] for word in ("images.n_train=8", "images.n_train=10")
    )
    assert before == after


def test_a_changed_default_is_another_key(keys, tmp_path, monkeypatch):
    before = keys()
    shutil.copytree(schema.find_configs(), tmp_path / "configs")
    monkeypatch.setattr(schema, "find_configs", lambda: tmp_path / "configs")
    assert keys() == before, "where the YAML lies is no part of it"
    file = tmp_path / "configs" / "train" / "default.yaml"
    text = re.sub(r"^momentum: .*$", "momentum: 0.5", file.read_text(), flags=re.M)
    file.write_text(text)
    after = keys()
    assert [stage for stage in after if after[stage] != before[stage]] == ["distill"]


def test_an_edited_input_is_another_key_and_a_moved_one_is_not(keys, write, tmp_path):
    def plan(fmri: str, images: str) -> dict[str, str]:
        return keys("teacher.labels=student", base=["fmri=arrays", fmri, "images=arrays", images, "images.n_train=8"])

    before = plan(write("fmri"), write("images"))
    shutil.move(tmp_path / "fmri-data.npz", tmp_path / "moved.npz")
    assert plan("fmri.path=moved.npz", write("images")) == before
    after = plan(write("fmri", run=None), write("images"))
    assert not set(after.values()) & set(before.values()), "everything rests on the responses"
    after = plan(write("fmri"), write("images", classes=np.array(["circle", "square"])))
    assert [stage for stage in after if after[stage] != before[stage]] == ["images", *STAGES[3:]]


def test_a_miss_says_what_differs_and_a_hit_what_and_how_old(run, tiny, warm, tmp_path):
    shutil.copytree(warm, tmp_path / "cache")
    ran = run("distill", *tiny, "method.temperature=3", "train.epochs=1", cache="cache")
    assert ran.code == 0
    old = schema.options("method", "kd")["temperature"].default
    built = re.search(r"^build  distill/\w+ \(small_cnn by kd, seed 0\): (.*)$", ran.err, re.M)
    assert built
    assert built[1] == f"method.temperature {old:g} → 3, train.epochs 2 → 1"
    assert re.search(r"^reused export/\w+ \(soft_labels of brain teacher, seed 0, \d+ (s|min) old\)$", ran.err, re.M)
    assert ran.out.splitlines()[-1].startswith(str(tmp_path / "cache" / "distill"))
    ran = run("distill", *tiny, "method.temperature=3", "train.epochs=1", cache="cache")
    assert re.fullmatch(r"reused distill/\w+ \(small_cnn by kd, seed 0, \d+ s old\)\n", ran.err)


class Recorder(dict[str, Any]):
    """A config that notes which of its fields are read."""

    def __init__(self, content: dict[str, Any], read: set[str], above: str = "") -> None:
        self.read, self.above = read, above
        super().__init__(content)
        for key, value in content.items():
            if isinstance(value, dict):
                super().__setitem__(key, Recorder(value, read, f"{above}{key}."))

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key) if key in self.keys() else None
        if not isinstance(value, Recorder):
            self.read.add(self.above + key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.read.add(f"{self.above}{key}")
        return super().__contains__(key)

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self.keys() else self.read.add(self.above + key) or default

    def __iter__(self):
        return iter(self.keys())

    def items(self):
        return [(key, self[key]) for key in self.keys()]

    def values(self):
        return [self[key] for key in self.keys()]


def fields(config: dict[str, Any], above: str = "") -> set[str]:
    found: set[str] = set()
    for key, value in config.items():
        found |= fields(value, f"{above}{key}.") if isinstance(value, dict) else {above + key}
    return found


READS = {
    "prepare": ("responses", []),
    "images": ("images", []),
    "brain": ("teacher", []),
    "brain, all labels": ("teacher", ["teacher.labels=all"]),
    "encoder": ("teacher", ["teacher=encoder"]),
    "decoder": ("teacher", ["teacher=decoder"]),
    "features": ("teacher", ["teacher=features"]),
    "random": ("teacher", ["teacher=random"]),
    "features of the stimuli": ("features", []),
    "self": ("teacher", ["teacher=self"]),
    "kd matched": ("teacher", ["teacher=kd_matched", "teacher.labels=student", "teacher.n_folds=2"]),
    "handcrafted": ("teacher", ["teacher=handcrafted", "teacher.n_folds=2"]),
    "voxels": ("target", ["target=voxels"]),
    "relations": ("target", ["target=relations"]),
    "mask": ("target", ["target=mask"]),
    "cnn": ("teacher", ["teacher=cnn"]),
    "soft labels": ("target", []),
    "file": ("target", ["target=file"]),
    "distill": ("student", []),
    "distill without a target": ("student", ["method=label_smoothing"]),
    "predict": ("prediction", []),
    "predict, validation images, too": ("prediction", ["images.n_pool=12", "images.n_val=4"]),
    "measure": ("measure", ["eval.measures=[robustness,attacks]", "eval.corruptions=[fog]"]),
    "brain score": ("measure", ["eval.measures=[robustness,attacks,brain_score]", "eval.corruptions=[fog]"]),
    "explain": ("explain", ["eval.explain=true", "teacher=decoder", "teacher.folds=run"]),
    "eval": ("evaluation", []),
    "all of eval": ("evaluation", ["eval.n_train=[8]", "eval.measures=[attacks]", "eval.explain=true"]),
}


@pytest.mark.parametrize(("part", "words"), READS.values(), ids=READS)
def test_a_stage_reads_what_it_keys_and_keys_what_it_reads(part, words, tiny, warm, tmp_path):
    import importlib

    from hydra import compose, initialize_config_dir

    if "target=file" in words:
        np.save(tmp_path / "rows.npy", np.full((24, 2), 0.5))
        words = [*words, f"target.path={tmp_path / 'rows.npy'}"]
    shutil.copytree(warm, tmp_path / "cache")
    cache = Cache(tmp_path / "cache")
    with initialize_config_dir(str(schema.find_configs()), version_base="1.3"):
        prepared = prepare_words([*tiny, *words])
        config = checked(compose("config", prepared))
        arms = make_arms(prepared, config, lambda merged: compose("config", merged))
    planner = Planner(cache, [])
    if part in ("evaluation", "explain"):
        step = plan_evaluation(planner, config, arms, {}, [], {8: arms} if config["eval"]["n_train"] else {})
        step = step.inputs["explain"] if part == "explain" else step
    else:
        step = getattr(planner, part)(config, [])
    runtime = Runtime(device="cpu", workers=1, tensorboard=False, verbosity=0)
    assert not ensure(cache, list(step.inputs.values()), runtime)

    read: set[str] = set()
    stage = importlib.import_module(f"braindistill.stages.{step.stage.replace('-', '_')}")
    (tmp_path / "out").mkdir()
    inputs = {name: cache.path(upstream) for name, upstream in step.inputs.items()}
    stage.run(Recorder(handed_over(step), read), inputs, tmp_path / "out", runtime)

    keyed = fields(dict(step.config)) | set(step.files)
    assert keyed - read - {"train.threads"} == set(), "keyed, but not read (threads are set around every stage)"
    asked = {field for field in read - keyed if not is_anothers(field)}
    assert asked == {"command"} & read, "read, but not keyed (the command line is only shown)"


def is_anothers(field: str) -> bool:
    """Is it an option of another member, another arm, or a whole group? That it is absent follows from what is keyed."""
    group, _, option = ".".join(field.split(".")[-2:]).partition(".")
    if group not in schema.GROUPS:
        return group == "arms"
    return option in ("", "name") or any(option in schema.options(group, name) for name in schema.choices(group))


def test_the_plan_has_no_path_in_its_keys(run, warm):
    for manifest in Path(warm).glob("*/*/manifest.json"):
        document = manifest.read_text().partition('"document"')[2].partition('"digest"')[0]
        assert str(warm.parent) not in document, manifest

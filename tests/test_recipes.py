"""The recipes of the published CIFAR-100 tables: their settings are those that the tables state, and one runs."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from braindistill.compose import checked, make_arms, prepare_words
from braindistill.config import choices, find_configs

SCRIPTS = Path(__file__).parent.parent / "scripts"
#: pair → (teacher, student, rate, DKD's beta, published accuracy of teacher and of the student on labels alone)
PAIRS = {
    "resnet32x4_resnet8x4": ("resnet32x4", "resnet8x4", 0.05, 8, "79.42", "72.50"),
    "resnet56_resnet20": ("resnet56", "resnet20", 0.05, 2, "72.34", "69.06"),
    "wrn_40_2_wrn_16_2": ("wrn_40_2", "wrn_16_2", 0.05, 6, "75.61", "73.26"),
    "wrn_40_2_wrn_40_1": ("wrn_40_2", "wrn_40_1", 0.05, 6, "75.61", "71.98"),
    "vgg13_vgg8": ("vgg13", "vgg8", 0.05, 6, "74.64", "70.36"),
    "resnet32x4_shufflenetv2": ("resnet32x4", "shufflenetv2", 0.01, 8, "79.42", "71.82"),
}
#: method → published accuracy of the student of each pair; None: not published, and no recipe
PUBLISHED = {
    "kd": ("73.33", "70.66", "74.92", "73.54", "72.98", "74.45"),
    "crd": ("75.51", "71.16", "75.48", "74.14", "73.94", "75.65"),
    "dkd": ("76.32", "71.97", "76.23", "74.81", "74.68", "77.07"),
    "dist": ("76.31 ± .19", "71.75 ± .30", None, "74.43 ± .24", None, "77.35 ± .25"),
    "standardized_kd": ("76.62", "71.43", "76.11", "74.37", "74.36", "75.56"),
    "standardized_dkd": ("77.01", "72.32", "76.39", "74.89", "74.81", "77.37"),
}
#: whose figure it is, and of which epoch
SOURCES = {
    "kd": "RepDistiller, last epoch",
    "crd": "RepDistiller, last epoch",
    "dkd": "mdistiller, best epoch on the test set",
    "dist": "its authors, several runs",
    "standardized_kd": "its authors, best epoch on the test set",
    "standardized_dkd": "its authors, best epoch on the test set",
}
#: options of the method that the tables state; beta of dkd is the pair's
METHODS: dict[str, dict[str, Any]] = {
    "kd": {"name": "kd", "temperature": 4, "label_weight": 0.1, "target_weight": 0.9, "target_warmup": 0},
    "crd": {"name": "crd", "label_weight": 1, "target_weight": 0.8, "negatives": 16384, "temperature": 0.07}
    | {"momentum": 0.5, "dimension": 128},
    "dkd": {"name": "dkd", "temperature": 4, "alpha": 1, "label_weight": 1, "target_weight": 1, "target_warmup": 20},
    "dist": {"name": "dist", "temperature": 4, "beta": 1, "gamma": 1, "label_weight": 1, "target_weight": 2},
    "standardized_kd": {"name": "standardized_kd", "base": "kd", "label_weight": 0.1, "target_weight": 9},
    "standardized_dkd": {"name": "standardized_kd", "base": "dkd", "temperature": 2, "alpha": 1, "target_weight": 9}
    | {"label_weight": 1, "target_warmup": 20},
}
TRAIN = {
    "epochs": 240,
    "batch_size": 64,
    "optimizer": "sgd",
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 5e-4,
    "schedule": "step",
    "milestones": [150, 180, 210],
    "decay": 0.1,
    "warmup": 0,
    "crop": 4,
    "flip": True,
    "select": "last",
}
RECIPES = [
    (pair, method, row[column])
    for method, row in PUBLISHED.items()
    for column, pair in enumerate(PAIRS)
    if row[column] is not None
]


@pytest.fixture
def composed() -> Iterator[Callable[..., Any]]:
    """A config from the words of a command."""
    with initialize_config_dir(str(find_configs()), version_base="1.3"):
        yield lambda *words: compose("config", prepare_words(words))


def recipe(name: str) -> list[str]:
    return [f"experiment=cifar100_{name}", "images.root=cifar-100-binary"]


def test_there_is_one_for_each_published_figure():
    known = {name.removeprefix("cifar100_") for name in choices("experiment") if name.startswith("cifar100_")}
    assert known == {"kd", *(f"{pair}_{method}" for pair, method, _ in RECIPES)}


@pytest.mark.parametrize(("pair", "method", "accuracy"), RECIPES, ids=lambda value: str(value))
def test_settings_are_the_published_ones(composed, pair, method, accuracy):
    teacher, student, lr, beta, *_ = PAIRS[pair]
    config = checked(composed(*recipe(f"{pair}_{method}")))
    train = config["train"]
    assert {key: train[key] for key in TRAIN} == TRAIN
    assert train["lr"] == lr
    # what the tables don't state is left off
    off = {"cutout": 0, "mixup": 0, "cutmix": 0, "colour": 0, "rand_augment": 0, "zoom": 1, "clip": None, "ema": 0}
    assert {key: train[key] for key in off} == off
    expected = METHODS[method] | ({"beta": beta} if method.endswith("dkd") else {})
    if method == "standardized_kd":
        expected |= {"temperature": 3 if pair == "vgg13_vgg8" else 2}
    assert {key: config["method"].get(key) for key in expected} == expected
    assert (config["teacher"]["name"], config["teacher"]["network"]) == ("cnn", teacher)
    assert config["teacher"]["lr"] == (0.05 if student == "shufflenetv2" else None)
    assert config["teacher"]["shortcut"] == ("projected" if teacher == "resnet56" else None)
    assert config["student"]["name"] == student
    assert config["student"].get("shortcut", "projected") == "projected"
    assert config["target"]["name"] == ("features" if method == "crd" else "soft_labels")
    images = config["images"]
    assert (images["name"], images["n_train"], images["n_pool"], images["n_val"]) == ("cifar100", None, 0, 0)
    assert (config["eval"]["arms"], config["eval"]["seeds"]) == (["baseline", method], 5)


@pytest.mark.parametrize(("pair", "method", "accuracy"), RECIPES, ids=lambda value: str(value))
def test_header_says_what_is_expected(pair, method, accuracy):
    name = f"cifar100_{pair}_{method}"
    lines = (find_configs() / "experiment" / f"{name}.yaml").read_text().splitlines()
    assert lines[2].split() == f"# braindistill eval experiment={name} images.root=data/cifar100".split()
    said = " ".join(line.removeprefix("# ") for line in lines[3:5])
    assert re.match(r"About \d+ h on one GPU: an estimate, not measured. ", said)
    assert f"Published: {accuracy} % ({SOURCES[method]}); " in said
    teacher, alone = PAIRS[pair][-2:]
    assert said.endswith(f"on labels alone {alone}, the teacher {teacher} (RepDistiller, last epoch).")


def test_the_arms_differ_in_the_method_only(composed):
    words = prepare_words(recipe("resnet56_resnet20_dkd"))
    baseline, dkd = make_arms(words, checked(composed(*words)), lambda own: compose("config", own))
    plain, taught = baseline.config(3), dkd.config(3)
    assert {key for key in taught if taught[key] != plain[key]} == {"method"}
    assert plain["method"] == {"name": "none"}
    assert taught["teacher"]["seed"] == 3


def test_the_shared_parts_are_no_experiments(run):
    parts = {f"cifar100/{file.stem}" for file in (find_configs() / "experiment/cifar100").glob("*.yaml")}
    assert {"cifar100/recipe", "cifar100/kd", "cifar100/resnet56_resnet20"} <= parts
    assert not parts & set(choices("experiment"))
    for words in (["experiment=cifar100/kd"], ["experiment/cifar100=kd"]):
        ran = run("eval", *words)
        assert ran.code == 2
        assert len(ran.err.splitlines()) == 1


def test_one_runs_on_a_miniature(run, tmp_path):
    runpy.run_path(str(SCRIPTS / "make_miniature.py"))["make_cifar100"](tmp_path / "c100", train=200, test=100)
    small = [
        "teacher.network=small_cnn",
        "teacher.shortcut=null",
        "teacher.width=4",
        "student=small_cnn",
        "student.width=4",
        "target.views=2",
    ]
    short = ["train.epochs=4", "train.milestones=[2,3]", "images.n_train=100", "eval.seeds=1"]
    ran = run("eval", "experiment=cifar100_kd", "images.root=c100", *small, *short, cache="cache")
    assert ran.code == 0, ran.err
    found = json.loads((Path(ran.out.splitlines()[-1]) / "results.json").read_text())
    assert list(found["arms"]) == ["baseline", "kd"]
    assert (found["failed"], found["not_run"]) == ({}, {})
    (student,) = (
        tmp_path / "cache" / "distill" / key
        for key in [
            path.parent.name
            for path in tmp_path.glob("cache/distill/*/manifest.json")
            if json.loads(path.read_text())["document"]["config"]["method"]["name"] == "kd"
        ]
    )
    rates = [json.loads(line)["lr"] for line in (student / "metrics.jsonl").read_text().splitlines()]
    assert rates == pytest.approx([0.05, 0.05, 0.005, 0.0005])

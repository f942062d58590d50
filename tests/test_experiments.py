"""Experiments on data nobody has here, run on miniatures in their layout: noise must give nothing, signal something."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from braindistill import fmri
from braindistill.fmri.responses import Responses
from braindistill.images import ImageSet, Stimuli, load_stimuli
from braindistill.stages.train_teacher import all_labels
from braindistill.teachers import DecoderOptions, VoxelOptions, fit_decoder

SMALL = ["fmri.image_size=16", "student=small_cnn", "student.width=4", "train.epochs=1"]


@pytest.fixture(scope="module")
def miniature() -> ModuleType:
    """``scripts/make_miniature.py``."""
    file = Path(__file__).parent.parent / "scripts" / "make_miniature.py"
    spec = importlib.util.spec_from_file_location("make_miniature", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def god(miniature: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], Path]:
    """Generic Object Decoding in miniature with a signal of so much: ten categories of eight pictures, a subject."""
    made: dict[float, Path] = {}

    def make(signal: float) -> Path:
        if signal not in made:
            made[signal] = tmp_path_factory.mktemp("god")
            miniature.make_god(made[signal], signal, subjects=1, categories=10, per_category=8, voxels=20)
        return made[signal]

    return make


def experiment(root: Path, *words: str) -> list[str]:
    return [
        "experiment=god2021",
        f"fmri.root={root}",
        f"fmri.stimuli={root / 'images'}",
        *SMALL,
        *(words or ["teacher.decoder=lda"]),
    ]


def results_of(out: str) -> dict[str, Any]:
    return json.loads((Path(out.splitlines()[-1]) / "results.json").read_text())


def scores_of(out: str) -> dict[str, Any]:
    return json.loads((Path(out.splitlines()[-1]) / "scores.json").read_text())


@pytest.fixture(scope="module")
def taught(god) -> tuple[Responses, ImageSet]:
    """The noise miniature's trials of training pictures, and the pictures, split as the experiment splits them."""
    root = god(0)
    data = fmri.load("god", root=root, stimuli=root / "images", image_size=16, zscore="all")
    label = dict(zip(data.stimulus_id.tolist(), data.label.tolist(), strict=True))
    names = np.array([label[name] for name in data.image_id.tolist()])
    image_set = load_stimuli(Stimuli(data.images, data.image_id, names), test_per_class=1)
    return data.without(image_set.test_ids), image_set


class TestGod2021:
    def test_on_noise_the_original_teacher_is_right_and_the_sound_one_at_chance(self, taught):
        """Twenty draws of the noise: what each says of the pictures that it was given the labels of."""
        data, image_set = taught
        known, voxels, decoding = all_labels(data), VoxelOptions("VC"), DecoderOptions(top_voxels=1000)
        right: dict[bool, list[float]] = {False: [], True: []}
        for draw in range(20):
            noise = np.random.default_rng(draw).normal(size=data.responses.shape).astype(np.float32)
            drawn = dataclasses.replace(data, responses=noise)
            for original, accuracies in right.items():
                options = {"folds": "stimulus", "n_folds": 7, "original_protocol": original, "seed": draw}
                teacher = fit_decoder(drawn, known, voxels=voxels, decoding=decoding, **options)
                answer = teacher.soft_labels(image_set.train_ids, image_set.train_images, "cpu")
                assert set(answer.source) == {"in_sample" if original else "measured"}
                accuracies.append(float((answer.rows.argmax(1) == image_set.train_labels).mean()))
        assert known.classes == image_set.classes
        assert np.mean(right[True]) == 1.0
        error = np.std(right[False], ddof=1) / np.sqrt(20)
        assert abs(np.mean(right[False]) - 0.1) < 2 * error + 0.02, right[False]

    def test_the_original_arm_is_marked_and_makes_no_claim(self, god, run):
        arms = "eval.arms=[baseline,label_smoothing,brain,original_baseline,original]"
        ran = run("eval", *experiment(god(0)), arms, "eval.seeds=2", cache="cache")
        assert ran.code == 0, ran.err
        found = results_of(ran.out)
        assert not found["not_run"]
        assert [claim["arm"] for claim in found["claims"]] == ["brain"]
        marks = {name: " ".join(arm["marks"]) for name, arm in found["arms"].items()}
        assert "UNSOUND: the protocol of 2021 (in-sample soft labels, softmax twice at 0.1)" in marks["original"]
        for name in ("original", "original_baseline"):
            assert "UNSOUND: epoch chosen on the test images" in marks[name]
            assert f"note: {name}: UNSOUND" in ran.out
        assert not any("UNSOUND" in marks[name] for name in ("baseline", "label_smoothing", "brain"))
        teachers = {name: found["arms"][name]["teacher"] for name in ("brain", "original")}
        assert teachers["original"]["accuracy_labelled"] == 1.0
        assert teachers["brain"]["accuracy_labelled"] < 0.35
        assert teachers["original"]["entropy"] < teachers["brain"]["entropy"]
        assert {found["arms"][name]["labels"] for name in found["arms"]} == {70}

    def test_where_there_is_signal_the_sound_teacher_is_above_chance(self, god, run):
        found = {}
        for signal in (0, 1):
            ran = run("train-teacher", *experiment(god(signal)), cache="cache")
            assert ran.code == 0, ran.err
            found[signal] = scores_of(ran.out)["decoder"]
            assert (found[signal]["n_trials"], found[signal]["scheme"]) == (70, "7 folds by stimulus")
        deviation = np.sqrt(0.1 * 0.9 / 70)
        assert found[1]["accuracy"] > 0.1 + 5 * deviation
        assert found[0]["accuracy"] < 0.1 + 4 * deviation

    def test_the_decoder_of_then(self, god, run):
        words = ["teacher.decoder=resnet1d", "teacher.width=4", "teacher.epochs=2", "teacher.lr=[0.01]"]
        ran = run("train-teacher", *experiment(god(1), *words), "teacher.n_folds=2", cache="cache")
        assert ran.code == 0, ran.err
        found = scores_of(ran.out)["decoder"]
        assert found["n_trials"] == 70
        assert found["model"]["kind"] == "resnet1d"

    def test_several_subjects_are_several_teachers(self, miniature, run, tmp_path):
        sizes = {"subjects": 2, "categories": 3, "per_category": 4, "voxels": 5}
        miniature.make_god(tmp_path / "two", 2.0, **sizes)
        words = ["fmri.subject=1,2", "teacher.decoder=lda", "teacher.roi=V1,each", "teacher.n_folds=3"]
        ran = run("train-teacher", "-m", *experiment(tmp_path / "two", *words), cache="cache")
        assert ran.code == 0, ran.err
        assert len(list(tmp_path.glob("cache/prepare/*/manifest.json"))) == 2
        assert len(list(tmp_path.glob("cache/train-teacher/*/manifest.json"))) == 4

    def test_a_sweep_of_rois_reads_the_pictures_once(self, god, run, tmp_path):
        words = experiment(god(1), "teacher=encoder", "teacher.n_folds=2")
        ran = run("train-teacher", "-m", *words, "teacher.roi=V1,V4,-V4,each", cache="cache")
        assert ran.code == 0, ran.err
        widths = {}
        for folder in tmp_path.glob("cache/train-teacher/*/"):
            roi = json.loads((folder / "manifest.json").read_text())["document"]["config"]["teacher"]["roi"]
            widths[roi] = np.load(folder / "averaged.npy").shape[1]
        assert widths == {"V1": 20, "V4": 20, "-V4": 120, "each": 140}
        for stage in ("prepare", "images", "features"):
            assert len(list(tmp_path.glob(f"cache/{stage}/*/manifest.json"))) == 1, stage


TINY = [
    "train.epochs=1",
    "student.width=4",
    "teacher.n_folds=2",
    "eval.definitions.kd_matched=[teacher=kd_matched,teacher.cnn_width=4]",
]
MATCHED = ["labels_matched", "self_kd", "kd_matched", "handcrafted", "random_readout", "shuffled_across"]


class TestArmsOfTheDemo:
    """Every arm that the configs define has a result, or a reason why it has none."""

    def test_with_the_labels_of_the_student(self, run):
        ran = run("eval", "experiment=smoke", *TINY, f"eval.arms=[baseline,brain,{','.join(MATCHED)}]", cache="cache")
        assert ran.code == 0, ran.err
        found = results_of(ran.out)
        assert found["failed"] == {}
        assert list(found["not_run"]) == ["labels_matched"]
        assert "the budget is equal as it is" in found["not_run"]["labels_matched"]
        assert list(found["arms"]) == ["baseline", "brain", *MATCHED[1:]]
        assert {arm["labels"] for arm in found["arms"].values()} == {20}
        assert all(arm["n_seeds"] == 2 for arm in found["arms"].values())
        assert not found["warnings"]

    def test_of_a_decoder_with_all_labels(self, run):
        words = ["teacher=decoder", "teacher.labels=all", "images.n_pool=0", "eval.seeds=1", "train.batch_size=20"]
        arms = "eval.arms=[brain,labels_matched,random_readout,shuffled_within]"
        ran = run("eval", "experiment=smoke", *TINY, *words, arms, cache="cache")
        assert ran.code == 0, ran.err
        found = results_of(ran.out)
        assert found["not_run"] == {
            "random_readout": "it reads out the features of an encoder, and teacher=decoder has none"
        }
        assert {name: arm["labels"] for name, arm in found["arms"].items()} == {
            "brain": 100,
            "labels_matched": 100,
            "shuffled_within": 100,
        }


def test_nsd_cifar100(miniature, run, tmp_path):
    """Voxels and relations of subjects without a label into a student of a hundred classes."""
    miniature.make_algonauts(tmp_path / "alg", 1.0, pictures=60, vertices=10)
    miniature.make_cifar100(tmp_path / "c100", train=150, test=100)
    data = ["fmri=algonauts2023", "fmri.root=alg", "fmri.image_size=32", "images.root=c100"]
    sizes = ["images.n_train=100", "images.n_pool=80", "teacher.n_folds=2", "train.epochs=1"]
    students = [
        "student=small_cnn",
        "student.width=4",
        "eval.definitions.kd=[teacher=cnn,target=soft_labels,method=kd]",
    ]
    ran = run("eval", "experiment=nsd_cifar100", *data, *sizes, *students, "eval.seeds=1", cache="cache")
    assert ran.code == 0, ran.err
    found = results_of(ran.out)
    arms = ["baseline", "label_smoothing", "kd", "brain_voxels", "shuffled_fmri", "random_readout"]
    relations = ["brain_relations", "shuffled_fmri_relations", "random_readout_relations"]
    assert list(found["arms"]) == arms + relations
    assert (found["not_run"], found["failed"]) == ({}, {})
    claims = {claim["arm"]: {part["b"] for part in claim["components"]} for claim in found["claims"]}
    required = {"label_smoothing", "kd"}
    assert claims == {
        "brain_voxels": required | {"random_readout", "shuffled_fmri"},
        "brain_relations": required | {"random_readout_relations", "shuffled_fmri_relations"},
    }
    assert {arm["labels"] for arm in found["arms"].values()} == {100}
    target = json.loads(
        (
            tmp_path / "cache" / "export" / found["arms"]["brain_voxels"]["keys"]["targets"][0] / "target.json"
        ).read_text()
    )
    assert target["sources"] == {"measured": 60, "predicted": 120}
    assert {"brain_voxels", "shuffled_fmri", "random_readout"} <= found["encoder_r"].keys()

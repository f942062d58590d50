"""Stages one after the other, each reading what the one before it wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.images import open_images
from braindistill.runtime import Runtime
from braindistill.stages import distill, export, features, images, predict, train_teacher
from braindistill.stages.train_teacher import all_labels
from braindistill.students import load
from braindistill.targets import SoftLabels

RUNTIME = Runtime(device="cpu", tensorboard=False, verbosity=0)
SPLIT = {"n_train": 8, "n_pool": 12, "n_val": 0, "labels_matched": False}
TEACHER = {"name": "brain", "labels": "student", "n_folds": 2, "seed": 0}
KD = {"name": "kd", "temperature": 2.0, "label_weight": 1.0, "target_weight": 1.0}


class Chain:
    """A folder of artifacts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        rng = np.random.default_rng(0)
        self.labels = np.arange(34) % 2
        self.pictures = rng.integers(0, 120, (34, 8, 8)).astype(np.uint8)
        self.pictures[self.labels == 1, :4] += 100
        self.names = np.array([f"p{row:02d}" for row in range(34)])
        signal = np.where(self.labels[:20, None] == 1, 1.0, -1.0) * rng.normal(1, 0.3, 12)
        responses = Responses(
            (signal + rng.normal(0, 0.5, (20, 12))).astype(np.float32),
            self.names[:20],
            label=np.array(["a", "b"])[self.labels[:20]],
            images=self.pictures[:20, None],
            image_id=self.names[:20],
        )
        responses.save(root / "responses")

    def out(self, name: str) -> Path:
        (self.root / name).mkdir(exist_ok=True)
        return self.root / name

    def images(self, train: slice = slice(0, 24), **options: Any) -> Path:
        np.savez(
            self.root / "images.npz",
            train_images=self.pictures[train],
            train_labels=self.labels[train],
            train_ids=self.names[train],
            test_images=self.pictures[24:],
            test_labels=self.labels[24:],
            test_ids=self.names[24:],
            classes=np.array(["a", "b"]),
        )
        chosen = {"name": "arrays", "path": str(self.root / "images.npz"), "stimuli": False, "classes": None}
        chosen |= {"n_test": None, "allow_overlap": False} | options
        images.run({"images": chosen}, {"responses": self.root / "responses"}, self.out("images"), RUNTIME)
        return self.root / "images"

    def features(self) -> Path:
        config = {"teacher": {"name": "features", "features": "pixels"}}
        features.run(config, {"responses": self.root / "responses"}, self.out("stimuli"), RUNTIME)
        return self.root / "stimuli"

    def teacher(self, **options: Any) -> Path:
        config = {"teacher": TEACHER | options, "images": SPLIT, "seed": 0, "train": {"epochs": 2}}
        inputs = {"responses": self.root / "responses", "images": self.root / "images", "features": self.features()}
        train_teacher.run(config, inputs, self.out("teacher"), RUNTIME)
        return self.root / "teacher"

    def student(self) -> Path:
        shared = {"images": SPLIT, "seed": 0}
        inputs = {"images": self.root / "images", "teacher": self.root / "teacher"}
        export.run(shared | {"target": {"name": "soft_labels"}}, inputs, self.out("target"), RUNTIME)
        parts = {"student": {"name": "small_cnn", "width": 4}, "method": KD, "train": {"epochs": 3, "batch_size": 10}}
        inputs = {"images": self.root / "images", "target": self.root / "target"}
        distill.run(shared | parts, inputs, self.out("student"), RUNTIME)
        return self.root / "student"


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path)


def test_from_responses_to_predictions(chain: Chain) -> None:
    folder = chain.images()
    image_set, split = open_images(folder, SPLIT, 0)
    labelled = image_set.train_ids[split.labelled].tolist()
    teacher = json.loads((chain.teacher() / "teacher.json").read_text())
    assert teacher["labelled"] == sorted(labelled), "the student's labels and no others"
    assert teacher["classes"] == ["a", "b"]
    student = chain.student()
    target = SoftLabels.load(chain.root / "target")
    assert set(target.image_id) == set(image_set.train_ids[np.concatenate([split.labelled, split.pool])])
    assert target.record["sources"] == {"measured": 20}
    predict.run({}, {"images": folder, "student": student}, chain.out("predict"), RUNTIME)
    rows = np.load(chain.root / "predict" / "log_probabilities.npy")
    with torch.no_grad():
        wanted = load(student)(torch.from_numpy(chain.pictures[24:, None])).log_softmax(1)
    np.testing.assert_allclose(rows, wanted, atol=1e-5)
    assert rows.dtype == np.float32


def test_labels_of_the_pool_and_of_the_test_set_reach_neither_teacher_nor_student(chain: Chain) -> None:
    folder = chain.images()
    _, split = open_images(folder, SPLIT, 0)
    chain.teacher()
    before = {name: tensor.clone() for name, tensor in load(chain.student()).state_dict().items()}
    with np.load(folder / "image_set.npz") as stored:
        parts = {key: stored[key] for key in stored.files}
    parts["train_labels"][split.pool] = 1 - parts["train_labels"][split.pool]
    parts["test_labels"] = 1 - parts["test_labels"]
    np.savez(folder / "image_set.npz", **parts)
    responses = Responses.load(chain.root / "responses")
    responses.label = np.array(["a"] * 20)
    responses.save(chain.root / "responses")
    chain.teacher()
    after = load(chain.student()).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_every_kind_of_teacher_is_written(chain: Chain) -> None:
    chain.images()
    for name, options in {
        "random": {"seed": 0},
        "cnn": {"seed": 0},
        "decoder": {"labels": "all", "n_folds": 2},
        "features": {"labels": "student", "n_folds": 2},
        "encoder": {"n_folds": 2},
    }.items():
        config = {
            "teacher": {"name": name} | options,
            "images": SPLIT,
            "seed": 0,
            "train": {"epochs": 1, "batch_size": 20},
        }
        inputs = {"responses": chain.root / "responses", "images": chain.root / "images", "features": chain.features()}
        train_teacher.run(config, inputs, chain.out(name), RUNTIME)
        assert json.loads((chain.root / name / "teacher.json").read_text())["name"] == name
        scores = json.loads((chain.root / name / "scores.json").read_text())
        assert (
            set(scores) - {"roi"}
            == {
                "random": set(),
                "cnn": {"network"},
                "decoder": {"decoder"},
                "features": {"decoder"},
                "encoder": {"encoder"},
            }[name]
        )
    assert len(json.loads((chain.root / "decoder" / "teacher.json").read_text())["labelled"]) == 20


def test_stimuli_join_the_training_images(chain: Chain) -> None:
    folder = chain.images(slice(20, 24), stimuli=True)
    image_set, split = open_images(folder, SPLIT, 0)
    assert sorted(image_set.train_ids) == chain.names[:24].tolist()
    assert np.isin(image_set.train_ids[split.labelled], chain.names[:20]).all(), "stimuli come first"
    truth = dict(zip(chain.names.tolist(), chain.labels.tolist(), strict=True))
    assert [truth[name] for name in image_set.train_ids.tolist()] == image_set.train_labels.tolist()


def test_a_stimulus_among_the_test_images_is_refused(chain: Chain) -> None:
    chain.pictures[30] = chain.pictures[3]
    with pytest.raises(UserError, match="1 test images were shown to the subject: p30"):
        chain.images()
    chain.images(allow_overlap=True)


def test_stimuli_without_pictures_cannot_join(chain: Chain) -> None:
    responses = Responses.load(chain.root / "responses")
    responses.images = responses.image_id = None
    responses.save(chain.root / "responses")
    with pytest.raises(UserError, match=r"images\.stimuli=true: the fMRI data have no pictures"):
        chain.images(stimuli=True)
    assert len(open_images(chain.images(), SPLIT, 0)[1].labelled) == 8


def test_all_labels_are_those_of_labelled_stimuli() -> None:
    trials = Responses(
        np.zeros((5, 1), np.float32), np.array(list("xyzxw")), label=np.array(["dog", "cat", "", "dog", "bird"])
    )
    known = all_labels(trials)
    assert known.classes == ["bird", "cat", "dog"]
    assert known.of_stimulus == {"x": 2, "y": 1, "w": 0}
    assert known.source == "all"
    for label in (None, np.array([""] * 5)):
        trials.label = label
        with pytest.raises(UserError, match=r"teacher\.labels=all: the fMRI data have no labels"):
            all_labels(trials)

"""A target's row for an image is what the teacher says of that image, whatever the order of the images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from braindistill.images import ImageSet
from braindistill.targets import load_target
from braindistill.teachers import load_teacher

N = 24
#: every picture has a label or is in the pool, so that no role depends on the order of the rows
SIZES = ["images.n_pool=6", "seed=1", "train.epochs=1", "train.batch_size=6", "student.width=4"]
#: teachers whose fit does not depend on the order of images, and of those that it does
FIXED = {
    "brain": ["teacher=brain", "teacher.n_folds=3"],
    "brain of the student's labels": ["teacher=brain", "teacher.labels=student", "teacher.n_folds=3"],
    "shuffled_fmri": ["teacher=brain", "teacher.control=shuffled_fmri"],
    "random_readout": ["teacher=brain", "teacher.control=random_readout"],
    "features": ["teacher=features", "teacher.n_folds=3"],
    "random": ["teacher=random"],
}
TRAINED = {
    "cnn": ["teacher=cnn", "teacher.width=4"],
    "cross-fitted cnn": ["teacher=cnn", "teacher.width=4", "teacher.cross_fit=2"],
    "self": ["teacher=self"],
    "handcrafted": ["teacher=handcrafted", "teacher.n_folds=2"],
    "kd_matched": ["teacher=kd_matched", "teacher.cnn_width=4", "teacher.n_folds=2"],
}


class Made(NamedTuple):
    """A target, the teacher that was asked (None: a file) and the student's images."""

    target: Any
    teacher: Any
    images: ImageSet


@pytest.fixture
def export(run, write, arrays, tmp_path) -> Callable[..., Made]:
    """Export a target. Eight of the images were never shown, six have no label; the rows come in some order."""

    def make(*words: str, order: Any = None, shown: int = 16) -> Made:
        own = arrays["images"]
        rows = np.arange(N) if order is None else order
        label = np.where(np.arange(N) % 4 == 3, -1, own["train_labels"])
        mixed = {
            "train_images": own["train_images"][rows],
            "train_ids": own["train_ids"][rows],
            "train_labels": label[rows],
        }
        kept = np.isin(arrays["fmri"]["stimulus_id"], own["train_ids"][:shown])
        trials = {key: arrays["fmri"][key][kept] for key in ("responses", "stimulus_id", "run", "label")}
        stimuli = {key: arrays["fmri"][key][:shown] for key in ("images", "image_id")}
        files = [write("fmri", **trials, **stimuli), write("images", **mixed)]
        ran = run("export", "fmri=arrays", "images=arrays", *files, *SIZES, *words, cache="cache")
        assert ran.code == 0, ran.err
        folder = Path(ran.out.splitlines()[-1])
        keys = json.loads((folder / "manifest.json").read_text())["document"]["inputs"]
        cache = tmp_path / "cache"
        images = ImageSet.load(cache / "images" / keys["images"][:12])
        teacher = load_teacher(cache / "train-teacher" / keys["teacher"][:12]) if "teacher" in keys else None
        return Made(load_target(folder), teacher, images)

    return make


def ask(made: Made, question: str, *words: Any) -> np.ndarray:
    """What the teacher says of each image, asked about one at a time; its sources and folds are those of the target."""
    rows = []
    place = {name: row for row, name in enumerate(made.target.image_id.tolist())}
    for name, picture in zip(made.images.train_ids.tolist(), np.asarray(made.images.train_images), strict=True):
        answer = getattr(made.teacher, question)(np.array([name]), picture[None], "cpu", *words)
        assert (answer.source[0], answer.fold[0]) == (made.target.source[place[name]], made.target.fold[place[name]])
        rows.append(answer.rows[0])
    return np.array(rows)


def shuffled() -> np.ndarray:
    return np.random.default_rng(5).permutation(N)


@pytest.mark.parametrize("words", (FIXED | TRAINED).values(), ids=FIXED | TRAINED)
def test_soft_labels(words, export):
    made = export(*words)
    if words[0] == "teacher=random":
        made.teacher.classes = made.images.classes
    rows, found = made.target.rows_for(made.images.train_ids, made.images.classes)
    assert found.all()
    assert rows == pytest.approx(ask(made, "soft_labels"), abs=2e-5)
    assert np.ptp(rows, axis=0).min() > 0
    mixed = export(*words, order=shuffled())
    again, _ = mixed.target.rows_for(made.images.train_ids, made.images.classes)
    if words in FIXED.values():
        assert again == pytest.approx(rows, abs=2e-5)
    else:  # the order of training is another, so it is another teacher
        found, _ = mixed.target.rows_for(mixed.images.train_ids, mixed.images.classes)
        assert found == pytest.approx(ask(mixed, "soft_labels"), abs=2e-5)


def test_soft_labels_of_a_decoder_and_only_of_what_was_shown(export):
    words = ["teacher=decoder", "teacher.n_folds=3", "target.precision=float16"]
    made, mixed = export(*words, shown=N), export(*words, shown=N, order=shuffled())
    rows, found = made.target.rows_for(made.images.train_ids, made.images.classes)
    assert found.all()
    assert set(made.target.source) == {"measured"}
    assert rows == pytest.approx(ask(made, "soft_labels"), rel=1e-3, abs=1e-4)
    again, _ = mixed.target.rows_for(made.images.train_ids, made.images.classes)
    assert again == pytest.approx(rows, abs=2e-5)


def test_soft_labels_of_people_and_of_a_file(export, arrays, tmp_path):
    counts = np.random.default_rng(1).integers(1, 9, (N, 2))
    names, order = arrays["images"]["train_ids"], shuffled()
    np.savez(tmp_path / "counts.npz", image_id=names[order], counts=counts[order], classes=np.array(["1", "0"]))
    wanted = (counts[:, ::-1] + 0.1) / (counts + 0.1).sum(1, keepdims=True)
    for rows in (None, order):
        made = export("teacher=human", "teacher.smoothing=0.1", f"teacher.path={tmp_path / 'counts.npz'}", order=rows)
        found, has = made.target.rows_for(names, ["0", "1"])
        assert has.all()
        assert np.exp(found) == pytest.approx(wanted, abs=1e-6)
        assert ask(made, "soft_labels") == pytest.approx(made.target.rows_for(made.images.train_ids, ["0", "1"])[0])
    np.savez(tmp_path / "own.npz", image_id=names[order], rows=wanted[order])
    for rows in (None, order):
        target = export("target=file", f"target.path={tmp_path / 'own.npz'}", order=rows).target
        assert np.exp(target.rows_for(names, ["0", "1"])[0]) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("responses", ["predicted", "measured"])
def test_voxels(responses, export):
    words = [
        "teacher=encoder",
        "teacher.n_folds=3",
        "target=voxels",
        f"target.responses={responses}",
        "target.precision=float32",
    ]
    made, mixed = export(*words), export(*words, order=shuffled())
    rows, found = made.target.rows_for(made.images.train_ids)
    assert found.all()
    assert rows == pytest.approx(ask(made, "voxels", responses == "measured"), abs=2e-5)
    assert mixed.target.rows_for(made.images.train_ids)[0] == pytest.approx(rows, abs=2e-5)
    assert (made.target.source == "measured").sum() == (16 if responses == "measured" else 0)
    assert (made.target.fold >= 0).sum() == (0 if responses == "measured" else 16)


def test_relations(export, tmp_path):
    words = ["teacher=encoder", "teacher.n_folds=3", "target=relations", "target.precision=float32"]
    made, mixed = export(*words), export(*words, order=shuffled())
    row, found = made.target.rows_for(made.images.train_ids)
    assert found.all()
    block = made.target.block(row)
    assert block == pytest.approx(np.corrcoef(ask(made, "voxels", False)), abs=2e-5)
    again = mixed.target.block(mixed.target.rows_for(made.images.train_ids)[0])
    assert again == pytest.approx(block, abs=2e-5)
    # the same matrix, from a file with its rows in another order
    order = shuffled()
    np.savez(tmp_path / "rdm.npz", rdm=1 - block[np.ix_(order, order)], image_id=made.images.train_ids[order])
    own = export("target=relations", f"target.rdm={tmp_path / 'rdm.npz'}", "target.precision=float32").target
    assert own.block(own.rows_for(made.images.train_ids)[0]) == pytest.approx(block, abs=2e-5)


def test_masks(export):
    """Of an encoder that is linear in the pixels the gradient is known: its weights, mixed by what the voxels do."""
    words = ["teacher=encoder", "teacher.n_folds=3", "target=mask"]
    made, mixed = export(*words), export(*words, order=shuffled())
    maps, found = made.target.rows_for(made.images.train_ids)
    assert found.all()
    assert maps.sum((1, 2)) == pytest.approx(1, abs=1e-5)
    assert mixed.target.rows_for(made.images.train_ids)[0] == pytest.approx(maps, abs=1e-4)
    pictures = np.asarray(made.images.train_images)[:, 0]
    baseline = np.rint(pictures.mean(0)).astype(int)
    share = np.clip(np.nan_to_num(made.teacher.voxel_r), 0, None)
    pixels = np.concatenate([np.zeros((1, 64)), np.eye(64)]).astype(np.float32)
    for row, name in enumerate(made.images.train_ids.tolist()):
        ((_, encoders, fold),) = made.teacher.encoder_views(np.array([name]))
        assert made.target.fold[made.target.image_id.tolist().index(name)] == fold
        start, *steps = np.mean([encoder.predict(pixels) for encoder in encoders], axis=0)
        weights = np.array(steps) - start
        mean = np.mean([encoder.intercept for encoder in encoders], axis=0)
        deviation = start + pictures[row].ravel() / 255 @ weights - mean
        product = np.abs((pictures[row] - baseline).ravel() * (weights @ (share * deviation)))
        assert maps[row].ravel() == pytest.approx(product / product.sum(), abs=2e-4)

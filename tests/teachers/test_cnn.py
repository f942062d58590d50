"""Ordinary KD's teacher: the student's labels and loop, and weights of its own, or weights that are there already."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from braindistill.errors import UserError
from braindistill.images import ImageSet, Split
from braindistill.runtime import Runtime, derive
from braindistill.students import load
from braindistill.students.build import build
from braindistill.students.fitting import fit_student
from braindistill.teachers import cnn
from braindistill.teachers.artifact import load_teacher
from braindistill.teachers.cnn import fit_cnn, fit_self

RUNTIME = Runtime(device="cpu", tensorboard=False, verbosity=0)
TRAINING: dict[str, Any] = {"epochs": 15, "batch_size": 10}


@pytest.fixture
def image_set() -> ImageSet:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = rng.integers(0, 120, (60, 1, 8, 8)).astype(np.uint8)
    images[labels == 1, :, :4] += 100
    ids = np.array([f"image-{row:02d}" for row in range(60)])
    return ImageSet(images[:40], ids[:40], labels[:40], images[40:], ids[40:], labels[40:], ["a", "b"])


SPLIT = Split(labelled=np.arange(10), pool=np.arange(10, 30), val=np.arange(30, 40))


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    return load(folder).network.state_dict()


def test_it_is_trained_on_the_students_labels_and_no_others(tmp_path: Path, image_set: ImageSet) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first = fit_cnn(image_set, SPLIT, TRAINING, tmp_path / "a", RUNTIME, width=4, seed=2)
    image_set.train_labels[10:30] = 1 - image_set.train_labels[10:30]
    second = fit_cnn(image_set, SPLIT, TRAINING, tmp_path / "b", RUNTIME, width=4, seed=2)
    answer = first.soft_labels(image_set.train_ids, image_set.train_images, "cpu")
    other = second.soft_labels(image_set.train_ids, image_set.train_images, "cpu")
    np.testing.assert_array_equal(other.rows, answer.rows)
    assert answer.source.tolist() == ["in_sample"] * 10 + ["predicted"] * 30
    assert set(answer.fold.tolist()) == {-1}
    assert (first.classes, first.trained_on) == (["a", "b"], image_set.train_ids[:10].tolist())
    np.testing.assert_allclose(np.exp(answer.rows).sum(1), 1, rtol=1e-5)
    alone = first.soft_labels(image_set.train_ids[25:26], image_set.train_images[25:26], "cpu")
    np.testing.assert_allclose(alone.rows[0], answer.rows[25], atol=1e-4)
    said = first.soft_labels(image_set.test_ids, image_set.test_images, "cpu").rows.argmax(1)
    assert (said == image_set.test_labels).mean() > 0.9
    assert set(first.scores["network"]) == {"loss", "val_accuracy"}


def test_one_network_is_what_the_students_loop_makes_of_the_teachers_seed(tmp_path: Path, image_set: ImageSet) -> None:
    teacher, same, baseline = (tmp_path / name for name in ("teacher", "same", "baseline"))
    for folder in (teacher, same, baseline):
        folder.mkdir()
    quick = TRAINING | {"epochs": 3}
    fit_cnn(image_set, SPLIT, quick, teacher, RUNTIME, seed=5)
    student, none = {"name": "small_cnn"}, {"name": "none"}
    fit_student(image_set, SPLIT, {}, student, none, quick, derive(5, "cnn teacher"), same, RUNTIME)
    fit_student(image_set, SPLIT, {}, student, none, quick, 5, baseline, RUNTIME)
    for name, value in state_of(teacher).items():
        assert torch.equal(state_of(same)[name], value)
    assert not torch.allclose(state_of(baseline)["0.weight"], state_of(teacher)["0.weight"])


def test_any_student_or_torchvision_network_can_be_the_teacher(tmp_path: Path, image_set: ImageSet) -> None:
    quick = TRAINING | {"epochs": 1}
    fit_cnn(image_set, SPLIT, quick, tmp_path, RUNTIME, network="small_cnn", width=6).save(tmp_path)
    assert json.loads((tmp_path / "student.json").read_text())["options"] == {"width": 6}
    large = dataclasses.replace(
        image_set,
        train_images=image_set.train_images.repeat(4, 2).repeat(4, 3),
        test_images=image_set.test_images.repeat(4, 2).repeat(4, 3),
    )
    other = tmp_path / "other"
    fit_cnn(large, SPLIT, quick, other, RUNTIME, network="squeezenet1_1").save(other)
    teacher = load_teacher(other)
    assert teacher.networks[0].description["options"] == {"network": "squeezenet1_1"}
    assert teacher.soft_labels(large.train_ids[:3], large.train_images[:3], "cpu").rows.shape == (3, 2)
    with pytest.raises(
        UserError,
        match=r"teacher\.network=squeezenet2_1: neither torchvision nor braindistill has such a network; did you mean 'squeezenet",
    ):
        fit_cnn(large, SPLIT, quick, other, RUNTIME, network="squeezenet2_1")
    with pytest.raises(UserError, match=r"teacher\.width=3: squeezenet1_1 has no width"):
        fit_cnn(large, SPLIT, quick, other, RUNTIME, network="squeezenet1_1", width=3)


def test_cross_fitted_networks_hold_labelled_images_out(tmp_path: Path, image_set: ImageSet) -> None:
    teacher = fit_cnn(image_set, SPLIT, TRAINING, tmp_path, RUNTIME, width=4, cross_fit=5, seed=1)
    teacher.save(tmp_path)
    answer = load_teacher(tmp_path).soft_labels(image_set.train_ids, image_set.train_images, "cpu")
    assert set(answer.source.tolist()) == {"predicted"}
    assert sorted(answer.fold[:10].tolist()) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert set(answer.fold[10:].tolist()) == {-1}
    by_network = [network.log_probabilities(image_set.train_images, "cpu", 100) for network in teacher.networks]
    for row in range(10):
        np.testing.assert_allclose(answer.rows[row], by_network[answer.fold[row]][row], atol=1e-5)
    mean = np.mean(by_network, 0)
    mean -= np.log(np.exp(mean).sum(1, keepdims=True))
    np.testing.assert_allclose(answer.rows[10:], mean[10:], atol=1e-5)
    assert len({float(rows[20, 0]) for rows in by_network}) == 5
    score = teacher.scores["network"]
    assert score["accuracy"] == (answer.rows[:10].argmax(1) == image_set.train_labels[:10]).mean()
    assert (score["n_images"], score["chance"], score["scheme"]) == (10, 0.5, "5 folds by image")
    with pytest.raises(UserError, match=r"teacher\.cross_fit=11: with 10 labelled images there can be 2 to 10 folds"):
        fit_cnn(image_set, SPLIT, TRAINING, tmp_path, RUNTIME, cross_fit=11)


def test_a_folds_network_is_given_no_label_that_it_answers_about(
    tmp_path: Path, image_set: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Split] = []

    def watched(images: ImageSet, split: Split, *rest: Any) -> Any:
        given.append(split)
        return fit_student(images, split, *rest)

    monkeypatch.setattr(cnn, "fit_student", watched)
    teacher = fit_cnn(image_set, SPLIT, TRAINING | {"epochs": 1}, tmp_path, RUNTIME, width=4, cross_fit=5)
    held = np.array(teacher.held)
    for k, roles in enumerate(given):
        assert roles.labelled.tolist() == np.flatnonzero(held != k).tolist()
        assert set(roles.pool.tolist()) == {*SPLIT.pool.tolist(), *np.flatnonzero(held == k).tolist()}
        np.testing.assert_array_equal(roles.val, SPLIT.val)
    assert len(given) == 5


def test_born_again_networks_have_the_students_architecture(tmp_path: Path, image_set: ImageSet) -> None:
    teacher = fit_self(image_set, SPLIT, {"name": "small_cnn", "width": 5}, TRAINING, tmp_path, RUNTIME, seed=3)
    teacher.save(tmp_path)
    back = load_teacher(tmp_path)
    assert back.name == "self"
    assert back.networks[0].description["options"] == {"width": 5}
    assert (back.soft_labels(image_set.train_ids[:10], image_set.train_images[:10], "cpu").source == "in_sample").all()


def trained(folder: Path, image_set: ImageSet, **options: Any) -> Path:
    student = {"name": "small_cnn", "width": 4} | options
    folder.mkdir(parents=True, exist_ok=True)
    fit_student(image_set, SPLIT, {}, student, {"name": "none"}, TRAINING | {"epochs": 2}, 0, folder, RUNTIME)
    return folder


def test_weights_of_a_students_folder(tmp_path: Path, image_set: ImageSet) -> None:
    folder = trained(tmp_path / "student", image_set)
    swapped = dataclasses.replace(image_set, classes=["b", "a"], train_labels=1 - image_set.train_labels)
    for weights in (folder, folder / "student.safetensors"):
        teacher = fit_cnn(swapped, SPLIT, TRAINING, tmp_path, RUNTIME, checkpoint=weights)
        assert teacher.classes == ["a", "b"], "the artifact names them"
        answer = teacher.soft_labels(image_set.train_ids, image_set.train_images, "cpu")
        np.testing.assert_array_equal(answer.rows, load(folder).log_probabilities(image_set.train_images, "cpu", 2048))
        assert set(answer.source.tolist()) == {"predicted"}
        truth = np.array(swapped.classes)[swapped.train_labels[SPLIT.val]]
        said = np.array(["a", "b"])[answer.rows[SPLIT.val].argmax(1)]
        assert teacher.scores["network"]["val_accuracy"] == (said == truth).mean()
    teacher.save(tmp_path)
    np.testing.assert_array_equal(
        load_teacher(tmp_path).soft_labels(image_set.train_ids, image_set.train_images, "cpu").rows, answer.rows
    )


def test_weights_that_do_not_fit_are_named(tmp_path: Path, image_set: ImageSet) -> None:
    folder = trained(tmp_path / "student", image_set)

    def refused(images: ImageSet = image_set, **options: Any) -> str:
        with pytest.raises(UserError) as caught:
            fit_cnn(images, SPLIT, TRAINING, tmp_path, RUNTIME, **({"checkpoint": folder} | options))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "holds a small_cnn, and teacher.network=resnet20; take teacher.network=small_cnn" in refused(
        network="resnet20"
    )
    assert "has width 4, and teacher.width=7" in refused(width=7)
    assert "nothing is trained; take teacher.cross_fit=1" in refused(cross_fit=2)
    three = dataclasses.replace(image_set, classes=["a", "b", "c"])
    assert "knows 2 classes (a, b …) and the student 3 (a, b, c …)" in refused(three)
    small = dataclasses.replace(image_set, test_images=image_set.test_images[:, :, :6])
    assert "takes images of [1, 8, 8] (C, H, W), and the student's are [1, 6, 8]" in refused(small)
    bare = tmp_path / "bare.safetensors"
    save_file(build("small_cnn", 2, (1, 8, 8), 0).state_dict(), bare)
    message = refused(checkpoint=bare, network="resnet20")
    assert message.startswith(f"teacher.checkpoint={bare}: not the weights of resnet20")
    assert "small_cnn" in message
    assert "small_cnn" in refused(three, checkpoint=bare), "another number of classes"
    assert "only weights in a student's folder" in refused(checkpoint=bare, width=4)


def test_weights_of_a_file_are_normalised_as_the_students_images(tmp_path: Path, image_set: ImageSet) -> None:
    folder = trained(tmp_path / "student", image_set, width=16)
    bare = tmp_path / "bare.safetensors"
    save_file(load(folder).network.state_dict(), bare)
    teacher = fit_cnn(image_set, SPLIT, TRAINING, tmp_path, RUNTIME, checkpoint=bare)
    np.testing.assert_allclose(
        teacher.soft_labels(image_set.train_ids, image_set.train_images, "cpu").rows,
        load(folder).log_probabilities(image_set.train_images, "cpu", 2048),
        atol=1e-5,
    )


def test_weights_of_torchvisions_own_network(tmp_path: Path, image_set: ImageSet) -> None:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    theirs = resnet18(weights=None, num_classes=2).eval()
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    weights = tmp_path / "theirs.pth"
    teacher = fit_cnn(image_set, SPLIT, TRAINING, tmp_path, RUNTIME, network="resnet18", checkpoint=weights)
    teacher.save(tmp_path)
    images = image_set.train_images[:4]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    scaled = (torch.from_numpy(images).float() / 255 - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        wanted = theirs(scaled).log_softmax(1).numpy()
    found = load_teacher(tmp_path).soft_labels(image_set.train_ids[:4], images, "cpu").rows
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_a_teacher_may_have_a_rate_and_shortcuts_of_its_own(image_set, tmp_path):
    quick = TRAINING | {"epochs": 1, "lr": 0.1}
    fits = [
        fit_cnn(image_set, SPLIT, quick, tmp_path / str(k), RUNTIME, network="resnet8", width=4, **more)
        for k, more in enumerate([{}, {"lr": 0.1}, {"lr": 0.01}, {"shortcut": "projected"}])
    ]
    plain, same, slower, projected = (list(teacher.networks[0].network.state_dict().values()) for teacher in fits)
    assert all(map(torch.equal, plain, same))
    assert not all(map(torch.equal, plain, slower))
    assert len(projected) > len(plain)
    with pytest.raises(UserError, match=r"teacher\.shortcut=padded: small_cnn has no such choice; leave it out"):
        fit_cnn(image_set, SPLIT, quick, tmp_path / "4", RUNTIME, shortcut="padded")

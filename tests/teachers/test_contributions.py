"""Which ROI carries the class is planted; what is found must be it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.teachers.brain_teacher import BrainTeacher, Member
from braindistill.teachers.contributions import (
    Contributions,
    HeldOut,
    class_scores,
    contribute,
    disjoint_cover,
    held_out,
    mean_response,
)
from braindistill.teachers.linear_decoder import LinearDecoder

QUICK = ["lda", "logistic", "ridge", "prototype"]


def subject(shares: dict[str, float], n: int = 120, n_classes: int = 3, voxels: int = 12, runs: int = 0) -> Responses:
    """ROIs of equally many voxels, whose means over a class differ by their share."""
    rng = np.random.default_rng(0)
    label = np.arange(n) % n_classes
    patterns = rng.normal(size=(n_classes, voxels))
    responses = np.concatenate([share * patterns[label] + rng.normal(size=(n, voxels)) for share in shares.values()], 1)
    place = np.repeat(np.arange(len(shares)), voxels)
    return Responses(
        (50 + responses).astype(np.float32),
        np.array([f"s{row:03d}" for row in range(n)]),
        run=np.array([f"r{row * runs // n}" for row in range(n)]) if runs else None,
        label=np.array(list("abc"))[label],
        rois={name: place == number for number, name in enumerate(shares)},
    )


def explain(fit: Any, know: Any, data: Responses, **options: Any) -> tuple[BrainTeacher, HeldOut, Contributions]:
    teacher = fit("decoder", data, know(data), **options)
    held = held_out(teacher, know(data).of_stimulus)
    return teacher, held, contribute(teacher, held, disjoint_cover(teacher.rois, data.responses.shape[1]))


def shares(values: np.ndarray) -> np.ndarray:
    return values.sum(0) / values.sum()


@pytest.mark.parametrize("decoder", QUICK)
def test_the_only_roi_that_carries_the_class_gets_it_all(fit, know, decoder):
    _, _, found = explain(fit, know, subject({"A": 1.5, "B": 0, "C": 0}), decoder=decoder)
    assert found.names == ["A", "B", "C"]
    assert shares(found.gradient_input)[0] > 0.9
    assert np.abs(shares(found.gradient_input)[1:]).max() < 0.05
    # voxels of noise make every correlation smaller, which is a contribution: a negative one
    assert shares(found.shapley)[0] > 0.9
    if decoder != "prototype":
        assert np.abs(shares(found.shapley)[1:]).max() < 0.05


@pytest.mark.parametrize("decoder", ["mlp", "resnet1d"])
def test_networks_too(fit, know, decoder):
    options = {"decoder": decoder, "width": 4, "epochs": 12, "lr": [0.01], "n_folds": 2}
    _, _, found = explain(fit, know, subject({"A": 2, "B": 0}, 400, voxels=16), **options)
    assert shares(found.gradient_input)[0] > 0.9
    assert shares(found.shapley)[0] > 0.9
    np.testing.assert_allclose(found.shapley.sum(1), found.full - found.empty, atol=1e-9)


def test_planted_shares_are_found():
    """A decoder that weighs one ROI twice as much as the other, and a third not at all, on responses that are all alike."""
    weights = np.zeros((6, 2), np.float32)
    weights[:, 0] = [2, 2, 1, 1, 0, 0]
    averaged = np.concatenate([np.ones((4, 6)), np.zeros((4, 6))]).astype(np.float32)
    teacher = planted(weights, averaged)
    held = held_out(teacher, dict.fromkeys(teacher.stimulus_id[:4].tolist(), 0))
    found = contribute(teacher, held, disjoint_cover(teacher.rois, 6))
    # logits of two classes, centred: half of each; the mean response is ½; at a temperature of 2
    expected = np.tile([1, 0.5, 0], (4, 1)) / 2
    np.testing.assert_allclose(found.gradient_input, expected, atol=1e-7)
    np.testing.assert_allclose(found.shapley, expected, atol=1e-7)
    np.testing.assert_allclose(found.empty, 0.75 / 2 * 2, atol=1e-7)


def planted(weights: np.ndarray, averaged: np.ndarray) -> BrainTeacher:
    names = np.array([f"s{row}" for row in range(len(averaged))])
    decoders = [LinearDecoder(weights, np.zeros(2, np.float32)) for _ in range(2)]
    teacher = BrainTeacher("decoder", ["a", "b"], None, names, averaged)
    teacher.members = [Member("", np.arange(averaged.shape[1]), decoders, np.zeros((len(averaged), 2)))]
    teacher.held = (np.arange(len(averaged)) % 2).astype(np.int16)
    teacher.roles = np.where(teacher.held == np.arange(2)[:, None], "-", "d")
    teacher.rois = {"A": np.array([0, 1]), "B": np.array([2, 3]), "C": np.array([4, 5])}
    teacher.temperature["measured"] = 2.0
    return teacher


@pytest.mark.parametrize("decoder", ["lda", "prototype"])
def test_contributions_add_up(fit, know, decoder):
    _, _, found = explain(fit, know, subject({"A": 1, "B": 1, "C": 0.5, "D": 0}), decoder=decoder)
    difference = found.full - found.empty
    np.testing.assert_allclose(found.shapley.sum(1), difference, atol=1e-9)
    np.testing.assert_allclose(found.gradient_input.sum(1), difference, atol=1e-6)
    assert (found.error == 0).all()


def test_of_a_linear_decoder_both_are_its_weights_times_the_deviation(fit, know):
    teacher, held, found = explain(fit, know, subject({"A": 1, "B": 0.5}), decoder="logistic")
    np.testing.assert_allclose(found.shapley, found.gradient_input, atol=1e-9)
    row = 7
    k, label = held.fold[row], held.classes[row]
    weights = teacher.members[0].decoders[k].weights.astype(float)
    slope = (weights[:, label] - weights.mean(1)) / teacher.temperature["measured"]
    training = teacher.averaged[teacher.roles[k] == "d"].mean(0)
    parts = slope * (teacher.averaged[held.rows[row]] - training)
    np.testing.assert_allclose(found.gradient_input[row], [parts[:12].sum(), parts[12:].sum()], rtol=1e-4, atol=1e-4)


def test_captum_agrees_on_a_network(fit, know):
    from captum.attr import ShapleyValues

    data = subject({"A": 2, "B": 1, "C": 0}, 60, voxels=6)
    teacher, held, found = explain(fit, know, data, decoder="mlp", width=4, epochs=5, lr=[0.02], n_folds=2)
    rows = np.flatnonzero(held.fold == 1)
    centre = torch.from_numpy(mean_response(teacher, held, 1))[None]
    x = torch.from_numpy(teacher.averaged[held.rows[rows]]).double()
    mask = torch.arange(18)[None] // 6
    with torch.no_grad():
        explained = ShapleyValues(class_scores(teacher, 1, "cpu"))
        theirs = explained.attribute(x, centre, target=torch.from_numpy(held.classes[rows]), feature_mask=mask)
    np.testing.assert_allclose(found.shapley[rows], theirs[:, ::6], atol=1e-5)


def test_each_response_is_explained_by_the_fold_that_held_it_out(fit, know):
    data = subject({"A": 1, "B": 1})
    teacher, held, found = explain(fit, know, data)
    assert (held.fold == teacher.held).all()
    for decoder in teacher.members[0].decoders[1:]:
        decoder.weights[:] = 0
    changed = contribute(teacher, held, disjoint_cover(teacher.rois, 24))
    np.testing.assert_array_equal(changed.shapley[held.fold == 0], found.shapley[held.fold == 0])
    np.testing.assert_allclose(changed.shapley[held.fold > 0], 0, atol=1e-12)


def test_an_ensemble_is_the_mean_of_its_members(fit, know):
    teacher, _, found = explain(fit, know, subject({"A": 1.5, "B": 0}), roi="each")
    assert len(teacher.members) == 2
    assert shares(found.shapley)[0] > 0.9
    np.testing.assert_allclose(found.shapley.sum(1), found.full - found.empty, atol=1e-9)


def test_chosen_voxels_of_a_network_stand_where_they_were(fit, know):
    options = {"decoder": "mlp", "width": 4, "epochs": 8, "lr": [0.02], "n_folds": 2, "top_voxels": 8}
    _, _, found = explain(fit, know, subject({"B": 0, "A": 2}), **options)
    assert found.names == ["B", "A"]
    assert shares(found.shapley)[1] > 0.9


def test_a_class_that_a_fold_does_not_know_is_left_out(fit, know):
    data = subject({"A": 1})
    data.label[:] = np.where(data.label == "c", "b", data.label)
    data.label[0] = "c"
    teacher = fit("decoder", data, know(data))
    held = held_out(teacher, know(data).of_stimulus)
    assert sorted(set(held.classes.tolist())) == [0, 1]
    assert len(held.rows) == 119


def test_unlabelled_stimuli_that_have_a_label_after_all_are_explained_out_of_fold(fit, know):
    data = subject({"A": 1, "B": 0})
    teacher = fit("decoder", data, know(data, 60))
    held = held_out(teacher, know(data).of_stimulus)
    assert len(held.rows) == 120


def test_folds_by_run_take_trials(fit, know):
    data = subject({"A": 1.5, "B": 0}, runs=6)
    data = dataclasses.replace(data, stimulus_id=np.array([f"s{name}" for name in data.label]))
    teacher = fit("decoder", data, know(data))
    assert (teacher.held < 0).all()
    labels = know(data).of_stimulus
    held = held_out(teacher, labels, data)
    assert held.fold.tolist() == [row // 20 for row in range(120)]
    found = contribute(teacher, held, disjoint_cover(teacher.rois, 24))
    assert shares(found.shapley)[0] > 0.9
    with pytest.raises(UserError, match="its trials' runs are not at hand"):
        held_out(teacher, labels)
    with pytest.raises(UserError, match="other voxels or runs"):
        held_out(teacher, labels, data.select("A"))


def test_what_cannot_be_explained_says_why(fit, know):
    data = subject({"A": 1})
    labels = know(data).of_stimulus
    with pytest.raises(UserError, match="nothing is held out"):
        held_out(fit("decoder", data, know(data), n_folds=1), labels)
    with pytest.raises(UserError, match="none of its stimuli has a label"):
        held_out(fit("decoder", data, know(data)), {})
    with pytest.raises(UserError, match="teacher=encoder has no decoder"):
        held_out(BrainTeacher("encoder", [], None, data.stimulus_id, data.responses), labels)


def index(*ranges: tuple[int, int]) -> np.ndarray:
    return np.concatenate([np.arange(*each) for each in ranges])


def test_only_disjoint_rois_are_used_the_smallest_first():
    cover = disjoint_cover({"VC": index((0, 20)), "LVC": index((0, 10)), "V1": index((0, 5)), "V2": index((5, 10))}, 22)
    assert {name: part.tolist() for name, part in cover.parts.items()} == {
        "V1": [0, 1, 2, 3, 4],
        "V2": [5, 6, 7, 8, 9],
        "rest": list(range(10, 22)),
    }
    assert cover.left_out == {
        "LVC": "10 of its 10 voxels count for V1, V2",
        "VC": "10 of its 20 voxels count for V1, V2",
    }


def test_a_few_shared_voxels_count_for_the_smaller_roi():
    cover = disjoint_cover({"V4": index((0, 10)), "FFA": index((8, 14))}, 14)
    assert {name: len(part) for name, part in cover.parts.items()} == {"V4": 8, "FFA": 6}
    assert not cover.left_out

"""Teachers of ROIs: one each and averaged, a union, or all but one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.teachers.artifact import load_teacher
from braindistill.teachers.brain_teacher import BrainTeacher
from braindistill.teachers.calibration import calibrate, log_softmax
from braindistill.teachers.cross_fitting import Labels

Fit = Callable[..., BrainTeacher]
Make = Callable[..., Responses]
Know = Callable[..., Labels]


@pytest.fixture
def subject(make_subject: Make) -> Responses:
    """Voxels 0–14 are ``left``, 10–19 ``middle`` (they share five), 20–25 in neither, 26–29 nuisance."""
    made = make_subject(48, 3, repeats=2, signal=1.5)
    made.rois["middle"] = (np.arange(30) >= 10) & (np.arange(30) < 20)
    return made


@pytest.mark.parametrize("name", ["decoder", "brain"])
@pytest.mark.parametrize("options", [{"roi": "each"}, {"roi": ["left", "middle"], "ensemble": True}])
def test_an_ensemble_is_the_calibrated_mean_of_its_rois_own_decoders(
    fit: Fit, subject: Responses, know: Know, name: str, options: dict[str, Any]
) -> None:
    known = know(subject)
    teacher = fit(name, subject, known, n_folds=3, **options)
    assert [member.roi for member in teacher.members] == ["left", "middle"]
    # voxels of the union of both, in the order of the data; shared ones belong to both
    assert teacher.averaged.shape == (48, 20)
    assert [member.columns.tolist() for member in teacher.members] == [list(range(15)), list(range(10, 20))]
    alone = [fit("decoder", subject, known, n_folds=3, roi=roi) for roi in ("left", "middle")]
    for member, one in zip(teacher.members, alone, strict=True):
        np.testing.assert_allclose(member.measured, one.measured(), atol=1e-6)
    averaged = log_softmax(np.mean([one.measured() for one in alone], 0))
    classes = np.array([known.of_stimulus[stimulus] for stimulus in teacher.stimulus_id.tolist()])
    temperature = calibrate(averaged, classes)
    assert teacher.temperature["measured"] == pytest.approx(temperature, rel=1e-3)
    rows, source, fold = teacher.soft_labels(teacher.stimulus_id, subject.images, "cpu")
    np.testing.assert_allclose(rows, log_softmax(averaged / temperature), atol=1e-3)
    assert set(source.tolist()) == {"measured"}
    np.testing.assert_array_equal(fold, teacher.held)
    for roi, one in zip(("left", "middle"), alone, strict=True):
        expected = {key: one.scores["decoder"][key] for key in ("accuracy", "n_trials", "chance", "scheme")}
        assert teacher.scores["roi"][roi]["decoder"] == expected
    if name == "brain":
        assert {len(score) for score in teacher.scores["roi"].values()} == {2}, "encoder and decoder of each"


@pytest.mark.parametrize(
    "options", [{}, {"decoder": "prototype"}, {"encoder": "banded", "features": "gabor"}, {"top_voxels": 4}]
)
def test_composed_predictions_are_those_done_by_hand(
    fit: Fit, subject: Responses, know: Know, tmp_path: Path, options: dict[str, Any]
) -> None:
    teacher = fit("brain", subject, know(subject), n_folds=3, roi="each", **options)
    pictures = np.random.default_rng(0).integers(0, 256, (9, 1, 6, 6)).astype(np.uint8)
    inputs = teacher.reader.extract(pictures)
    spoken = []
    for k, encoder in enumerate(teacher.encoders):
        responses = encoder.predict(inputs)
        for member in teacher.members:
            spoken.append(member.decoders[k].predict(responses[:, member.columns]))
    assert len(spoken) == 6
    np.testing.assert_allclose(teacher.decode(inputs), log_softmax(np.mean(spoken, 0)), atol=1e-4)
    np.testing.assert_allclose(teacher.decode(inputs, 1), log_softmax(np.mean(spoken[2:4], 0)), atol=1e-4)
    ids = np.array([f"new-{row}" for row in range(9)])
    rows, source, _ = teacher.soft_labels(ids, pictures, "cpu")
    assert set(source.tolist()) == {"predicted"}
    by_hand = log_softmax(log_softmax(np.mean(spoken, 0)) / teacher.temperature["predicted"])
    np.testing.assert_allclose(rows, by_hand, atol=1e-3)
    teacher.save(tmp_path)
    back = load_teacher(tmp_path)
    assert [member.roi for member in back.members] == ["left", "middle"]
    assert back.scores == teacher.scores
    np.testing.assert_array_equal(back.soft_labels(ids, pictures, "cpu").rows, rows)
    np.testing.assert_array_equal(back.measured(), teacher.measured())


def test_the_composed_score_is_that_of_the_ensemble_on_held_stimuli(fit: Fit, subject: Responses, know: Know) -> None:
    known = know(subject)
    teacher = fit("brain", subject, known, n_folds=3, roi="each")
    place = {name: row for row, name in enumerate(subject.image_id.tolist())}
    right = []
    for row, name in enumerate(teacher.stimulus_id.tolist()):
        inputs = teacher.reader.extract(subject.images[[place[name]]])
        right.append(teacher.decode(inputs, int(teacher.held[row])).argmax() == known.of_stimulus[name])
    assert teacher.scores["composed"]["accuracy"] == pytest.approx(np.mean(right))
    assert np.mean(right) > 0.6


def test_a_list_is_a_union_and_a_minus_leaves_an_roi_out(fit: Fit, subject: Responses, know: Know) -> None:
    known = know(subject)
    union = fit("decoder", subject, known, n_folds=3, roi=["left", "middle"])
    assert [member.roi for member in union.members] == [""]
    assert union.members[0].columns.tolist() == list(range(20))
    voxels = {name: trials for name, trials in zip(union.stimulus_id.tolist(), union.averaged, strict=True)}
    first = subject.stimulus_id[0]
    mean = subject.responses[subject.stimulus_id == first].mean(0)
    np.testing.assert_allclose(voxels[first], mean[:20], atol=1e-6)
    rest = fit("decoder", subject, known, n_folds=3, roi="-left")
    np.testing.assert_allclose(rest.averaged[rest.stimulus_id.tolist().index(first)], mean[15:26], atol=1e-6)
    assert set(rest.rois) == {"middle"}
    assert rest.rois["middle"].tolist() == list(range(5)), "what is left of an ROI that shared voxels"


@pytest.mark.parametrize("options", [{"roi": "each"}, {"ensemble": True}])
@pytest.mark.parametrize("name", ["decoder", "brain"])
def test_without_rois_there_is_none_to_fit_a_teacher_each_for(
    fit: Fit, subject: Responses, know: Know, name: str, options: dict[str, Any]
) -> None:
    subject.rois = {"nuisance": subject.rois["nuisance"]}
    with pytest.raises(UserError, match=r"teacher\.roi=(each|all): the data (have no ROI masks|name no ROI)") as error:
        fit(name, subject, know(subject), **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("roi", ["midle", ["left", "midle"], "-midle"])
def test_an_unknown_roi_names_the_nearest(fit: Fit, subject: Responses, know: Know, roi: Any) -> None:
    with pytest.raises(UserError, match=r"ROI 'midle' is not in this data set; .*'?middle"):
        fit("decoder", subject, know(subject), roi=roi, ensemble=isinstance(roi, list))


def test_the_nuisance_control_of_an_ensemble_has_one_decoder(fit: Fit, make_subject: Make, know: Know) -> None:
    subject = make_subject(40, 2)
    teacher = fit("decoder", subject, know(subject), roi="each", control="nuisance", n_folds=2)
    assert [(member.roi, len(member.columns)) for member in teacher.members] == [("", 4)]

"""The stage on a subject of whom one ROI carries the class, and what it leaves out with which reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.images import ImageSet
from braindistill.runtime import Runtime, seeded
from braindistill.stages import explain, train_teacher
from braindistill.stages import features as features_stage
from braindistill.students.artifact import save
from braindistill.students.build import build
from braindistill.targets import Masks

RUNTIME = Runtime(device="cpu", tensorboard=False, verbosity=0)
N, N_TEST = 60, 40


class Case:
    """Pictures whose class lies in their upper half; V1 carries it, V4 doesn't."""

    def __init__(self, root: Path) -> None:
        self.root = root
        rng = np.random.default_rng(0)
        label = np.arange(N + N_TEST) % 2
        pictures = rng.integers(0, 120, (N + N_TEST, 1, 8, 8)).astype(np.uint8)
        pictures[label == 1, :, :4] += 100
        names = np.array([f"p{row:03d}" for row in range(N + N_TEST)])
        signal = np.where(label[:N, None] == 1, 1.0, -1.0) * rng.normal(1, 0.3, 12)
        values = np.concatenate([signal, np.zeros((N, 12))], 1) + rng.normal(0, 0.7, (N, 24))
        rois = {"V1": np.arange(24) < 12, "V4": np.arange(24) >= 12, "VC": np.ones(24, bool)}
        classes = np.array(["off", "on"])
        Responses(
            values.astype(np.float32), names[:N], label=classes[label[:N]], rois=rois,
            run=np.array([f"r{row % 3}" for row in range(N)]), images=pictures[:N], image_id=names[:N],
        ).save(root / "responses")  # fmt: skip
        train = (pictures[:N], names[:N], label[:N].astype(np.int64))
        self.images = ImageSet(*train, pictures[N:], names[N:], label[N:].astype(np.int64), classes.tolist())
        self.images.save(root / "images")

    def out(self, name: str) -> Path:
        (self.root / name).mkdir(exist_ok=True)
        return self.root / name

    def teacher(self, name: str, **options: Any) -> Path:
        inputs = {"responses": self.root / "responses"}
        if name != "decoder":
            read = {"teacher": {"name": "features", "features": "pixels"}}
            features_stage.run(read, inputs, self.out("features"), RUNTIME)
            inputs["features"] = self.root / "features"
        shared = {"name": name, "n_folds": 3, "seed": 0} | ({} if name == "encoder" else {"labels": "all"})
        train_teacher.run({"teacher": shared | options}, inputs, self.out(name), RUNTIME)
        return self.root / name

    def student(self, seed: int) -> Path:
        with seeded(seed, "test"):
            network = build("small_cnn", 2, (1, 8, 8), seed, width=4)
        description = {"name": "small_cnn", "options": {"width": 4}, "classes": ["off", "on"], "image_shape": [1, 8, 8]}
        save(network, self.out(f"student-{seed}"), description | {"mean": [0.4], "std": [0.3]})
        return self.root / f"student-{seed}"

    def explain(self, teacher: Path | None = None, config: Any = None, **more: Path) -> dict[str, Any]:
        inputs = {"images": self.root / "images", "responses": self.root / "responses"} | more
        inputs |= {"teacher": teacher} if teacher else {}
        explain.run(config or {}, inputs, self.out("explained"), RUNTIME)
        return json.loads((self.root / "explained" / "explain.json").read_text())


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_everything_that_there_is(case: Case) -> None:
    students = {"student/baseline": case.student(0), "student/brain": case.student(1)}
    found = case.explain(case.teacher("brain"), **students)
    assert set(found["skipped"]) == {"decoder_cam"}
    assert "teacher.decoder=lda has no axis" in found["skipped"]["decoder_cam"]
    assert list(found["contributions"]) == ["off", "on"]
    for rois in found["contributions"].values():
        assert list(rois) == ["V1", "V4"]
        for kinds in rois.values():
            assert set(kinds) == {"gradient_input", "shapley"}
            for value in kinds.values():
                assert list(value) == ["mean", "ci_low", "ci_high", "per_seed"]
                assert len(value["per_seed"]) == 3, "a fold each"
                assert value["mean"] == pytest.approx(np.mean(value["per_seed"]))
        assert rois["V1"]["shapley"]["ci_low"] > abs(rois["V4"]["shapley"]["mean"])
    assert found["contribution_shares"]["V1"]["shapley"]["mean"] > 0.9
    about = found["contributions_of"]
    assert about["responses"] == N
    assert about["exact"]
    assert about["n_voxels"] == {"V1": 12, "V4": 12}
    assert about["left_out"] == {"VC": "24 of its 24 voxels count for V1, V4"}
    with np.load(case.root / "explained" / "saliency.npz", allow_pickle=False) as kept:
        assert kept["images"].shape == (12, 1, 8, 8)
        assert kept["images"].dtype == np.uint8
        assert np.bincount(kept["labels"]).tolist() == [6, 6]
        assert kept["arms"].tolist() == ["baseline", "brain"]
        assert kept["maps"].shape == (2, 12, 8, 8)
        assert kept["maps"].dtype == np.float16
        np.testing.assert_array_equal(kept["images"], case.images.test_images[:12])
    assert found["saliency"] == {"images": 12, "file": "saliency.npz", "without": {}}
    assert list(found["mask_overlap"]) == ["baseline", "brain"]
    for value in found["mask_overlap"].values():
        assert 0 <= value["ci_low"] <= value["mean"] <= value["ci_high"] <= 1
        assert len(value["per_seed"]) == 10, "a group of images each"
        assert {"permuted", "rank", "permuted_rank"} < set(value)
        assert value["excess"]["mean"] == pytest.approx(value["mean"] - value["permuted"]["mean"])
    assert found["mask_overlap_of"] == {"images": N_TEST}


def test_it_is_the_same_every_time(case: Case) -> None:
    teacher, students = case.teacher("brain"), {"student/baseline": case.student(0)}
    first = case.explain(teacher, **students)
    maps = (case.root / "explained" / "saliency.npz").read_bytes()
    assert case.explain(teacher, **students) == first
    assert (case.root / "explained" / "saliency.npz").read_bytes()[:100] == maps[:100]


def test_a_residual_network_is_asked_along_its_axis(case: Case) -> None:
    found = case.explain(case.teacher("decoder", decoder="resnet1d", width=4, epochs=6, lr=[0.01]))
    cam = found["decoder_cam"]
    means = [value["mean"] for value in cam.values()]
    assert means == sorted(means, reverse=True)
    assert sum(means) == pytest.approx(1)
    assert {roi: value["uniform"] for roi, value in cam.items()} == {"V1": 0.5, "V4": 0.5}
    assert "has no encoder" in found["skipped"]["mask_overlap"] or "no student" in found["skipped"]["mask_overlap"]
    assert found["skipped"]["saliency"] == "no student is at hand"


def test_folds_by_run_read_the_trials(case: Case) -> None:
    data = Responses.load(case.root / "responses")
    data.stimulus_id, data.images, data.image_id = np.array([f"block-{name}" for name in data.label]), None, None
    data.save(case.root / "responses")
    teacher = case.teacher("decoder", roi="VC")
    found = case.explain(teacher, {"teacher": {"name": "decoder", "roi": "VC", "decoder": "lda"}})
    assert found["contribution_shares"]["V1"]["shapley"]["mean"] > 0.9
    assert found["contributions_of"]["responses"] == N
    # without the arm's options the voxels at hand would be others
    teacher = case.teacher("decoder", roi="V1")
    assert "other voxels" in case.explain(teacher)["skipped"]["contributions"]


def test_without_a_teacher_only_students_are_shown(case: Case) -> None:
    found = case.explain(**{"student/baseline": case.student(0)})
    assert set(found) == {"saliency", "skipped"}
    assert found["skipped"] == {
        "contributions": "no brain arm was run, whose teacher could be explained",
        "decoder_cam": "no brain arm was run, whose teacher could be explained",
        "mask_overlap": "no brain arm was run, whose encoder could say where it looks",
    }


def test_an_encoder_has_masks_but_no_soft_labels(case: Case) -> None:
    found = case.explain(case.teacher("encoder"), **{"student/baseline": case.student(0)})
    assert set(found["skipped"]) == {"contributions", "decoder_cam"}
    assert found["skipped"]["contributions"].startswith("teacher=encoder has no decoder of voxels")
    assert "baseline" in found["mask_overlap"]


def test_other_reasons(case: Case) -> None:
    data = Responses.load(case.root / "responses")
    data.rois = {}
    data.save(case.root / "responses")
    found = case.explain(case.teacher("decoder"), **{"student/baseline": case.student(0)})
    assert found["skipped"]["contributions"] == (
        "the teacher's voxels lie in no ROI, so there are no parts of the brain to compare"
    )
    assert "has no encoder" in found["skipped"]["mask_overlap"]
    nothing = case.explain()
    assert nothing["skipped"]["saliency"] == "no student is at hand"
    assert not (case.root / "explained" / "other.npz").exists()


def test_a_mask_target_may_take_the_encoders_place(case: Case) -> None:
    maps = np.zeros((N, 8, 8), np.float16)
    maps[:, :4, :4] = 1
    masks = Masks(case.images.train_ids[::-1], maps, {"sources": {}}, np.full(N, "predicted"), np.zeros(N, np.int16))
    masks.save(case.out("masks"))
    found = case.explain(None, masks=case.root / "masks", **{"student/baseline": case.student(0)})
    value = found["mask_overlap"]["baseline"]
    assert value["permuted"]["mean"] == pytest.approx(value["mean"]), "all masks are alike"
    assert found["mask_overlap_of"] == {"images": N}


def test_a_student_without_a_map_does_not_stop_the_others(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(student: torch.nn.Module, *rest: Any) -> np.ndarray:
        if student.description["mean"] == [0.5]:
            raise UserError("student=flat has no convolutional map")
        return real(student, *rest)

    real = explain.trace_student
    other = case.student(1)
    record = json.loads((other / "student.json").read_text())
    (other / "student.json").write_text(json.dumps(record | {"mean": [0.5]}))
    monkeypatch.setattr(explain, "trace_student", refuse)
    found = case.explain(**{"student/a": case.student(0), "student/b": other})
    assert found["saliency"]["without"] == {"b": "student=flat has no convolutional map"}
    with np.load(case.root / "explained" / "saliency.npz", allow_pickle=False) as kept:
        assert kept["arms"].tolist() == ["a"]


def test_networks_are_asked_about_no_more_than_there_is_time_for(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "_PASSES", 72)  # two ROIs make four sets
    teacher = case.teacher("decoder", decoder="mlp", width=2, epochs=1, lr=[0.01])
    about = case.explain(teacher)["contributions_of"]
    assert (about["responses"], about["of"], about["folds"]) == (18, N, 3)

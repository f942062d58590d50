"""Bad input to teachers and targets, through the command line: one clear line, and no artifact of the verb."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

QUICK = ["images.n_train=8", "images.n_pool=16", "runtime.verbosity=0"]


@pytest.fixture
def refused(run, write, tmp_path) -> Callable[..., None]:
    """Run a verb on the two files, each with some arrays changed, and look at what it says."""

    def check(
        message: str, verb: str, *words: str, code: int = 1, fmri: dict | None = None, images: dict | None = None
    ) -> None:
        files = [write("fmri", **(fmri or {})), write("images", **(images or {}))]
        ran = run(verb, "fmri=arrays", "images=arrays", *files, *QUICK, *words, cache="cache")
        assert ran.code == code, ran.err
        (line,) = [said for said in ran.err.splitlines() if not said.startswith("warning: ")]
        assert line.startswith("braindistill: ")
        assert re.search(message, line), line
        assert ran.out == ""
        assert not [path for path in tmp_path.glob(f"cache/{verb}/*") if path.suffix != ".lock"]

    return check


class TestFolds:
    def test_by_stimulus_where_a_class_is_a_single_one(self, refused, arrays):
        label = arrays["fmri"]["label"].copy()
        label[arrays["fmri"]["stimulus_id"] == "picture-05"] = "seldom"
        refused(
            r"teacher\.folds=stimulus: class 'seldom' has a single labelled stimulus \(picture-05\)",
            "train-teacher",
            "teacher=decoder",
            "teacher.folds=stimulus",
            fmri={"label": label},
        )

    @pytest.mark.parametrize("runs", [None, np.full(48, "1")])
    def test_by_run_where_there_are_none(self, runs, refused):
        words = ["teacher=decoder", "teacher.folds=run"]
        message = (
            rf"teacher\.folds=run, but the data name {int(runs is not None)} run\(s\): at least 2 are needed; take"
        )
        refused(message, "train-teacher", *words, fmri={"run": runs})

    def test_of_brain_teachers_where_every_class_is_a_single_stimulus(self, refused):
        names = np.repeat(["first", "second"], 24)
        fmri = {"stimulus_id": names, "label": names, "images": np.zeros((2, 8, 8), np.uint8)}
        fmri |= {"image_id": np.unique(names), "run": np.tile(["1", "2"], 24)}
        refused("each class is a single stimulus", "train-teacher", "teacher=brain", fmri=fmri)

    @pytest.mark.parametrize("teacher", ["encoder", "brain", "features"])
    def test_more_than_there_are_stimuli(self, teacher, refused):
        message = r"teacher\.n_folds=25: there are only 24 stimuli; take at most that many"
        refused(message, "train-teacher", f"teacher={teacher}", "teacher.n_folds=25")

    def test_more_than_there_are_labelled_images(self, refused):
        message = r"teacher\.n_folds=9: with 8 labelled images there can be 2 to 8 folds"
        refused(message, "train-teacher", "teacher=handcrafted", "teacher.n_folds=9")


class TestVoxels:
    def test_more_rois_than_voxels(self, refused):
        masks = {f"roi_{number}": np.arange(20) == number % 12 for number in range(30)}
        refused(
            r"teacher\.decoder=resnet1d: the data have more ROIs \(31\) than voxels \(12\)",
            "train-teacher",
            "teacher=decoder",
            "teacher.decoder=resnet1d",
            "teacher.channels=roi",
            fmri=masks,
        )

    def test_an_roi_each_of_data_without_any(self, refused):
        masks = {"roi_V1": None, "roi_nuisance": None}
        refused(r"teacher\.roi=each: the data have no ROI", "train-teacher", "teacher.roi=each", fmri=masks)

    def test_an_roi_that_a_teacher_has_not(self, refused):
        words = ["teacher=encoder", "teacher.roi=V1", "target=mask", "target.roi=V7"]
        refused(r"target\.roi=V7: the teacher has no such ROI; did you mean 'V1'\?", "export", *words)

    def test_random_readouts_without_an_encoder(self, refused):
        words = ["teacher=decoder", "teacher.control=random_readout"]
        refused(r"teacher\.control=random_readout reads the features of an encoder", "train-teacher", *words)


class TestLabels:
    def test_soft_labels_of_data_without_labels(self, refused):
        message = r"teacher\.labels=all: the fMRI data have no labels.*target=voxels, relations or mask"
        refused(message, "train-teacher", "teacher=brain", fmri={"label": None})

    def test_soft_labels_of_an_encoder(self, refused):
        refused(r"no decoder, so it gives no soft labels; take target=voxels", "export", "teacher=encoder")

    def test_another_set_of_classes(self, refused, arrays):
        label = np.where(arrays["fmri"]["label"] == "1", "dog", "cat")
        message = r"the target's classes are cat, dog, the student's are 0, 1: .* target\.mapping=FILE"
        refused(message, "export", "teacher=decoder", "images.n_pool=0", fmri={"label": label})

    def test_a_mapping_that_leads_nowhere(self, refused, tmp_path):
        (tmp_path / "map.csv").write_text("cat,0\ndog,1\n")
        words = [f"target.mapping={tmp_path / 'map.csv'}", "images.n_pool=0"]
        refused(r"target\.mapping: no row leads from a class of the teacher \(0, 1 …\)", "export", *words)

    def test_a_table_of_other_images(self, refused, tmp_path):
        table = tmp_path / "counts.csv"
        table.write_text("image_id,0,1\nanimal-1,3,4\n")
        message = (
            r"teacher\.path=\S*counts\.csv: none of its 1 ids is that of a training image: they are like 'animal-1'"
        )
        refused(message, "train-teacher", "teacher=human", f"teacher.path={table}")

    @pytest.mark.parametrize("control", ["shuffled_within", "random_matched"])
    def test_controls_that_need_labels_of_the_pool(self, control, refused):
        message = rf"target\.control={control} needs each image's true class.* take target\.images=labelled"
        refused(message, "export", "teacher=random", f"target.control={control}")


class TestNumbers:
    @pytest.mark.parametrize("option", ["width=0", "epochs=0", "lr=[0.01,-1]", "lr=[]", "top_voxels=0"])
    def test_of_a_decoder(self, option, refused):
        message = rf"teacher\.{option.split('=')[0]}=\S+: (expected more than 0|give a learning rate)"
        refused(message, "train-teacher", "teacher=decoder", f"teacher.{option}")

    @pytest.mark.parametrize("option", ["encoder_epochs=0", "encoder_lr=0"])
    def test_of_an_encoder(self, option, refused):
        refused(rf"teacher\.{option}\S*: expected more than 0", "train-teacher", "teacher=encoder", f"teacher.{option}")

    @pytest.mark.parametrize("teacher", [["teacher=decoder", "teacher.decoder=logistic"], ["teacher=handcrafted"]])
    def test_a_penalty_of_zero(self, teacher, refused):
        words = [*teacher, "teacher.penalty=0", "teacher.n_folds=2"]
        refused(r"teacher\.penalty=0: expected more than 0", "train-teacher", *words)


class TestWeights:
    @pytest.fixture
    def student(self, tmp_path) -> Path:
        """A folder with the weights of a small network."""
        from braindistill.students.artifact import save
        from braindistill.students.build import build

        network = build("small_cnn", 2, (1, 8, 8), 0, width=4)
        described = {"name": "small_cnn", "options": {"width": 4}, "classes": ["0", "1"], "image_shape": [1, 8, 8]}
        save(network, tmp_path / "student", described | {"mean": [0.0], "std": [1.0]})
        return tmp_path / "student"

    def test_of_another_student(self, student, refused):
        words = ["teacher=encoder", "teacher.features=network", "teacher.network=resnet20", "teacher.layers=[layer1]"]
        weights = f"teacher.weights={student / 'student.safetensors'}"
        message = (
            r"the weights of the student small_cnn, and teacher\.network=resnet20; take teacher\.network=small_cnn"
        )
        refused(message, "train-teacher", *words, weights)

    def test_of_another_network_of_which_only_the_tensors_are_known(self, refused, tmp_path):
        from safetensors.torch import save_file

        from braindistill.students.build import build

        save_file(build("resnet20", 2, (3, 32, 32), 0).state_dict(), tmp_path / "net.safetensors")
        words = ["teacher=encoder", "teacher.features=network", "teacher.network=small_cnn", "teacher.layers=[1]"]
        message = (
            r"not the weights of small_cnn: the file holds \d+ tensors, .* of the student resnet20, and .* expects"
        )
        refused(message, "train-teacher", *words, f"teacher.weights={tmp_path / 'net.safetensors'}")

    def test_of_another_network_for_ordinary_kd(self, student, refused):
        words = ["teacher=cnn", "teacher.network=resnet20", f"teacher.checkpoint={student}"]
        refused(r"holds a small_cnn, and teacher\.network=resnet20; take", "train-teacher", *words)

    def test_an_unknown_network(self, refused):
        message = r"teacher\.network=resnet19: neither torchvision nor braindistill has such a network; did you mean"
        refused(message, "train-teacher", "teacher=cnn", "teacher.network=resnet19")

    def test_an_unknown_layer(self, refused):
        words = ["teacher=encoder", "teacher.features=network", "teacher.network=small_cnn", "teacher.layers=[layer9]"]
        refused(r"teacher\.layers: small_cnn has no layer 'layer9'; known: 0, 1", "train-teacher", *words)

    @pytest.mark.parametrize("given", ["0123abc", "nowhere/teacher"])
    def test_a_teacher_to_continue_that_is_not_there(self, given, refused):
        message = rf"teacher\.init_from: key {given}: no such artifact in"
        refused(message, "train-teacher", "teacher=encoder", f"teacher.init_from={given}", code=2)

    def test_a_folder_to_continue_that_holds_no_teacher(self, student, refused):
        words = ["teacher=encoder", f"teacher.init_from={student}"]
        refused(r"student: holds no teacher \(teacher\.json is missing\)", "train-teacher", *words)


class TestTargets:
    RDM = np.array([[0, 1, 2.0], [1, 0, 3], [2, 3, 0]])
    NAMES = np.array(["picture-00", "picture-01", "picture-02"])

    @pytest.mark.parametrize(
        ("stored", "message"),
        {
            "not square": (
                {"rdm": RDM[:2], "image_id": NAMES[:2]},
                "rdm must be a square matrix of numbers; found .*2 × 3",
            ),
            "not symmetric": (
                {"rdm": RDM + np.triu(RDM), "image_id": NAMES},
                "not symmetric: picture-01, picture-02 is 6 one way and 3 the other",
            ),
            "not named": ({"rdm": RDM}, "lacks 'image_id'; found rdm"),
            "too few names": ({"rdm": RDM, "image_id": NAMES[:2]}, "image_id names 2 rows, but rdm has 3"),
            "a name twice": (
                {"rdm": RDM, "image_id": NAMES[[0, 1, 1]]},
                "image_id names 1 images more than once .first: picture-01.",
            ),
            "other names": ({"rdm": RDM, "image_id": np.array(["a", "b", "c"])}, "names 0 of the 24 training images"),
        }.values(),
    )
    def test_an_rdm_that_is_none(self, stored, message, refused, tmp_path):
        np.savez(tmp_path / "rdm.npz", **stored)
        words = ["target=relations", f"target.rdm={tmp_path / 'rdm.npz'}"]
        refused(rf"target\.rdm=\S*rdm\.npz: {message}", "export", *words)

    @pytest.mark.parametrize(
        ("method", "target", "needed"),
        [("voxels", "soft_labels", "voxels"), ("rdm", "voxels", "relations"), ("kd", "relations", "soft_labels")],
    )
    def test_a_method_that_learns_from_another_kind(self, method, target, needed, refused, tmp_path):
        message = rf"method={method} learns from {needed}, and target={target} holds no such: take target={needed}"
        refused(message, "distill", f"method={method}", f"target={target}", code=2)
        refused(
            f"arm a: {message}",
            "eval",
            "eval.arms=[a]",
            f"+eval.definitions.a=[method={method},target={target}]",
            code=2,
        )
        assert not list(tmp_path.glob("cache/*/*"))

    @pytest.mark.parametrize("target", ["voxels", "relations", "mask"])
    def test_of_a_teacher_without_voxels(self, target, refused):
        refused("teacher=random has no (voxels to learn from|encoder)", "export", "teacher=random", f"target={target}")

    @pytest.mark.parametrize("target", ["voxels", "relations"])
    def test_predicted_responses_of_a_decoder(self, target, refused):
        refused(r"teacher=decoder has no encoder", "export", "teacher=decoder", f"target={target}")

    def test_grad_cam_on_pixels(self, refused):
        message = r"target\.attribution=gradcam needs a convolutional layer, .* teacher\.features=network"
        refused(message, "export", "teacher=encoder", "target=mask", "target.attribution=gradcam")

    def test_in_sample_soft_labels(self, refused):
        words = ["teacher=decoder", "teacher.n_folds=1", "images.n_pool=0"]
        refused(r"8 targets would be in sample \(first: picture-\d+\).*teacher\.n_folds ≥ 2", "export", *words)

"""Bad input through the command line: one clear line, a non-zero exit, and nothing that looks finished."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def prepare(run, write):
    """Run `prepare` on the two files, each with some of its arrays changed."""

    def command(*words: str, fmri: dict | None = None, images: dict | None = None, verb: str = "prepare"):
        files = [write("fmri", **(fmri or {})), write("images", **(images or {}))]
        return run(verb, "fmri=arrays", "images=arrays", *files, *words, cache="cache")

    return command


def one_line(ran, message: str, code: int = 1) -> None:
    """One line by us, no traceback; progress may come before it."""
    said = [line for line in ran.err.splitlines() if not line.startswith(("build ", "reused ", "      "))]
    assert len(said) == 1, ran.err
    assert re.search(message, said[0]), said[0]
    assert said[0].startswith("braindistill: ")
    assert ran.code == code
    assert ran.out == ""


def test_good_input(prepare, tmp_path):
    ran = prepare()
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[-1].startswith(str(tmp_path / "cache" / "prepare"))


def test_a_missing_file(run):
    one_line(
        run("prepare", "fmri=arrays", "fmri.path=gone.npz"), r"fmri\.path: \S*/gone\.npz: there is no such file", 2
    )


def test_a_file_that_is_no_npz(run, write, tmp_path):
    (tmp_path / "notes.npz").write_text("trials and voxels")
    one_line(run("prepare", "fmri=arrays", "fmri.path=notes.npz"), r"fmri\.path=\S*notes\.npz: not an \.npz file")
    (tmp_path / "some.npy").write_bytes(b"\x93NUMPY")
    ran = run("prepare", "images=arrays", "images.path=some.npy", "fmri=arrays", write("fmri"))
    one_line(ran, r"images\.path=\S*some\.npy: not an \.npz file")


FMRI = {
    "missing key": ({"stimulus_id": None}, r"no key stimulus_id; keys found: responses, run, label, roi_V1"),
    "trials against ids": ({"stimulus_id": np.array(["a"] * 47)}, r"stimulus_id has 47 .* 48 trials"),
    "one dimension": (
        {"responses": np.zeros(48, np.float32)},
        r"responses has shape \(48,\); expected trials × voxels",
    ),
    "words for numbers": ({"responses": np.full((48, 20), "x")}, r"responses has type <U1; expected real numbers"),
    "objects": ({"run": np.array([None] * 48, object)}, r"run is an array of Python objects"),
    "ROI of another size": ({"roi_V1": np.ones(19, bool)}, r"ROI V1 is bool \(19,\); expected a bool mask over the 20"),
    "images without ids": ({"image_id": None}, r"images and image_id come together"),
    "two labels": ({"label": np.arange(48).astype(str)}, r"has the label '0' in one trial and '24' in trial 24"),
}


@pytest.mark.parametrize(("changes", "message"), FMRI.values(), ids=FMRI)
def test_responses_that_contradict_themselves(changes, message, prepare):
    one_line(prepare(fmri=changes), message)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_not_finite(value, prepare, arrays):
    responses = arrays["fmri"]["responses"].copy()
    responses[5, 7] = responses[9, 2] = value
    ran = prepare(fmri={"responses": responses})
    one_line(ran, r"2 of 960 responses are NaN or infinite, the first in trial 5 \(stimulus picture-05\), voxel 7")


def test_constant_voxels_are_left_out_with_their_count(prepare, arrays):
    responses = arrays["fmri"]["responses"].copy()
    responses[:, [3, 15]] = 4.5
    ran = prepare(fmri={"responses": responses})
    assert ran.code == 0
    assert "left out 2 of 20 voxels that are constant over all trials" in ran.err
    responses[:] = 1
    one_line(prepare(fmri={"responses": responses}), "all 20 voxels are constant over trials")


def test_an_unknown_roi(prepare):
    ran = prepare("teacher=decoder", "teacher.roi=V9", "runtime.verbosity=0", verb="train-teacher")
    one_line(ran, r"ROI 'V9' is not in this data set; did you mean 'V1'\? known: V1, all, nuisance")


def test_a_stimulus_without_its_image(prepare, arrays):
    fmri = {"images": arrays["fmri"]["images"][:-2], "image_id": arrays["fmri"]["image_id"][:-2]}
    one_line(prepare(fmri=fmri), r"2 stimuli have no image: picture-22, picture-23")


class TestAStimulusAmongTheTestImages:
    def test_by_its_pixels(self, prepare, arrays):
        test = arrays["images"]["test_images"].copy()
        test[3] = arrays["fmri"]["images"][0]
        one_line(prepare(images={"test_images": test}), r"1 test images were shown to the subject: test-00003; remove")

    def test_by_its_id(self, prepare):
        ids = np.array([f"test-{number}" for number in range(19)] + ["picture-02"])
        train = np.array([f"other-{number}" for number in range(24)])
        one_line(prepare(images={"test_ids": ids, "train_ids": train}), r"shown to the subject: picture-02")

    def test_where_it_is_allowed_it_marks_the_table(self, prepare, arrays):
        test = arrays["images"]["test_images"].copy()
        test[3] = arrays["fmri"]["images"][0]
        words = ["images.allow_overlap=true", "eval.arms=[baseline]", "eval.seeds=1", "train.epochs=1"]
        words.append("train.batch_size=24")
        ran = prepare(*words, images={"test_images": test}, verb="eval")
        assert ran.code == 0, ran.err
        assert "warning: 1 test images were shown to the subject: test-00003" in ran.err
        assert "stimuli among the test images were allowed (images.allow_overlap=true)" in ran.out


class TestSoftLabelsOfOnesOwn:
    @pytest.fixture
    def export(self, prepare, tmp_path):
        def command(rows, *words: str, **others):
            np.savez(tmp_path / "rows.npz", rows=rows, **others)
            path = tmp_path / "rows.npz"
            return prepare("target=file", f"target.path={path}", *words, "runtime.verbosity=0", verb="export")

        return command

    def test_good_ones(self, export):
        assert export(np.full((24, 2), 0.5)).code == 0

    def test_rows_that_do_not_sum_to_one(self, export):
        rows = np.full((24, 2), 0.5)
        rows[4] = 0.7
        one_line(
            export(rows), r"row 4 sums to 1\.4, expected 1: give probabilities, not logits \(1 of 24 rows are off\)"
        )

    def test_another_number_of_rows(self, export):
        one_line(export(np.full((20, 2), 0.5)), r"20 rows without image_id, but there are 24 training images")

    def test_other_images(self, export):
        one_line(
            export(np.full((2, 2), 0.5), image_id=np.array(["a", "b"])),
            r"no row for 24 of 24 training images \(first: picture-00, .*\); its ids are like a",
        )

    def test_another_number_of_classes(self, export):
        one_line(export(np.full((24, 3), 1 / 3)), r"3 columns, but there are 2 classes")


def test_a_class_without_training_images(prepare, arrays):
    images = {"train_labels": np.zeros(24, int), "classes": np.array(["circle", "square"])}
    ran = prepare("method=none", "images.n_train=8", "runtime.verbosity=0", images=images, verb="distill")
    one_line(ran, "class without training images: square")


def test_fewer_stimuli_than_folds(prepare):
    ran = prepare("teacher=decoder", "teacher.n_folds=25", "runtime.verbosity=0", verb="train-teacher")
    one_line(ran, r"teacher\.n_folds=25: there are only 24 stimuli")


def test_a_cache_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("in the way")
    one_line(run("prepare", cache="file/cache"), r"runtime\.cache=file/cache: can't write there \(Not a directory\)", 2)


def test_a_gpu_that_is_not_there(prepare):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    one_line(prepare("runtime.device=cuda", "runtime.verbosity=0"), "no CUDA device that torch can use", 2)


@pytest.mark.parametrize("verb", ["prepare", "distill"])
def test_nothing_is_left_of_a_failed_build(verb, prepare, tmp_path):
    ran = prepare(fmri={"stimulus_id": None}, verb=verb)
    assert ran.code == 1
    assert not [path for path in tmp_path.glob("cache/*/*") if path.suffix != ".lock"]
    assert prepare(verb="prepare").code == 0


class TestSumsOfMethods:
    """``method=combined``: what its terms may be, and that each gets its own target."""

    TERMS = ("method=combined", "method.terms.soft=[method=kd,method.temperature=2]")

    def test_a_sum_of_soft_labels_voxels_and_smoothing_is_trained(self, run, tiny, tmp_path):
        words = [
            *self.TERMS,
            "method.terms.voxels=[method=voxels,target=voxels]",
            "method.terms.labels=[method=label_smoothing]",
        ]
        ran = run("distill", *tiny, *words, cache="cache")
        assert ran.code == 0, ran.err
        folder = Path(ran.out.splitlines()[-1])
        assert {"loss_label", "loss_soft", "loss_voxels"} <= set(
            json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
        )
        document = json.loads((folder / "manifest.json").read_text())["document"]
        assert set(document["inputs"]) == {"images", "target/soft", "target/voxels"}
        assert document["config"]["method"]["terms"]["soft"]["temperature"] == 2
        again = run(
            "distill",
            *tiny,
            *words,
            "method.terms.voxels=[method=voxels,target=voxels,method.target_weight=2]",
            cache="cache",
        )
        assert again.out.splitlines()[-1] != str(folder), "a term's weight is keyed"

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["method=combined"], "method=combined sums terms, and none learns from a target"),
            (["method=combined", "method.terms.a=[method=label_smoothing]"], "none learns from a target"),
            (["method=combined", "method.terms.a=[method=none]"], "method.terms.a: method=none is no term of a sum"),
            (
                ["method=combined", "method.terms.a=[method=kd,train.lr=1]"],
                "method.terms.a: train.lr belongs to no term",
            ),
            (["method=combined", "method.terms.a=[method=voxels]"], "take target=voxels"),
            (["method=combined", "method.terms.a=[method=kd,method.temprature=1]"], "did you mean 'temperature'?"),
        ],
    )
    def test_what_is_no_term_is_said_in_a_line(self, run, tiny, words, message):
        ran = run("distill", *tiny, *words, cache="cache")
        assert ran.code == 2
        assert message in ran.err
        assert ran.err.count("\n") == 1

"""The verdict as a user meets it: what can't be had is said, what fails is shown beside what worked, and the page agrees
with the numbers behind it."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Run = Callable[..., Any]

#: options of the smallest experiment that leave images for validation
VALIDATED = ("images.n_val=4", "images.n_pool=12")


def results_of(out: str) -> dict[str, Any]:
    return json.loads((Path(out.splitlines()[-1]) / "results.json").read_text())


def page_of(out: str) -> str:
    return (Path(out.splitlines()[-1]) / "report.html").read_text()


def words_of(page: str) -> str:
    """What a reader sees, without markup."""
    body = re.sub(r"<style.*?</style>", "", page, flags=re.S)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)))


def table_of(page: str, section: str) -> list[list[str]]:
    """Cells of the first table behind a heading."""
    after = page.partition(f">{section}</h2>")[2]
    assert after, f"there is no section {section}"
    rows = re.findall(r"<tr.*?</tr>", after[: after.index("</table>")], flags=re.S)
    return [
        [words_of(cell).strip() for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, flags=re.S)] for row in rows
    ]


@pytest.fixture
def cache(warm: Path, tmp_path: Path) -> Path:
    """A copy of the cache in which the smallest experiment was evaluated."""
    return shutil.copytree(warm, tmp_path / "cache")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["eval.seeds=0"], r"eval\.seeds=0: give a number from 1 on"),
        (["eval.seeds=[]"], r"eval\.seeds=\[\]: give a number"),
        (["eval.seeds=[3,3]"], r"eval\.seeds=\[3, 3\]: .*different seeds"),
        (["eval.arms=[]"], r"eval\.arms=\[\]: name at least one"),
        (["eval.arms=[brain,brain]"], r"eval\.arms=\['brain', 'brain'\]: .*each only once"),
        (["eval.arms=[brian]"], r"eval\.arms: no arm is called 'brian'; did you mean 'brain'"),
        (["eval.measures=[calibratoin]"], r"eval\.measures: no such word 'calibratoin'; did you mean 'calibration'"),
        (["eval.margin=0"], r"eval\.margin=0: expected more than 0"),
        (["eval.n_train=[0]"], r"eval\.n_train=\[0\]: expected different numbers from 1 on"),
        (["eval.n_train=[4,4]"], r"eval\.n_train=\[4, 4\]: expected different numbers"),
        (["eval.n_train=[100]"], r"eval\.n_train=100: .*only 24 labelled training images"),
        (["eval.rois=[V9]"], r"eval\.rois: ROI 'V9' is not in this data set; did you mean 'V1'"),
        (["eval.rois=[each]", "eval.arms=[baseline]"], r"eval\.rois: none of the arms has a brain"),
        (["eval.tune={train.lr:[0.1,0.2]}"], r"eval\.tune .*give images\.n_val=N"),
        (["eval.tune={train.lt:[0.1]}", *VALIDATED], r"no.* option train\.lt; did you mean 'train\.lr'"),
        (["eval.tune={train.lr:[]}", *VALIDATED], r"eval\.tune: train\.lr=\[\]: expected a list of different values"),
        (["eval.tune={images.n_train:[4,8]}", *VALIDATED], r"eval\.tune: images\.n_train is the same for every arm"),
        (["eval.tune={method.temperature:[1,2]}", *VALIDATED], r"eval\.tune: arm baseline has none of"),
        (["eval.people=nobody.csv", "eval.measures=[human]"], r"eval\.people.*nobody\.csv.*[Nn]o such file"),
        (["eval.hierarchy=no.csv", "eval.measures=[severity]"], r"eval\.hierarchy.*no\.csv.*[Nn]o such file"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_meant_is_refused_in_one_line(
    words: list[str], expected: str, run: Run, tiny: list[str], warm: Path
) -> None:
    before = sorted(warm.glob("*/*"))
    ran = run("eval", *tiny, "runtime.verbosity=0", *words, cache=warm)
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 1
    assert re.search(expected, ran.err), ran.err
    assert sorted(warm.glob("*/*")) == before


@pytest.mark.parametrize("change", ["fewer", "flipped"])
def test_arms_with_other_test_images_are_refused(
    change: str, run: Run, tiny: list[str], warm: Path, arrays: dict[str, Any], write: Callable[..., str]
) -> None:
    part = slice(0, 15) if change == "fewer" else slice(None, None, -1)
    own = {name: arrays["images"][name][part] for name in ("test_images", "test_labels")}
    words = [f"+eval.definitions.other=[method=none,{write('images', 'other', **own)}]"]
    ran = run("eval", *tiny, *words, "eval.arms=[baseline,other]", "runtime.verbosity=0", cache=warm)
    assert ran.code == 2
    assert ran.err.splitlines() == [
        "braindistill: arm other: images.path would give it other test images than the other arms have"
    ]


def test_one_seed_gives_no_interval_and_says_so(run: Run, tiny: list[str], cache: Path) -> None:
    ran = run("eval", *tiny, "eval.seeds=1", cache=cache)
    assert ran.code == 0, ran.err
    found = results_of(ran.out)
    assert "one seed gives no interval and no p: ask for 10 (eval.seeds=10)" in found["warnings"]
    assert {found["arms"]["brain"]["accuracy"][end] for end in ("ci_low", "ci_high")} == {None}
    assert {row[key] for row in found["comparisons"] for key in ("ci_low", "ci_high", "p", "sign_flip_p")} == {None}
    assert found["claims"][0]["holds"] is None
    page = page_of(ran.out)
    assert not re.search(r"\[[^\]]*\d[^\]]*\]", " ".join(cell for row in table_of(page, "Arms")[1:] for cell in row))
    assert "one seed gives no interval" in words_of(page)


def test_measures_without_their_inputs_are_skipped_with_the_reason(run: Run, tiny: list[str], cache: Path) -> None:
    words = ["eval.measures=[calibration,severity,selective,human]"]
    ran = run("eval", *tiny, *words, cache=cache)
    assert ran.code == 0, ran.err
    found, said = results_of(ran.out), words_of(page_of(ran.out))
    for measure, told in {
        "severity": "eval.hierarchy=FILE",
        "selective": "images.n_val=0",
        "human": "eval.people=FILE",
    }.items():
        assert told in found["skipped_measures"][measure]
        assert found["skipped_measures"][measure] in said
        assert measure not in found["arms"]["brain"]["measures"]


def test_people_who_saw_other_pictures_are_skipped_with_the_reason(run: Run, tiny: list[str], cache: Path) -> None:
    Path("people.csv").write_text("image_id,0,1\nfoo,3,4\n")
    ran = run("eval", *tiny, "eval.measures=[human]", "eval.people=people.csv", cache=cache)
    assert ran.code == 0, ran.err
    assert results_of(ran.out)["skipped_measures"]["human"].startswith("none of the 20 test images has a row")


def test_a_brain_score_without_pictures_is_skipped_with_the_reason(
    run: Run, tiny: list[str], write: Callable[..., str]
) -> None:
    """People teach, and the responses come without pictures of their stimuli."""
    Path("people.csv").write_text(
        "image_id,0,1\n" + "".join(f"picture-{k:02d},{9 - 8 * (k % 2)},{1 + 8 * (k % 2)}\n" for k in range(24))
    )
    people = ["+eval.definitions.people=[teacher=human,teacher.path=people.csv]", "eval.arms=[baseline,people]"]
    words = [word for word in tiny if not word.startswith(("fmri.path", "eval.arms", "teacher."))]
    ran = run(
        "eval",
        *words,
        *people,
        write("fmri", images=None, image_id=None),
        "eval.measures=[brain_score]",
        "eval.seeds=1",
        cache="cache",
    )
    assert ran.code == 0, ran.err
    assert "no pictures of the stimuli" in results_of(ran.out)["skipped_measures"]["brain_score"]


def test_an_arm_with_more_labels_is_flagged_and_the_claim_withheld(run: Run, tiny: list[str], cache: Path) -> None:
    more = "eval.definitions.label_smoothing=[method=label_smoothing,images.n_train=16,images.n_pool=8]"
    ran = run("eval", *tiny, more, "eval.arms=[baseline,label_smoothing,brain]", cache=cache)
    assert ran.code == 0, ran.err
    found = results_of(ran.out)
    assert any(text.startswith("unequal label budgets: 8 labels, but label_smoothing 16") for text in found["warnings"])
    assert found["claims"][0]["holds"] is None
    assert "label budgets differ (brain 8, label_smoothing 16)" in found["claims"][0]["reason"]
    page = page_of(ran.out)
    assert {row[0]: row[2] for row in table_of(page, "Arms")[1:]} == {
        "baseline": "8",
        "label_smoothing": "16",
        "brain": "8",
    }
    assert 'class="box yes"' not in page


def test_an_arm_that_diverges_costs_only_itself(run: Run, tiny: list[str], cache: Path) -> None:
    words = ["+eval.definitions.wild=[method=none,train.lr=1e30]", "eval.arms=[baseline,wild,brain]"]
    ran = run("eval", *tiny, *words, cache=cache)
    assert ran.code == 1
    assert re.search(r"^braindistill: arm wild failed: training diverged: .*lower train\.lr", ran.err, re.M), ran.err
    assert "missing: The arm wild failed" in ran.out
    found = results_of(ran.out)
    assert list(found["arms"]) == ["baseline", "brain"]
    states = {row[0]: row[2] for row in table_of(page_of(ran.out), "What each arm rules out")[1:]}
    assert states["wild"].startswith("failed: training diverged")
    assert "The arm wild failed" in words_of(page_of(ran.out).partition('id="did-the-brain-help"')[0]), "told on top"

    # mended: only what had failed is built
    words[0] = words[0].replace("1e30", "0.05")
    ran = run("eval", *tiny, *words, "runtime.verbosity=2", cache=cache)
    assert ran.code == 0, ran.err
    built = re.findall(r"^build  (\S+)/\w+ \(([^)]*)", ran.err, re.M)
    assert sorted(stage for stage, _ in built) == ["distill"] * 2 + ["eval"] + ["predict"] * 2
    assert all("by none" in what for stage, what in built if stage == "distill")


def test_a_trial_that_diverges_is_passed_over(run: Run, tiny: list[str]) -> None:
    ran = run("eval", *tiny, *VALIDATED, "eval.tune={train.lr:[1e30,0.05]}", "eval.tune_seeds=1", cache="cache")
    assert ran.code == 0, ran.err
    assert len(re.findall(r"^warning: a trial of \w+ failed: train\.lr=1", ran.err, re.M)) == 2, ran.err
    tuning = results_of(ran.out)["tuning"]
    assert [entry["chosen"] for entry in tuning["arms"].values()] == [["train.lr=0.05"]] * 2


def test_the_page_shows_the_numbers_of_the_results(run: Run, tiny: list[str], warm: Path) -> None:
    """Arms, components and differences, to the digits shown, in the page, the sheet, Markdown and LaTeX."""
    ran = run("eval", *tiny, cache=warm)
    found, page, folder = results_of(ran.out), page_of(ran.out), Path(ran.out.splitlines()[-1])

    def percent(value: float) -> str:
        return f"{100 * value:.1f}"

    heading, *rows = table_of(page, "Arms")
    assert [row[0] for row in rows] == list(found["arms"])
    for row in rows:
        cells, arm = dict(zip(heading, row, strict=True)), found["arms"][row[0]]
        accuracy = arm["accuracy"]
        low, high = max(0.0, accuracy["ci_low"]), min(1.0, accuracy["ci_high"])
        shown = f"{percent(accuracy['mean'])} [{percent(low)}, {percent(high)}]"
        assert cells["accuracy % [95 %]"] == shown
        assert cells["balanced %"] == percent(arm["balanced_accuracy"])
        assert (cells["seeds"], cells["labels"]) == ("2", str(arm["labels"]))
        for name in ("results.md", "results.tex"):
            assert shown in (folder / name).read_text().replace("\\[", "[").replace("\\]", "]")
    sheet = {row["arm"]: row for row in csv.DictReader((folder / "results.csv").open())}
    assert {name: float(row["accuracy"]) for name, row in sheet.items()} == pytest.approx(
        {name: arm["accuracy"]["mean"] for name, arm in found["arms"].items()}
    )
    (comparison,) = found["comparisons"]
    heading, row = table_of(page, "Differences")
    numbers = [float(cell) for cell in re.findall(r"[-+]?\d+\.?\d*", row[1].replace("−", "-"))]
    assert numbers == pytest.approx([100 * comparison[key] for key in ("difference", "ci_low", "ci_high")], abs=0.051)
    assert float(row[heading.index("p")]) == pytest.approx(comparison["p"], abs=5e-4)


def test_every_part_together(run: Run, tiny: list[str]) -> None:
    """All that an evaluation can be asked for at once, in a very small one."""
    Path("groups.json").write_text(json.dumps({"0": "even", "1": "odd"}))
    rng = np.random.default_rng(0)
    answers = "".join(f"{name},{rng.integers(1, 9)},{rng.integers(1, 9)}\n" for name in ("test-0", "test-1"))
    Path("people.csv").write_text("image_id,0,1\n" + answers)
    words = [
        *VALIDATED,
        "eval.measures=[calibration,severity,selective,human,robustness,attacks,brain_score]",
        "eval.corruptions=[contrast]",
        "eval.epsilons=[0.02]",
        "eval.hierarchy=groups.json",
        "eval.people=people.csv",
        "eval.rois=[each]",
        "eval.n_train=[4,6]",
        "eval.tune={train.lr:[0.05,0.1]}",
        "eval.tune_seeds=1",
        "eval.explain=true",
    ]
    ran = run("eval", *tiny, *words, cache="cache")
    assert ran.code == 0, ran.err
    found, page, folder = results_of(ran.out), page_of(ran.out), Path(ran.out.splitlines()[-1])
    assert {"brain@V1"} <= found["arms"].keys()
    parts = found["arms"]["brain"]["measures"]
    assert {"nll", "brier", "ece", "severity", "selective", "robustness", "brain_score"} <= parts.keys()
    assert {"clean", "corruptions", "fgsm", "pgd"} <= parts["robustness"].keys()
    assert {(row["arm"], row["n_train"]) for row in found["curves"]} == {
        (arm, number) for arm in found["arms"] for number in (4, 6)
    }
    assert found["tuning"]["trials"] == 2
    assert {"contributions", "saliency"} <= found["explain"].keys()
    assert found["claims"][0]["holds"] is None, "two seeds can't decide"
    for title in (
        "Tuning",
        "Few-shot curves",
        "Regions of the brain",
        "Precision at a chosen confidence",
        "Severity of errors",
        "Robustness",
        "Brain score of the students",
        "Contributions of regions to soft labels",
        "Where the students look",
    ):
        assert f">{title}</h2>" in page
    files = {path.name for path in (folder / "figures").iterdir()}
    names = {name.rpartition(".")[0] for name in files}
    assert {"accuracy", "few_shot", "rois", "severity", "selective", "robustness", "attacks", "saliency"} <= names
    assert files == {f"{name}.{kind}" for name in names for kind in ("svg", "pdf", "csv")}
    assert page.count("<figure") == len(names)
    assert 'class="box yes"' not in page


def test_a_student_that_diverges_in_its_last_step_costs_only_its_arm(run: Run, tiny: list[str], cache: Path) -> None:
    """No loss is read after the last step: what the student says is the first to show it."""
    wild = "+eval.definitions.wild=[method=none,train.lr=1e36,train.epochs=1]"
    ran = run("eval", *tiny, wild, "train.batch_size=24", "eval.arms=[baseline,wild]", cache=cache)
    assert ran.code == 1
    assert "arm wild failed: the student says NaN or infinity" in ran.err
    assert list(results_of(ran.out)["arms"]) == ["baseline"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["eval.corruptions=[fogg]"], r"no corruption is called fogg; did you mean 'fog'"),
        (["eval.epsilons=[0]"], r"eval\.epsilons=\[0.*above 0 and up to 1"),
        (["eval.epsilons=[2]"], r"eval\.epsilons=\[2"),
        (["eval.match_voxels=true"], r"eval\.match_voxels=true is about the arms of eval\.rois"),
        (["eval.hierarchy=groups.json", "eval.measures=[severity]"], r"eval\.hierarchy=\S*groups\.json: .*lacks 1"),
        (["eval.people=people.csv", "eval.measures=[human]"], r"eval\.people=\S*people\.csv: no column for class '1'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_a_measure_cannot_use_is_told_before_anything_is_trained(
    words: list[str], expected: str, run: Run, tiny: list[str], warm: Path
) -> None:
    Path("groups.json").write_text('{"0": "even"}')
    Path("people.csv").write_text("image_id,0\nfoo,3\n")
    before = sorted(warm.glob("*/*"))
    ran = run("eval", *tiny, "eval.seeds=7", "runtime.verbosity=0", *words, cache=warm)
    assert ran.code == 2
    assert re.search(expected, ran.err), ran.err
    assert sorted(warm.glob("*/*")) == before


class TestReport:
    def test_an_unknown_key_and_one_of_another_stage(self, run: Run, warm: Path, tmp_path: Path) -> None:
        student = next((warm / "distill").iterdir()).name
        for key, told in {
            "fffffffffff1": "no such artifact",
            student: f"distill/{student} is no evaluation",
        }.items():
            ran = run("report", key, cache=warm)
            assert (ran.code, ran.out) == (2, "")
            assert len(ran.err.splitlines()) == 1
            assert told in ran.err
        assert not list(tmp_path.glob("report-*"))

    def test_digits_that_several_keys_begin_with(self, run: Run, warm: Path) -> None:
        names = sorted(path.name for path in warm.glob("*/*") if re.fullmatch(r"[0-9a-f]{12}", path.name))
        shared = next((a[0] for a, b in pairwise(names) if a[0] == b[0]), None)
        if shared is None:
            pytest.skip("no two keys of this cache begin with the same digit")
        ran = run("report", shared, cache=warm)
        assert ran.code == 2
        assert re.search(rf"key {shared}: \d+ artifacts begin so .*; give more digits", ran.err), ran.err

    def test_a_page_of_two_names_both(self, run: Run, tiny: list[str], cache: Path) -> None:
        one = Path(run("eval", *tiny, cache=cache).out.splitlines()[-1]).name
        ran = run("eval", *tiny, "eval.seeds=1", cache=cache)
        other = Path(ran.out.splitlines()[-1]).name
        ran = run("report", one, other, "--out", "both", cache=cache)
        assert (ran.code, ran.out) == (0, "both/report.html\n")
        said = words_of(Path("both/report.html").read_text())
        assert one[:8] in said
        assert other[:8] in said
        assert "helped”: the claim holds" not in said
        table = run("report", one, other, "--format", "markdown", cache=cache).out
        assert [line.count("undecided") for line in table.splitlines()[2:]] == [1, 1]

    def test_figures_to_print_are_escaped(self, run: Run, tiny: list[str], warm: Path) -> None:
        key = Path(run("eval", *tiny, cache=warm).out.splitlines()[-1]).name
        latex = run("report", key, "--format", "latex", cache=warm).out
        body = "\n".join(line for line in latex.splitlines() if not line.startswith("%"))
        assert not re.search(r"(?<!\\)[%#_]", re.sub(r"\\label\{[^}]*\}", "", body))
        assert body.count(r"\begin{table}") == body.count(r"\end{table}") > 1
        assert body.isascii()

    def test_files_that_are_no_report_are_left_alone(self, run: Run, tiny: list[str], warm: Path) -> None:
        key = Path(run("eval", *tiny, cache=warm).out.splitlines()[-1]).name
        Path("mine").mkdir()
        Path("mine/results.csv").write_text("mine")
        ran = run("report", key, "--out", "mine", cache=warm)
        assert ran.code == 2
        assert "mine/results.csv is there already" in ran.err
        assert [path.name for path in Path("mine").iterdir()] == ["results.csv"]
        assert run("report", key, "--out", "new", cache=warm).code == 0
        assert run("report", key, "--out", "new", cache=warm).code == 0, "an older report is replaced"

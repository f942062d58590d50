"""The config tree: its YAML repeats the signatures, and what doesn't fit is one line that names the key."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from braindistill.config import GROUPS, REQUIRED, SINGLE, check, choices, coerce, find_configs, options
from braindistill.errors import UserError

FILES = sorted(file for group in GROUPS for file in (find_configs() / group).glob("*.yaml"))
MEMBERS = [(file.parent.name, file.stem) for file in FILES]
#: options of every fMRI data set, whose defaults are the convention of each
PREPARED = ("zscore", "average", "top_voxels", "top_by")


def hint(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


@pytest.mark.parametrize(("group", "name"), MEMBERS)
def test_yaml_repeats_the_signature(group, name):
    content = yaml.safe_load((find_configs() / group / f"{name}.yaml").read_text())
    if group in SINGLE:
        name = group
    else:
        assert content.pop("name") == name
    schema = options(group, name)
    assert list(content) and set(content) == set(schema) if group in SINGLE else set(content) == set(schema)
    for key, value in content.items():
        default = schema[key].default
        if (group, key) in {("eval", "arms"), ("eval", "definitions")}:
            continue  # the one home of the arms is the YAML file
        if group == "fmri" and key in PREPARED:
            coerce(value, schema[key].annotation, key)  # a data set's own convention, e.g. z-scores a session
        elif value == "${seed}":
            assert group in ("teacher", "target")
            assert (key, default) == ("seed", 0)
        elif isinstance(value, str) and value.startswith(("data:", "${oc.env:")):
            assert schema[key].is_path or key == "cache"
        elif value == "???":
            assert default is REQUIRED, f"{group}.{key} has the default {default}"
        else:
            assert coerce(value, schema[key].annotation, key) == default, f"{group}.{key}"
            assert type(coerce(value, schema[key].annotation, key)) is type(
                coerce(default, schema[key].annotation, key)
            )


def test_every_member_explains_itself():
    for file in FILES:
        assert file.read_text().startswith("# "), file


def test_the_tree_has_every_group_and_no_other():
    tree = yaml.safe_load((find_configs() / "config.yaml").read_text())
    named = [next(iter(entry)) for entry in tree["defaults"] if isinstance(entry, dict)]
    assert set(GROUPS) | {"experiment"} == {name for name in named if not name.startswith("override")}
    folders = {path.name for path in find_configs().iterdir() if path.is_dir()}
    assert folders == set(GROUPS) | {"experiment"}


def test_experiments_open_with_their_command():
    for name in choices("experiment"):
        text = (find_configs() / "experiment" / f"{name}.yaml").read_text()
        assert f"braindistill eval experiment={name}" in text.split("defaults:")[0]
        assert "plugins" not in yaml.safe_load(text)


class TestCoerce:
    @pytest.mark.parametrize(
        ("value", "annotation", "result"),
        [
            (1, "float", 1.0),
            (2.0, "int", 2),
            (None, "int | None", None),
            ([6, "9"], "list[str] | None", ["6", "9"]),
            (1, "str | list[str]", "1"),
            ("kd", 'Literal["kd", "none"]', "kd"),
            (3, "int | list[int]", 3),
            ([1, 2], "int | list[int]", [1, 2]),
            ({"a": ["x"]}, "dict[str, list[str]]", {"a": ["x"]}),
            ("~/x", "Path", str(Path.home() / "x")),
            ([], "list[str]", []),
        ],
    )
    def test_fits(self, value, annotation, result):
        found = coerce(value, hint(annotation), "a.b")
        assert found == result
        assert type(found) is type(result)

    @pytest.mark.parametrize(
        ("value", "annotation"),
        [
            (1.5, "int"),
            ("1", "int"),
            (True, "int"),
            (True, "float"),
            (1, "bool"),
            ("true", "bool"),
            (None, "int"),
            (math.nan, "float"),
            (math.inf, "float"),
            ([1.5], "list[int]"),
            ("a", "list[str]"),
            (["a"], "str"),
            (1.5, "str"),
            ("dk", 'Literal["kd", "none"]'),
            (["kd"], 'Literal["kd", "none"]'),
            ({"a": "x"}, "dict[str, list[str]]"),
            (7, "Path"),
        ],
    )
    def test_does_not_fit(self, value, annotation):
        with pytest.raises(UserError, match=r"^a\.b="):
            coerce(value, hint(annotation), "a.b")

    def test_a_wrong_word_names_the_nearest(self):
        with pytest.raises(UserError, match="did you mean 'shuffled_fmri'"):
            coerce("shufled_fmri", hint('Literal["shuffled_fmri", "nuisance"] | None'), "teacher.control")

    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
        max_leaves=6,
    )
    annotations = (
        st.sampled_from(["int", "float", "bool", "str", "Path", "int | None", "list[str]", "list[int] | None"])
        | st.sampled_from(["str | list[str]", "int | list[int]", "list[float]", "dict[str, list[str]]"])
        | st.just("Literal['a', 'b'] | None")
    )

    @given(values, annotations)
    def test_a_value_fits_or_is_refused_in_one_line_and_a_fit_is_stable(self, value, annotation):
        try:
            result = coerce(value, hint(annotation), "a.b")
        except UserError as error:
            refusal = str(error)
        else:
            refusal = ""
        if refusal:
            assert refusal.startswith("a.b=")
            assert f"expected {annotation}, found" in refusal
            return
        again = coerce(result, hint(annotation), "a.b")
        assert again == result
        assert type(again) is type(result)
        if isinstance(value, int | float):
            assert result == value or str(value) == result, "nothing is lost"
        if annotation in ("int", "float", "bool"):
            assert type(result).__name__ == annotation

    @given(st.floats(allow_nan=False, allow_infinity=False, max_value=1e299, min_value=-1e299))
    def test_every_finite_float_is_kept(self, value):
        assert coerce(value, hint("float"), "x") == value


class TestCheck:
    def tree(self, **changes):
        tree = {group: {"name": "digits" if group == "images" else name} for group, name in DEFAULTS.items()}
        return tree | changes

    def test_fills_in_every_default(self):
        checked = check(self.tree())
        assert checked["train"]["lr"] == options("train", "train")["lr"].default
        assert checked["teacher"] == {"name": "random", "seed": 0}

    def test_what_another_member_has_is_left_out_where_that_is_allowed(self):
        tree = self.tree(teacher={"name": "random", "roi": "V1"})
        assert "roi" not in check(tree, frozenset({"teacher"}))["teacher"]
        with pytest.raises(UserError, match=r"teacher\.roi: teacher=random has no such option"):
            check(tree)
        with pytest.raises(UserError, match=r"teacher\.rio: teacher=random has no such option"):
            check(self.tree(teacher={"name": "random", "rio": "V1"}), frozenset({"teacher"}))

    def test_a_group_without_a_name(self):
        with pytest.raises(UserError, match="student: which one"):
            check(self.tree(student=None))


DEFAULTS = {
    "fmri": "simulated",
    "images": "digits",
    "teacher": "random",
    "target": "soft_labels",
    "student": "small_cnn",
    "method": "none",
}

ONE_LINE = {
    "unknown root key": (["trian.lr=1"], "unknown key 'trian.lr'; did you mean 'train'?"),
    "unknown scalar": (["sed=1"], "unknown key 'sed'; did you mean 'seed'?"),
    "unknown option": (["train.lrr=1"], "train.lrr: train has no such option; did you mean 'lr'? known: accumulate"),
    "nested": (["train.lr.x=1"], "train.lr"),
    "other member's option": (["method=none", "method.temperature=2"], "method.temperature: method=none has no such"),
    "wrong type": (["train.epochs=many"], "train.epochs='many': expected int, found str"),
    "fraction": (["train.epochs=1.5"], "train.epochs=1.5: expected int, found float"),
    "not finite": (["train.lr=nan"], "train.lr=nan: expected float"),
    "not an allowed word": (["train.optimizer=sdg"], "did you mean 'sgd'? known: adamw, sgd"),
    "unknown member": (["method=kdd"], "method=kdd: no such option; did you mean 'kd'? known: attention, cka"),
    "unknown member in a sweep": (["-m", "method=kd,kdd"], "method=kdd: no such option"),
    "no member": (["teacher=null"], "teacher=None: no such option"),
    "empty member": (["teacher="], "teacher=: no such option"),
    "dict for a member": (["teacher={roi: V1}"], "no such option; known: brain"),
    "unknown name": (["teacher.name=brian"], "teacher=brian: no such option; did you mean 'brain'?"),
    "required": (["fmri=arrays"], "fmri.path is required by fmri=arrays: add fmri.path="),
    "no override": (["kd"], "'kd' is not an override; expected group=option or key=value"),
    "unparsable": (["images.root=x(1)"], "can't be parsed (HydraException while"),
    "unfinished": (["eval.arms=[a"], "; put odd characters in quotes: 'key=\"value\"'"),
    "interpolation": (["train.lr=${nowhere}"], "Interpolation key 'nowhere' not found"),
    "sweep without -m": (["seed=1,2"], "Ambiguous value for argument"),
    "added group": (["+teacher=cnn"], "Multiple values for teacher"),
    "unknown hydra key": (["hydra.nowhere=1"], "hydra.nowhere"),
    "device": (["runtime.device=gpu"], "device=auto, cpu, cuda or cuda:N"),
    "workers": (["runtime.workers=-1"], "workers ≥ 0"),
    "input file": (["fmri=arrays", "fmri.path=absent.npz"], "fmri.path: "),
    "data file": (["fmri=digits69", "fmri.path=data:absent.mat"], "fmri.path: absent.mat was looked for in"),
}


@pytest.mark.parametrize(("words", "message"), ONE_LINE.values(), ids=ONE_LINE)
def test_a_mistake_is_one_line(words, message, run):
    ran = run("distill", *words, cache="cache")
    assert ran.code == 2
    assert ran.err.startswith("braindistill: ")
    assert message in ran.err
    assert ran.err.count("\n") == 1
    assert ran.out == ""


EVAL = {
    "unknown key": (["teacher.rio=V1"], "teacher.rio: teacher=brain has no such option; did you mean 'roi'?"),
    "unknown arm": (["eval.arms=[brian]"], "no arm is called 'brian'; did you mean 'brain'?"),
    "arm twice": (["eval.arms=[brain,brain]"], "name at least one arm, and each only once"),
    "no arm": (["eval.arms=[]"], "name at least one arm"),
    "no seed": (["eval.seeds=0"], "give a number from 1 on"),
    "seed twice": (["eval.seeds=[1,1]"], "a list of different seeds"),
    "bad option in an arm": (["+eval.definitions.x=[teacher.rio=1]", "eval.arms=[x]"], "arm x: teacher.rio"),
    "bad member in an arm": (["+eval.definitions.x=[method=kdd]", "eval.arms=[x]"], "arm x: method=kdd: no such"),
    "sweep in an arm": (["+eval.definitions.x=['train.lr=1,2']", "eval.arms=[x]"], "arm x: "),
    "seed in an arm": (["+eval.definitions.x=[seed=3]", "eval.arms=[x]"], "arm x: seed is the same for all arms"),
    "other test images": (
        ["+eval.definitions.x=[images.classes=[1,2]]", "eval.arms=[x]"],
        "arm x: images.classes would",
    ),
    "no list": (["+eval.definitions.x=5"], "expected dict[str, list[str]]"),
}


@pytest.mark.parametrize(("words", "message"), EVAL.values(), ids=EVAL)
def test_a_mistake_in_an_evaluation_is_one_line(words, message, run):
    ran = run("eval", "eval.arms=[brain,kd]", *words, cache="cache")
    assert ran.code == 2
    assert message in ran.err
    assert ran.err.count("\n") == 1


def test_an_evaluation_takes_options_of_any_of_its_arms(run):
    words = ["eval.arms=[brain,label_smoothing]", "runtime.dry_run=true"]
    assert run("eval", *words, "method.smoothing=0.2", cache="cache").code == 0
    assert run("eval", *words, "teacher.network=resnet20", cache="cache").code == 0
    assert "method.smoothing" in run("eval", "eval.arms=[brain]", "method.smoothing=0.2", cache="cache").err


@pytest.mark.parametrize("text", ["train: {lr: 0.1", "# @package _global_\ntrain: {lrr: 1}", "defaults: [nowhere]"])
def test_a_broken_experiment_is_one_line(text, run, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "broken.yaml").write_text(text)
    ran = run("distill", "--config-dir", "mine", "experiment=broken")
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert ran.err.startswith("braindistill: ")


def test_a_mistake_is_said_without_importing_torch(spawn):
    ran = spawn("distill", "train.lr=high", python=("-X", "importtime"))
    assert ran.code == 2
    assert "braindistill: train.lr='high'" in ran.err
    names = {line.rpartition("|")[2].strip().split(".")[0] for line in ran.err.splitlines() if "|" in line}
    assert not names & {"torch", "torchvision", "sklearn", "scipy", "nibabel", "matplotlib"}

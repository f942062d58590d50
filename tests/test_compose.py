"""From words to configs: what is typed, what is chosen, and the arms of an evaluation."""

from __future__ import annotations

import pytest

from braindistill.compose import check_own_words, checked, explain, make_arms, plain_words, prepare_words
from braindistill.config import find_configs
from braindistill.errors import UserError


@pytest.fixture
def compose():
    """Compose a config from prepared words, as `hydra.compose` does inside a command."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(find_configs()), version_base="1.3"):
        yield lambda words: compose("config", words)


@pytest.mark.parametrize(
    ("word", "prepared"),
    [
        ("teacher=cnn", "teacher=cnn"),
        ("train.lr=1", "++train.lr=1"),
        ("seed=1", "++seed=1"),
        (
            "+eval.definitions.a=[teacher=cnn,eval.seeds=[1,2]]",
            "+eval.definitions.a=['teacher=cnn','eval.seeds=[1,2]']",
        ),
        ("eval.definitions.a=['x=1']", "++eval.definitions.a=['x=1']"),
        ("eval.definitions.a=[]", "++eval.definitions.a=[]"),
        ("hydra.verbose=true", "hydra.verbose=true"),
        ("~teacher.control", "~teacher.control"),
        ("method=kd,none", "method=kd,none"),
        ("method=glob(*)", "method=glob(*)"),
    ],
)
def test_words_are_made_fit_for_hydra(word, prepared):
    assert prepare_words([word, "experiment=smoke"]) == [prepared, "experiment=smoke"]


def test_without_an_experiment_or_data_it_is_the_demo():
    assert prepare_words(["seed=1"]) == ["++seed=1", "experiment=demo"]
    assert prepare_words(["fmri=arrays"]) == ["fmri=arrays"]
    assert prepare_words(["experiment=null"]) == ["experiment=null"]


def test_plain_words():
    assert plain_words(["++seed=1", "+eval.definitions.a=[]", "teacher=cnn"]) == [
        "seed=1",
        "+eval.definitions.a=[]",
        "teacher=cnn",
    ]


def test_a_config_follows_its_seed(compose):
    composed = compose(prepare_words(["experiment=smoke"]))
    assert [checked(composed, seed)["teacher"]["seed"] for seed in (3, 4)] == [3, 4]
    assert checked(composed)["seed"] == 0
    assert "hydra" not in checked(composed)


def test_arms_come_on_top_of_the_command_line(compose):
    words = prepare_words(["experiment=smoke", "teacher=decoder", "train.lr=0.3", "method.temperature=9", "seed=5"])
    words += ["+eval.definitions.low=['train.lr=0.01']"]
    base = checked(compose([*words, "++eval.arms=[kd,baseline,low]"]))
    kd, baseline, low = make_arms(words, base, compose)
    assert [arm.name for arm in (kd, baseline, low)] == ["kd", "baseline", "low"]
    assert kd.config(7)["teacher"]["name"] == "cnn"
    assert kd.config(7)["seed"] == kd.config(7)["teacher"]["seed"] == 7
    assert kd.config(7)["method"]["temperature"] == 9
    assert baseline.config(0)["method"] == {"name": "none"}, "an option that none has not is left out"
    assert baseline.config(0)["teacher"]["name"] == "decoder"
    assert [arm.config(0)["train"]["lr"] for arm in (kd, low)] == [0.3, 0.01]
    assert low.overrides == ["experiment=smoke", "teacher=decoder", "method.temperature=9", "train.lr=0.01"]
    assert low.own == ["train.lr=0.01"]


def test_own_words_are_checked_against_what_is_chosen(compose):
    brain, none = (checked(compose(prepare_words(["experiment=smoke", f"method={name}"]))) for name in ("kd", "none"))
    check_own_words(["++method.temperature=2"], brain)
    check_own_words(["++method.temperature=2"], none, brain)
    with pytest.raises(UserError, match=r"method\.temperature: method=none has no such option"):
        check_own_words(["++method.temperature=2"], none)


def test_what_hydra_says_becomes_one_line():
    error = ValueError("Could not override 'a'.\n  To append use +a\n")
    error.__cause__ = KeyError("no such key")
    assert explain(error) == "Could not override 'a'.; To append use +a; 'no such key'"
    assert explain(ValueError()) == "ValueError"

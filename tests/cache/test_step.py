"""Keys: equal inputs give equal keys, anything that differs gives another."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braindistill.cache.step import Step, canonical_json

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)


def reverse(value):
    """The same value, with every mapping in the opposite order."""
    if isinstance(value, dict):
        return {key: reverse(value[key]) for key in reversed(value)}
    return [reverse(item) for item in value] if isinstance(value, list) else value


def respell(value):
    """The same value, with tuples for lists and floats for the integers that a float holds exactly."""
    if isinstance(value, dict):
        return {key: respell(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(respell(item) for item in value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return float(value)
    return value


@given(VALUES)
def test_order_and_spelling_of_a_value_do_not_matter(value):
    assert canonical_json(reverse(value)) == canonical_json(value)
    assert canonical_json(respell(value)) == canonical_json(value)


@given(VALUES)
def test_canonical_json_reads_back_as_an_equal_value_and_is_a_fixed_point(value):
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text


@given(VALUES, VALUES)
def test_different_values_have_different_text(one, other):
    same = canonical_json(one) == canonical_json(other)
    assert not same or one == other


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [1.0, -0.0, 1.5]}, '{"a":[1,0,1.5],"b":1}'),
        ((1, (True, None)), "[1,[true,null]]"),
        ({"ü": "é"}, '{"\\u00fc":"\\u00e9"}'),
        (1e22, "10000000000000000000000"),
    ],
)
def test_canonical_json_is_written_so(value, text):
    assert canonical_json(value) == text


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_refused_by_name(bad):
    with pytest.raises(ValueError, match=r"method\.weights\[1\] is"):
        canonical_json({"method": {"weights": [1, bad]}})


@pytest.mark.parametrize("bad", [Path("x"), {1, 2}, b"x", object(), {1: "x"}, 1j])
def test_other_types_are_refused_by_name(bad):
    with pytest.raises(TypeError, match=r"fmri\.path"):
        canonical_json({"fmri": {"path": bad}})


TEACHER = Step("train-teacher", 1, {"teacher": {"decoder": "logistic"}, "seed": 0}, files={"fmri.path": "a" * 64})
STUDENT = Step("distill", 3, {"method": {"name": "kd", "temperature": 4}, "seed": 0}, {"teacher": TEACHER})


def test_a_step_is_equal_to_its_respelling():
    same = Step("distill", 3, {"seed": 0.0, "method": {"temperature": 4.0, "name": "kd"}}, {"teacher": TEACHER})
    assert same.key == STUDENT.key
    assert same == STUDENT
    assert len({same, STUDENT}) == 1
    assert STUDENT.name == f"distill/{STUDENT.key[:12]}"


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "eval"},
        {"version": 4},
        {"config": {"method": {"name": "kd", "temperature": 2}, "seed": 0}},
        {"config": {"method": {"name": "kd", "temperature": 4}, "seed": False}},
        {"config": {"method": {"name": "kd", "temperature": 4}, "seed": 0, "new": None}},
        {"inputs": {}},
        {"inputs": {"other": TEACHER}},
        {"inputs": {"teacher": dataclasses.replace(TEACHER, files={"fmri.path": "b" * 64})}},
        {"files": {"images.path": "a" * 64}},
    ],
)
def test_whatever_is_keyed_changes_the_key(change):
    assert dataclasses.replace(STUDENT, **change).key != STUDENT.key


def test_what_is_only_recorded_does_not_change_the_key():
    assert dataclasses.replace(STUDENT, digest="d", command="c", title="t").key == STUDENT.key


def test_a_config_that_is_changed_later_does_not_reach_the_document():
    config = {"method": {"temperature": 4}}
    step = Step("distill", 1, config)
    key = step.key
    config["method"]["temperature"] = 2
    assert step.document["config"] == {"method": {"temperature": 4}}
    assert step.key == key


@pytest.mark.parametrize("stage", ["", "../x", "a/b", ".hidden", "Distill"])
def test_a_stage_that_is_no_folder_name_is_refused(stage):
    with pytest.raises(ValueError, match="names a folder"):
        Step(stage, 1)


def test_an_error_names_the_option_as_the_user_writes_it():
    with pytest.raises(ValueError, match=r"^method\.temperature is nan"):
        _ = Step("distill", 1, {"method": {"temperature": math.nan}}).key

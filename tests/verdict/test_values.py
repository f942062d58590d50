"""Numbers a seed become means with their intervals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from braindistill.verdict import nested_over_seeds, over_seeds

numbers = st.floats(-1e3, 1e3).map(lambda value: round(value, 3))


@given(st.lists(numbers, min_size=2, max_size=12).filter(lambda values: len(set(values)) > 1))
def test_the_interval_is_the_one_sample_t(values):
    found = over_seeds(values)
    low, high = stats.t.interval(0.95, len(values) - 1, sum(values) / len(values), stats.sem(values))
    assert found["ci_low"] == pytest.approx(low, rel=1e-6, abs=1e-6)
    assert found["ci_high"] == pytest.approx(high, rel=1e-6, abs=1e-6)
    assert found["per_seed"] == values


def test_unknown_values_are_left_out_and_still_listed():
    assert over_seeds([0.25]) == {"mean": 0.25, "ci_low": None, "ci_high": None, "per_seed": [0.25]}
    assert over_seeds([None, 0.25])["ci_low"] is None
    assert over_seeds([None, None]) == {"mean": None, "ci_low": None, "ci_high": None, "per_seed": [None, None]}
    found = over_seeds([0.1, None, 0.3])
    assert found["mean"] == pytest.approx(0.2)
    assert found["ci_low"] < 0.2 < found["ci_high"]
    assert found["per_seed"] == [0.1, None, 0.3]


def test_nesting_stays_as_it_is():
    parts = [{"a": {"b": [1.0, 2.0]}, "rsa_ceiling": [0.0, 0.5]}, {"a": {"b": [3.0, 4]}, "rsa_ceiling": [0.2, 0.7]}]
    found = nested_over_seeds(parts)
    assert [value["mean"] for value in found["a"]["b"]] == [2, 3]
    assert found["rsa_ceiling"] == pytest.approx([0.1, 0.6])
    assert nested_over_seeds([{"rsa_ceiling": None}])["rsa_ceiling"] is None

"""Games whose values are known, and the axioms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braindistill.teachers.shapley import shapley_values


def game(n_players: int, seed: int = 0, n_games: int = 3):
    """Sets of players worth anything at all."""
    worth = np.random.default_rng(seed).normal(size=(2**n_players, n_games))
    powers = 2 ** np.arange(n_players)
    return lambda present: worth[int(present @ powers)]


def test_gloves():
    """One left glove and two right ones: a pair is worth 1, and the left glove's owner gets two thirds."""
    values, error = shapley_values(lambda present: np.array([float(present[0] and present[1:].any())]), 3)
    np.testing.assert_allclose(values, [[2 / 3, 1 / 6, 1 / 6]])
    assert (error == 0).all()


@given(st.integers(1, 6), st.integers(0, 99))
def test_it_is_the_mean_over_all_orders_and_adds_up(n_players, seed):
    worth = game(n_players, seed)
    total = np.zeros((3, n_players))
    orders = list(itertools.permutations(range(n_players)))
    for order in orders:
        present = np.zeros(n_players, bool)
        for player in order:
            before = worth(present)
            present[player] = True
            total[:, player] += worth(present) - before
    values, _ = shapley_values(worth, n_players)
    np.testing.assert_allclose(values, total / len(orders), atol=1e-10)
    whole = worth(np.ones(n_players, bool)) - worth(np.zeros(n_players, bool))
    np.testing.assert_allclose(values.sum(1), whole, atol=1e-10)


def test_with_many_players_orders_are_sampled_and_errors_are_honest():
    n_players = 10
    weights = np.random.default_rng(1).normal(size=n_players)
    # x² of a sum: a player gets their own square and half of each product, twice
    values, error = shapley_values(lambda present: np.array([(weights @ present) ** 2]), n_players, 64)
    # an order and its reverse together hold every product once, so that this game is solved by any pair
    np.testing.assert_allclose(values[0], weights * weights.sum(), atol=1e-10)
    assert error.max() < 1e-10
    cubed, error = shapley_values(lambda present: np.array([(weights @ present) ** 3]), n_players, 64)
    assert error.min() > 0
    more, _ = shapley_values(lambda present: np.array([(weights @ present) ** 3]), n_players, 4096)
    off = (cubed - more) / error
    assert 0.3 < np.sqrt((off**2).mean()) < 2
    np.testing.assert_allclose(cubed.sum(), weights.sum() ** 3)


def test_sampling_is_the_same_every_time_and_who_adds_nothing_gets_nothing():
    worth = game(9)
    idle = lambda present: worth(present[:9])  # noqa: E731
    first, second = (shapley_values(idle, 10, 16) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first[0][:, 9]).max() == 0


@pytest.mark.parametrize("n_players", [4, 11])
def test_what_adds_up_is_shared_as_it_is(n_players):
    parts = np.arange(2 * n_players).reshape(2, n_players) - 3.0
    values, error = shapley_values(lambda present: 5 + parts @ present, n_players, 8)
    np.testing.assert_allclose(values, parts, atol=1e-12)
    np.testing.assert_allclose(error, 0, atol=1e-12)

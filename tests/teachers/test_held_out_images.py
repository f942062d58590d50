"""Folds over labelled images, and who answers about which image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braindistill.errors import UserError
from braindistill.teachers import held_out_images
from braindistill.teachers.calibration import log_softmax
from braindistill.teachers.held_out_images import answer_held_out, deal_images


@given(st.integers(2, 6), st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 99))
def test_folds_are_balanced_and_depend_on_ids_alone(n_folds: int, sizes: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    ids = np.array([f"i{row:03d}" for row in range(len(labels))])
    if len(labels) < n_folds:
        with pytest.raises(UserError, match=r"teacher\.n_folds"):
            deal_images(ids, labels, n_folds, seed)
        return
    fold = deal_images(ids, labels, n_folds, seed)
    assert np.ptp(np.bincount(fold, minlength=n_folds)) <= 1
    for value in range(len(sizes)):
        assert np.ptp(np.bincount(fold[labels == value], minlength=n_folds)) <= 1
    order = np.random.default_rng(seed).permutation(len(labels))
    np.testing.assert_array_equal(deal_images(ids[order], labels[order], n_folds, seed), fold[order])


def test_an_image_is_answered_by_the_model_that_held_it_out_and_others_by_the_mean(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = np.arange(8, dtype=np.float64)[:, None]
    ids = np.array(list("abcdefgh"))
    models = [lambda x, k=k: log_softmax(np.concatenate([x * (k + 1), -x], 1)) for k in range(3)]
    fold_of = {"a": 2, "c": 0, "d": 1, "z": 1}
    answer = answer_held_out(ids, images, fold_of, models)
    assert answer.fold.tolist() == [2, -1, 0, 1, -1, -1, -1, -1]
    assert set(answer.source.tolist()) == {"predicted"}
    for row, k in ((0, 2), (2, 0), (3, 1)):
        np.testing.assert_allclose(answer.rows[row], models[k](images[row : row + 1])[0], atol=1e-6)
    mean = log_softmax(np.mean([model(images[4:]) for model in models], 0))
    np.testing.assert_allclose(answer.rows[4:], mean, atol=1e-6)
    monkeypatch.setattr(held_out_images, "_BATCH", 3)
    np.testing.assert_allclose(answer_held_out(ids, images, fold_of, models).rows, answer.rows, atol=1e-6)


def test_one_fold_holds_nothing_out() -> None:
    with pytest.raises(UserError, match=r"teacher\.n_folds=1: with 4 labelled images there can be 2 to 4 folds"):
        deal_images(np.array(list("abcd")), np.zeros(4, int), 1, 0)

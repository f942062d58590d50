from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from braindistill import statistics
from braindistill.statistics import Interval, claim, compare, holm, points, sign_flip_p, tost, two_way_interval


def crossed(seed: int, seeds: int = 10, images: int = 200, mean: float = 0.0, image_sd: float = 0.5) -> np.ndarray:
    """A table of the crossed model: a seed effect of 0.1, an image effect and a residual of 0.5."""
    generator = np.random.default_rng(seed)
    by_seed = 0.1 * generator.standard_normal((seeds, 1))
    by_image = image_sd * generator.standard_normal((1, images))
    return mean + by_seed + by_image + 0.5 * generator.standard_normal((seeds, images))


# --- crossed_interval


def test_subjects_who_do_not_differ_leave_the_interval_of_seeds_and_images() -> None:
    table = crossed(3, mean=0.2)
    one, several = two_way_interval(table), statistics.crossed_interval(np.broadcast_to(table, (6, *table.shape)))
    assert several.as_dict() == pytest.approx(one.as_dict())


def test_subjects_who_differ_alone_give_the_one_sample_t_over_subjects() -> None:
    effect = np.random.default_rng(1).normal(0.2, 1, size=7)
    interval = statistics.crossed_interval(np.broadcast_to(effect[:, None, None], (7, 4, 30)))
    oracle = stats.ttest_1samp(effect, 0)
    assert (interval.p, interval.df) == pytest.approx((oracle.pvalue, 6))
    over_subjects = statistics.across_subjects(effect)
    assert (interval.low, interval.high) == pytest.approx((over_subjects.low, over_subjects.high))


def of_subjects(seed: int, subject_sd: float, shared: float) -> np.ndarray:
    """Subjects × seeds × images; ``shared``: standard deviation of what seeds do to all subjects alike."""
    rng = np.random.default_rng(seed)
    image, seeds = 0.3 * rng.standard_normal((1, 1, 60)), shared * rng.standard_normal((1, 8, 1))
    return image + seeds + subject_sd * rng.standard_normal((8, 1, 1)) + 0.5 * rng.standard_normal((8, 8, 60))


@pytest.mark.parametrize(("subject_sd", "shared"), [(0.2, 0.0), (0.1, 0.2), (0.0, 0.2)])
def test_interval_over_subjects_covers_the_truth_where_a_t_over_subjects_may_not(
    subject_sd: float, shared: float
) -> None:
    tables = [of_subjects(i, subject_sd, shared) for i in range(300)]
    crossed_ones = [statistics.crossed_interval(table) for table in tables]
    simple = [statistics.across_subjects(table.mean((1, 2))) for table in tables]
    covered, narrow = (np.mean([one.low <= 0 <= one.high for one in found]) for found in (crossed_ones, simple))
    assert 0.92 <= covered <= 0.99
    assert narrow < covered + 0.01  # what all subjects share is no replicate: seeds and test images
    if shared:
        assert narrow < 0.85


def test_variance_is_never_below_that_of_any_effect_alone() -> None:
    for seed in range(20):
        table = of_subjects(seed, 0.0, 0.0)
        error = statistics.crossed_interval(table).standard_error
        for axis in range(3):
            means = table.mean(tuple(other for other in range(3) if other != axis))
            assert error >= means.std(ddof=1) / np.sqrt(len(means)) - 1e-12


@pytest.mark.parametrize("shape", [(1, 5, 9), (5, 1, 9), (5, 9, 1)])
def test_one_of_anything_gives_no_interval(shape: tuple[int, ...]) -> None:
    assert statistics.crossed_interval(np.random.default_rng(0).normal(size=shape)).low is None


def test_claim_over_subjects_counts_subjects() -> None:
    rng = np.random.default_rng(0)
    answers = {name: rng.random((7, 6, 50)) < level for name, level in (("brain", 0.9), ("kd", 0.5))}
    assert claim("brain", answers, ["kd"], {})["holds"] is True
    few = claim("brain", {name: own[:5] for name, own in answers.items()}, ["kd"], {})
    assert few["holds"] is None
    assert "5 subjects cannot reach p < 0.05 by sign flips (fewest: 6)" in few["reason"]
    single = claim("brain", {name: own[:, :1] for name, own in answers.items()}, ["kd"], {})
    assert (single["holds"], single["reason"]) == (None, "cannot be decided: one seed gives no interval")


# --- two_way_interval


@pytest.mark.parametrize("image_sd", [0.0, 0.5])
def test_interval_covers_the_true_mean(image_sd: float) -> None:
    intervals = [two_way_interval(crossed(i, mean=0.3, image_sd=image_sd)) for i in range(300)]
    covered = np.mean([interval.low <= 0.3 <= interval.high for interval in intervals])
    assert 0.92 <= covered <= 0.98
    rejected = np.mean([two_way_interval(crossed(i, image_sd=image_sd)).p < 0.05 for i in range(300)])
    assert 0.02 <= rejected <= 0.08


@pytest.mark.parametrize("axis", [0, 1])
def test_without_the_other_variance_it_is_the_one_sample_t(axis: int) -> None:
    effect = np.random.default_rng(1).normal(0.2, 1, size=8)
    values = np.repeat(effect[:, None], 30, axis=1) if axis == 0 else np.repeat(effect[None, :], 30, axis=0)
    interval, oracle = two_way_interval(values), stats.ttest_1samp(effect, 0)
    assert interval.p == pytest.approx(oracle.pvalue)
    assert interval.df == pytest.approx(7)
    assert (interval.low, interval.high) == pytest.approx(tuple(oracle.confidence_interval(0.95)))


def test_variance_is_the_anova_estimate() -> None:
    # 2 × 2 by hand: seed effects ±1, image effects ±2, interaction ±0.5, mean 3
    values = np.array([[3 - 1 - 2 + 0.5, 3 - 1 + 2 - 0.5], [3 + 1 - 2 - 0.5, 3 + 1 + 2 + 0.5]])
    interval = two_way_interval(values)
    ms_seed, ms_image, ms_residual = 4.0, 16.0, 1.0
    assert interval.estimate == 3
    assert interval.standard_error == pytest.approx(np.sqrt((ms_seed + ms_image - ms_residual) / 4))
    assert interval.df == pytest.approx(19**2 / (ms_seed**2 + ms_image**2 + ms_residual**2))


def test_negative_variance_component_counts_as_zero() -> None:
    # an interaction only: both main effects vanish, and MS_seed + MS_image − MS_residual is negative
    interval = two_way_interval(np.array([[1.0, -1.0], [-1.0, 1.0]]))
    assert interval.standard_error == pytest.approx(np.sqrt(4 / 4))
    assert interval.df >= 1
    assert interval.p == 1


@given(st.integers(0, 10_000), st.integers(2, 7), st.integers(2, 9))
def test_variance_is_never_below_a_mean_square(seed: int, seeds: int, images: int) -> None:
    values = np.random.default_rng(seed).integers(-1, 2, size=(seeds, images)).astype(float)
    interval = two_way_interval(values)
    over_seeds = values.mean(axis=1).std(ddof=1) / np.sqrt(seeds)
    over_images = values.mean(axis=0).std(ddof=1) / np.sqrt(images)
    assert interval.standard_error >= max(over_seeds, over_images) - 1e-12
    assert interval.df >= 1
    assert interval.low <= interval.estimate <= interval.high
    assert 0 <= interval.p <= 1


def test_one_seed_and_no_spread_are_answered_without_nan() -> None:
    assert two_way_interval(np.array([[True, False, True, True]])) == Interval(0.75, None, None, None, None, None)
    zero = two_way_interval(np.zeros((5, 9)))
    assert (zero.low, zero.high, zero.p, zero.standard_error) == (0.0, 0.0, 1.0, 0.0)
    constant = two_way_interval(np.ones((5, 9)))
    assert (constant.low, constant.high, constant.p) == (1.0, 1.0, 2 / 2**5)
    for interval in (zero, constant, two_way_interval(crossed(0))):
        assert all(type(value) is float for value in interval.as_dict().values())
        json.dumps(interval.as_dict(), allow_nan=False)


@pytest.mark.parametrize("values", [np.zeros(4), np.zeros((0, 3)), np.array([[0.0, np.nan], [1, 1]])])
def test_unusable_values_are_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="values"):
        two_way_interval(values)


def test_compare_pairs_cells() -> None:
    a, b = crossed(1), crossed(2)
    assert compare(a, b) == two_way_interval(a - b)
    assert compare(a, a + 0).p == 1.0
    assert compare(a > 0, b > 0).estimate == pytest.approx((a > 0).mean() - (b > 0).mean())
    with pytest.raises(ValueError, match="paired"):
        compare(a, b[:, :-1])


# --- checks beside it


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8))
def test_sign_flips_match_enumeration(differences: list[int]) -> None:
    flips = [abs(np.dot(signs, differences)) for signs in itertools.product([-1, 1], repeat=len(differences))]
    assert sign_flip_p(differences) == pytest.approx(np.mean(np.array(flips) >= abs(sum(differences))))


def test_sign_flips_by_scipy_and_by_draws() -> None:
    values = np.random.default_rng(0).normal(0.4, 1, size=12)
    oracle = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(values) == pytest.approx(oracle.pvalue)
    many = np.random.default_rng(0).normal(0.4, 1, size=20)
    assert sign_flip_p(many) == sign_flip_p(many)
    assert sign_flip_p(many) == pytest.approx(stats.ttest_1samp(many, 0).pvalue, abs=0.01)
    assert 0 < sign_flip_p(np.ones(40)) < 1e-4


def test_five_seeds_can_never_be_significant() -> None:
    assert sign_flip_p([0.1] * 5) == statistics.smallest_p(5) == 2 / 2**5
    assert statistics.fewest_seeds() == 6
    for alpha in (0.5, 0.0625, 0.05, 0.01, 0.001):
        fewest = statistics.fewest_seeds(alpha)
        assert statistics.smallest_p(fewest) <= alpha < statistics.smallest_p(fewest - 1)


def test_bootstrap_agrees_with_the_t_interval_and_is_seeded() -> None:
    values = crossed(3, seeds=30, mean=0.2)
    interval, (low, high) = two_way_interval(values), statistics.crossed_bootstrap(values)
    assert high - low == pytest.approx(interval.high - interval.low, rel=0.15)
    assert low < interval.estimate < high
    assert (low, high) == statistics.crossed_bootstrap(values)
    assert statistics.crossed_bootstrap(np.full((3, 4), 0.5), n=50) == (0.5, 0.5)
    # no image variance: only the seeds are resampled
    by_seed = np.repeat(np.arange(5.0)[:, None], 7, axis=1)
    spread = statistics.crossed_bootstrap(by_seed, n=500)
    assert 0 <= spread[0] < 2 < spread[1] <= 4


def test_arms_that_are_resampled_alike_differ_by_their_resampled_difference() -> None:
    a, b = np.random.default_rng(0).random((2, 7, 60)) < np.array([0.7, 0.6])[:, None, None]
    means = statistics.resampled_means([a, b], n=250)
    assert means.shape == (2, 250)
    apart = statistics.crossed_bootstrap(a.astype(float) - b, n=250)
    assert statistics.percentiles(means[0] - means[1]) == pytest.approx(apart, abs=1e-12)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.03, None, 0.02]) == [0.04, None, 0.04]
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_lies_between_p_and_bonferroni(p_values: list[float]) -> None:
    adjusted = np.array(holm(p_values))
    raw = np.array(p_values)
    assert np.all(adjusted >= raw)
    assert np.all(adjusted <= np.minimum(1, raw * len(raw)))
    assert np.all(np.diff(adjusted[np.argsort(raw, kind="stable")]) >= 0)


def test_tost_means_the_90_percent_interval_is_inside_the_margin() -> None:
    values = crossed(4, mean=0.02)
    interval, narrow = two_way_interval(values), two_way_interval(values, level=0.9)
    edge = max(abs(narrow.low), abs(narrow.high))
    assert tost(interval, edge) == pytest.approx(0.05)
    assert tost(interval, 2 * edge) < 0.05 < tost(interval, 0.5 * edge)
    assert tost(two_way_interval(values[:1]), 1) is None
    assert tost(two_way_interval(np.zeros((3, 4))), 0.01) == 0
    assert tost(two_way_interval(np.ones((3, 4))), 0.5) == 1


# --- subjects


def test_subjects_are_a_one_sample_t() -> None:
    differences = np.random.default_rng(0).normal(0.02, 0.01, size=5)
    interval, oracle = statistics.across_subjects(differences), stats.ttest_1samp(differences, 0)
    assert interval.estimate == pytest.approx(differences.mean())
    assert interval.p == pytest.approx(oracle.pvalue)
    assert interval.df == pytest.approx(4)
    assert (interval.low, interval.high) == pytest.approx(tuple(oracle.confidence_interval(0.95)))
    narrow = statistics.across_subjects(differences, level=0.8)
    assert (narrow.low, narrow.high) == pytest.approx(tuple(oracle.confidence_interval(0.8)))


def test_one_subject_and_equal_subjects_are_answered_without_nan() -> None:
    assert statistics.across_subjects([0.1]) == Interval(0.1, None, None, None, None, None)
    equal = statistics.across_subjects([0.1] * 4)
    assert (equal.low, equal.high, equal.p, equal.df, equal.standard_error) == (0.1, 0.1, 2 / 2**4, 3.0, 0.0)
    assert statistics.across_subjects([0.0, 0.0]).p == 1
    for wrong in ([], [[0.1, 0.2]], [0.1, np.nan]):
        with pytest.raises(ValueError, match="differences"):
            statistics.across_subjects(wrong)


# --- the claim


def answers(accuracies: dict[str, float], seeds: int = 10, images: int = 400) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    ease = generator.random((seeds, images))  # shared by the arms, as pairs are
    return {name: ease < value for name, value in accuracies.items()}


REQUIRED = ["label_smoothing", "kd", "features"]


def test_claim_holds_against_every_control() -> None:
    correct = answers({"brain": 0.92, "label_smoothing": 0.85, "kd": 0.88, "features": 0.86})
    decided = claim("brain", correct, REQUIRED, {})
    assert decided["holds"] is True
    assert [component["b"] for component in decided["components"]] == REQUIRED
    assert decided["p"] == max(component["p"] for component in decided["components"])
    tightest = decided["components"][1]
    assert decided["reason"] == (
        "brain beats each of label_smoothing, kd, features; the tightest is kd: "
        f"{points(tightest['difference'])} points [{points(tightest['ci_low'])}, {points(tightest['ci_high'])}]"
    )
    alone = claim("brain", correct, ["kd"], {})
    assert alone["reason"].startswith("brain beats kd: +")
    json.dumps(decided, allow_nan=False)


def test_claim_fails_by_its_weakest_component() -> None:
    correct = answers({"brain": 0.86, "label_smoothing": 0.80, "kd": 0.90, "features": 0.86})
    decided = claim("brain", correct, REQUIRED, {})
    assert decided["holds"] is False
    assert decided["p"] == 1.0  # kd is better: its two-sided p is tiny, and no evidence for the brain
    assert decided["components"][1]["p"] < 0.001
    assert decided["reason"].startswith("does not hold: brain − kd is −")
    assert decided["reason"].endswith("nor does it beat features")


def test_claim_with_an_uncertain_component_does_not_hold() -> None:
    generator = np.random.default_rng(2)
    correct = {name: generator.random((10, 200)) < value for name, value in {"brain": 0.9, "kd": 0.89}.items()}
    decided = claim("brain", correct, ["kd"], {})
    assert decided["holds"] is False
    assert decided["components"][0]["ci_low"] <= 0 < decided["components"][0]["ci_high"]


@pytest.mark.parametrize(("seeds", "words"), [(1, "1 seed cannot"), (2, "2 seeds cannot"), (5, "5 seeds cannot")])
def test_few_seeds_cannot_decide(seeds: int, words: str) -> None:
    decided = claim("brain", answers({"brain": 0.99, "kd": 0.2}, seeds=seeds), ["kd"], {})
    assert decided["holds"] is None
    assert decided["p"] is None
    assert words in decided["reason"]
    assert "(fewest: 6; ask for 10)" in decided["reason"]
    json.dumps(decided, allow_nan=False)


def test_six_seeds_can_decide() -> None:
    assert claim("brain", answers({"brain": 0.99, "kd": 0.2}, seeds=6), ["kd"], {})["holds"] is True


def test_missing_arms_leave_it_open_unless_another_component_is_lost() -> None:
    correct = answers({"brain": 0.92, "kd": 0.85})
    decided = claim("brain", correct, ["kd", "features"], {"features": "out of memory"})
    assert decided["holds"] is None
    assert decided["reason"] == "cannot be decided: the arm features is missing (out of memory)"
    assert len(decided["components"]) == 1
    assert "features is missing (not run)" in claim("brain", correct, ["kd", "features"], {})["reason"]

    lost = claim("brain", answers({"brain": 0.80, "kd": 0.9}), ["kd", "features"], {"features": "out of memory"})
    assert lost["holds"] is False
    assert lost["p"] == 1.0

    absent = claim("brain", {"kd": correct["kd"]}, ["kd"], {"brain": "no responses"})
    assert absent["holds"] is None
    assert "the arm brain is missing (no responses)" in absent["reason"]
    assert claim("brain", correct, [], {})["holds"] is None
    assert claim("brain", answers({"brain": 0.9, "kd": 0.8}, images=1), ["kd"], {})["holds"] is None


def test_points_are_signed_and_never_round_to_zero() -> None:
    assert [points(value) for value in (0.041, -0.003, 0.0, 0.0004, None)] == ["+4.1", "−0.3", "0.0", "+0.04", "?"]

"""How many seeds it would take: ``braindistill.statistics.power``."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from braindistill import statistics
from braindistill.statistics import two_way_interval


def crossed(seed: int, seeds: int = 10, images: int = 200, mean: float = 0.0, image_sd: float = 0.5) -> np.ndarray:
    """A table of the crossed model: a seed effect of 0.1, an image effect and a residual of 0.5."""
    generator = np.random.default_rng(seed)
    by_seed = 0.1 * generator.standard_normal((seeds, 1))
    by_image = image_sd * generator.standard_normal((1, images))
    return mean + by_seed + by_image + 0.5 * generator.standard_normal((seeds, images))


def test_variance_components_are_found() -> None:
    found = np.mean(
        [statistics.variance_components(crossed(i, seeds=20, images=100, image_sd=0.3)) for i in range(60)], 0
    )
    assert found == pytest.approx([0.1**2, 0.3**2, 0.5**2], rel=0.15)
    # an interaction only: no negative variances
    assert statistics.variance_components(np.array([[1.0, -1.0], [-1.0, 1.0]])).tolist() == [0, 0, 4]
    with pytest.raises(ValueError, match="at least 2"):
        statistics.variance_components(np.zeros((1, 5)))


@pytest.mark.parametrize(("image_sd", "effect"), [(0.0, 0.1), (0.6, 0.15)])
def test_power_is_what_simulations_find(image_sd: float, effect: float) -> None:
    components = np.array([0.1**2, image_sd**2, 0.5**2])
    expected = statistics.power_of(components, (10, 200), effect)
    found = [two_way_interval(crossed(i, mean=effect, image_sd=image_sd)).low > 0 for i in range(400)]
    assert 0.5 < expected < 0.95
    assert np.mean(found) == pytest.approx(expected, abs=0.07)


def test_power_without_image_variance_is_that_of_a_one_sample_t() -> None:
    # images average out the residual: 12 seeds of standard deviation 1, effect 0.9
    components = np.array([1.0, 0.0, 0.0])
    critical = stats.t.ppf(0.975, 11)
    assert statistics.power_of(components, (12, 50), 0.9) == pytest.approx(
        stats.nct.sf(critical, 11, 0.9 * np.sqrt(12))
    )
    assert statistics.power_of(components, (12, 50), 1e6) == pytest.approx(1)
    assert statistics.power_of(np.zeros(3), (12, 50), 0.1) == 1


def test_power_hint_is_the_fewest_that_do() -> None:
    table = crossed(1, image_sd=0.0)
    for effect in (0.05, 0.1):
        seeds = statistics.power_hint(table, effect)
        components = statistics.variance_components(table)
        assert statistics.power_of(components, (seeds, 200), effect) >= 0.8
        assert statistics.power_of(components, (seeds - 1, 200), effect) < 0.8
    assert statistics.power_hint(table, 0.05) > statistics.power_hint(table, 0.1) > statistics.fewest_seeds()
    assert statistics.power_hint(table, 10.0) == statistics.fewest_seeds() == 6
    assert statistics.power_hint(table, 0.1, power=0.95) > statistics.power_hint(table, 0.1)
    assert statistics.power_hint(np.zeros((4, 9)), 0.01) == 6
    with pytest.raises(ValueError, match="effect"):
        statistics.power_hint(table, 0.0)


def test_where_no_number_of_seeds_helps_it_says_so() -> None:
    few_images = crossed(2, images=50, image_sd=1.0)
    assert statistics.power_hint(few_images, 0.01) is None
    assert statistics.power_sentence(few_images, 0.01) == (
        "with this spread, not even 1,000 seeds would separate 1 points on 50 test images"
    )
    assert statistics.power_hint(few_images[:1], 0.01) is None
    assert "one seed shows no spread" in statistics.power_sentence(few_images[:1])
    assert "one test image shows no spread" in statistics.power_sentence(few_images[:, :1])
    seeds = statistics.power_hint(crossed(1, image_sd=0.0), 0.05)
    assert statistics.power_sentence(crossed(1, image_sd=0.0), 0.05) == (
        f"with this spread, {seeds} seeds would separate 5 points"
    )
    assert "0.5 points" in statistics.power_sentence(crossed(1))


def test_too_few_seeds_are_told_so() -> None:
    assert statistics.cannot_decide(5) == "5 seeds cannot reach p < 0.05 by sign flips (fewest: 6; ask for 10)"
    assert statistics.cannot_decide(1).startswith("1 seed cannot")
    assert statistics.cannot_decide(6) is None
    assert statistics.cannot_decide(6, alpha=0.01) is not None


def test_power_over_subjects_is_what_simulations_find() -> None:
    components = np.array([0.2**2, 0.1**2, 0, 0, 0, 0, 0.5**2])  # of subject, seed and residual

    def table(i: int, effect: float = 0.2) -> np.ndarray:
        rng = np.random.default_rng(i)
        parts = 0.2 * rng.standard_normal((9, 1, 1)) + 0.1 * rng.standard_normal((1, 5, 1))
        return effect + parts + 0.5 * rng.standard_normal((9, 5, 40))

    found = np.mean([statistics.variance_components(table(i)) for i in range(100)], 0)
    assert found == pytest.approx(components, abs=0.01)
    expected = statistics.power_of(components, (9, 5, 40), 0.2)
    assert np.mean([statistics.crossed_interval(table(i)).low > 0 for i in range(300)]) == pytest.approx(
        expected, abs=0.08
    )
    assert "subjects would separate" in statistics.power_sentence(table(0), 0.2)
    assert "one subject shows no spread" in statistics.power_sentence(table(0)[:1])

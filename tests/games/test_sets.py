"""Closed forms of set rewards against their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scar_ray.games import sets

REWARDS = st.lists(st.integers(-4, 4).map(float) | st.floats(-10, 10), max_size=6)
DISCOUNTS = [1.0, 0.5, -0.25, 0.3, 0.0, 0.1]


def best_first(chosen):
    return sorted(chosen, reverse=True)


RULES = {
    "max": (sets.max_values, lambda r: max(r, default=0.0)),
    "min": (sets.min, lambda r: min(r, default=0.0)),
    "mean": (sets.mean, lambda r: sum(r) / max(len(r), 1)),
    "top 2": (lambda r: sets.top_m_sum(r, 2), lambda r: sum(best_first(r)[:2])),
    "dcg": (
        lambda r: sets.sorted_dcg(r, DISCOUNTS),
        lambda r: sum(x * d for x, d in zip(best_first(r), DISCOUNTS, strict=False)),
    ),
    "floor": (lambda r: sets.max_with_floor(r, -1.5), lambda r: max([-1.5, *r])),
}


@pytest.mark.parametrize(("closed", "value"), RULES.values(), ids=RULES)
@given(rewards=REWARDS)
@settings(max_examples=25, deadline=None)
def test_closed_forms_equal_the_enumeration_of_all_sets(closed, value, rewards):
    expected = sets.enumerate_set_game(lambda chosen: value([rewards[i] for i in chosen]), len(rewards))
    np.testing.assert_allclose(closed(rewards), expected, atol=1e-9)


@given(st.lists(st.floats(0, 1) | st.sampled_from([0.0, 1.0]), max_size=6))
@settings(max_examples=25, deadline=None)
def test_noisy_or_equals_the_enumeration(p):
    expected = sets.enumerate_set_game(lambda chosen: 1 - np.prod([1 - p[i] for i in chosen]), len(p))
    np.testing.assert_allclose(sets.noisy_or(p), expected, atol=1e-12)


@given(st.integers(0, 6), st.integers(0, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_coverage_equals_the_enumeration(K, items, seed):
    rng = np.random.default_rng(seed)
    covers, weights = rng.random((K, items)) < 0.4, rng.normal(size=items)
    expected = sets.enumerate_set_game(lambda chosen: covers[list(chosen)].any(axis=0) @ weights, K)
    np.testing.assert_allclose(sets.coverage(covers, weights), expected, atol=1e-9)


def test_known_credits():
    np.testing.assert_allclose(sets.max_values([5, 4, 3]), [2.5, 1.5, 1.0])
    np.testing.assert_allclose(sets.max_values([2, 5, 5, 0]), [2 / 3, 13 / 6, 13 / 6, 0], atol=1e-12)
    np.testing.assert_allclose(sets.max_values([-4, -1, 2]), [-4 / 3, 1 / 6, 19 / 6])
    np.testing.assert_allclose(sets.mean([3, 4, 5]), [7 / 12, 4 / 3, 25 / 12])
    np.testing.assert_allclose(sets.top_m_sum([1, 4, 6, 2], 2), [1 / 2, 19 / 6, 31 / 6, 7 / 6])
    np.testing.assert_allclose(sets.sorted_dcg([3, 1, 2], [1, 1 / 2, 1 / 3]), [85 / 36, 11 / 18, 49 / 36])
    covers = np.array([[1, 1, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0]], dtype=bool)
    np.testing.assert_allclose(sets.coverage(covers, [1, 1, 1]), [3 / 2, 1, 1 / 2, 0])
    np.testing.assert_allclose(sets.max_with_floor([0, 3], 1), [0, 2])
    np.testing.assert_allclose(sets.noisy_or([0.5, 0.5]), [0.375, 0.375])


def test_a_thousand_certain_candidates_share_one():
    np.testing.assert_allclose(sets.noisy_or(np.ones(1000)), np.full(1000, 1e-3), rtol=1e-9)
    np.testing.assert_allclose(sets.max_values(np.ones(1000)), np.full(1000, 1e-3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sets.max_values([1, np.nan]), "rewards: number 1 is nan"),
        (lambda: sets.mean([np.inf]), "rewards: number 0 is inf"),
        (lambda: sets.min([[1.0]]), r"one row of numbers, got shape \(1, 1\)"),
        (lambda: sets.top_m_sum([1], 0), "m=0 must be at least 1"),
        (lambda: sets.sorted_dcg([1, 2], [1]), "2 rewards need as many discounts, got 1"),
        (lambda: sets.max_with_floor([1], np.nan), "floor: number 0 is nan"),
        (lambda: sets.noisy_or([0.5, 1.5]), "probability 1 is 1.5"),
        (lambda: sets.coverage([[1, 0]], [1, 1]), "covers must be booleans"),
        (lambda: sets.coverage([[True]], [1, 1]), "2 items"),
        (lambda: sets.enumerate_set_game(len, 13), r"K=13 .* must be 0\.\.12"),
        (lambda: sets.enumerate_set_game(lambda chosen: np.nan, 2), "coalition 0 has value nan"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

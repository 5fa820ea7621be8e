"""Credits as advantages of tokens: the placements of OSPO and of ShapE-GRPO, by their known answers."""

import numpy as np
import oracle_games
import pytest
from oracle_games import numbers

from scar_ray.credit.advantages import candidate_rewards, ordered_advantages, shared_advantages
from scar_ray.games.sets import max_values

ORACLES = {oracle["name"]: oracle for oracle in oracle_games.load()["other_oracles"]}
needs_oracles = pytest.mark.skipif(not ORACLES, reason=oracle_games.REASON)


def number(fraction: str) -> float:
    return numbers([fraction])[0]


@needs_oracles
@pytest.mark.parametrize("name", ["ospo_advantage", "ospo_advantage_negative"])
def test_the_known_shared_advantages(name):
    given = ORACLES[name]["given"]
    shares, advantage = numbers(given["phi_tilde"]), number(given["A_hat"])
    got = shared_advantages(np.array(shares), advantage)
    np.testing.assert_allclose(got, numbers(ORACLES[name]["A"]), atol=1e-9)
    assert got.mean() == pytest.approx(advantage)
    assert (np.argmax(got) == np.argmax(shares)) == (advantage > 0)


@needs_oracles
def test_the_known_ordered_advantages():
    oracle = ORACLES["ospo_additive_variant"]
    given = oracle["given"]
    mean, std = number(given["group_mean_reward"]), number(given["group_std"])
    got = ordered_advantages(np.array(numbers(given["phi"])), mean, std)
    np.testing.assert_allclose(got, numbers(oracle["A"]), atol=1e-9)
    assert got.mean() == pytest.approx((1.0 - mean) / std)


@needs_oracles
@pytest.mark.parametrize("name", ["shape_token_broadcast_equal_lengths", "shape_token_broadcast_unequal_lengths"])
def test_the_known_rewards_of_candidates(name):
    oracle = ORACLES[name]
    lengths = np.array(oracle["given"]["lengths"])
    phi = max_values(np.array(numbers(oracle["given"]["rewards"])))
    np.testing.assert_allclose(phi, numbers(oracle["phi"]), atol=1e-9)
    scaled = candidate_rewards(phi, lengths, "k_phi")
    np.testing.assert_allclose(scaled, numbers(oracle["token_reward_K_phi"]), atol=1e-9)
    mean = oracle.get("length_weighted_mean_of_K_phi", oracle.get("length_weighted_mean"))
    assert scaled @ lengths / lengths.sum() == pytest.approx(number(mean))
    exact = candidate_rewards(phi, lengths, "length_exact")
    expected = oracle.get("token_reward_phi_times_total_over_length", oracle["token_reward_K_phi"])
    np.testing.assert_allclose(exact, numbers(expected), atol=1e-9)
    assert exact @ lengths / lengths.sum() == pytest.approx(phi.sum())
    np.testing.assert_allclose(candidate_rewards(phi, lengths, "raw"), phi)


@needs_oracles
def test_the_known_bias_of_hindsight():
    """Reward-to-go at the second step is alpha phi_2 + (1 - alpha) R: right where it prefers the greater R."""
    actions = ORACLES["hindsight_bias"]["given"]["actions"]
    for alpha in (0.0, 0.25, 0.49, 0.51, 0.75, 1.0):
        to_go = {
            word: alpha * number(action["credit_at_own_step"]) + (1 - alpha) * number(action["R"])
            for word, action in actions.items()
        }
        assert to_go["terrible"] == pytest.approx(1 - 1.5 * alpha)
        assert to_go["great"] == pytest.approx(0.5 * alpha)
        assert (to_go["terrible"] > to_go["great"]) == (alpha < 0.5)


@pytest.mark.parametrize("shares", [[0.5, 0.4], [np.nan, 1.0], []])
def test_shares_must_sum_to_one(shares):
    with pytest.raises(ValueError, match=r"^shares: must be finite and sum to 1, got the sum "):
        shared_advantages(np.array(shares), 1.0)


def test_a_group_without_spread_has_no_advantages_by_division():
    with pytest.raises(ValueError, match=r"^std: the group's standard deviation must be positive, got 0.0; use 1"):
        ordered_advantages(np.ones(2), 1.0, 0.0)


@pytest.mark.parametrize("lengths", [[1, 0], [1, 2, 3]])
def test_every_candidate_has_a_length(lengths):
    with pytest.raises(ValueError, match=r"^lengths: one positive length for each of 2 candidates is needed"):
        candidate_rewards(np.ones(2), np.array(lengths), "raw")

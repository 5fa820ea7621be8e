import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scar_ray.objectives.gae import explained_variance, gae, kl_rewards, whiten


def brute_force(rewards, values, gamma, lam):
    """A_t = sum_l (gamma lam)^l delta_{t+l}, for one response without padding."""
    n = len(rewards)
    deltas = [rewards[t] + gamma * (values[t + 1] if t + 1 < n else 0.0) - values[t] for t in range(n)]
    return [sum((gamma * lam) ** (s - t) * deltas[s] for s in range(t, n)) for t in range(n)]


@st.composite
def batches(draw):
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    return rng.normal(size=mask.shape), rng.normal(size=mask.shape), mask, lengths


fractions = st.floats(0.0, 1.0)


def test_a_small_case_by_hand():
    # delta = 1 + .5*2 - 0, 0 + .5*1 - 2, 4 - 1 = 2, -1.5, 3; A_1 = -1.5 + .25*3, A_0 = 2 - .25*.75
    rewards, values = np.array([[1.0, 0.0, 4.0]]), np.array([[0.0, 2.0, 1.0]])
    advantages, returns = gae(rewards, values, np.ones((1, 3), dtype=bool), gamma=0.5, lam=0.5)
    np.testing.assert_allclose(advantages, [[1.8125, -0.75, 3.0]], rtol=0, atol=1e-15)
    np.testing.assert_allclose(returns, [[1.8125, 1.25, 4.0]], rtol=0, atol=1e-15)


@given(batches(), fractions, fractions)
def test_gae_is_the_discounted_sum_of_temporal_differences(batch, gamma, lam):
    rewards, values, mask, lengths = batch
    advantages, returns = gae(rewards, values, mask, gamma, lam)
    for b, n in enumerate(lengths):
        expected = brute_force(rewards[b, :n], values[b, :n], gamma, lam)
        np.testing.assert_allclose(advantages[b, :n], expected, atol=1e-12)
        np.testing.assert_allclose(returns[b, :n], np.array(expected) + values[b, :n], atol=1e-12)
        assert not advantages[b, n:].any()
        assert not returns[b, n:].any()


@given(batches(), fractions)
def test_with_lambda_one_the_returns_are_the_reward_to_go_whatever_the_values(batch, gamma):
    rewards, values, mask, lengths = batch
    _, returns = gae(rewards, values, mask, gamma, 1.0)
    for b, n in enumerate(lengths):
        expected = [sum(gamma ** (s - t) * rewards[b, s] for s in range(t, n)) for t in range(n)]
        np.testing.assert_allclose(returns[b, :n], expected, atol=1e-12)


@given(batches(), st.integers(1, 4), st.floats(-1e6, 1e6))
def test_what_stands_at_the_padding_and_how_wide_it_is_changes_nothing(batch, extra, junk):
    rewards, values, mask, _ = batch
    plain, plain_returns = gae(rewards, values, mask, 0.9, 0.8)
    wide_mask = np.pad(mask, ((0, 0), (0, extra)))
    wide_rewards = np.where(wide_mask, np.pad(rewards, ((0, 0), (0, extra))), junk)
    wide_values = np.where(wide_mask, np.pad(values, ((0, 0), (0, extra))), np.nan)
    advantages, returns = gae(wide_rewards, wide_values, wide_mask, 0.9, 0.8)
    width = mask.shape[1]
    assert (advantages[:, :width] == plain).all()
    assert (returns[:, :width] == plain_returns).all()
    assert not advantages[:, width:].any()


def test_a_perfect_critic_leaves_no_advantage():
    rewards, mask = (
        np.array([[0.5, -1.0, 2.0], [3.0, 0.0, 0.0]]),
        np.array([[1, 1, 1], [1, 0, 0]], dtype=bool),
    )
    values = np.array([[1.5, 1.0, 2.0], [3.0, 7.0, 7.0]])
    advantages, returns = gae(rewards, values, mask, 1.0, 0.95)
    assert not advantages.any()
    np.testing.assert_array_equal(returns, [[1.5, 1.0, 2.0], [3.0, 0.0, 0.0]])


def test_float32_inputs_are_summed_in_float64():
    rewards = np.full((1, 10_000), 0.1, dtype=np.float32)
    _, returns = gae(rewards, np.zeros_like(rewards), np.ones(rewards.shape, dtype=bool), 1.0, 1.0)
    assert returns.dtype == np.float64
    assert returns[0, 0] == pytest.approx(10_000 * float(np.float32(0.1)), rel=1e-12)


def test_padding_on_the_left_is_refused():
    mask = np.array([[False, True]])
    with pytest.raises(AssertionError, match="padding must be on the right"):
        gae(np.zeros((1, 2)), np.zeros((1, 2)), mask, 1.0, 1.0)


def test_the_kl_penalty_is_taken_off_every_token_and_none_at_the_padding():
    rewards = np.array([[0.0, 1.0], [2.0, 0.0]])
    logprobs = np.array([[-1.0, -2.0], [-0.5, 9.0]], dtype=np.float32)
    ref = np.array([[-2.0, -1.5], [-0.5, -9.0]], dtype=np.float32)
    mask = np.array([[True, True], [True, False]])
    result = kl_rewards(rewards, logprobs, ref, mask, 0.1)
    np.testing.assert_allclose(result, [[-0.1, 1.05], [2.0, 0.0]], rtol=1e-12)


def test_whitening_by_hand():
    advantages, mask = np.array([[1.0, 3.0], [5.0, 99.0]]), np.array([[True, True], [True, False]])
    deviation = 2 * np.sqrt(2 / 3)
    expected = [[-2 / deviation, 0.0], [2 / deviation, 0.0]]
    np.testing.assert_allclose(whiten(advantages, mask), expected, rtol=1e-7)


@given(batches(), st.floats(-50, 50), st.floats(0.5, 100))
def test_whitening_forgets_shift_and_scale_and_gives_mean_zero_and_variance_one(batch, shift, scale):
    advantages, _, mask, lengths = batch
    if sum(lengths) < 2 or advantages[mask].std() < 0.05:
        return
    whitened = whiten(advantages, mask)
    assert whitened[mask].mean() == pytest.approx(0.0, abs=1e-12)
    assert whitened[mask].var() == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(whiten(scale * advantages + shift, mask), whitened, atol=1e-4)
    assert not whitened[~mask].any()


def test_whitening_equal_advantages_gives_zeros():
    assert not whiten(np.full((2, 3), 4.0), np.ones((2, 3), dtype=bool)).any()


def test_whitening_spans_the_batch_so_halves_whitened_apart_differ():
    advantages, mask = np.array([[0.0, 1.0], [10.0, 11.0]]), np.ones((2, 2), dtype=bool)
    whole = whiten(advantages, mask)
    halves = np.concatenate([whiten(advantages[:1], mask[:1]), whiten(advantages[1:], mask[1:])])
    assert (whole[0] < 0).all()
    assert abs(whole - halves).max() > 0.5


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0, 2.0, 3.0], 1.0), ([7.0, 7.0, 7.0], 0.0), ([2.0, 3.0, 4.0], 1.0), ([3.0, 2.0, 1.0], -3.0)],
)
def test_explained_variance_by_hand(values, expected):
    mask = np.array([[True, True, True, False]])
    result = explained_variance(np.array([[*values, 50.0]]), np.array([[1.0, 2.0, 3.0, -50.0]]), mask)
    assert result == pytest.approx(expected, abs=1e-12)


def test_explained_variance_of_constant_returns_is_zero():
    assert explained_variance(np.array([[1.0, 2.0]]), np.array([[3.0, 3.0]]), np.ones((1, 2), dtype=bool)) == 0.0


def test_the_drivers_mathematics_does_without_torch():
    modules = ", ".join(f"scar_ray.objectives.{name}" for name in ("gae", "importance", "kl", "schedule", "shaping"))
    code = f"import sys, {modules}; print(sorted({{'torch', 'ray', 'transformers'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

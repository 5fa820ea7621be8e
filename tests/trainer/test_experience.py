"""From prompts to requests, and from evaluations to what PPO learns from; with numbers worked out by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import fakes
import numpy as np
import pytest
from fakes import Broken
from hypothesis import given
from hypothesis import strategies as st
from make_response import make_response

from scar_ray.config.schema import AlgorithmConfig, Sampling
from scar_ray.credit import CreditMethod, every_token
from scar_ray.credit.scar import ScarCredit
from scar_ray.credit.sparse import SparseCredit
from scar_ray.credit.uniform import UniformCredit
from scar_ray.records import Evaluation, Response, SequenceScore, TokenRewards
from scar_ray.trainer.experience import (
    Scored,
    logprob_gaps,
    padded,
    ppo_batch,
    prompts_of_step,
    requests_of_step,
    score_response,
    sequences_of,
)
from scar_ray.trainer.protocols import Forward

SAMPLING = Sampling(max_new_tokens=4)


# prompts and requests


@given(n=st.integers(1, 20), count=st.integers(1, 8), seed=st.integers(0, 5))
def test_every_pass_over_the_data_has_each_prompt_once(n: int, count: int, seed: int) -> None:
    prompts = fakes.prompts(n)
    stream = [prompt.index for step in range(3 * n) for prompt in prompts_of_step(prompts, step, count, seed)]
    assert len(stream) == 3 * n * count
    for start in range(0, len(stream), n):
        assert sorted(stream[start : start + n]) == list(range(n))


def test_the_prompts_of_a_step_depend_on_nothing_but_seed_and_step() -> None:
    """So that a resumed run goes on where it stopped; every pass and every seed has an order of its own."""
    prompts = fakes.prompts(50)
    first = [prompts_of_step(prompts, step, 10, 3) for step in range(10)]
    assert prompts_of_step(list(prompts), 7, 10, 3) == first[7]
    assert first[:5] != first[5:]
    assert first[0] != prompts_of_step(prompts, 0, 10, 4)


def test_every_request_has_a_seed_of_its_own() -> None:
    prompts = fakes.prompts(16)
    seeds = [
        request.seed for seed in (0, 1) for step in range(8) for request in requests_of_step(prompts, 4, step, seed)
    ]
    assert len(set(seeds)) == 2 * 8 * 16 * 4
    assert min(seeds) >= 0
    assert max(seeds) < 2**31


def test_a_seed_depends_on_prompt_and_sample_and_not_on_the_rest_of_the_batch() -> None:
    prompts = fakes.prompts(6)
    by_key = {(r.prompt.index, r.sample): r.seed for r in requests_of_step(prompts, 3, 5, 1)}
    for request in requests_of_step(prompts[::-2], 2, 5, 1):
        assert request.seed == by_key[request.prompt.index, request.sample]


def test_requests_are_in_row_order_with_the_samples_of_a_prompt_together() -> None:
    requests = requests_of_step(fakes.prompts(2), 2, 0, 0)
    assert [(r.row, r.prompt.index, r.sample) for r in requests] == [(0, 0, 0), (1, 0, 1), (2, 1, 0), (3, 1, 1)]


def test_a_prompt_that_a_step_meets_again_gives_other_responses() -> None:
    """Three prompts for eight places: samples go on counting."""
    prompts = prompts_of_step(fakes.prompts(3), 0, 8, 0)
    requests = requests_of_step(prompts, 2, 0, 0)
    assert len({request.seed for request in requests}) == 16
    samples = sorted((request.prompt.index, request.sample) for request in requests)
    often = Counter(prompt.index for prompt in prompts)
    assert samples == [(i, sample) for i in range(3) for sample in range(2 * often[i])]
    assert [request.row for request in requests] == list(range(16))


# scores


def score(response: Response, raw: float, method: CreditMethod | None = None, **shaping: Any) -> Scored:
    method = method or UniformCredit()
    algorithm = AlgorithmConfig.model_validate({"shaping": shaping})
    return score_response(response, method.plan(response), Evaluation(raw), method, algorithm, SAMPLING)


def test_the_score_is_shared_out_as_the_credit_method_says() -> None:
    scored = score(make_response(["a", " good", " film"]), 2.0)
    assert scored.score == SequenceScore(2.0, 1.0, 0.0)
    assert scored.rewards.rewards_T.tolist() == [0.5, 0.5, 0.5, 0.5]
    assert scored.residual == 0.0


def test_clipping_comes_before_the_score_is_shared_out() -> None:
    scored = score(make_response(["a", " good", " film"]), -8.0, clip=2.0)
    assert scored.score == SequenceScore(-8.0, 0.25, 0.0)
    assert scored.rewards.rewards_T.tolist() == [-0.5, -0.5, -0.5, -0.5]


def test_penalties_are_paid_at_the_last_token() -> None:
    """Four tokens of at most four and no EOS: both penalties."""
    cut = make_response(["a", " good", " film", "!"], finished=False)
    scored = score(cut, 2.0, missing_eos_penalty=1.0, over_length_penalty=0.25)
    assert scored.score == SequenceScore(2.0, 1.0, -1.25)
    assert scored.rewards.rewards_T.tolist() == [0.5, 0.5, 0.5, 0.5 - 1.25]
    assert score(make_response(["a"]), 2.0, missing_eos_penalty=1.0).score.final == 2.0


def test_the_over_length_penalty_grows_from_its_start() -> None:
    three = make_response(["a", " film"])
    assert score(three, 0.0, over_length_penalty=1.0, over_length_start=2).score.final == -0.5


def test_credits_of_coalitions_are_scaled_with_the_clipped_score() -> None:
    """v() = 1, v(1) = 3, v(2) = 5, v(all) = 9: Shapley values 3 and 5, halved by the clipping to 4.5."""
    response, method = make_response(["good", " film"]), ScarCredit(unit="token", alpha=1.0)
    plan = method.plan(response)
    worth = {(False, False): 1.0, (True, False): 3.0, (False, True): 5.0, (True, True): 9.0}
    values = np.array([worth[tuple(here)] for here in plan.game.coalitions_Cn.tolist()])
    algorithm = AlgorithmConfig.model_validate({"shaping": {"clip": 4.5, "missing_eos_penalty": 1.0}})
    scored = score_response(response, plan, Evaluation(9.0, values), method, algorithm, SAMPLING)
    np.testing.assert_allclose(scored.rewards.rewards_T, [1.5, 2.5, 0.5])
    assert scored.score.final == 4.5


def test_a_credit_method_that_does_not_share_out_the_score_is_told_so() -> None:
    response = replace(make_response(["good", " film"], row=6), sample=2)
    score(response, 3.0, Broken())
    score(response, 3.0 + 1e-9, Broken())
    message = (
        r"^credit method Broken: prompt 6, sample 2 has the score 2\.9999 and token rewards that add up to 3; "
        r"a credit method must share out the score, no more and no less$"
    )
    with pytest.raises(ValueError, match=message):
        score(response, 2.9999, Broken())
    with pytest.raises(ValueError, match=r"Broken: .* add up to nan"):
        score(response, 3.0, Broken(each=float("nan")))


def test_a_credit_method_that_leaves_out_a_token_is_told_so() -> None:
    message = (
        r"^credit method Broken: prompt 0, sample 0 has 3 tokens and token rewards of shape \(2,\); "
        r"a credit method must reward every token, be it with 0$"
    )
    with pytest.raises(ValueError, match=message):
        score(make_response(["good", " film"]), 2.0, Broken(tokens=2))


# the batch


def two_responses() -> list[Scored]:
    """Two tokens that earned 1 and 2, and one token, cut off, with half of its raw score of 6."""
    long = replace(make_response(["good"]), logprobs_T=np.array([-1.0, -3.0], np.float32))
    short = replace(make_response(["bad"], finished=False, row=1), logprobs_T=np.array([-2.5], np.float32))
    return [
        Scored(long, SequenceScore(3.0, 1.0, 0.0), TokenRewards(np.array([1.0, 2.0]), every_token(long), np.ones(2))),
        Scored(short, SequenceScore(6.0, 0.5, 0.0), TokenRewards(np.array([3.0]), every_token(short), np.ones(1))),
    ]


FORWARD = Forward(
    logprobs_BT=np.array([[-1.0, -2.0], [-3.0, 0.0]], np.float32),
    ref_logprobs_BT=np.array([[-1.5, -1.0], [-3.0, 0.0]], np.float32),
    values_BT=np.array([[0.5, 1.0], [2.0, 0.0]], np.float32),
)


def batch_of(**algorithm: Any):
    scored = two_responses()
    sequences = sequences_of([one.response for one in scored])
    chosen = AlgorithmConfig.model_validate({"gamma": 1.0, "lam": 0.5} | algorithm)
    return ppo_batch(scored, sequences, FORWARD, chosen, kl_coef=0.1, lr_scale=0.75)


def test_advantages_and_returns_by_hand() -> None:
    """Rewards with the KL penalty are 0.95, 2.1 | 3; deltas 1.45, 1.1 | 1; lambda is a half."""
    batch, _ = batch_of(whiten_advantages=False)
    np.testing.assert_allclose(batch.advantages_BT, [[2.0, 1.1], [1.0, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(batch.returns_BT, [[2.5, 2.1], [3.0, 0.0]], rtol=1e-6)
    assert batch.lr_scale == 0.75
    assert batch.sequences.prompt_ids == ((1, 2), (1, 2))
    assert batch.sequences.response_ids == ((10, 11), (10,))
    assert batch.old_logprobs_BT is FORWARD.logprobs_BT
    assert batch.old_values_BT is FORWARD.values_BT
    assert (batch.advantages_BT.dtype, batch.returns_BT.dtype, batch.weights_BT.dtype) == (np.float32,) * 3


def test_advantages_are_whitened_over_all_tokens_of_the_batch() -> None:
    """Mean 4.1 / 3 and variance 0.6066.. / 3 of 2, 1.1 and 1; the padding stays 0; returns are left alone."""
    batch, _ = batch_of()
    np.testing.assert_allclose(batch.advantages_BT, [[1.408374, -0.592999], [-0.815374, 0.0]], atol=1e-5)
    np.testing.assert_allclose(batch.returns_BT, [[2.5, 2.1], [3.0, 0.0]], rtol=1e-6)


def test_importance_weights_are_capped_and_one_without_the_correction() -> None:
    assert batch_of()[0].weights_BT.tolist() == [[1, 1], [1, 1]]
    weights = batch_of(importance_cap=2.0)[0].weights_BT
    np.testing.assert_allclose(weights, [[1.0, 2.0], [np.exp(-0.5), 1.0]], rtol=1e-6)


def test_the_metrics_of_a_batch_by_hand() -> None:
    _, metrics = batch_of()
    assert metrics == pytest.approx(
        {
            "reward/mean": 4.5,
            "reward/std": 1.5,
            "reward/final_mean": 3.0,
            "kl/k1": -0.25,  # (0.5 - 1) and 0
            "kl/k3": (np.exp(-0.5) - 0.5 + np.exp(1.0) - 2.0) / 2,
            "length/mean": 1.5,
            "length/eos_share": 0.5,
            "ppo/explained_variance": 1 - 0.2022222 / 0.1355556,
            "credit/residual_max": 0.0,
            "credit/base_mean": 0.0,
            "credit/efficiency_residual_max": 0.0,
            "credit/exact_share": 0.0,
            "credit/units_mean": 1.5,
            "credit/dropped_mean": 0.0,
            "tokens/generated": 3.0,
        },
        rel=1e-5,
    )
    assert all(type(value) is float for value in metrics.values())


def test_the_sparse_reward_survives_the_way_to_the_batch_bit_for_bit() -> None:
    """With a critic of zeros, no KL and no discount every token's return is the score."""
    scored = [score(make_response(["a", " good", " film"]), 1 / 3, SparseCredit())]
    sequences = sequences_of([one.response for one in scored])
    zeros = np.zeros((1, 4), np.float32)
    algorithm = AlgorithmConfig.model_validate({"lam": 1.0, "whiten_advantages": False})
    batch, _ = ppo_batch(scored, sequences, Forward(zeros, zeros, zeros), algorithm, 0.5, 1.0)
    assert batch.returns_BT.tolist() == [[float(np.float32(1 / 3))] * 4]


def test_padding_is_zero() -> None:
    assert padded([np.array([1.5]), np.array([1.0, 2.0])], 3).tolist() == [[1.5, 0.0, 0.0], [1.0, 2.0, 0.0]]


# engines and learner


def test_the_gap_is_that_of_the_worst_token_of_each_engine() -> None:
    responses = [
        replace(make_response(["a"]), engine="rollout-0", logprobs_T=np.array([-1.0, -2.0], np.float32)),
        replace(make_response([]), engine="rollout-1", logprobs_T=np.array([-1.0], np.float32)),
        replace(make_response(["a"]), engine="rollout-0", logprobs_T=np.array([-3.0, -4.0], np.float32)),
    ]
    learner = np.array([[-1.0, -2.25], [-1.5, 99.0], [-3.125, -4.0]], np.float32)
    assert logprob_gaps(responses, learner) == {"rollout-0": 0.25, "rollout-1": 0.5}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_gap_that_is_not_a_number_is_not_forgotten(order: tuple[int, int]) -> None:
    rows = [np.array([[-1.0]], np.float32), np.array([[np.nan]], np.float32)]
    response = replace(make_response([]), logprobs_T=np.array([-1.0], np.float32))
    gaps = logprob_gaps([response, response], np.concatenate([rows[i] for i in order]))
    assert np.isnan(gaps["engine"])

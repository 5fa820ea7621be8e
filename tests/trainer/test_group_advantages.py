"""Advantages without a critic: numbers worked out by hand, what every credit conserves, groups without signal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes import bench, config
from hypothesis import given
from hypothesis import strategies as st
from make_response import make_response

from scar_ray.config.schema import AlgorithmConfig, Sampling
from scar_ray.credit import CreditMethod
from scar_ray.credit.sparse import SparseCredit
from scar_ray.credit.uniform import UniformCredit
from scar_ray.records import Evaluation, Response, TokenRewards, Units
from scar_ray.trainer.experience import Scored, padded, score_response
from scar_ray.trainer.groups import GroupAdvantages, baseline, group_advantages, rewards_to_go, spread

ALGORITHMS = ("grpo", "rloo", "reinforce")


def algorithm(name: str = "grpo", *, samples: int = 2, prompts: int = 1, **group: Any) -> AlgorithmConfig:
    batch = {"prompts": prompts, "samples": samples, "minibatch": prompts * samples}
    return AlgorithmConfig.model_validate(
        {"name": name, "batch": batch, "kl": {"place": "loss"}, "group": {"std": False} | group}
    )


def credited(*rewards: list[float], ends: tuple[int, ...] | None = None, rest: float = 0.0) -> list[TokenRewards]:
    """Token rewards; by default every token is a unit."""
    return [
        TokenRewards(np.array(row), Units(ends or tuple(range(1, len(row) + 1)), ()), np.array(row), rest=rest)
        for row in rewards
    ]


def advantages_of(some: list[TokenRewards], chosen: AlgorithmConfig) -> GroupAdvantages:
    width = max(len(one.rewards_T) for one in some)
    mask_BT = np.arange(width) < np.array([[len(one.rewards_T)] for one in some])
    finals_B = np.array([one.rewards_T.sum() for one in some])
    return group_advantages(some, finals_B, padded([one.rewards_T for one in some], width), mask_BT, chosen)


# to_go


def test_rewards_to_go_by_hand():
    rewards = np.array([[1.0, 2.0, 3.0, 99.0], [4.0, 99.0, 99.0, 99.0]])
    mask = np.array([[True, True, True, False], [True, False, False, False]])
    assert rewards_to_go(rewards, mask).tolist() == [[6, 5, 3, 3], [4, 4, 4, 4]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("grpo", [[1.0, 0.5, -0.5], [-1.0, 0.0, 0.0]]),  # baselines 5, (5 + 4) / 2, (3 + 4) / 2
        ("rloo", [[2.0, 1.0, -1.0], [-2.0, 0.0, 0.0]]),
        ("reinforce", [[2.0, 1.0, -1.0], [-2.0, 0.0, 0.0]]),
    ],
)
def test_rewards_to_go_less_those_of_the_group_by_hand(name, expected):
    found = advantages_of(credited([1.0, 2.0, 3.0], [4.0]), algorithm(name))
    assert found.advantages_BT.tolist() == expected


def test_the_standard_deviation_is_that_of_the_final_scores():
    """Scores 6, 4 and 2: mean 4, variance 8/3."""
    found = advantages_of(credited([6.0], [4.0], [2.0]), algorithm(samples=3, std=True))
    np.testing.assert_allclose(found.advantages_BT[:, 0], [np.sqrt(1.5), 0.0, -np.sqrt(1.5)])
    assert found.metrics == pytest.approx({"group/std_mean": np.sqrt(8 / 3), "group/equal_share": 0.0})


def test_groups_are_the_samples_of_a_prompt_for_reinforce_the_whole_step():
    some = credited([1.0], [3.0], [10.0], [20.0])
    by_prompt = advantages_of(some, algorithm("rloo", prompts=2)).advantages_BT[:, 0]
    assert by_prompt.tolist() == [-2, 2, -10, 10]
    by_step = advantages_of(some, algorithm("reinforce", prompts=4, samples=1)).advantages_BT[:, 0]
    np.testing.assert_allclose(by_step, [1 - 11, 3 - 31 / 3, 10 - 8, 20 - 14 / 3])


def test_the_baselines_by_hand():
    values = np.array([[1.0], [3.0], [8.0], [5.0], [5.0], [2.0]])
    assert baseline(values, 3, others=False)[:, 0].tolist() == [4, 4, 4, 4, 4, 4]
    assert baseline(values, 3, others=True)[:, 0].tolist() == [5.5, 4.5, 2, 3.5, 3.5, 5]


# levels


def test_ordered_and_shared_advantages_by_hand():
    """Four tokens in units of three and one that earned 3 and 1, against 2 for another response: A = 1, levels 4, 4, 4,
    4; and the same with units of one and three."""
    first = credited([0.0, 0.0, 3.0, 1.0], ends=(3, 4))
    other = credited([2.0])
    for tokens, expected in (("ordered", [1.0] * 4), ("shared", [1.0] * 4)):
        found = advantages_of(first + other, algorithm(tokens=tokens))
        np.testing.assert_allclose(found.advantages_BT, [expected, [-1.0, 0, 0, 0]])
    dense = credited([3.0, 0.0, 0.0, 1.0], ends=(1, 4)) + other
    third = 4 / 3
    np.testing.assert_allclose(
        advantages_of(dense, algorithm(tokens="ordered")).advantages_BT[0], [12 - 3, third - 3, third - 3, third - 3]
    )
    np.testing.assert_allclose(
        advantages_of(dense, algorithm(tokens="shared")).advantages_BT[0], [3.0, third / 4, third / 4, third / 4]
    )


def test_what_is_nobodys_credit_concerns_all_tokens_alike():
    """Two tokens: a credit of 1 on the first, 2 for the whole response on the last; levels 4 and 2, mean 3."""
    some = credited([1.0, 2.0], rest=2.0) + credited([1.0])
    np.testing.assert_allclose(advantages_of(some, algorithm(tokens="ordered")).advantages_BT[0], [4 - 2, 2 - 2])


def test_a_bad_response_punishes_its_best_token_most_when_shared_and_least_when_ordered():
    some = credited([0.9, 0.1], [4.0])
    shared = advantages_of(some, algorithm(tokens="shared")).advantages_BT[0]
    ordered = advantages_of(some, algorithm(tokens="ordered")).advantages_BT[0]
    np.testing.assert_allclose(shared, [1.8 * -1.5, 0.2 * -1.5])
    np.testing.assert_allclose(ordered, [1.8 - 2.5, 0.2 - 2.5])


@pytest.mark.parametrize("rewards", [[3.0, -3.0], [0.0, 0.0], [1.0, -4.0], [10.0, -9.0]])
def test_credits_that_are_no_shares_leave_the_advantage_of_the_response_to_all_tokens(rewards):
    """R = 0, a negative sum, and 1 of credits of size 19, which would be shared as 10 and -9."""
    found = advantages_of(credited(rewards, [5.0, 5.0]), algorithm(tokens="shared"))
    expected = (sum(rewards) - 10.0) / 2
    np.testing.assert_allclose(found.advantages_BT, [[expected] * 2, [-expected] * 2])
    assert found.metrics["group/unshared_share"] == 0.5


@st.composite
def batches(draw: st.DrawFn) -> list[TokenRewards]:
    """Four responses with units, credits and something for all."""
    some = []
    for _ in range(4):
        n = draw(st.integers(1, 6))
        row = [draw(st.floats(-5, 5)) for _ in range(n)]
        ends = tuple(sorted({*draw(st.sets(st.integers(1, n))), n}))
        some += credited(row, ends=ends, rest=draw(st.floats(-2, 2)))
    return some


@given(some=batches(), name=st.sampled_from(ALGORITHMS), std=st.booleans())
def test_every_credit_conserves_the_advantage_of_its_response(some, name, std):
    """The first advantage to go, and the mean of the others, is (R - b) / sigma, what plain GRPO gives every token."""
    finals = np.array([one.rewards_T.sum() for one in some])
    size = 4 if name == "reinforce" else 2
    equal, sigma = spread(finals, size)
    scale = np.where(equal, 1.0, sigma) if std else 1.0
    expected = (finals - baseline(finals[:, None], size, others=name != "grpo")[:, 0]) / scale
    for tokens in ("to_go", "ordered", "shared"):
        found = advantages_of(some, algorithm(name, prompts=2, tokens=tokens, std=std)).advantages_BT
        for row, one, advantage in zip(found, some, expected, strict=True):
            T = len(one.rewards_T)
            conserved = row[0] if tokens == "to_go" else row[:T].mean()
            assert conserved == pytest.approx(advantage, rel=1e-6, abs=1e-6 * (1 + np.abs(row).max()))
            assert not row[T:].any()


def test_the_sparse_reward_gives_every_token_the_advantage_of_the_response():
    """Plain GRPO, to the last bit, whatever the way from token rewards to token advantages; uniform credit too."""
    texts = (["a", " good", " film"], ["bad"], ["so", " so"], ["great", "!", "!", "!", "!"])
    for method in (SparseCredit(), UniformCredit()):
        scored = [
            scored_as(method, make_response(list(text), row=row), raw)
            for row, (text, raw) in enumerate(zip(texts, (2.0, -1.0, 0.5, 4.0), strict=True))
        ]
        expected = [1.5, -1.5, -1.75, 1.75]
        for tokens in ("to_go", "ordered", "shared"):
            if method == UniformCredit() and tokens == "to_go":
                continue  # what is still to be earned falls towards the end
            found = advantages_of([one.rewards for one in scored], algorithm(prompts=2, tokens=tokens)).advantages_BT
            for row, one, advantage in zip(found, scored, expected, strict=True):
                np.testing.assert_allclose(row[: one.response.n_tokens], advantage, rtol=1e-12)


def scored_as(method: CreditMethod, response: Response, raw: float) -> Scored:
    sampling = Sampling(max_new_tokens=9)
    return score_response(response, method.plan(response), Evaluation(raw), method, AlgorithmConfig(), sampling)


@given(seed=st.integers(0, 1000), order=st.permutations([0, 1, 2]))
def test_the_order_of_groups_and_of_responses_in_them_changes_nothing(seed, order):
    rng = np.random.default_rng(seed)
    some = [credited(rng.normal(size=rng.integers(1, 5)).tolist())[0] for _ in range(6)]
    place = [2 * group + other for group in order for other in (1, 0)]
    for tokens in ("to_go", "ordered", "shared"):
        chosen = algorithm("rloo", prompts=3, tokens=tokens)
        found = advantages_of(some, chosen).advantages_BT
        moved = advantages_of([some[i] for i in place], chosen).advantages_BT
        np.testing.assert_allclose(moved, found[place], atol=1e-12)


# groups without signal


def test_equal_rewards_give_no_advantage_and_no_division_by_zero():
    some = credited([0.1 + 0.2], [0.3], [5.0], [7.0])
    found = advantages_of(some, algorithm(prompts=2, std=True))
    np.testing.assert_allclose(found.advantages_BT[:, 0], [0, 0, -1, 1], atol=1e-15)
    assert found.metrics["group/equal_share"] == 0.5
    assert found.counted_B.all()


def test_the_filter_leaves_out_groups_in_which_all_were_paid_the_same():
    some = credited([0.1 + 0.2], [0.3], [5.0], [7.0])
    assert advantages_of(some, algorithm(prompts=2, filter=True)).counted_B.tolist() == [False, False, True, True]


# the loop


def grpo_config(**group: Any) -> Any:
    batch = {"prompts": 2, "samples": 2, "minibatch": 2}
    return config(
        {"credit": {"method": "sparse"}},
        name="grpo",
        batch=batch,
        group={"std": False} | group,
        kl={"place": "loss", "coef": 0.3},
    )


def test_without_a_critic_the_learner_gets_advantages_and_the_reference_for_its_loss():
    """Rewards are the numbers of tokens: 3, 5 | 5, 7, or in another order of prompts."""
    it = bench(grpo_config(), SparseCredit(), n_prompts=2)
    metrics = it.trainer.step(0).metrics
    [batch] = it.learner.batches
    assert batch.returns_BT is None
    assert batch.old_values_BT is None
    assert batch.kl_coef == 0.3
    assert set(batch.ref_logprobs_BT[batch.sequences.mask_BT]) == {-1.5}
    rewards = np.array(batch.sequences.lengths).reshape(2, 2)
    expected = (rewards - rewards.mean(1, keepdims=True)).ravel()
    for row, length, advantage in zip(batch.advantages_BT, batch.sequences.lengths, expected, strict=True):
        assert row[:length].tolist() == [advantage] * length
    assert "ppo/explained_variance" not in metrics
    assert metrics["ppo/counted_share"] == 1.0
    assert metrics["kl/coef"] == 0.3


def test_the_kl_penalty_in_the_reward_is_part_of_what_is_to_go():
    """0.1 times half a nat for every token: 3 tokens that are paid 3, 5 that are paid 5: 2.85 against 4.75."""
    it = bench(
        config(
            {"credit": {"method": "sparse"}},
            name="rloo",
            batch={"prompts": 2, "samples": 2, "minibatch": 4},
            group={"std": False},
            kl={"coef": 0.1},
        ),
        SparseCredit(),
        n_prompts=2,
    )
    it.trainer.step(0)
    [batch] = it.learner.batches
    assert batch.ref_logprobs_BT is None
    assert batch.kl_coef == 0.0
    lengths = np.array(batch.sequences.lengths)
    first = 0.95 * (lengths - lengths.reshape(2, 2)[:, ::-1].ravel())
    np.testing.assert_allclose(batch.advantages_BT[:, 0], first, rtol=1e-6)


def test_filtered_responses_only_fill_up_the_last_mini_batch(monkeypatch):
    it = bench(grpo_config(filter=True), SparseCredit(), n_prompts=2)
    evaluate = it.reward._evaluate
    monkeypatch.setattr(
        it.reward, "_evaluate", lambda r, plan: Evaluation(1.0) if r.row < 2 else evaluate(r, plan), raising=False
    )
    metrics = it.trainer.step(0).metrics
    assert [sorted(rows) for rows, _ in it.learner.updates] == [[2, 3], [2, 3]]
    assert metrics["ppo/counted_share"] == 0.5
    assert metrics["group/equal_share"] == 0.5


def test_a_ragged_rest_is_filled_up(monkeypatch):
    """Two counted responses, mini-batches of four: both counted ones and two that fill up."""
    chosen = grpo_config(filter=True)
    chosen = chosen.model_copy(
        update={
            "algorithm": chosen.algorithm.model_copy(
                update={"batch": chosen.algorithm.batch.model_copy(update={"minibatch": 4})}
            )
        }
    )
    it = bench(chosen, SparseCredit(), n_prompts=2)
    evaluate = it.reward._evaluate
    monkeypatch.setattr(
        it.reward, "_evaluate", lambda r, plan: Evaluation(1.0) if r.row < 2 else evaluate(r, plan), raising=False
    )
    it.trainer.step(0)
    for rows, _ in it.learner.updates:
        assert sorted(rows[:2]) == [2, 3]
        assert sorted(rows[2:]) == [0, 1]
    assert it.learner.batches[0].counted_B.tolist() == [False, False, True, True]


def test_where_every_group_is_without_signal_the_step_updates_nothing_and_goes_on(monkeypatch):
    it = bench(grpo_config(filter=True), SparseCredit(), n_prompts=2)
    monkeypatch.setattr(it.reward, "_evaluate", lambda r, plan: Evaluation(1.0), raising=False)
    metrics = it.trainer.step(0).metrics
    assert it.learner.updates == []
    assert (metrics["ppo/counted_share"], metrics["ppo/epochs"]) == (0.0, 0.0)
    assert it.events[-1] == "sync 1"
    it.trainer.step(1)
    assert it.events[-1] == "sync 2"

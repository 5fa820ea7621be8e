"""Where the rewards land: known placements, bases, clipping, penalties."""

import numpy as np
import oracle_games
import pytest
from make_response import make_response, words
from oracle_games import numbers

from scar_ray.credit import METHODS, build
from scar_ray.credit.attention import AttentionCredit
from scar_ray.credit.prefix import PrefixCredit
from scar_ray.credit.scar import ScarCredit
from scar_ray.credit.sparse import SparseCredit
from scar_ray.credit.uniform import UniformCredit
from scar_ray.games import Lengths
from scar_ray.records import Evaluation, SequenceScore

ORACLES = {oracle["name"]: oracle for oracle in oracle_games.load()["other_oracles"]}
needs_oracles = pytest.mark.skipif(not ORACLES, reason=oracle_games.REASON)


def rewards_of(method, response, score, *, v=None, attention=None):
    """Token rewards when the reward model's value of a coalition is `v(players present)`."""
    plan = method.plan(response)
    values_C = None
    if plan.game is not None:
        values_C = np.array([float(v(frozenset(np.flatnonzero(row)))) for row in plan.game.coalitions_Cn])
    attention_T = None if attention is None else np.array(attention)
    return method.assign(response, plan, Evaluation(score.raw, values_C, attention_T), score)


def additive(*worth, empty=0.0):
    return lambda players: empty + sum(worth[i] for i in players)


@needs_oracles
def test_the_known_attention_based_rewards():
    oracle = ORACLES["abc_redistribution"]
    given = oracle["given"]
    row = numbers(given["head_mean_last_layer_last_row"])[given["prompt_len"] :]
    raw, (beta,) = float(given["reward"]), numbers([given["beta"]])
    response = make_response(["Good", " film"])
    assert response.n_tokens == given["response_len"]
    got = rewards_of(AttentionCredit(alpha=beta), response, SequenceScore(raw, 1.0, 0.0), attention=row)
    np.testing.assert_allclose(got.rewards_T, numbers(oracle["token_rewards"]))
    np.testing.assert_allclose(got.credits_n, raw * np.array(numbers(oracle["weights"])))


@needs_oracles
def test_the_known_uniform_rewards():
    oracle = ORACLES["uniform_redistribution"]
    response = make_response(["a", "b", "c"])
    got = rewards_of(UniformCredit(), response, SequenceScore(float(oracle["given"]["reward"]), 1.0, 0.0))
    np.testing.assert_allclose(got.rewards_T, numbers(oracle["token_rewards"]))


@needs_oracles
def test_the_known_shapley_rewards_at_unit_ends():
    oracle = ORACLES["scar_rewards"]
    given = oracle["given"]
    # three units that end at the tokens 2, 5 and 6, and an end-of-sequence token
    response = make_response(["It", " was.", " The", " plot", " dragged.", " Bad."])
    method = ScarCredit(unit="sentence", estimator="shapley", alpha=0.8)
    assert list(method.plan(response).units.ends) == given["unit_end_positions"]
    v = additive(*numbers(given["shapley"]))
    got = rewards_of(method, response, SequenceScore(float(given["reward"]), 1.0, 0.0), v=v)
    np.testing.assert_allclose(got.rewards_T, numbers(oracle["token_rewards"]), atol=1e-12)
    np.testing.assert_allclose(got.credits_n, [1.0, -2.0, 3.0])


def test_the_sparse_reward_is_at_the_last_token():
    got = rewards_of(SparseCredit(), make_response(["a", "b"]), SequenceScore(6.0, 0.5, -1.0))
    np.testing.assert_array_equal(got.rewards_T, [0.0, 0.0, 2.0])


def test_the_uniform_reward_includes_the_end_and_pays_the_penalty_there():
    got = rewards_of(UniformCredit(), make_response(["a", "b"]), SequenceScore(6.0, 0.5, -1.0))
    np.testing.assert_allclose(got.rewards_T, [1.0, 1.0, 0.0])


def test_attention_is_scaled_and_the_penalty_is_not_shared_out():
    response = make_response(["a", "b"])
    got = rewards_of(AttentionCredit(alpha=1.0), response, SequenceScore(6.0, 0.5, -1.0), attention=[2, 1, 1])
    np.testing.assert_allclose(got.rewards_T, [1.5, 0.75, -0.25])


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        ([0.5, 0.5], r"expected 3 weights, one for each token, got shape \(2,\)"),
        ([1.5, -0.5, 0.0], "non-negative .* smallest -0.5"),
        ([0.0, 0.0, 0.0], "positive sum, got sum 0.0"),
    ],
)
def test_attention_must_be_shares(attention, message):
    response = make_response(["a", "b"])
    with pytest.raises(ValueError, match=message):
        rewards_of(AttentionCredit(), response, SequenceScore(1.0, 1.0, 0.0), attention=attention)


BASES = [
    # v = 10 + 2 [0] - 4 [1], so raw = 8, phi = (2, -4), v(empty) = 10; units end at the tokens 1 and 2 of 3
    ("last", 1.0, [2.0, -4.0, 10.0]),
    ("last", 0.5, [1.0, -2.0, 9.0]),
    ("spread", 1.0, [7.0, 1.0, 0.0]),
    ("spread", 0.5, [3.5, 0.5, 4.0]),
    # v(empty) := 0 instead of 10: each Shapley value of two players rises by 5
    ("zero", 1.0, [7.0, 1.0, 0.0]),
    ("zero", 0.5, [3.5, 0.5, 4.0]),
]


@pytest.mark.parametrize(("base", "alpha", "expected"), BASES)
def test_the_score_of_the_empty_response_goes_where_base_says(base, alpha, expected):
    response = make_response(["good", "bad"])
    method = ScarCredit(unit="token", alpha=alpha, base=base)
    got = rewards_of(method, response, SequenceScore(8.0, 1.0, 0.0), v=additive(2.0, -4.0, empty=10.0))
    np.testing.assert_allclose(got.rewards_T, expected, atol=1e-12)
    assert got.base == 10.0
    assert got.efficiency_residual == pytest.approx(0.0, abs=1e-12)


def test_clipping_scales_credits_and_base_and_leaves_the_penalty_alone():
    response = make_response(["good", "bad"])
    got = rewards_of(
        ScarCredit(unit="token", alpha=1.0),
        response,
        SequenceScore(8.0, 0.25, -3.0),
        v=additive(2.0, -4.0, empty=10.0),
    )
    np.testing.assert_allclose(got.rewards_T, [0.5, -1.0, 2.5 - 3.0])
    np.testing.assert_allclose(got.credits_n, [0.5, -1.0])


def test_a_truncated_response_gets_its_last_credit_and_the_rest_on_the_same_token():
    response = make_response(["good", "bad"], finished=False)
    method = ScarCredit(unit="token", alpha=0.5)
    got = rewards_of(method, response, SequenceScore(8.0, 1.0, -1.0), v=additive(2.0, -4.0, empty=10.0))
    np.testing.assert_allclose(got.rewards_T, [1.0, -2.0 + 4.0 + 5.0 - 1.0])


def test_the_plain_score_is_what_is_distributed_and_a_differing_full_coalition_is_reported():
    response = make_response(["good", "bad"])
    method = ScarCredit(unit="token", alpha=1.0)
    plan = method.plan(response)
    v = additive(2.0, -4.0, empty=10.0)
    values_C = np.array([v(frozenset(np.flatnonzero(row))) for row in plan.game.coalitions_Cn])
    values_C[1] += 0.125  # what half precision may do to it in another batch
    got = method.assign(response, plan, Evaluation(8.0, values_C), SequenceScore(8.0, 1.0, 0.0))
    assert got.rewards_T.sum() == pytest.approx(8.0)
    assert got.efficiency_residual == pytest.approx(-0.125)


def test_prefix_rewards_are_differences_of_the_scores_so_far():
    response = make_response(["not", " good", "!"])
    scores = {0: 0.5, 1: -1.0, 2: -3.0, 3: -4.0}
    method = PrefixCredit(unit="token", alpha=1.0)
    assert method.plan(response).game.n_coalitions == 4
    got = rewards_of(method, response, SequenceScore(-4.0, 1.0, 0.0), v=lambda players: scores[len(players)])
    np.testing.assert_allclose(got.rewards_T, [-1.5, -2.0, -1.0, 0.5])


def test_units_are_merged_until_the_paired_tree_fits_the_budget():
    response = make_response(words("The plot was thin, and the cast was lost. I slept well. It was long."))
    for budget in range(4, 70):
        for unit in ("token", "span", "sentence"):
            for estimator in ("auto", "paired_tree"):
                method = ScarCredit(unit=unit, estimator=estimator, budget=budget)
                assert method.plan(response).game.n_coalitions <= budget
    costs = {}
    for budget in (68, 67, 63, 4):
        plan = ScarCredit(estimator="paired_tree", unit="token", budget=budget).plan(response)
        costs[budget] = (len(plan.units), plan.game.n_coalitions)
    assert costs == {68: (19, 68), 67: (18, 64), 63: (17, 60), 4: (1, 2)}


def test_merging_is_no_coarser_than_the_budget_asks_for():
    response = make_response(words("word " * 300))
    method = ScarCredit(unit="token", estimator="paired_tree", budget=50, max_units=300)
    plan = method.plan(response)
    assert 45 < plan.game.n_coalitions <= 50


def test_units_are_merged_until_the_tokens_show_each_alone_and_all_but_it():
    response = make_response(words("The plot was thin, and the cast was lost. I slept well. It was long."))
    sizes = {}
    for tokens in (23, 40, 80, 300):
        method = ScarCredit(unit="token", budget_tokens=tokens)
        plan = method.plan(response)
        lengths = Lengths(2, tuple(np.diff([0, *plan.units.ends]).tolist()))
        assert lengths.trie_tokens(plan.game.coalitions_Cn) <= tokens
        sizes[tokens] = (len(plan.units), plan.game.n_coalitions)
    assert sizes == {23: (1, 2), 40: (1, 2), 80: (4, 10), 300: (19, 40)}


def test_filling_in_for_what_is_left_out_costs_more_tokens_than_cutting_it_out():
    response = make_response(words("The plot was thin, and the cast was lost. I slept well. It was long."))
    deleted, blank = (
        ScarCredit(unit="token", budget_tokens=200, masking=masking).plan(response) for masking in ("delete", "blank")
    )
    assert (len(blank.units), len(deleted.units)) == (6, 16)


def test_an_exact_estimator_that_was_asked_for_is_never_replaced():
    response = make_response(words("The plot was thin and the cast was lost. I slept well."))
    with pytest.raises(ValueError, match=r"estimator=shapley: 14 units need 16384 coalitions, over budget=128"):
        ScarCredit(unit="token", estimator="shapley").plan(response)
    plan = ScarCredit(unit="token", estimator="shapley", max_units=7).plan(response)
    assert plan.game.estimator == "shapley"
    assert plan.game.n_coalitions <= 128


def test_an_unknown_method_is_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"no method 'scra'; use 'scar' or one of sparse, uniform, abc"):
        build("scra", unit="span", estimator="auto", alpha=0.8, budget=64, max_units=16, base="last")
    assert list(METHODS) == ["sparse", "uniform", "abc", "prefix", "scar", "ospo", "shape_grpo"]

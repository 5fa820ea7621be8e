"""What holds for every estimator at every budget."""

import itertools
from typing import get_args

import numpy as np
import pytest
from game_strategies import games, pairwise_game, trees
from hypothesis import example, given, settings
from hypothesis import strategies as st
from oracle_games import credits_of

from scar_ray.games import (
    Cost,
    Estimator,
    Lengths,
    TokenLimit,
    balanced,
    choose,
    coalitions_needed,
    contiguous,
    cost,
    kernel,
    kernel_coalitions,
    made_efficient,
    myerson,
    myerson_coalitions,
    n_players,
    owen,
    owen_coalitions,
    paired_tree,
    permutations,
    shapley,
    shifted_trees,
)

SAMPLED = [name for name in get_args(Estimator) if name not in ("shapley", "owen")]
"""Every estimator that makes do with any budget."""
STRUCTURAL = ["auto", "paired_tree", "shifted_trees", "kernel", "fixed_context_0", "fixed_context_1"]
PAIRED = ["paired_tree", "paired_flat", "shifted_trees", "permutations", "kernel"]

every_sampled = pytest.mark.parametrize("estimator", SAMPLED)
budgets = st.integers(2, 40) | st.integers(41, 300)
few = settings(max_examples=20, deadline=None)


def chain(n, first=0):
    return first if first == n - 1 else (first, chain(n, first + 1))


@every_sampled
@given(tree=trees(max_players=14), budget=budgets)
@example(tree=0, budget=2)
@example(tree=(1, 0), budget=3)
@example(tree=chain(40), budget=2)
@example(tree=chain(40), budget=37)
@example(tree=tuple(range(60)), budget=50)
@few
def test_a_plan_keeps_the_budget_and_is_exactly_efficient_and_linear(estimator, tree, budget):
    plan = choose(tree, estimator, budget)
    assert plan.n_coalitions <= budget
    assert len(np.unique(plan.coalitions_Cn, axis=0)) == plan.n_coalitions
    everybody_over_nobody_C = np.zeros(plan.n_coalitions)
    everybody_over_nobody_C[:2] = -1.0, 1.0
    np.testing.assert_allclose(plan.operator_nC.sum(axis=0), everybody_over_nobody_C, atol=1e-12)
    np.testing.assert_allclose(plan.operator_nC.sum(axis=1), 0.0, atol=1e-12)


@every_sampled
@given(tree=trees(min_players=2, max_players=14))
@few
def test_with_nothing_but_the_whole_all_get_the_same(estimator, tree):
    plan = choose(tree, estimator, 2)
    np.testing.assert_allclose(plan.operator_nC, np.outer(np.full(n_players(tree), 1 / n_players(tree)), [-1, 1]))


@every_sampled
def test_no_players_get_nothing_and_one_gets_everything(estimator):
    nobody = choose((), estimator, 64)
    assert nobody.coalitions_Cn.shape == (2, 0)
    assert nobody.credits(np.array([3.0, 3.0])).shape == (0,)
    np.testing.assert_allclose(choose(0, estimator, 64).credits(np.array([1.0, 5.0])), [4.0])


@pytest.mark.parametrize("estimator", ["shapley", "owen"])
def test_exact_values_of_no_players(estimator):
    assert choose((), estimator, 2).operator_nC.shape == (0, 2)
    assert coalitions_needed((), estimator) == 2


@every_sampled
@pytest.mark.parametrize("budget", [1, 0, -5])
def test_the_whole_and_nothing_must_fit_the_budget(estimator, budget):
    with pytest.raises(ValueError, match=f"budget={budget}: .* need 2"):
        choose((0, 1), estimator, budget)


@pytest.mark.parametrize("estimator", STRUCTURAL)
@given(tree=trees(max_players=9), budget=st.integers(2, 200), data=st.data())
@few
def test_relabelled_players_keep_their_credits_at_every_budget(estimator, tree, budget, data):
    n = n_players(tree)
    v = data.draw(games(n))
    new_name = np.array(data.draw(st.permutations(range(n))), dtype=int)

    def rename(node):
        return int(new_name[node]) if isinstance(node, int) else tuple(map(rename, node))

    old_masks = ((np.arange(2**n)[:, None] >> new_name & 1) << np.arange(n)).sum(axis=1)
    renamed = credits_of(choose(rename(tree), estimator, budget), v[old_masks])
    scale = 1 + np.abs(v).max()
    np.testing.assert_allclose(renamed[new_name], credits_of(choose(tree, estimator, budget), v), atol=1e-8 * scale)


@pytest.mark.parametrize("estimator", PAIRED)
@given(tree=trees(max_players=14), budget=budgets)
@few
def test_every_coalition_of_a_paired_plan_comes_with_its_complement(estimator, tree, budget):
    plan = choose(tree, estimator, budget)
    asked = {row.tobytes() for row in plan.coalitions_Cn}
    assert all((~row).tobytes() in asked for row in plan.coalitions_Cn)


@pytest.mark.parametrize("estimator", SAMPLED)
@given(tree=trees(max_players=9), seed=st.integers(0, 2**32 - 1))
@few
def test_additive_games_are_solved_exactly_from_a_paired_tree_on(estimator, tree, seed):
    n = n_players(tree)
    worth = np.random.default_rng(seed).normal(size=n)
    v = 2.0 + (np.arange(2**n)[:, None] >> np.arange(n) & 1) @ worth
    np.testing.assert_allclose(credits_of(choose(tree, estimator, 4 * n + 2), v), worth, atol=1e-9)


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_permutations_and_kernel_are_the_shapley_value_where_everything_fits(n):
    tree = balanced(n) if n else ()
    assert permutations(n, max(2, 2**n)) is shapley(n)
    assert kernel(tree, max(2, 2**n)) is shapley(n)


@pytest.mark.parametrize(("n", "budget"), [(8, 255), (10, 700), (12, 4095)])
def test_kernel_and_permutations_come_near_the_shapley_value(n, budget):
    v = np.tanh(pairwise_game(n, n) / 4)
    expected = credits_of(shapley(n), v)
    for plan in (kernel(balanced(n), budget), permutations(n, budget)):
        error = np.linalg.norm(credits_of(plan, v) - expected) / np.linalg.norm(expected)
        assert error < 0.2, plan.estimator


def test_the_kernel_asks_for_every_node_of_the_tree():
    tree = (((0, 5), 1), (2, (3, 4)), (6, 7, 8, 9))
    asked = {row.tobytes() for row in kernel(tree, 60).coalitions_Cn}
    assert {row.tobytes() for row in paired_tree(tree).coalitions_Cn} <= asked
    assert len(asked) == kernel_coalitions(10, 61) == 60


def test_a_kernel_of_two_hundred_players():
    plan = kernel(balanced(200), 1001)
    assert (plan.n_coalitions, plan.estimator) == (1000, "kernel")


@given(seed=st.integers(0, 2**32 - 1), tree=trees(max_players=7), budget=st.integers(26, 90))
@few
def test_shifted_trees_are_exact_when_players_interact_in_pairs_only(seed, tree, budget):
    v = pairwise_game(n_players(tree), seed)
    expected = credits_of(shapley(n_players(tree)), v)
    np.testing.assert_allclose(credits_of(shifted_trees(tree, budget), v), expected, atol=1e-9)


def test_shifted_trees_begin_with_the_given_one_and_ask_shared_coalitions_once():
    tree = balanced(8)
    assert shifted_trees(tree, 37) is paired_tree(tree, 37)
    two = shifted_trees(tree, 38)
    assert (two.n_coalitions, two.estimator) == (38, "shifted_trees")
    other = paired_tree((((1, 2), (3, 4)), ((5, 6), (7, 0))))
    v = np.random.default_rng(0).normal(size=256)
    expected = (credits_of(paired_tree(tree), v) + credits_of(other, v)) / 2
    np.testing.assert_allclose(credits_of(two, v), expected)


def test_a_truncated_paired_tree_measures_larger_nodes_first_and_shares_the_rest_equally():
    v = np.random.default_rng(0).normal(size=32)
    tree = ((0, 1, 2), (3, 4))
    plan = paired_tree(tree, 4)
    halves = paired_tree((0, 1), 4)
    block = credits_of(halves, v[[0, 7, 24, 31]])
    np.testing.assert_allclose(credits_of(plan, v), [*[block[0] / 3] * 3, *[block[1] / 2] * 2])
    assert paired_tree(tree, 9).n_coalitions == 8  # the four of the second block; the six of the first do not fit


def test_a_node_too_wide_for_the_budget_is_halved():
    plan = paired_tree(tuple(range(8)), 8)
    sets = {frozenset(np.flatnonzero(row).tolist()) for row in plan.coalitions_Cn}
    assert {frozenset(range(4)), frozenset({0, 1}), frozenset({2, 3})} <= sets
    assert plan.n_coalitions == 8


def test_all_intervals_give_every_player_n_marginals():
    plan = contiguous(6)
    assert plan.n_coalitions == myerson(6).n_coalitions == 6 * 7 // 2 + 1
    # The coefficient of everybody is that of the two marginals of the ends, a sixth each.
    np.testing.assert_allclose(plan.operator_nC[:, 1], [1 / 6, 0, 0, 0, 0, 1 / 6])
    assert contiguous(40, w_max=3).n_coalitions == 2 + 40 + 39 + 38


@given(n=st.integers(1, 12), budget=st.integers(14, 70), data=st.data())
@few
def test_a_null_player_has_no_contiguous_value_at_any_budget(n, budget, data):
    null = data.draw(st.integers(0, n - 1))
    v = data.draw(games(n))[np.arange(2**n) & ~(1 << null)]
    assert credits_of(contiguous(n, budget), v)[null] == pytest.approx(0.0, abs=1e-9)
    assert made_efficient(contiguous(n, budget)).n_coalitions <= budget


@given(n=st.integers(1, 9), budget=st.integers(18, 300), data=st.data())
@few
def test_a_null_player_earns_nothing_in_any_order(n, budget, data):
    null = data.draw(st.integers(0, n - 1))
    v = data.draw(games(n))[np.arange(2**n) & ~(1 << null)]
    assert credits_of(permutations(n, budget), v)[null] == pytest.approx(0.0, abs=1e-9)


@given(n=st.integers(1, 8), data=st.data())
@few
def test_the_myerson_value_is_the_shapley_value_of_the_connected_parts(n, data):
    v = data.draw(games(n))
    parts = np.full(2**n, v[0])
    for mask in range(2**n):
        runs = itertools.groupby(range(n), key=lambda i: mask >> i & 1)
        parts[mask] += sum(v[sum(1 << i for i in run)] - v[0] for present, run in runs if present)
    np.testing.assert_allclose(credits_of(myerson(n), v), credits_of(shapley(n), parts), atol=1e-8)


def test_a_window_of_the_myerson_value_is_the_widest_that_fits():
    assert [myerson_coalitions(6, w) for w in (1, 2, 3, 6)] == [8, 13, 17, 22]
    assert [myerson(6, budget).n_coalitions for budget in (8, 12, 13, 21, 22, 99)] == [8, 8, 13, 20, 22, 22]


def test_the_cost_is_known_before_anything_is_asked():
    flat = cost((0, 1, 2), "fixed_context_0", 64, Lengths(10, (1, 2, 3)))
    # Nobody, everybody, and each alone: 1 2 3 share the beginning "1" with everybody, five sequences have an end.
    assert flat == Cost("fixed_context_0", 5, tokens=5 * 11 + 6 + 6, trie_tokens=10 + 6 + 2 + 3 + 5)
    line = cost((0, 1, 2), "myerson", 64, Lengths(0, (1, 1, 1), end=0))
    assert (line.coalitions, line.tokens, line.trie_tokens) == (7, 3 * 1 + 2 * 2 + 3, 3 + 2 + 1)
    assert cost((0, 1), "auto", 64, Lengths(1, (1, 1))).estimator == "owen"
    assert cost((), "auto", 64, Lengths(5, ())) == Cost("owen", 2, tokens=12, trie_tokens=6)


@pytest.mark.parametrize("estimator", ["shapley", "owen", *SAMPLED])
@given(tree=trees(max_players=8), budget=st.integers(256, 400))
@few
def test_the_cost_is_that_of_the_plan(estimator, tree, budget):
    plan = choose(tree, estimator, budget)
    said = cost(tree, estimator, budget, Lengths(7, (3,) * plan.n_players))
    assert (said.estimator, said.coalitions) == (plan.estimator, plan.n_coalitions)
    assert said.tokens == 8 * plan.n_coalitions + 3 * plan.coalitions_Cn.sum()
    assert coalitions_needed(tree, estimator, budget) == plan.n_coalitions


@given(data=st.data(), filled=st.booleans(), end=st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_tokens_computed_are_the_distinct_beginnings_of_the_sequences(data, filled, end):
    units = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=6))
    masks = data.draw(st.sets(st.integers(0, 2 ** len(units) - 1), min_size=1))
    asked_Cn = np.array([[mask >> i & 1 for i in range(len(units))] for mask in masks], dtype=bool)
    sequences = []
    for present_n in asked_Cn:
        sequence = [("prompt", 0), ("prompt", 1)]
        for player, (length, here) in enumerate(zip(units, present_n, strict=True)):
            if here or filled:
                sequence += [(player, here, token) for token in range(length)]
        sequences.append([*sequence, *[("end", tuple(present_n), token) for token in range(end)]])
    beginnings = {tuple(sequence[: i + 1]) for sequence in sequences for i in range(len(sequence))}
    lengths = Lengths(2, tuple(units), end, filled)
    if all(units):  # an empty unit makes two coalitions one sequence, which is read once
        assert lengths.trie_tokens(asked_Cn) == len(beginnings)
    assert lengths.trie_tokens(asked_Cn) >= len(beginnings)
    assert lengths.tokens(asked_Cn) == sum(map(len, sequences))


@every_sampled
@given(tree=trees(min_players=2, max_players=10), budget=st.integers(2, 120), tokens=st.integers(40, 400))
@few
def test_a_plan_keeps_a_limit_of_tokens_and_stays_efficient(estimator, tree, budget, tokens):
    limit = TokenLimit(tokens, Lengths(5, (3,) * n_players(tree)))
    plan = choose(tree, estimator, budget, limit)
    assert plan.n_coalitions <= budget
    assert limit.lengths.trie_tokens(plan.coalitions_Cn) <= tokens
    np.testing.assert_allclose(plan.operator_nC.sum(axis=0), [-1, 1, *[0] * (plan.n_coalitions - 2)], atol=1e-12)
    unlimited = choose(tree, estimator, budget, TokenLimit(10**9, limit.lengths))
    np.testing.assert_array_equal(unlimited.coalitions_Cn, choose(tree, estimator, budget).coalitions_Cn)


def test_a_limit_of_tokens_is_used_up_as_far_as_coalitions_fit():
    lengths = Lengths(450, (1,) * 40)
    found = [cost(balanced(40), "permutations", 400, lengths, budget_tokens=450 + t) for t in (42, 600, 2400)]
    assert [one.coalitions for one in found] == [2, 40, 158]
    assert [one.trie_tokens - 450 for one in found] == [42, 584, 1747]


def test_a_limit_that_cannot_be_kept_is_refused_with_what_is_needed():
    lengths = Lengths(450, (1,) * 4)
    with pytest.raises(ValueError, match=r"budget_tokens=455: .* alone need 456 reward-model tokens"):
        choose(balanced(4), "auto", 64, TokenLimit(455, lengths))
    needed = cost(balanced(4), "owen", 64, lengths).trie_tokens
    with pytest.raises(ValueError, match=rf"estimator=owen: 4 units need {needed} computed .* budget_tokens=460"):
        choose(balanced(4), "owen", 64, TokenLimit(460, lengths))
    assert choose(balanced(4), "auto", 64, TokenLimit(456, lengths)).n_coalitions == 2


def test_a_chain_of_forty_players_is_refused_or_estimated_but_never_started():
    tree = chain(40)
    assert owen_coalitions(tree) == 2**40
    for ask in (choose, lambda *args: cost(*args, Lengths(1, (1,) * 40))):
        for estimator in ("owen", "shapley"):
            with pytest.raises(ValueError, match=rf"estimator={estimator}: 40 units need about 10\^12 coalitions"):
                ask(tree, estimator, 256)
    with pytest.raises(ValueError, match="40 players needs more than 65536 coalitions"):
        owen(tree)
    assert choose(tree, "auto", 256).estimator == "paired_flat"
    assert choose(tree, "auto", 2**50).n_coalitions <= 65536


def test_a_hopeless_cost_of_any_length_is_written_short():
    with pytest.raises(ValueError, match=r"20000 units need about 10\^6020 coalitions"):
        choose(tuple(range(20_000)), "shapley", 256)


@given(st.integers(1, 20), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_equal_coalitions_count_once_in_a_trie(n: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows_Cn = rng.random((count, n)) < rng.random()
    lengths = Lengths(5, tuple(rng.integers(1, 4, n).tolist()))
    twice = np.concatenate([rows_Cn, rows_Cn[::-1]])
    assert lengths.trie_tokens(twice) == lengths.trie_tokens(np.unique(rows_Cn, axis=0))

"""Axioms of the Shapley and Owen values, and what the paired tree keeps of them."""

import numpy as np
import pytest
from game_strategies import games, pairwise_game, trees
from hypothesis import given
from hypothesis import strategies as st
from oracle_games import credits_of, owen_by_orders

from scar_ray.games import n_players, owen, paired_tree, prefixes, shapley

ESTIMATORS = {
    "shapley": lambda tree: shapley(n_players(tree)),
    "owen": owen,
    "paired_tree": paired_tree,
    "prefixes": lambda tree: prefixes(n_players(tree)),
}
every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)


@st.composite
def trees_with_a_game(draw, max_players=7):
    tree = draw(trees(max_players=max_players))
    return tree, draw(games(n_players(tree)))


@given(trees_with_a_game(max_players=5))
def test_owen_values_are_mean_marginals_over_the_orders_of_the_tree(case):
    tree, v = case
    np.testing.assert_allclose(credits_of(owen(tree), v), owen_by_orders(tree, v), atol=1e-9)


@every_estimator
@given(case=trees_with_a_game())
def test_credits_add_up_to_the_value_of_everybody_over_nobody(estimator, case):
    tree, v = case
    assert credits_of(estimator(tree), v).sum() == pytest.approx(v[-1] - v[0], abs=1e-9)


@pytest.mark.parametrize("name", ["shapley", "owen", "prefixes"])
@given(case=trees_with_a_game(), data=st.data())
def test_a_player_who_changes_no_value_earns_nothing(name, case, data):
    tree, v = case
    n = n_players(tree)
    null = data.draw(st.integers(0, n - 1))
    without = v[np.arange(2**n) & ~(1 << null)]
    assert credits_of(ESTIMATORS[name](tree), without)[null] == pytest.approx(0.0, abs=1e-9)


@given(trees(max_players=7), st.integers(0, 2**32 - 1), st.data())
def test_a_null_player_earns_nothing_from_the_paired_tree_when_players_interact_in_pairs_only(tree, seed, data):
    n = n_players(tree)
    null = data.draw(st.integers(0, n - 1))
    v = pairwise_game(n, seed)[np.arange(2**n) & ~(1 << null)]
    assert credits_of(paired_tree(tree), v)[null] == pytest.approx(0.0, abs=1e-9)


@given(st.integers(2, 7).flatmap(lambda n: st.tuples(st.just(n), games(n))))
def test_shapley_values_of_interchangeable_players_are_equal(case):
    n, v = case
    masks = np.arange(2**n)
    swapped = (masks & ~3) | (masks & 1) << 1 | (masks & 2) >> 1
    credits_n = credits_of(shapley(n), v + v[swapped])
    assert credits_n[0] == pytest.approx(credits_n[1], abs=1e-9)


@every_estimator
@given(case=trees_with_a_game(), data=st.data())
def test_credits_are_linear_in_the_game(estimator, case, data):
    tree, v = case
    w = data.draw(games(n_players(tree)))
    plan = estimator(tree)
    both = 2.0 * credits_of(plan, v) - 3.0 * credits_of(plan, w)
    np.testing.assert_allclose(credits_of(plan, 2.0 * v - 3.0 * w), both, atol=1e-8)


@pytest.mark.parametrize("estimator", [owen, paired_tree])
@given(case=trees_with_a_game(), data=st.data())
def test_relabelled_players_keep_their_credits(estimator, case, data):
    tree, v = case
    n = n_players(tree)
    new_name = np.array(data.draw(st.permutations(range(n))), dtype=int)

    def rename(node):
        return int(new_name[node]) if isinstance(node, int) else tuple(map(rename, node))

    old_masks = ((np.arange(2**n)[:, None] >> new_name & 1) << np.arange(n)).sum(axis=1)
    renamed = credits_of(estimator(rename(tree)), v[old_masks])
    np.testing.assert_allclose(renamed[new_name], credits_of(estimator(tree), v), atol=1e-9)


@given(trees(max_players=7), st.integers(0, 2**32 - 1))
def test_all_estimators_agree_when_players_interact_in_pairs_only(tree, seed):
    v = pairwise_game(n_players(tree), seed)
    expected = credits_of(shapley(n_players(tree)), v)
    np.testing.assert_allclose(credits_of(owen(tree), v), expected, atol=1e-9)
    np.testing.assert_allclose(credits_of(paired_tree(tree), v), expected, atol=1e-9)


def test_a_binary_refinement_is_another_value_but_keeps_the_sums_of_the_blocks():
    v = np.random.default_rng(0).normal(size=64)
    wide = credits_of(owen(((0, 1, 2), (3, 4, 5))), v)
    refined = credits_of(owen((((0, 1), 2), ((3, 4), 5))), v)
    assert np.abs(wide - refined).max() > 0.01
    assert wide[:3].sum() == pytest.approx(refined[:3].sum())

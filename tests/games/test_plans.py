"""Structure and cost of the plans, and what is refused."""

import numpy as np
import pytest
from game_strategies import trees
from hypothesis import given

from scar_ray.games import (
    Plan,
    balanced,
    choose,
    coalitions_needed,
    n_nodes,
    n_players,
    owen,
    owen_coalitions,
    paired_tree,
    paired_tree_coalitions,
    prefixes,
    shapley,
)


def right_chain(n):
    tree = n - 1
    for player in reversed(range(n - 1)):
        tree = (player, tree)
    return tree


def assert_well_formed(plan: Plan, coalitions: int):
    assert plan.n_coalitions == coalitions
    assert len(np.unique(plan.coalitions_Cn, axis=0)) == coalitions
    assert not plan.coalitions_Cn[0].any()
    assert plan.coalitions_Cn[1].all()
    np.testing.assert_allclose(plan.operator_nC.sum(axis=1), 0.0, atol=1e-12)


@given(trees())
def test_plans_hold_distinct_coalitions_as_many_as_their_formula_says(tree):
    n = n_players(tree)
    assert_well_formed(shapley(n), 2**n)
    assert_well_formed(owen(tree), owen_coalitions(tree))
    assert_well_formed(paired_tree(tree), paired_tree_coalitions(tree))
    assert_well_formed(prefixes(n), n + 1)


@pytest.mark.parametrize(("n", "coalitions"), [(8, 44), (16, 172), (32, 684), (64, 2732)])
def test_owen_values_of_a_balanced_tree_cost_two_thirds_of_n_squared(n, coalitions):
    assert owen_coalitions(balanced(n)) == coalitions
    assert owen(balanced(n)).n_coalitions == coalitions


def test_owen_values_of_a_chain_cost_two_to_the_n():
    assert [owen_coalitions(right_chain(n)) for n in (1, 2, 3, 10, 100)] == [2, 4, 8, 1024, 2**100]


def test_owen_values_of_a_wide_node_cost_two_to_its_width():
    assert owen_coalitions((0, 1, 2, 3, 4)) == 32
    assert owen_coalitions(((0, 1, 2), (3, 4, 5))) == 2 + 2 + 2 * 2 * 6


@pytest.mark.parametrize("n", [3, 8, 20])
def test_the_paired_tree_costs_at_most_four_coalitions_a_player(n):
    assert paired_tree_coalitions(tuple(range(n))) == 2 * n + 2
    assert paired_tree_coalitions(balanced(n)) == 4 * n - 4
    assert paired_tree_coalitions(right_chain(n)) == 4 * n - 4


def test_one_player_gets_everything():
    for plan in (shapley(1), owen(0), owen((0,)), paired_tree(0), prefixes(1)):
        np.testing.assert_array_equal(plan.coalitions_Cn, [[False], [True]])
        np.testing.assert_array_equal(plan.operator_nC, [[-1.0, 1.0]])


def test_two_players_share_their_interaction():
    v_empty, v_both, v_0, v_1 = 1.0, 10.0, 3.0, 4.0
    for plan in (shapley(2), owen((0, 1)), paired_tree((0, 1))):
        values = {(0, 0): v_empty, (1, 1): v_both, (1, 0): v_0, (0, 1): v_1}
        in_order = np.array([values[tuple(row)] for row in plan.coalitions_Cn.astype(int)])
        np.testing.assert_allclose(plan.credits(in_order), [4.0, 5.0])


def test_prefixes_are_the_marginals_of_the_order():
    plan = prefixes(3)
    np.testing.assert_array_equal(plan.coalitions_Cn.astype(int), [[0, 0, 0], [1, 1, 1], [1, 0, 0], [1, 1, 0]])
    np.testing.assert_array_equal(plan.credits(np.array([1.0, 7.0, 3.0, 2.0])), [2.0, -1.0, 5.0])


def test_unary_nodes_change_nothing():
    for estimate in (owen, paired_tree):
        bare, wrapped = estimate(((0, 1), 2)), estimate((((0,), (1,)), ((2,),)))
        np.testing.assert_array_equal(bare.coalitions_Cn, wrapped.coalitions_Cn)
        np.testing.assert_array_equal(bare.operator_nC, wrapped.operator_nC)


def test_plans_are_shared_and_cannot_be_changed():
    assert owen(((0, 1), 2)) is owen(((0, 1), 2))
    for plan in (shapley(3), owen((0, 1)), paired_tree((0, 1)), prefixes(2)):
        for array in (plan.coalitions_Cn, plan.operator_nC):
            with pytest.raises(ValueError, match="read-only"):
                array[0, 0] = 1


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ((0, 1, 1), r"0\.\.2, each exactly once; got \[0, 1, 1\]"),
        ((0, (2, 3)), r"each exactly once; got \[0, 2, 3\]"),
        ((-1, 0), r"each exactly once; got \[-1, 0\]"),
        (((0, 1), ()), "a node has no children"),
    ],
)
def test_a_tree_must_hold_every_player_exactly_once(tree, message):
    for use in (n_players, owen, owen_coalitions, paired_tree, paired_tree_coalitions):
        with pytest.raises(ValueError, match=message):
            use(tree)


def test_the_balanced_tree():
    assert balanced(1) == 0
    assert balanced(4) == ((0, 1), (2, 3))
    assert balanced(5) == ((0, 1), (2, (3, 4)))
    assert n_nodes(balanced(5)) == 9
    with pytest.raises(ValueError, match="at least one player"):
        balanced(0)


def test_exact_values_too_large_to_hold_are_refused_at_once():
    with pytest.raises(ValueError, match=r"n=40 .* must be 0\.\.16"):
        shapley(40)
    with pytest.raises(ValueError, match=r"50 players needs more than 65536 coalitions"):
        owen(right_chain(50))
    with pytest.raises(ValueError, match="n=0"):
        prefixes(0)


def test_auto_is_owen_where_it_fits_then_what_is_best_at_so_many_coalitions_a_player():
    used = {budget: choose(balanced(16), "auto", budget).estimator for budget in (172, 171, 128, 127, 62, 61, 60)}
    assert used == {
        172: "owen",
        171: "kernel",
        128: "kernel",
        127: "paired_flat",
        62: "paired_flat",
        61: "paired_flat",
        60: "paired_flat",
    }
    assert [choose(balanced(16), "auto", budget).estimator for budget in (34, 33)] == ["paired_flat", "paired_tree"]
    assert choose(balanced(16), "auto", 31).estimator == "paired_tree"
    assert choose(right_chain(40), "auto", 10**9).estimator == "kernel"


@pytest.mark.parametrize("estimator", ["shapley", "owen", "paired_tree"])
def test_an_explicit_estimator_is_used_up_to_the_budget(estimator):
    tree = ((0, 1, 2), (3, 4))
    cost = coalitions_needed(tree, estimator)
    plan = choose(tree, estimator, cost)
    assert (plan.estimator, plan.n_coalitions) == (estimator, cost)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (
            "shapley",
            "estimator=shapley: 24 units need 16777216 coalitions, over budget=64; use estimator=auto",
        ),
        ("owen", "estimator=owen: 24 units need 428 coalitions, over budget=64; use estimator=auto"),
    ],
)
def test_an_explicit_estimator_over_the_budget_says_cost_budget_and_remedy(estimator, message):
    with pytest.raises(ValueError, match=message) as error:
        choose(balanced(24), estimator, 64)
    assert "\n" not in str(error.value)


def test_a_hopeless_cost_is_written_short():
    with pytest.raises(ValueError, match=r"500 units need about 10\^150 coalitions, over budget=256"):
        choose(balanced(500), "shapley", 256)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.0, 1.0, np.nan, 2.0], "coalition 2 has value nan"),
        ([0.0, np.inf, 1.0, 2.0], "coalition 1 has value inf"),
        ([0.0, 1.0], "expected 4 coalition values"),
    ],
)
def test_values_must_be_finite_and_complete(values, message):
    with pytest.raises(ValueError, match=message):
        shapley(2).credits(np.array(values))

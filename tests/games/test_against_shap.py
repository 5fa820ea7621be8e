"""The same values as shap's explainers, on random games: an independent library as oracle."""

import numpy as np
import pytest
from game_strategies import trees
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_games import credits_of, linkage

from scar_ray.games import (
    balanced,
    fixed_context,
    leaves,
    owen,
    owen_coalitions,
    paired_tree,
    shapley,
)
from scar_ray.games.tree import collapsed

TREES = {
    "two": (0, 1),
    "balanced": balanced(8),
    "chain": (0, (1, (2, (3, (4, 5))))),
    "uneven": (((0, 1), 2), ((3, (4, 5)), 6)),
    "scattered": ((5, (0, 3)), ((1, 6), (2, 4))),
}
WIDE = {
    "pair": (0, 1),
    "flat": (0, 1, 2, 3, 4),
    "blocks": ((0, 1, 2), (3, 4, 5)),
    "uneven": ((0, 1), (2, 3, 4), (5, 6, 7)),
    "mixed": (0, (1, 2, 3), (4, (5, 6, 7))),
    "deep": (((0, 1, 2), 3), (4, 5), 6, 7),
    "scattered": ((5, 0, 3), 1, (6, (2, 4))),
}


def chain(n):
    tree = n - 1
    for player in reversed(range(n - 1)):
        tree = (player, tree)
    return tree


def named(tree, path="g"):
    """A tree as CoalitionExplainer reads it: nested dictionaries, with lists of feature names at the bottom."""
    if all(isinstance(child, int) for child in tree):
        return [f"f{child}" for child in tree]
    return {
        f"{path}{k}": [f"f{child}"] if isinstance(child, int) else named(child, f"{path}{k}.")
        for k, child in enumerate(tree)
    }


def explain_wide(tree, v):
    """shap's values of the game v on a tree of any width."""
    shap = pytest.importorskip("shap", reason="the dev extra of this Python version has no shap")
    n = len(leaves(tree))

    def masker(mask, x):
        return (x * mask).reshape(1, -1)

    masker.clustering, masker.feature_names = linkage(chain(n), n), [f"f{i}" for i in range(n)]
    groups = named(tree)
    explain_row = shap.CoalitionExplainer(
        lambda rows: v[(np.asarray(rows) > 0.5) @ (1 << np.arange(n))],
        masker,
        partition_tree=groups if isinstance(groups, dict) else {"all": groups},
    )
    return explain_row(np.ones((1, n)), silent=True).values[0]


def explain(tree, v, explainer, **options):
    """shap's values of the game v on a binary tree, and the coalitions that it evaluated."""
    shap = pytest.importorskip("shap", reason="the dev extra of this Python version has no shap")
    n = len(leaves(tree))
    seen = []

    def model(rows):
        masks = (np.asarray(rows) > 0.5) @ (1 << np.arange(n))
        seen.extend(masks.tolist())
        return v[masks]

    def masker(mask, x):
        return (x * mask).reshape(1, -1)

    masker.clustering = linkage(tree, n)
    explain_row = getattr(shap.explainers, explainer)(model, masker)
    return explain_row(np.ones((1, n)), silent=True, max_evals=10**9, **options).values[0], seen


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
@pytest.mark.filterwarnings("ignore")
def test_owen_values_equal_the_complete_partition_explainer(tree):
    v = np.random.default_rng(1).normal(size=2 ** len(leaves(tree)))
    expected, seen = explain(tree, v, "PartitionExplainer", fixed_context=None)
    np.testing.assert_allclose(credits_of(owen(tree), v), expected, atol=1e-9)
    assert len(set(seen)) == owen_coalitions(tree)


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
@pytest.mark.filterwarnings("ignore")
def test_owen_values_equal_the_exact_explainer(tree):
    v = np.random.default_rng(2).normal(size=2 ** len(leaves(tree)))
    expected, _ = explain(tree, v, "ExactExplainer")
    np.testing.assert_allclose(credits_of(owen(tree), v), expected, atol=1e-9)


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
@pytest.mark.filterwarnings("ignore")
def test_the_paired_tree_equals_the_mean_of_both_fixed_contexts(tree):
    v = np.random.default_rng(3).normal(size=2 ** len(leaves(tree)))
    off, _ = explain(tree, v, "PartitionExplainer", fixed_context=0)
    on, _ = explain(tree, v, "PartitionExplainer", fixed_context=1)
    np.testing.assert_allclose(credits_of(paired_tree(tree), v), (off + on) / 2, atol=1e-9)


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
@pytest.mark.parametrize("context", [0, 1])
@pytest.mark.filterwarnings("ignore")
def test_fixed_contexts_equal_those_of_the_partition_explainer(tree, context):
    v = np.random.default_rng(4).normal(size=2 ** len(leaves(tree)))
    expected, seen = explain(tree, v, "PartitionExplainer", fixed_context=context)
    plan = fixed_context(tree, context)
    np.testing.assert_allclose(credits_of(plan, v), expected, atol=1e-9)
    assert plan.n_coalitions == len(set(seen)) == 2 * len(leaves(tree))


@pytest.mark.parametrize("tree", WIDE.values(), ids=WIDE)
@pytest.mark.filterwarnings("ignore")
def test_owen_values_equal_the_coalition_explainer_on_trees_of_any_width(tree):
    v = np.random.default_rng(5).normal(size=2 ** len(leaves(tree)))
    np.testing.assert_allclose(credits_of(owen(tree), v), explain_wide(tree, v), atol=1e-9)


@given(tree=trees(max_players=8, binary=True), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15)
@pytest.mark.filterwarnings("ignore")
def test_random_binary_trees_have_the_values_of_the_partition_and_the_exact_explainer(tree, seed):
    v = np.random.default_rng(seed).normal(size=2 ** len(leaves(tree)))
    got = credits_of(owen(tree), v)
    np.testing.assert_allclose(got, explain(tree, v, "PartitionExplainer", fixed_context=None)[0], atol=1e-9)
    np.testing.assert_allclose(got, explain(tree, v, "ExactExplainer")[0], atol=1e-9)


@given(tree=trees(min_players=2, max_players=7), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15)
@pytest.mark.filterwarnings("ignore")
def test_random_trees_of_any_width_have_the_values_of_the_coalition_explainer(tree, seed):
    v = np.random.default_rng(seed).normal(size=2 ** len(leaves(tree)))
    np.testing.assert_allclose(credits_of(owen(tree), v), explain_wide(collapsed(tree), v), atol=1e-9)


@pytest.mark.parametrize("n", range(9))
@pytest.mark.filterwarnings("ignore")
def test_shapley_values_equal_the_exact_explainer_without_a_tree(n):
    shap = pytest.importorskip("shap", reason="the dev extra of this Python version has no shap")
    v = np.random.default_rng(n).normal(size=2**n)
    explainer = shap.ExactExplainer(
        lambda rows: v[(np.asarray(rows) > 0.5) @ (1 << np.arange(n))], lambda mask, x: (x * mask).reshape(1, -1)
    )
    expected = explainer(np.ones((1, n)), silent=True, max_evals=10**9).values.ravel()
    np.testing.assert_allclose(credits_of(shapley(n), v), expected, atol=1e-9)

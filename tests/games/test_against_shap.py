"""The same values as shap's explainers, on random games: an independent library as oracle."""

import numpy as np
import pytest
from oracle_games import credits_of, linkage

from scar_ray.games import balanced, leaves, owen, owen_coalitions, paired_tree

TREES = {
    "two": (0, 1),
    "balanced": balanced(8),
    "chain": (0, (1, (2, (3, (4, 5))))),
    "uneven": (((0, 1), 2), ((3, (4, 5)), 6)),
    "scattered": ((5, (0, 3)), ((1, 6), (2, 4))),
}


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

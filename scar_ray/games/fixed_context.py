"""Fixed contexts: the Owen recursion with every node measured in one context only, all others absent or present."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from scar_ray.games.node_credits import node_credits
from scar_ray.games.plan import MAX_COALITIONS, Plan
from scar_ray.games.tree import Tree


@lru_cache(maxsize=64)
def fixed_context(tree: Tree, context: Literal[0, 1], budget: int = MAX_COALITIONS) -> Plan:
    """Plan of the `fixed_context` rule of shap's PartitionExplainer on `tree`, of any width.

    m(A) = v(A) - v(empty) in context 0, where everything outside the node A is absent, and
    v(N) - v(N \\ A) in context 1, where it is present; what a node has beyond its children is shared equally by
    its players (`node_credits`). One coalition a node, 2n on a binary tree; fewer under a smaller budget. Efficient,
    linear and indifferent to relabelling at every budget; otherwise only as good as its one context: exact
    for additive games. ValueError for an invalid tree or a budget below 2.
    """
    return node_credits(tree, 1.0 - context, budget, f"fixed_context_{context}")

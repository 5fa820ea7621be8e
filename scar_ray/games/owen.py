"""Exact Owen values of a levels structure.

The Owen value (Owen 1977 for one level of unions, Winter 1989 for nested ones) of player i is its mean
marginal contribution over all orders of the players in which the players of every tree node stay together.
Seen from the root, it is a chain of Shapley values: at each node on the way to i, the siblings that came
before are a random subset s of the other k - 1 children, drawn with the Shapley weight
|s|! (k - 1 - |s|)! / k!.
"""

from __future__ import annotations

from functools import lru_cache
from math import comb

import numpy as np
from numpy.typing import NDArray

from scar_ray.games.plan import MAX_COALITIONS, Plan, frozen_plan, no_players
from scar_ray.games.tree import Tree, collapsed, leaves, n_players


def owen_coalitions(tree: Tree) -> int:
    """Number of distinct coalitions that the exact Owen value of `tree` needs; nothing is built.

    A node with k children that is met in c contexts needs c (2^k - 2) coalitions of its own, and hands
    c 2^(k-1) contexts to each child; the empty and the full coalition come on top. ValueError for an invalid
    tree.
    """
    if n_players(tree) == 0:
        return 2

    def below(node: Tree, contexts: int) -> int:
        if isinstance(node, int):
            return 0
        k = len(node)
        return contexts * ((1 << k) - 2) + sum(below(child, contexts << (k - 1)) for child in node)

    return 2 + below(tree, 1)


@lru_cache(maxsize=64)
def owen(tree: Tree) -> Plan:
    """Plan of the exact Owen value of the levels structure `tree`, of any width; a unary node adds nothing.

    Costs `owen_coalitions(tree)`. ValueError for an invalid tree, or one that needs over 65,536 coalitions.
    """
    cost = owen_coalitions(tree)
    if cost > MAX_COALITIONS:
        raise ValueError(
            f"owen: this tree of {n_players(tree)} players needs more than {MAX_COALITIONS} coalitions, "
            "the limit; use the paired tree or fewer players"
        )
    return exact(tree, cost, "owen")


def exact(tree: Tree, cost: int, estimator: str) -> Plan:
    """The plan of the Owen value of a valid `tree` whose cost in coalitions is known."""
    n = n_players(tree)
    if n == 0:
        return no_players(estimator)
    coalitions_Cn = np.zeros((cost, n), dtype=np.bool_)
    coalitions_Cn[1] = True
    operator_nC = np.zeros((n, cost))
    filled = 2

    # A node's contexts: row of the coalition without the node, row of the one with all of it, and the weight.
    def visit(node: Tree, off: NDArray[np.intp], on: NDArray[np.intp], weight: NDArray[np.float64]) -> None:
        nonlocal filled
        if isinstance(node, int):
            operator_nC[node, on] += weight
            operator_nC[node, off] -= weight
            return
        k, contexts = len(node), len(off)
        subsets = np.arange(1 << k)
        # rows[c, s] is the coalition of context c together with the children whose bits are set in s.
        rows = np.empty((contexts, 1 << k), dtype=np.intp)
        rows[:, 0], rows[:, -1] = off, on
        rows[:, 1:-1] = filled + np.arange(contexts * (len(subsets) - 2)).reshape(contexts, -1)
        filled += contexts * (len(subsets) - 2)
        coalitions_Cn[rows[:, 1:-1]] = coalitions_Cn[off][:, None]
        for j, child in enumerate(node):
            with_child = rows[:, subsets >> j & 1 == 1]
            coalitions_Cn[with_child[..., None], leaves(child)] = True
        for j, child in enumerate(node):
            without = subsets[subsets >> j & 1 == 0]
            shapley_weights = np.array([1 / (k * comb(k - 1, int(s).bit_count())) for s in without])
            shares: NDArray[np.float64] = weight[:, None] * shapley_weights
            visit(child, rows[:, without].ravel(), rows[:, without | 1 << j].ravel(), shares.ravel())

    visit(collapsed(tree), np.array([0]), np.array([1]), np.array([1.0]))
    assert filled == cost, (filled, cost)
    return frozen_plan(coalitions_Cn, operator_nC, estimator)

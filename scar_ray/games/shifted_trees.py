"""The mean of paired trees on several trees over the same players."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from scar_ray.games.paired_tree import paired_tree, paired_tree_coalitions
from scar_ray.games.plan import Coalitions, Plan, frozen_plan
from scar_ray.games.tree import Tree, halved, leaves, n_players


@lru_cache(maxsize=64)
def shifted_trees(tree: Tree, budget: int) -> Plan:
    """Plan of the mean of `paired_tree` over `tree` and balanced binary trees with shifted boundaries.

    The k-th further tree is balanced over the players as `tree` orders them, rotated by k: other neighbours are
    together in it. There are as many trees as the budget affords, n at most, where a coalition of several
    trees is asked once. Where only one fits, this is the paired tree, truncated if need be.

    Efficient, linear and indifferent to relabelling at every budget; the Shapley value of games whose
    interactions involve at most two players as soon as one complete tree fits. ValueError for an invalid tree or a
    budget below 2.
    """
    plans: list[Plan] = []
    if paired_tree_coalitions(tree) <= budget and n_players(tree) > 2:
        asked = Coalitions(n_players(tree))
        for one in _trees(tree):
            plan = paired_tree(one)
            if len(asked) + asked.n_new(list(plan.coalitions_Cn)) > budget:
                break
            for members_n in plan.coalitions_Cn:
                asked.row(members_n)
            plans.append(plan)
    if len(plans) < 2:
        return paired_tree(tree, budget)
    operator_nC = np.zeros((n_players(tree), len(asked)))
    for plan in plans:
        rows = [asked.row(members_n) for members_n in plan.coalitions_Cn]
        operator_nC[:, rows] += plan.operator_nC / len(plans)
    return frozen_plan(asked.array(), operator_nC, "shifted_trees")


def _trees(tree: Tree) -> Iterator[Tree]:
    yield tree
    order = leaves(tree)
    for shift in range(1, len(order)):
        yield halved((*order[shift:], *order[:shift]))

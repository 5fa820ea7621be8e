"""Which estimator a tree and a budget allow."""

from __future__ import annotations

from typing import Literal

from scar_ray.games.owen import MAX_COALITIONS, owen, owen_coalitions
from scar_ray.games.paired_tree import paired_tree, paired_tree_coalitions
from scar_ray.games.plan import Plan
from scar_ray.games.shapley import shapley
from scar_ray.games.tree import Tree, n_players

Estimator = Literal["auto", "shapley", "owen", "paired_tree"]


def coalitions_needed(tree: Tree, estimator: Literal["shapley", "owen", "paired_tree"]) -> int:
    """Coalitions of `estimator` on `tree`, before anything is built. ValueError for an invalid tree."""
    if estimator == "shapley":
        return 1 << n_players(tree)
    if estimator == "owen":
        return owen_coalitions(tree)
    return paired_tree_coalitions(tree)


def choose(tree: Tree, estimator: Estimator, budget: int) -> Plan:
    """The plan of `estimator` on `tree` with at most `budget` coalitions.

    "auto" is the exact Owen value where it fits the budget, else the paired tree. ValueError when the
    estimator needs more coalitions than the budget, naming both; for "auto" that is when even the paired
    tree does.
    """
    if estimator == "auto":
        affordable = owen_coalitions(tree) <= min(budget, MAX_COALITIONS)
        estimator = "owen" if affordable else "paired_tree"
    cost = coalitions_needed(tree, estimator)
    if cost > budget:
        instead = "fewer units" if estimator == "paired_tree" else "estimator=auto, fewer units"
        count = str(cost) if cost < 10**9 else f"about 10^{len(str(cost)) - 1}"
        raise ValueError(
            f"estimator={estimator}: {n_players(tree)} units need {count} coalitions, over budget={budget}; "
            f"use {instead} or a larger budget"
        )
    if estimator == "shapley":
        return shapley(n_players(tree))
    return owen(tree) if estimator == "owen" else paired_tree(tree)

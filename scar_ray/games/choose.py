"""Which estimator a tree and a budget allow, and what it costs before anything is asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, log10
from typing import Literal

from scar_ray.games.contiguous import contiguous
from scar_ray.games.fixed_context import fixed_context
from scar_ray.games.kernel import kernel
from scar_ray.games.myerson import myerson
from scar_ray.games.owen import owen, owen_coalitions
from scar_ray.games.paired_tree import paired_tree, paired_tree_coalitions
from scar_ray.games.permutations import permutations
from scar_ray.games.plan import MAX_COALITIONS, Plan, check_budget, made_efficient
from scar_ray.games.shapley import shapley, shapley_coalitions
from scar_ray.games.shifted_trees import shifted_trees
from scar_ray.games.tree import Tree, n_players

Estimator = Literal[
    "auto",
    "shapley",
    "owen",
    "paired_tree",
    "paired_flat",
    "shifted_trees",
    "permutations",
    "kernel",
    "contiguous",
    "myerson",
    "fixed_context_0",
    "fixed_context_1",
]

KERNEL_FROM = 8
"""Coalitions a player from which paired KernelSHAP is the best use of a budget."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a plan will ask of the reward model for one response."""

    estimator: str
    """The estimator that is used; differs from the one asked for where that was "auto" or everything fits."""
    coalitions: int
    """Coalitions C, the empty and the full one included."""
    tokens: int
    """Tokens of all of them: the prompt in each, and the units of the response that it has."""


def choose(tree: Tree, estimator: Estimator, budget: int) -> Plan:
    """The plan of `estimator` on `tree`, of at most `budget` coalitions; its credits add up to v(N) - v(empty).

    "shapley" and "owen" are exact or refused: ValueError when they need more coalitions than the budget, naming
    both. All others make do with any budget of at least 2. `Plan.estimator` names what was used.
    """
    used = _used(tree, estimator, budget)
    n = n_players(tree)
    match used:
        case "shapley":
            return shapley(n)
        case "owen":
            return owen(tree)
        case "paired_flat":
            return replace(paired_tree(tuple(range(n)), budget), estimator="paired_flat")
        case "shifted_trees":
            return shifted_trees(tree, budget)
        case "permutations":
            return permutations(n, budget)
        case "kernel":
            return kernel(tree, budget)
        case "contiguous":
            return made_efficient(contiguous(n, budget))
        case "myerson":
            return myerson(n, budget)
        case "fixed_context_0":
            return fixed_context(tree, 0, budget)
        case "fixed_context_1":
            return fixed_context(tree, 1, budget)
        case _:
            return paired_tree(tree, budget)


def coalitions_needed(tree: Tree, estimator: Estimator, budget: int = MAX_COALITIONS) -> int:
    """Coalitions of `estimator` on `tree`, before anything is asked. ValueError for an invalid tree.

    Exact values and the paired tree are counted by their formulas, whatever their number and the budget, and
    nothing is built; the others are limited by the budget and counted on their plan.
    """
    if estimator == "shapley":
        return shapley_coalitions(n_players(tree))
    if estimator == "owen":
        return owen_coalitions(tree)
    if estimator == "paired_tree" and paired_tree_coalitions(tree) <= budget:
        return paired_tree_coalitions(tree)
    return choose(tree, estimator, budget).n_coalitions


def cost(tree: Tree, estimator: Estimator, budget: int, *, prompt_tokens: int, response_tokens: int) -> Cost:
    """Coalitions and reward-model tokens of `choose(tree, estimator, budget)`, without asking anything.

    Plans whose coalitions come with their complements read half of the response on average, so their tokens are
    C (prompt + response / 2) whatever the lengths of the units; of contiguous coalitions and fixed contexts they are
    those of units of equal length. Rounded up. ValueError as `choose` raises it.
    """
    used = _used(tree, estimator, budget)
    if used in ("shapley", "owen"):
        name, coalitions, part = str(used), coalitions_needed(tree, used), 0.5
    else:
        plan = choose(tree, used, budget)
        name, coalitions = plan.estimator, plan.n_coalitions
        part = float(plan.coalitions_Cn.mean()) if plan.n_players else 0.5
    # Without the noise of floating point, which must not be rounded up.
    of_response = round(coalitions * part * response_tokens, 6)
    return Cost(name, coalitions, coalitions * prompt_tokens + ceil(of_response))


def _used(tree: Tree, estimator: Estimator, budget: int) -> Estimator:
    """The estimator that stands behind "auto", and any other one itself; ValueError if it is exact and does not fit.

    "auto" is the exact Owen value where it fits; else paired KernelSHAP from KERNEL_FROM coalitions a player on; else
    "paired_flat", every player alone and everybody but that player, where its 2n + 2 coalitions fit; else the paired
    tree, as far as the budget goes. That is what is nearest to the Shapley value for the tokens spent on a reward
    model of real text (`benchmarks/estimators.py`), and up to KernelSHAP no draw of coalitions is involved.
    """
    check_budget(budget)
    if estimator == "auto":
        n = n_players(tree)
        if owen_coalitions(tree) <= min(budget, MAX_COALITIONS):
            return "owen"
        if budget >= KERNEL_FROM * n:
            return "kernel"
        return "paired_flat" if budget >= 2 * n + 2 else "paired_tree"
    if estimator in ("shapley", "owen"):
        needed = coalitions_needed(tree, estimator)
        if needed > budget:
            count = str(needed) if needed < 10**9 else f"about 10^{int(log10(needed))}"
            raise ValueError(
                f"estimator={estimator}: {n_players(tree)} units need {count} coalitions, over budget={budget}; "
                "use estimator=auto, fewer units or a larger budget"
            )
    return estimator

"""Which estimator a tree and a budget allow, and what it costs before anything is asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log10
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
from scar_ray.games.tokens import Lengths, TokenLimit
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
    """Tokens of all their sequences."""
    trie_tokens: int
    """Tokens computed where the prompt and every common beginning are computed once."""


def choose(tree: Tree, estimator: Estimator, budget: int, limit: TokenLimit | None = None) -> Plan:
    """The plan of `estimator` on `tree`, of at most `budget` coalitions; its credits add up to v(N) - v(empty).

    With a `limit` it has as many coalitions as bisection finds to be within it.

    "shapley" and "owen" are exact or refused: ValueError when they need more coalitions or tokens than there are,
    naming both. All others make do with any budget of at least 2, and any limit that allows the empty and the
    full coalition; ValueError below. `Plan.estimator` names what was used.
    """
    plan = _planned(tree, estimator, budget)
    if limit is None or limit.allows(plan.coalitions_Cn):
        return plan
    if estimator in ("shapley", "owen"):
        needed = limit.lengths.trie_tokens(plan.coalitions_Cn)
        raise ValueError(
            f"estimator={estimator}: {plan.n_players} units need {needed} computed reward-model tokens, over "
            f"budget_tokens={limit.tokens}; use estimator=auto, fewer units or a larger budget"
        )
    plan, too_many = _planned(tree, estimator, 2), plan.n_coalitions
    if not limit.allows(plan.coalitions_Cn):
        raise ValueError(
            f"budget_tokens={limit.tokens}: the prompt, the response and the empty response alone need "
            f"{limit.lengths.trie_tokens(plan.coalitions_Cn)} reward-model tokens; use a larger one"
        )
    fits = 2
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        tried = _planned(tree, estimator, middle)
        if limit.allows(tried.coalitions_Cn):
            plan, fits = tried, middle
        else:
            too_many = middle
    return plan


def _planned(tree: Tree, estimator: Estimator, budget: int) -> Plan:
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


def cost(tree: Tree, estimator: Estimator, budget: int, lengths: Lengths, *, budget_tokens: int | None = None) -> Cost:
    """Coalitions and reward-model tokens of the plan of `choose` with these arguments, without asking anything.

    Exact, but for reward models that cut the text into other tokens than `lengths` counts. ValueError as `choose`
    raises it.
    """
    limit = None if budget_tokens is None else TokenLimit(budget_tokens, lengths)
    plan = choose(tree, estimator, budget, limit)
    asked_Cn = plan.coalitions_Cn
    return Cost(plan.estimator, plan.n_coalitions, lengths.tokens(asked_Cn), lengths.trie_tokens(asked_Cn))


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

"""Paired KernelSHAP: Shapley values by constrained weighted least squares on coalitions and their complements."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from scar_ray.games.plan import MAX_COALITIONS, Plan, check_budget, frozen_plan
from scar_ray.games.shapley import shapley, shapley_coalitions
from scar_ray.games.tree import Tree, leaves, n_players

Members = int
"""A coalition: bit i is set where player i is a member."""


def kernel_coalitions(n: int, budget: int) -> int:
    """Number of coalitions of `kernel` for n players: all 2^n, or the even part of the budget."""
    budget = min(budget, MAX_COALITIONS)
    return shapley_coalitions(n) if shapley_coalitions(n) <= budget else budget - budget % 2


@lru_cache(maxsize=64)
def kernel(tree: Tree, budget: int) -> Plan:
    """Plan of paired KernelSHAP (Lundberg and Lee 2017; Covert and Lee 2021) with the nodes of `tree` included.

    phi minimises sum over S of w_S (v(S) - v(empty) - sum over i in S of phi_i)^2 subject to
    sum phi = v(N) - v(empty); of several minima it is the one nearest to equal shares. Every coalition comes with its
    complement. The nodes of the tree, larger ones first, come before random coalitions, which are drawn
    without replacement so that all sizes are asked equally often (Leverage SHAP, Musco and Witter 2025). The
    Shapley kernel's weight of a size, 1 / (s (n - s)), is shared equally by the coalitions asked of that size.
    Where all 2^n coalitions fit the budget, this is `shapley(n)`.

    Efficient, linear and indifferent to relabelling at every budget; null players and symmetry where the game
    is additive or complete. The sample is a function of the tree and the budget. Costs
    `kernel_coalitions(n, budget)`. ValueError for an invalid tree or a budget below 2.
    """
    check_budget(budget)
    n = n_players(tree)
    budget = min(budget, MAX_COALITIONS)
    if shapley_coalitions(n) <= budget:
        return shapley(n)
    everybody = (1 << n) - 1
    asked = dict.fromkeys((0, everybody))
    nodes = _tree_nodes(tree, everybody)
    for members in nodes:
        if len(asked) + 2 <= budget:
            asked |= {members: None, everybody ^ members: None}
    for members in _random_members(leaves(tree), nodes, budget):
        asked |= {members: None, everybody ^ members: None}
    assert len(asked) <= budget, (len(asked), budget)
    coalitions_Cn = _array(asked, n)
    return frozen_plan(coalitions_Cn, _least_squares(coalitions_Cn), "kernel")


def _tree_nodes(tree: Tree, everybody: Members) -> list[Members]:
    """Members of the nodes below the root, larger ones first."""
    found: list[Members] = []

    def members_of(node: Tree) -> Members:
        place = len(found)
        found.append(0)
        found[place] = 1 << node if isinstance(node, int) else sum(map(members_of, node))
        return found[place]

    members_of(tree)
    return sorted((members for members in found if members != everybody), key=lambda members: -members.bit_count())


def _random_members(order: Sequence[int], nodes: Sequence[Members], budget: int) -> list[Members]:
    """Random coalitions, one of each pair, that fill the budget up with sizes asked as equally as possible."""
    n = len(order)
    rng = np.random.default_rng([n, budget])
    everybody = (1 << n) - 1
    known = {0, everybody}
    asked_of = [0] * (n // 2 + 1)
    for members in nodes:
        if members not in known:
            size = members.bit_count()
            asked_of[min(size, n - size)] += 1
            known |= {members, everybody ^ members}
    most_of = [comb(n, s) // (2 if 2 * s == n else 1) for s in range(n // 2 + 1)]
    wanted_of = _levelled(asked_of, most_of, max(budget - len(known), 0) // 2)
    drawn: list[Members] = []
    for s in range(1, n // 2 + 1):
        # Drawn over the places in the tree, so that new names for the players change nothing else.
        for places in _subsets(n, s, wanted_of[s], rng):
            if wanted_of[s] == 0:
                break
            members = sum(1 << order[place] for place in places.tolist())
            if members not in known:
                drawn.append(members)
                known |= {members, everybody ^ members}
                wanted_of[s] -= 1
    return drawn


def _array(coalitions: Collection[Members], n: int) -> NDArray[np.bool_]:
    """The coalitions as an array of shape (C, n)."""
    width = -(-n // 8)
    packed = b"".join(members.to_bytes(width, "little") for members in coalitions)
    bits = np.frombuffer(packed, np.uint8).reshape(len(coalitions), width)
    return np.unpackbits(bits, axis=1, count=n, bitorder="little").astype(np.bool_)


def _levelled(asked_of: list[int], most_of: list[int], more: int) -> list[int]:
    """How many to add of each size 1, 2, ... so that all have been asked equally often, or as often as possible."""
    wanted_of = [0] * len(most_of)
    queue = [(asked_of[s], s) for s in range(1, len(most_of)) if asked_of[s] < most_of[s]]
    heapq.heapify(queue)
    for _ in range(more):
        count, s = heapq.heappop(queue)
        wanted_of[s] += 1
        if count + 1 < most_of[s]:
            heapq.heappush(queue, (count + 1, s))
    return wanted_of


def _subsets(n: int, s: int, wanted: int, rng: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    """Subsets of s of n places in random order; repeated where there are many more of them than wanted."""
    if comb(n, s) <= 4 * wanted:
        yield from rng.permutation(np.array(list(combinations(range(n), s))))
    while True:
        yield rng.permutation(n)[:s]


def _least_squares(coalitions_Cn: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The operator of the weighted least squares with sum phi = v(N) - v(empty), of minimal norm around equal shares.

    With phi = (v(N) - v(empty)) / n + u and sum u = 0, u is the regression of what S has beyond its size's
    share of v(N) - v(empty) on 1[i in S] - |S| / n.
    """
    C, n = coalitions_Cn.shape
    inner_Cn = coalitions_Cn[2:]
    sizes_C = inner_Cn.sum(axis=1)
    shares_C = sizes_C / n
    weights_C = 1 / (sizes_C * (n - sizes_C) * np.bincount(sizes_C)[sizes_C])
    centred_Cn = inner_Cn - shares_C[:, None]
    weighted_nC = centred_Cn.T * weights_C
    regression_nC = np.linalg.pinv(weighted_nC @ centred_Cn, rcond=1e-10, hermitian=True) @ weighted_nC
    regression_nC -= regression_nC.mean(axis=0)
    operator_nC = np.zeros((n, C))
    operator_nC[:, 2:] = regression_nC
    operator_nC[:, 1] = 1 / n - regression_nC @ shares_C
    operator_nC[:, 0] = -operator_nC[:, 1:].sum(axis=1)
    return operator_nC

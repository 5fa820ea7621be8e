"""Shapley values sampled from random orders of the players, each with its reverse."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from scar_ray.games.plan import MAX_COALITIONS, Coalitions, Plan, check_budget, frozen_plan
from scar_ray.games.shapley import shapley, shapley_coalitions


@lru_cache(maxsize=64)
def permutations(n: int, budget: int) -> Plan:
    """Plan of the mean marginals over random orders in antithetic pairs (Castro et al. 2009; Mitchell et al. 2022).

    An order and its reverse cost 2 (n - 1) coalitions, complements of each other; there are as many pairs as the
    budget affords. Where not even one fits, it is asked for its prefixes at evenly spaced cuts only, and the
    players between two cuts share their gain equally. Where all 2^n coalitions fit the budget, this is
    `shapley(n)`.

    Efficient and linear at every budget, and null players earn exactly nothing as soon as one full pair fits;
    symmetry and relabelling hold in the mean over orders. The orders are a function of n and the budget.
    ValueError for a budget below 2.
    """
    check_budget(budget)
    budget = min(budget, MAX_COALITIONS)
    if shapley_coalitions(n) <= budget:
        return shapley(n)
    rng = np.random.default_rng([n, budget])
    pairs = (budget - 2) // (2 * (n - 1))
    at = np.arange(n + 1) if pairs else np.linspace(0, n, (budget - 2) // 2 + 2).round().astype(np.intp)
    # The reverse order is cut at the complements.
    sizes, reverse_sizes = np.diff(at), np.diff(at)[::-1]
    asked = Coalitions(n)
    operator_nC = np.zeros((n, budget))
    orders = [rng.permutation(n) for _ in range(max(pairs, 1))]
    for order, block_sizes in [pair for one in orders for pair in ((one, sizes), (one[::-1], reverse_sizes))]:
        rows = _prefix_rows(asked, order, np.concatenate([[0], np.cumsum(block_sizes)]))
        block = np.repeat(np.arange(len(block_sizes)), block_sizes)
        weight_n = 1 / (2 * len(orders) * block_sizes[block])
        operator_nC[order, rows[block + 1]] += weight_n
        operator_nC[order, rows[block]] -= weight_n
    return frozen_plan(asked.array(), operator_nC[:, : len(asked)].copy(), "permutations")


def _prefix_rows(asked: Coalitions, order: NDArray[np.intp], at: NDArray[np.intp]) -> NDArray[np.intp]:
    """Rows of the coalitions of the first `at[k]` players of the order."""
    place = np.argsort(order)
    return np.array([asked.row(place < length) for length in at])

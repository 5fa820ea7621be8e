"""Values from contiguous coalitions only, so that the reward model reads whole stretches of the response."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from scar_ray.games.plan import MAX_COALITIONS, Plan, check_budget, frozen_plan, no_players

W_MAX = 32
"""Widest interval that OSPO asks for, besides all players."""

Interval = tuple[int, int]
"""Players first, ..., last - 1."""


@lru_cache(maxsize=64)
def contiguous(n: int, budget: int = MAX_COALITIONS, w_max: int = W_MAX) -> Plan:
    """Plan of OSPO's values (arXiv 2601.08403): the mean marginals of each player over contiguous coalitions.

    phi_j = mean over S in C_j of v(S + j) - v(S), where C_j holds the coalitions S without j such that S and S + j
    both are asked: the empty one, intervals of at most w_max players, or all players. With n <= w_max and no
    budget that is n marginals a player from n (n + 1) / 2 + 1 coalitions. Under a budget pairs (S, S + j) are
    drawn without replacement, after the pairs (empty, j) that give everybody a marginal; where not even those
    fit, blocks of neighbours are the players and share their values equally.

    The values do not add up to v(N) - v(empty); `made_efficient` corrects that. Linear; a null player's value is
    exactly 0; symmetry only between places that mirror each other. The sample is a function of the
    arguments. ValueError for a budget below 2 or w_max below 1.
    """
    check_budget(budget)
    if w_max < 1:
        raise ValueError(f"contiguous: w_max={w_max} must be at least 1")
    if n == 0:
        return no_players("contiguous")
    bounds = neighbours(n, budget)
    asked = Intervals(bounds)
    blocks = len(bounds) - 1
    for start in range(blocks):
        asked.row((start, start + 1))
    pairs = _pairs(blocks, w_max)
    for index in np.random.default_rng([n, budget, w_max]).permutation(len(pairs)):
        smaller, larger, _ = pairs[index]
        if len(asked) + (smaller not in asked) + (larger not in asked) <= budget:
            asked.row(smaller)
            asked.row(larger)
    operator_nC = np.zeros((n, len(asked)))
    marginals_n = np.zeros(n)
    for smaller, larger, block in [*(((j, j), (j, j + 1), j) for j in range(blocks)), *pairs]:
        if smaller in asked and larger in asked:
            players = slice(bounds[block], bounds[block + 1])
            operator_nC[players, asked.row(larger)] += 1.0
            operator_nC[players, asked.row(smaller)] -= 1.0
            marginals_n[players] += bounds[block + 1] - bounds[block]
    return frozen_plan(asked.coalitions_Cn(), operator_nC / marginals_n[:, None], "contiguous")


class Intervals:
    """Distinct intervals of blocks of neighbouring players, numbered as `Plan` wants: 0 nobody, 1 everybody."""

    def __init__(self, bounds: list[int]) -> None:
        self._bounds = bounds
        self._row_of: dict[Interval, int] = {(0, 0): 0, (0, len(bounds) - 1): 1}

    def __len__(self) -> int:
        return len(self._row_of)

    def __contains__(self, interval: Interval) -> bool:
        return _one_empty(interval) in self._row_of

    def row(self, interval: Interval) -> int:
        """Number of the interval, a new one if it was not there."""
        return self._row_of.setdefault(_one_empty(interval), len(self._row_of))

    def coalitions_Cn(self) -> NDArray[np.bool_]:
        ends_C2 = np.array(self._bounds)[np.array(list(self._row_of))]
        places_n = np.arange(self._bounds[-1])
        coalitions_Cn: NDArray[np.bool_] = (places_n >= ends_C2[:, :1]) & (places_n < ends_C2[:, 1:])
        return coalitions_Cn


def _one_empty(interval: Interval) -> Interval:
    first, last = interval
    return interval if first < last else (0, 0)


def neighbours(n: int, budget: int) -> list[int]:
    """Bounds 0, ..., n of as many blocks of neighbours as the budget can measure alone; n blocks where it can.

    b blocks alone, nobody and everybody are b + 2 coalitions, and 2 for one block.
    """
    blocks = min(n, max(1, budget - 2))
    return [round(block * n / blocks) for block in range(blocks + 1)]


def _pairs(n: int, w_max: int) -> list[tuple[Interval, Interval, int]]:
    """The intervals S of players 0..n-1, S + j, and j, where S has a player and S + j is all or has at most w_max."""
    pairs = []
    for width in range(2, n + 1):
        if width <= w_max:
            for start in range(n - width + 1):
                end = start + width
                pairs += [((start + 1, end), (start, end), start), ((start, end - 1), (start, end), end - 1)]
    return pairs

"""The Myerson value of the line: each interval's dividend, shared equally by its players."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from scar_ray.games.contiguous import Intervals, neighbours
from scar_ray.games.plan import MAX_COALITIONS, Plan, check_budget, frozen_plan, made_efficient, no_players


def myerson_coalitions(n: int, window: int) -> int:
    """Number of coalitions of all intervals of at most `window` of n players, the empty and the full one."""
    window = min(window, n)
    return 2 + sum(n - width + 1 for width in range(1, window + 1)) - (window == n > 0)


@lru_cache(maxsize=64)
def myerson(n: int, budget: int = MAX_COALITIONS) -> Plan:
    """Plan of the Myerson value (1977) of the graph in which neighbours are linked.

    With g(a, b) = v({a..b}) - v(empty), 0 for an empty interval, the dividend of an interval is
    D(a, b) = g(a, b) - g(a + 1, b) - g(a, b - 1) + g(a + 1, b - 1), and phi_i = sum over intervals containing i of
    D / length: the Shapley value of the game in which a coalition is worth the sum over its connected parts.

    Costs n (n + 1) / 2 + 1. Under a budget the dividends of the widest window that fits are measured, and the
    rest of v(N) - v(empty) is shared equally by all; where not even single players fit, blocks of neighbours are
    the players. Efficient and linear at every budget; the order of the players matters, and a player who adds
    nothing may be paid for linking others. ValueError for a budget below 2.
    """
    check_budget(budget)
    if n == 0:
        return no_players("myerson")
    bounds = neighbours(n, budget)
    blocks = len(bounds) - 1
    limit = min(budget, MAX_COALITIONS)
    window = max(w for w in range(1, blocks + 1) if myerson_coalitions(blocks, w) <= limit)
    asked = Intervals(bounds)
    intervals = [(a, a + width) for width in range(1, window + 1) for a in range(blocks - width + 1)]
    for interval in intervals:
        asked.row(interval)
    operator_nC = np.zeros((n, len(asked)))
    sizes_n = np.repeat(np.diff(bounds), np.diff(bounds))
    for a, b in intervals:
        players = slice(bounds[a], bounds[b])
        # Players of one block share what their block gets.
        share_n = 1 / ((b - a) * sizes_n[players])
        # The inner interval of a single player would be negative; like the two beside it, it is the empty one.
        corners = (((a, b), 1.0), ((a + 1, b), -1.0), ((a, b - 1), -1.0), ((a + 1, max(a + 1, b - 1)), 1.0))
        for interval, sign in corners:
            operator_nC[players, asked.row(interval)] += sign * share_n
    return made_efficient(frozen_plan(asked.coalitions_Cn(), operator_nC, "myerson"))

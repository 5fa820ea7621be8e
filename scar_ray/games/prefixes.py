"""Prefix differences: what each player adds to all players before it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from scar_ray.games.plan import Plan, frozen_plan


@lru_cache(maxsize=64)
def prefixes(n: int) -> Plan:
    """Plan of phi_i = v({0..i}) - v({0..i-1}), the marginals of the one order 0, 1, ..., n - 1.

    n + 1 coalitions: empty, full, then {0}, {0, 1}, ... The credits are differences of the potential
    Phi(i) = v({0..i-1}), so they add up to v(N) - v(empty). ValueError for n < 1.
    """
    if n < 1:
        raise ValueError(f"prefixes: at least one player is needed, got n={n}")
    lengths_C = np.array([0, n, *range(1, n)])
    coalitions_Cn = np.arange(n)[None, :] < lengths_C[:, None]
    row_of_length = np.argsort(lengths_C)
    operator_nC = np.zeros((n, n + 1))
    operator_nC[np.arange(n), row_of_length[1:]] = 1.0
    operator_nC[np.arange(n), row_of_length[:-1]] = -1.0
    return frozen_plan(coalitions_Cn, operator_nC, "prefixes")

"""Exact Shapley values."""

from __future__ import annotations

from functools import lru_cache

from scar_ray.games.owen import exact
from scar_ray.games.plan import Plan
from scar_ray.games.tree import Tree

MAX_PLAYERS = 16


def shapley_coalitions(n: int) -> int:
    """2^n; 2 without players, where the empty and the full coalition still have a row each."""
    return max(2, 1 << n)


@lru_cache(maxsize=MAX_PLAYERS + 1)
def shapley(n: int) -> Plan:
    """Plan of the exact Shapley value of n players from all 2^n coalitions.

    phi_i = sum over S without i of |S|! (n - 1 - |S|)! / n! * (v(S + i) - v(S)), which is the Owen value of
    the tree in which all players hang on the root. ValueError unless 0 <= n <= 16.
    """
    if not 0 <= n <= MAX_PLAYERS:
        raise ValueError(
            f"shapley: n={n} players need 2^n coalitions, n must be 0..{MAX_PLAYERS}; "
            "use the Owen value or the paired tree of a hierarchy, or fewer players"
        )
    flat: Tree = tuple(range(n))
    return exact(flat, shapley_coalitions(n), "shapley")

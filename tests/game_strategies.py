"""Random trees and games for the property tests of scar_ray.games."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from scar_ray.games import Tree


@st.composite
def trees(draw, min_players: int = 1, max_players: int = 8, binary: bool = False) -> Tree:
    """Trees over shuffled players, of up to five children a node, unless `binary` also with unary nodes."""

    def grow(players: list[int]) -> Tree:
        if len(players) == 1:
            unary = not binary and draw(st.integers(0, 5)) == 0
            return (players[0],) if unary else players[0]
        widest = 1 if binary else 4
        cuts = sorted(draw(st.sets(st.integers(1, len(players) - 1), min_size=1, max_size=widest)))
        bounds = zip([0, *cuts], [*cuts, len(players)], strict=True)
        return tuple(grow(players[start:end]) for start, end in bounds)

    n = draw(st.integers(min_players, max_players))
    return grow(draw(st.permutations(range(n))))


@st.composite
def games(draw, n: int) -> np.ndarray:
    """Values of all 2^n coalitions, v(empty) among them."""
    seed = draw(st.integers(0, 2**32 - 1))
    return np.random.default_rng(seed).normal(size=2**n) * draw(st.sampled_from([1.0, 100.0]))


def pairwise_game(n: int, seed: int) -> np.ndarray:
    """A random game whose interactions involve at most two players; v(empty) is not 0."""
    rng = np.random.default_rng(seed)
    worth, together, empty = rng.normal(size=n), np.triu(rng.normal(size=(n, n)), 1), rng.normal()
    members = np.arange(2**n)[:, None] >> np.arange(n) & 1
    return empty + members @ worth + np.einsum("ci,ij,cj->c", members, together, members)

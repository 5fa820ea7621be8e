"""Games with known values, in exact fractions, from the folder `shared` beside the repository."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from scar_ray.games import Plan, Tree

ORACLES = Path(__file__).resolve().parents[1] / "../shared/oracles/oracles.json"
REASON = "needs ../shared/oracles/oracles.json, which is not here"


def load() -> dict[str, Any]:
    """The file; without it an empty stand-in, so that parametrised tests collect nothing."""
    return json.loads(ORACLES.read_text()) if ORACLES.exists() else {"games": [], "other_oracles": []}


def as_tree(nested: Any) -> Tree:
    return nested if isinstance(nested, int) else tuple(as_tree(child) for child in nested)


def numbers(fractions: list[str]) -> list[float]:
    return [float(Fraction(x)) for x in fractions]


def table(game: dict[str, Any]) -> np.ndarray:
    """v as an array over bit masks: bit i of the index is player i."""
    return np.array([float(Fraction(game["v"][str(mask)])) for mask in range(2 ** game["n_players"])])


def credits_of(plan: Plan, v: np.ndarray) -> np.ndarray:
    """The credits that `plan` gives in the game `v`, an array over bit masks."""
    return plan.credits(v[plan.coalitions_Cn @ (1 << np.arange(plan.n_players))])


def owen_by_orders(tree: Tree, v: np.ndarray) -> list[float]:
    """The definition: mean marginals over all orders in which the players of every node stay together."""

    def orders(node: Tree):
        if isinstance(node, int):
            yield (node,)
            return
        for permutation in itertools.permutations(node):
            for parts in itertools.product(*(list(orders(child)) for child in permutation)):
                yield tuple(itertools.chain(*parts))

    totals, count = np.zeros(len(v).bit_length() - 1), 0
    for order in orders(tree):
        count += 1
        before = 0
        for player in order:
            totals[player] += v[before | 1 << player] - v[before]
            before |= 1 << player
    return list(totals / count)


def linkage(tree: Tree, n: int) -> np.ndarray:
    """A binary tree as the (n - 1, 4) matrix of scipy and shap: children, distance, number of leaves."""
    rows: list[list[float]] = []

    def walk(node: Tree) -> tuple[int, int]:
        if isinstance(node, int):
            return node, 1
        (left, left_size), (right, right_size) = (walk(child) for child in node)
        rows.append([left, right, 1.0, left_size + right_size])
        return n + len(rows) - 1, left_size + right_size

    walk(tree)
    return np.array(rows).reshape(-1, 4)

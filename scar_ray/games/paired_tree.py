"""The paired-tree estimator: credits from every tree node alone and from everything but it.

Shapley values see a game only through its odd part v(S) - v(N \\ S), so each node's coalition is paired with
its complement. With m(A) = (v(A) - v(empty)) / 2 + (v(N) - v(N \\ A)) / 2 for every node A (its leaves),

    phi_i = m({i}) + sum over inner nodes A containing i of (m(A) - sum over children c of A of m(c)) / |A|.

The credits always add up to v(N) - v(empty), and they are the Owen and the Shapley value of every game whose
interactions involve at most two players. On binary trees they are the mean of the two fixed-context variants
of shap's PartitionExplainer.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from scar_ray.games.plan import Plan, frozen_plan
from scar_ray.games.tree import Tree, collapsed, leaves, n_nodes, n_players


def paired_tree_coalitions(tree: Tree) -> int:
    """Number of distinct coalitions of `paired_tree(tree)`: 2n + 2 if flat (n > 2), 4n - 4 if binary.

    Every node but the root has its own leaf set and the complement; the two children of a binary root are
    each other's complements. ValueError for an invalid tree.
    """
    n_players(tree)
    tree = collapsed(tree)
    shared = 2 if isinstance(tree, tuple) and len(tree) == 2 else 0
    return 2 + 2 * (n_nodes(tree) - 1) - shared


@lru_cache(maxsize=64)
def paired_tree(tree: Tree) -> Plan:
    """Plan of the paired-tree credits on `tree`, of any width; a unary node adds nothing.

    Costs `paired_tree_coalitions(tree)`. ValueError for an invalid tree.
    """
    n, cost = n_players(tree), paired_tree_coalitions(tree)
    coalitions_Cn = np.zeros((cost, n), dtype=np.bool_)
    coalitions_Cn[1] = True
    row_of = {coalitions_Cn[0].tobytes(): 0, coalitions_Cn[1].tobytes(): 1}

    def row(members_n: NDArray[np.bool_]) -> int:
        number = row_of.setdefault(members_n.tobytes(), len(row_of))
        coalitions_Cn[number] = members_n
        return number

    def measure_C(node: Tree) -> NDArray[np.float64]:
        """m(node) as a linear map over the coalitions."""
        members_n = np.zeros(n, dtype=np.bool_)
        members_n[list(leaves(node))] = True
        m_C = np.zeros(cost)
        for number, weight in ((row(members_n), 0.5), (0, -0.5), (1, 0.5), (row(~members_n), -0.5)):
            m_C[number] += weight
        return m_C

    operator_nC = np.zeros((n, cost))

    def share_out(node: Tree, m_C: NDArray[np.float64], inherited_C: NDArray[np.float64]) -> None:
        """`inherited_C` is what each player below `node` gets from the nodes above it."""
        if isinstance(node, int):
            operator_nC[node] = m_C + inherited_C
            return
        measures = [measure_C(child) for child in node]
        rest_C = (m_C - np.sum(measures, axis=0)) / len(leaves(node))
        for child, child_C in zip(node, measures, strict=True):
            share_out(child, child_C, inherited_C + rest_C)

    root = collapsed(tree)
    share_out(root, measure_C(root), np.zeros(cost))
    assert len(row_of) == cost, (len(row_of), cost)
    return frozen_plan(coalitions_Cn, operator_nC, "paired_tree")

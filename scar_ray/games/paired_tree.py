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

from scar_ray.games.node_credits import node_credits
from scar_ray.games.plan import MAX_COALITIONS, Plan
from scar_ray.games.tree import Tree, collapsed, n_nodes, n_players


def paired_tree_coalitions(tree: Tree) -> int:
    """Number of distinct coalitions of the complete `paired_tree(tree)`: 2n + 2 if flat (n > 2), 4n - 4 if binary.

    Every node but the root has its own leaf set and the complement; the two children of a binary root are
    each other's complements. ValueError for an invalid tree.
    """
    n_players(tree)
    tree = collapsed(tree)
    shared = 2 if isinstance(tree, tuple) and len(tree) == 2 else 0
    return 2 + 2 * (n_nodes(tree) - 1) - shared


@lru_cache(maxsize=256)
def paired_tree(tree: Tree, budget: int = MAX_COALITIONS) -> Plan:
    """Plan of the paired-tree credits on `tree`, of any width; a unary node adds nothing.

    Costs `paired_tree_coalitions(tree)`, or less under a smaller budget: then the nodes are measured from the
    root down as far as it goes (`node_credits`). Efficiency, linearity and relabelling hold at every budget;
    null players and symmetry where the tree is complete and interactions involve at most two players.
    ValueError for an invalid tree or a budget below 2.
    """
    return node_credits(tree, 0.5, budget, "paired_tree")

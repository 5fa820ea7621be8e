"""Cooperative games in plain numpy: which coalitions to evaluate, and the map from their values to credits.

Every estimator returns a `Plan`: `shapley(n)`, `owen(tree)`, `paired_tree(tree)`, `prefixes(n)`; `choose`
picks one under a budget of coalitions. Costs are known before anything is built: `owen_coalitions`,
`paired_tree_coalitions`, `coalitions_needed`. Plans depend on the structure only, so they are cached and
shared.
"""

from scar_ray.games.choose import Estimator, choose, coalitions_needed
from scar_ray.games.owen import owen, owen_coalitions
from scar_ray.games.paired_tree import paired_tree, paired_tree_coalitions
from scar_ray.games.plan import Plan
from scar_ray.games.prefixes import prefixes
from scar_ray.games.shapley import shapley
from scar_ray.games.tree import Tree, balanced, leaves, n_nodes, n_players

__all__ = [
    "Estimator",
    "Plan",
    "Tree",
    "balanced",
    "choose",
    "coalitions_needed",
    "leaves",
    "n_nodes",
    "n_players",
    "owen",
    "owen_coalitions",
    "paired_tree",
    "paired_tree_coalitions",
    "prefixes",
    "shapley",
]

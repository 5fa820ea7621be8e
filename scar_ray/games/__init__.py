"""Cooperative games in plain numpy: which coalitions to evaluate, and the map from their values to credits.

Every estimator returns a `Plan` of coalitions (C x n) and a linear operator (n x C). `choose(tree, estimator, budget)`
is the entry: a plan of at most `budget` coalitions whose credits add up to v(N) - v(empty). A `TokenLimit` bounds the
reward-model tokens as well, and `cost` says before what will be asked. Plans depend on the structure only, so they
are cached and shared.

| estimator       | credits                                                        | coalitions without a budget |
|-----------------|----------------------------------------------------------------|-----------------------------|
| auto            | owen where it fits, kernel from 8n on, paired_flat, paired_tree | at most the budget         |
| shapley         | exact Shapley value                                            | 2^n, or refused             |
| owen            | exact Owen value of the tree, of any width                     | `owen_coalitions`, or refused |
| paired_tree     | each node alone and everything but it                          | at most 4n - 4              |
| shifted_trees   | mean of paired trees with shifted boundaries                   | at most the budget          |
| permutations    | mean marginals over random orders and their reverses           | at most the budget          |
| kernel          | paired KernelSHAP, the tree's nodes included                   | at most the budget          |
| contiguous      | OSPO's mean marginals over intervals, and equal shares of the rest | n (n + 1) / 2 + 1       |
| myerson         | Myerson value of the line                                      | n (n + 1) / 2 + 1           |
| fixed_context_0 | each node alone                                                | at most 2n                  |
| fixed_context_1 | everything but each node                                       | at most 2n                  |

All are linear and efficient. Null players earn nothing and interchangeable players the same (for owen: within a
node) from exact values; what the others keep of that stands in their docstrings. `prefixes(n)` are the marginals of
one order; `scar_ray.games.sets` has the Shapley values of set rewards.
"""

from scar_ray.games.choose import Cost, Estimator, choose, coalitions_needed, cost
from scar_ray.games.contiguous import contiguous
from scar_ray.games.fixed_context import fixed_context
from scar_ray.games.kernel import kernel, kernel_coalitions
from scar_ray.games.myerson import myerson, myerson_coalitions
from scar_ray.games.owen import owen, owen_coalitions
from scar_ray.games.paired_tree import paired_tree, paired_tree_coalitions
from scar_ray.games.permutations import permutations
from scar_ray.games.plan import MAX_COALITIONS, Plan, made_efficient
from scar_ray.games.prefixes import prefixes
from scar_ray.games.shapley import shapley, shapley_coalitions
from scar_ray.games.shifted_trees import shifted_trees
from scar_ray.games.tokens import Lengths, TokenLimit
from scar_ray.games.tree import Tree, balanced, leaves, n_nodes, n_players

__all__ = [
    "MAX_COALITIONS",
    "Cost",
    "Estimator",
    "Lengths",
    "Plan",
    "TokenLimit",
    "Tree",
    "balanced",
    "choose",
    "coalitions_needed",
    "contiguous",
    "cost",
    "fixed_context",
    "kernel",
    "kernel_coalitions",
    "leaves",
    "made_efficient",
    "myerson",
    "myerson_coalitions",
    "n_nodes",
    "n_players",
    "owen",
    "owen_coalitions",
    "paired_tree",
    "paired_tree_coalitions",
    "permutations",
    "prefixes",
    "shapley",
    "shapley_coalitions",
    "shifted_trees",
]

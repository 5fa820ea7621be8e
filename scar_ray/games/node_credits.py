"""Credits from the tree's nodes, each measured once: what the paired tree and the fixed contexts share."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from scar_ray.games.plan import Coalitions, Plan, check_budget, frozen_plan, no_players
from scar_ray.games.tree import Tree, collapsed, halved, leaves, n_players


def node_credits(tree: Tree, alone: float, budget: int, estimator: str) -> Plan:
    """Plan of the credits from m(A) = alone (v(A) - v(empty)) + (1 - alone) (v(N) - v(N \\ A)) of the nodes A.

    What a node has beyond its children is shared equally by its n_A players,

        phi_i = m({i}) + sum over inner nodes A containing i of (m(A) - sum over children c of A of m(c)) / n_A,

    which is the sum over nodes A with parent P of m(A) (1[i in A] / n_A - 1[i in P] / n_P), with no second term
    for the root. Since m(N) = v(N) - v(empty), the credits add up to that.

    The nodes are measured from the root down, larger ones first, as long as all children of one fit the
    budget; a node with too many children is split in halves of its children as far as they fit, and the
    players of a node whose children are not measured share equally. ValueError for an invalid tree or a
    budget below 2.
    """
    check_budget(budget)
    n = n_players(tree)
    if n == 0:
        return no_players(estimator)
    asked = Coalitions(n)
    measured = _measured_nodes(collapsed(tree), alone, budget, asked)
    operator_nC = np.zeros((n, len(asked)))
    operator_nC[:, 0], operator_nC[:, 1] = -1 / n, 1 / n
    for members_n, parent_n in measured:
        weight_n = members_n / members_n.sum() - parent_n / parent_n.sum()
        if alone > 0:
            operator_nC[:, asked.row(members_n)] += alone * weight_n
            operator_nC[:, 0] -= alone * weight_n
        if alone < 1:
            operator_nC[:, 1] += (1 - alone) * weight_n
            operator_nC[:, asked.row(~members_n)] -= (1 - alone) * weight_n
    return frozen_plan(asked.array(), operator_nC, estimator)


def _measured_nodes(
    root: Tree, alone: float, budget: int, asked: Coalitions
) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Members of the nodes below the root that the budget allows to measure, with those of their parents.

    Their coalitions are added to `asked`.
    """
    n = len(leaves(root))
    measured = []
    queue: list[tuple[int, int, Tree]] = [(-n, 0, root)]
    pushed = 1
    while queue:
        _, _, node = heapq.heappop(queue)
        if isinstance(node, int):
            continue
        for children in dict.fromkeys((node, halved(node))):
            assert isinstance(children, tuple)
            members = [_members(child, n) for child in children]
            needed = [*(members if alone > 0 else ()), *(~child_n for child_n in members if alone < 1)]
            if len(asked) + asked.n_new(needed) > budget:
                continue
            for coalition_n in needed:
                asked.row(coalition_n)
            measured += [(child_n, _members(node, n)) for child_n in members]
            for child in children:
                heapq.heappush(queue, (-len(leaves(child)), pushed, child))
                pushed += 1
            break
    return measured


def _members(node: Tree, n: int) -> NDArray[np.bool_]:
    members_n = np.zeros(n, dtype=np.bool_)
    members_n[list(leaves(node))] = True
    return members_n

"""Hierarchies over players: nested tuples of player indices, such as `((0, 1), 2)`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

Tree = int | tuple["Tree", ...]
"""A player index, or a tuple of subtrees; `()` is the tree of no players."""


def nodes(tree: Tree) -> Iterator[Tree]:
    """All nodes of the tree, parents before their children, left to right; leaves included."""
    stack: list[Tree] = [tree]
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, tuple):
            stack.extend(reversed(node))


def leaves(tree: Tree) -> tuple[int, ...]:
    """The players of the tree, left to right."""
    found: list[int] = []
    stack: list[Tree] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, tuple):
            stack += node[::-1]
        else:
            found.append(node)
    return tuple(found)


def n_nodes(tree: Tree) -> int:
    """Number of nodes, leaves and root included: 5 for `((0, 1), 2)`."""
    return sum(1 for _ in nodes(tree))


@lru_cache(maxsize=256)
def n_players(tree: Tree) -> int:
    """Number n of players of a valid tree: every index 0..n-1 is a leaf exactly once.

    ValueError when a player is missing, doubled or negative, or when a node below the root has no children.
    """
    players = sorted(leaves(tree))
    if tree != () and () in nodes(tree):
        raise ValueError("tree: a node has no children; every leaf must be a player index")
    if players != list(range(len(players))):
        raise ValueError(f"tree: leaves must be the players 0..{len(players) - 1}, each exactly once; got {players}")
    return len(players)


def collapsed(tree: Tree) -> Tree:
    """The tree without unary nodes: a node with a single child is replaced by that child."""
    if isinstance(tree, int):
        return tree
    if len(tree) == 1:
        return collapsed(tree[0])
    return tuple(collapsed(child) for child in tree)


def halved(subtrees: tuple[Tree, ...]) -> Tree:
    """The subtrees, in order, under a balanced binary tree; the left half is the smaller one."""
    if len(subtrees) == 1:
        return subtrees[0]
    middle = len(subtrees) // 2
    return (halved(subtrees[:middle]), halved(subtrees[middle:]))


def balanced(n: int) -> Tree:
    """The balanced binary tree over players 0..n-1; `((0, 1), (2, 3))` for n = 4. ValueError for n < 1."""
    if n < 1:
        raise ValueError(f"tree: a tree needs at least one player, got n={n}")
    return halved(tuple(range(n)))

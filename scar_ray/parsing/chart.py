"""The best tree over a sentence from scores of its spans (CKY)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from scar_ray.games.tree import Tree

Span = tuple[int, int]


def best_spans(scores_NN: NDArray[np.float32]) -> set[Span]:
    """The spans of at least two words that are in the tree with the largest sum of scores.

    scores_NN (n + 1, n + 1): score of the span from word i up to, not including, word j; only j >= i + 2 is
    read. Trees may be flat: a span of negative score need not be bracketed, so the result is the set of spans,
    no two of which cross, that maximises the sum of their scores. The whole sentence is always in it. Ties go to
    the first split. O(n^3) in n vectorised steps.
    """
    n = len(scores_NN) - 1
    best_NN = np.zeros_like(scores_NN)
    splits_NN = np.zeros(scores_NN.shape, dtype=np.int64)
    for length in range(2, n + 1):
        start = np.arange(n - length + 1)
        middle = start[:, None] + np.arange(1, length)
        sums = best_NN[start[:, None], middle] + best_NN[middle, (start + length)[:, None]]
        choice = sums.argmax(axis=1)
        splits_NN[start, start + length] = start + 1 + choice
        best_NN[start, start + length] = sums[start, choice] + np.maximum(scores_NN[start, start + length], 0)
    found: set[Span] = set()
    waiting = [(0, n)]
    while waiting:
        i, j = waiting.pop()
        if j - i < 2:
            continue
        if scores_NN[i, j] > 0 or (i, j) == (0, n):
            found.add((i, j))
        split = int(splits_NN[i, j])
        waiting += [(i, split), (split, j)]
    return found


def tree_of(spans: Iterable[Span], n: int) -> Tree:
    """The tree over the words 0..n-1 whose nodes are the spans, none crossing, and the whole sentence.

    `((0, 1), 2)` for the span (0, 2) of three words. Spans of a single word add no node.
    """
    open_nodes: list[tuple[int, list[Tree]]] = [(n, [])]  # end and children so far
    nodes = sorted({span for span in spans if span[1] - span[0] >= 2} - {(0, n)}, key=lambda span: (span[0], -span[1]))
    waiting = iter([*nodes, (n, n)])
    start, end = next(waiting)
    for word in range(n):
        while start == word:
            assert end <= open_nodes[-1][0], f"span {(start, end)} crosses another"
            open_nodes.append((end, []))
            start, end = next(waiting)
        open_nodes[-1][1].append(word)
        while open_nodes[-1][0] == word + 1 and len(open_nodes) > 1:
            _, children = open_nodes.pop()
            open_nodes[-1][1].append(tuple(children))
    children = open_nodes[0][1]
    return children[0] if n == 1 else tuple(children)


def spans_of(tree: Tree) -> set[Span]:
    """The (start, end) of every node of a tree that has at least two words; inverse of `tree_of`."""
    found: set[Span] = set()

    def walk(node: Tree, start: int) -> int:
        if isinstance(node, int):
            return start + 1
        end = start
        for child in node:
            end = walk(child, end)
        if end - start >= 2:
            found.add((start, end))
        return end

    walk(tree, 0)
    return found

"""The players of a response: its tokens, phrases or sentences, and the hierarchy above them.

Units partition the content tokens into contiguous runs. White space goes with the word that follows. A token
that overlaps two words goes to the larger overlap. Tokens without characters of their own (special tokens,
the first tokens of a character that takes several) join the token that follows, the last ones the token
before.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, groupby
from typing import Literal

from scar_ray.games.tree import Tree, halved
from scar_ray.records import Response, Units
from scar_ray.text.constituents import constituents
from scar_ray.text.offsets import Span

Unit = Literal["token", "span", "sentence"]

MAX_CHILDREN = 3
"""Wider nodes become balanced binary ones: exact Owen values of k siblings take 2^k coalitions."""

Path = tuple[int, ...]
"""Numbers of the constituents that a token is in, the largest first; the last number is the unit's."""


def segment(response: Response, unit: Unit, max_units: int) -> Units:
    """The units of `response`, at most `max_units` (at least 1) of them, and the hierarchy above them.

    "token": tokens, below their words, phrases, clauses and sentences; "span": phrases, below clauses and
    sentences; "sentence": sentences. Too many units are merged with their neighbours as `merge` does. A
    response without content tokens has no units: `Units((), ())`.

    Example: six content tokens of "It was great. I left" as sentences are `Units((4, 6), (0, 1))`.
    """
    n_content = response.n_content
    if n_content == 0:
        return Units((), ())
    paths = _token_paths(response.text, response.token_spans[:n_content], unit)
    ends = [i for i in range(1, n_content) if paths[i] != paths[i - 1]] + [n_content]
    return merge(Units(tuple(ends), _hierarchy([paths[end - 1] for end in ends])), max_units)


def _token_paths(text: str, spans: Sequence[Span], unit: Unit) -> list[Path]:
    words = constituents(text)
    ends = [word.end for word in words]
    paths: list[Path | None] = []
    for i, (start, end) in enumerate(spans):
        if start == end:
            paths.append(None)
            continue
        number = _word_of(text, (start, end), ends)
        word = words[number]
        if unit == "sentence":
            paths.append((word.sentence,))
        elif unit == "span":
            paths.append((word.sentence, word.clause, word.phrase))
        else:
            paths.append((word.sentence, word.clause, word.phrase, number, i))
    return _filled(paths)


def _word_of(text: str, span: Span, word_ends: Sequence[int]) -> int:
    """The word that shares most with `span`: most visible characters, then most of all, then the first."""
    start, end = span
    best, best_overlap = 0, (-1, -1)
    for number in range(bisect_right(word_ends, start), len(word_ends)):
        shared = text[start : min(end, word_ends[number])]
        overlap = (sum(not char.isspace() for char in shared), len(shared))
        if overlap > best_overlap:
            best, best_overlap = number, overlap
        start += len(shared)
        if start == end:
            break
    return best


def _filled(paths: Sequence[Path | None]) -> list[Path]:
    """The paths with every gap filled from the token that follows, or from the last one that has a path."""
    following: Path = next((path for path in reversed(paths) if path is not None), (0,))
    filled: list[Path] = []
    for path in reversed(paths):
        following = following if path is None else path
        filled.append(following)
    return filled[::-1]


def _hierarchy(paths: Sequence[Path]) -> Tree:
    """The tree of the units with these paths, without unary nodes and with wide nodes halved."""
    numbers = count()

    def below(group: Sequence[Path], depth: int) -> Tree:
        if depth == len(group[0]):
            return next(numbers)
        subtrees = tuple(below(list(part), depth + 1) for _, part in groupby(group, lambda path: path[depth]))
        return subtrees if 1 < len(subtrees) <= MAX_CHILDREN else halved(subtrees)

    return below(paths, 0)


@dataclass(slots=True, eq=False)
class _Node:
    """A node of the hierarchy and its tokens, on the way to a smaller one."""

    start: int
    end: int
    parent: _Node | None
    children: list[_Node]
    inner_children: int = 0


def merge(units: Units, max_units: int) -> Units:
    """`units` with the lowest nodes of the hierarchy made single units until at most `max_units` are left.

    The node with the fewest tokens goes first, the earlier one of equal ones; so merging in two steps is the
    same as merging in one.
    """
    assert max_units >= 1, max_units
    left = len(units)
    if left <= max_units:
        return units
    starts = units.starts
    bottom: list[tuple[int, int, _Node]] = []  # nodes whose children are all units: size, start

    def linked(tree: Tree, parent: _Node | None) -> _Node:
        if isinstance(tree, int):
            return _Node(starts[tree], units.ends[tree], parent, [])
        node = _Node(0, 0, parent, [])
        node.children = [linked(child, node) for child in tree]
        node.start, node.end = node.children[0].start, node.children[-1].end
        node.inner_children = sum(bool(child.children) for child in node.children)
        if node.inner_children == 0:
            heapq.heappush(bottom, (node.end - node.start, node.start, node))
        return node

    root = linked(units.tree, None)
    while left > max_units:
        _, _, node = heapq.heappop(bottom)
        left -= len(node.children) - 1
        node.children = []
        if (parent := node.parent) is not None:
            parent.inner_children -= 1
            if parent.inner_children == 0:
                heapq.heappush(bottom, (parent.end - parent.start, parent.start, parent))
    return _collected(root)


def _collected(root: _Node) -> Units:
    ends: list[int] = []

    def collect(node: _Node) -> Tree:
        if node.children:
            return tuple(collect(child) for child in node.children)
        ends.append(node.end)
        return len(ends) - 1

    tree = collect(root)
    return Units(tuple(ends), tree)

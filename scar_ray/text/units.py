"""The players of a response: tokens, words, phrases, sentences or paragraphs, and the hierarchy above them.

Units partition the content tokens into contiguous runs. White space goes with the word that follows. A token
that overlaps two words goes to the larger overlap. Tokens without characters of their own (special tokens,
the first tokens of a character that takes several) join the token that follows, the last ones the token
before.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby, pairwise
from typing import Literal

from scar_ray.games.tree import Tree, halved
from scar_ray.records import Response, Units
from scar_ray.text.chunks import chunk_of_words
from scar_ray.text.offsets import Span
from scar_ray.text.parse import Parse, Parser, parse

Granularity = Literal["token", "word", "chunk", "span", "sentence", "paragraph"]
"""From fine to coarse."""
Unit = Literal["token", "word", "chunk", "span", "sentence", "paragraph", "auto"]

MAX_CHILDREN = 3
"""Wider nodes become balanced binary ones: exact Owen values of k siblings take 2^k coalitions."""
MAX_PHRASE_WORDS = 4
"""Words of the largest constituent that is one span unit."""

Path = tuple[int, ...]
"""Child numbers on the way from the root of the hierarchy to a unit."""
Place = tuple[int, int]
"""Word and token: those of a token, or of the one that it joins."""


def segment(response: Response, unit: Unit, max_units: int, *, parser: Parser = parse, budget: int = 128) -> Units:
    """The units of `response`, at most `max_units` (at least 1) of them, and the hierarchy above them.

    The constituency tree of the text, with the tokens below its words, is cut. What is below the cut are the
    units, the tree above it is their hierarchy. `unit` is where it is cut: at "token", "word", "sentence",
    "paragraph", or "span", the largest constituents of at most MAX_PHRASE_WORDS words; closing marks then join
    the unit before, opening marks and function words that stand alone the unit after. Too many units are merged
    as `merge` does. "chunk" are the noun, adjective and verb phrases of `chunks`, below their sentences instead of the
    tree. `parser` makes the trees; by default it is the heuristic, which needs no resources.

    "auto" takes tokens, merged until there are at most `max_units` and at most budget / 2 - 1 of them: n units need
    2n + 2 coalitions for every unit alone and everything but that unit, the cheapest estimate that looks at both.
    So short responses get tokens; in longer ones words, then phrases close up, the smallest first, at a cost that
    the budget bounds. At equal reward-model tokens that is nearer to the tokens' Shapley values than fixed words,
    phrases or sentences, but for very small budgets (`benchmarks/granularity.py`). `budget`, at least 2, is for
    "auto" only; `Units.granularity` says what was cut before merging.

    A response without content tokens has no units, `Units((), ())`, one without characters has a single one.

    Example: six content tokens of "It was great. I left" as sentences are `Units((4, 6), (0, 1))`.
    """
    if response.n_content == 0:
        return Units((), ())
    if not response.text:
        return Units((response.n_content,), 0)
    parsed = parser(response.text)
    places = _places(response.text, response.token_spans[: response.n_content], parsed.word_ends)
    if unit == "auto":
        return merge(_units(places, _cut(parsed, "token"), "token"), min(max_units, units_paid_by(budget)))
    of_words = list[Path](chunk_of_words(response.text, parsed)) if unit == "chunk" else _cut(parsed, unit)
    if unit == "span":
        of_words = _marks_joined(of_words, parsed)
    return merge(_units(places, of_words, unit), max_units)


def _units(places: Sequence[Place], of_words: Sequence[Path], granularity: Granularity) -> Units:
    """All units, from the path of the unit of each word."""
    paths = [(*of_words[word], token) if granularity == "token" else of_words[word] for word, token in places]
    ends = [i for i in range(1, len(paths)) if paths[i] != paths[i - 1]] + [len(paths)]
    return Units(tuple(ends), _hierarchy([paths[end - 1] for end in ends]), granularity)


def _cut(parsed: Parse, granularity: Granularity) -> list[Path]:
    """The path of the unit of each word: that of the highest node that is no larger than a unit."""
    paths: list[Path] = []
    sections = parsed.paragraphs if granularity == "paragraph" else parsed.sentences
    words_before = [0, *accumulate(kind in ("word", "function") for kind in parsed.kinds)]

    def is_unit(start: int, stop: int) -> bool:
        if granularity in ("token", "word") or bisect_right(sections, start) != bisect_right(sections, stop - 1):
            return stop - start == 1
        if granularity == "span":
            return words_before[stop] - words_before[start] <= MAX_PHRASE_WORDS
        return True

    def descend(tree: Tree, path: Path) -> None:
        last = tree
        while isinstance(last, tuple):
            last = last[-1]
        start, stop = len(paths), last + 1
        if is_unit(start, stop):
            paths.extend([path] * (stop - start))
            return
        assert isinstance(tree, tuple), tree
        for number, child in enumerate(tree):
            descend(child, (*path, number))

    descend(parsed.tree, ())
    return paths


def _marks_joined(paths: Sequence[Path], parsed: Parse) -> list[Path]:
    """The paths of the words, those of marks and lone function words replaced by that of the unit they join."""
    units: list[tuple[Path, list[int]]] = []

    def opens(unit: Sequence[int], following: int) -> bool:
        """The unit is marks only, or a function word after none or some, in the same sentence."""
        kinds = [parsed.kinds[word] for word in unit if parsed.kinds[word] != "opens"]
        same = bisect_right(parsed.sentences, unit[0]) == bisect_right(parsed.sentences, following)
        return all(kind == "closes" for kind in kinds) or (same and kinds == ["function"])

    for path, run in groupby(range(len(paths)), key=lambda word: paths[word]):
        words = list(run)
        if units and all(parsed.kinds[word] == "closes" for word in words):
            units[-1][1].extend(words)
        elif units and opens(units[-1][1], words[0]):
            units[-1] = path, units[-1][1] + words
        else:
            units.append((path, words))
    return [path for path, words in units for _ in words]


def _places(text: str, spans: Sequence[Span], word_ends: Sequence[int]) -> list[Place]:
    """The place of every token: a token without characters has that of the token that follows, else of the last."""
    places: list[Place | None] = []
    for token, (start, end) in enumerate(spans):
        places.append((_word_of(text, start, end, word_ends), token) if start < end else None)
    following: Place = next((place for place in reversed(places) if place is not None), (0, 0))
    filled: list[Place] = []
    for place in reversed(places):
        following = following if place is None else place
        filled.append(following)
    return filled[::-1]


def _word_of(text: str, start: int, end: int, word_ends: Sequence[int]) -> int:
    """The word that shares most with start..end: most visible characters, then most of all, then the first."""
    number = best = bisect_right(word_ends, start)
    best_overlap = (-1, -1)
    while start < end and word_ends[best] < end:
        shared = text[start : min(end, word_ends[number])]
        overlap = (sum(not char.isspace() for char in shared), len(shared))
        if overlap > best_overlap:
            best, best_overlap = number, overlap
        start += len(shared)
        number += 1
    return best


def _hierarchy(paths: Sequence[Path]) -> Tree:
    """The tree of the units with these paths, without unary nodes and with wide nodes halved."""

    def below(start: int, stop: int, depth: int) -> Tree:
        if stop - start == 1:
            return start
        cuts = [i for i in range(start + 1, stop) if paths[i][depth] != paths[i - 1][depth]]
        if not cuts:
            return below(start, stop, depth + 1)
        subtrees = tuple(below(a, b, depth + 1) for a, b in pairwise([start, *cuts, stop]))
        return subtrees if len(subtrees) <= MAX_CHILDREN else halved(subtrees)

    return below(0, len(paths), 0)


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
    return replace(_collected(root), granularity=units.granularity)


def units_paid_by(budget: int) -> int:
    """Most units, at least 1, of which `budget` coalitions show every one alone and everything but that one."""
    return max(budget // 2 - 1, min(budget // 2, 2))


def affordable(units: Units, fits: Callable[[Units], bool]) -> Units:
    """`units`, merged no further than needed for `fits`, or to one unit; merging must never make what fits unfit."""
    if fits(units):
        return units
    n = bisect_left(range(1, len(units)), True, key=lambda n: not fits(merge(units, n)))
    return merge(units, max(n, 1))


def _collected(root: _Node) -> Units:
    ends: list[int] = []

    def collect(node: _Node) -> Tree:
        if node.children:
            return tuple(collect(child) for child in node.children)
        ends.append(node.end)
        return len(ends) - 1

    tree = collect(root)
    return Units(tuple(ends), tree)

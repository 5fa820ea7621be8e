"""The constituency of a text: its words and the tree above them, from a parser or from our own heuristic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Protocol

from scar_ray.games.tree import Tree, collapsed, leaves, nodes
from scar_ray.text.heuristic import heuristic_tree
from scar_ray.text.splitter import Kind, Word, split

MAX_DEPTH = 200
"""A deeper tree of a parser counts as a failure; all work on trees is recursive."""


@dataclass(frozen=True, slots=True)
class Parse:
    """Words of a text, in order, and the constituents above them.

    Example: "It was great. I left" has the words It, was, great, ".", I, left; `tree` may be
    `((0, (1, 2, 3)), (4, 5))`, `sentences` is `(4, 6)` and `paragraphs` `(6,)`.
    """

    word_ends: tuple[int, ...]
    """Exclusive end of each word in characters; a word starts where the one before ends, so white space goes
    with the word that follows, and the last end is the length of the text."""
    tree: Tree
    """Nested word numbers; every sentence and every paragraph is a node. `()` for the empty text."""
    sentences: tuple[int, ...]
    """Exclusive end of each sentence in words."""
    paragraphs: tuple[int, ...]
    """Exclusive end of each paragraph in words."""
    kinds: tuple[Kind, ...]
    """What each word is: an open-class or function word, an opening or closing mark."""
    fallbacks: int = 0
    """Sentences whose tree is the heuristic's because the parser failed on them."""


class Bracketer(Protocol):
    """A constituency parser."""

    def bracket(self, words: Sequence[str]) -> Tree:
        """The tree over the word numbers 0..n-1 of one sentence of n >= 1 words and marks, in order.

        ValueError when it cannot parse them; the heuristic then stands in.
        """
        ...


Parser = Callable[[str], Parse]
"""What gives a text's constituency: `parse`, or something that asks a trained parser."""


def parse(text: str, bracketer: Bracketer | None = None) -> Parse:
    """The constituency of `text`, each sentence bracketed by `bracketer`, by `heuristic_tree` where it is None.

    The heuristic also stands in for a sentence on which the bracketer raises ValueError, or gives something
    else than a tree of all words in order, at most MAX_DEPTH deep; `fallbacks` counts those sentences. White
    space alone is one word; the empty text has none.
    """
    words = split(text)
    if not words:
        return Parse((len(text),), 0, (1,), (1,), ("word",)) if text else Parse((), (), (), (), ())
    paragraphs: list[Tree] = []
    lengths: list[list[int]] = []  # words of each sentence of each paragraph
    first = fallbacks = 0
    for _, paragraph in groupby(words, key=lambda word: word.paragraph):
        trees: list[Tree] = []
        lengths.append([])
        for _, sentence in groupby(paragraph, key=lambda word: word.sentence):
            here = tuple(sentence)
            tree, failed = _bracketed(text, here, bracketer)
            lengths[-1].append(len(here))
            trees.append(_shifted(tree, first) if first else tree)
            first += len(here)
            fallbacks += failed
        paragraphs.append(tuple(trees))
    return Parse(
        word_ends=(*(word.end for word in words[:-1]), len(text)),
        tree=collapsed(tuple(paragraphs)),
        sentences=tuple(accumulate(n for sentences in lengths for n in sentences)),
        paragraphs=tuple(accumulate(map(sum, lengths))),
        kinds=tuple(word.kind for word in words),
        fallbacks=fallbacks,
    )


def _bracketed(text: str, sentence: Sequence[Word], bracketer: Bracketer | None) -> tuple[Tree, bool]:
    """The tree of one sentence, and whether the heuristic stood in for the bracketer."""
    words = [text[word.start : word.end] for word in sentence]
    if bracketer is not None:
        try:
            tree = bracketer.bracket(words)
        except ValueError:
            return heuristic_tree(words), True
        if not _is_tree_of(tree, len(words)):
            return heuristic_tree(words), True
        return tree, False
    return heuristic_tree(words), False


def _is_tree_of(tree: Tree, n: int) -> bool:
    """Whether the leaves are 0..n-1 in order, no node is empty and none deeper than MAX_DEPTH."""
    level: list[Tree] = [tree]
    for _ in range(MAX_DEPTH):
        level = [child for node in level if isinstance(node, tuple) for child in node]
        if not level:
            return leaves(tree) == tuple(range(n)) and all(node != () for node in nodes(tree))
    return False


def _shifted(tree: Tree, by: int) -> Tree:
    return tree + by if isinstance(tree, int) else tuple(_shifted(child, by) for child in tree)

"""The constituency of a text: its words and the tree above them, from a parser or from our own heuristic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from scar_ray.games.tree import Tree


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
    fallbacks: int = 0
    """Sentences whose tree is the heuristic's because the parser failed on them."""


class Bracketer(Protocol):
    """A constituency parser."""

    def bracket(self, words: Sequence[str]) -> Tree:
        """The tree over the word numbers 0..n-1 of one sentence of n >= 1 words and marks, in order.

        ValueError when it cannot parse them; the heuristic then stands in.
        """
        ...

"""Retrievers that compare words or pieces of words: BM25 through `bm25s`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scar_ray.tasks.catalogue import Catalogue

_WORD = re.compile(r"\w+")
NGRAMS = (3, 4)
"""Lengths of the pieces of words that `Ngrams` compares."""


class Bm25:
    """BM25 over lower-case words (Robertson et al. 1994; idf and saturation as Lucene has them)."""

    waits = False

    def __init__(self, catalogue: Catalogue, *, k1: float = 1.5, b: float = 0.75) -> None:
        self._index(catalogue, words, k1, b)

    def _index(self, catalogue: Catalogue, terms: Callable[[str], list[str]], k1: float, b: float) -> None:
        import bm25s

        self._terms = terms
        self._bm25 = bm25s.BM25(k1=k1, b=b, method="lucene")
        self._bm25.index([terms(text) for text in catalogue.texts], show_progress=False)
        self._known = self._bm25.vocab_dict

    def search(self, queries: Sequence[str], k: int) -> list[NDArray[np.intp]]:
        """Rows of the products that share a term with each query, at most k, best first; equal scores by row."""
        return [self._search([term for term in self._terms(query) if term in self._known], k) for query in queries]

    def _search(self, terms: list[str], k: int) -> NDArray[np.intp]:
        if not terms:
            return np.zeros(0, dtype=np.intp)
        return best_rows(self._bm25.get_scores(terms), k)


class Ngrams(Bm25):
    """BM25 over pieces of words, 3 and 4 characters with the word's ends: spelling and endings matter less."""

    def __init__(self, catalogue: Catalogue, *, k1: float = 1.5, b: float = 0.75) -> None:
        self._index(catalogue, pieces, k1, b)


def best_rows(scores_P: NDArray[np.floating], k: int) -> NDArray[np.intp]:
    """Indices of the k largest scores above 0, largest first; equal scores in their order."""
    rows = np.flatnonzero(scores_P > 0)
    if len(rows) > k:
        least = np.partition(scores_P[rows], len(rows) - k)[len(rows) - k]
        rows = rows[scores_P[rows] >= least]
    return rows[np.argsort(-scores_P[rows], kind="stable")[:k]]


def words(text: str) -> list[str]:
    """The lower-case words and numbers of a text."""
    return _WORD.findall(text.lower())


def pieces(text: str) -> list[str]:
    """All runs of 3 and of 4 characters of each word with a blank before and after it."""
    ends = [f" {word} " for word in words(text)]
    return [word[at : at + n] for word in ends for n in NGRAMS for at in range(len(word) - n + 1)]

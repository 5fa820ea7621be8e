"""What a policy learns rewriting from before it learns from rewards: queries with words of products added.

A demonstration keeps the words of a query, one of them left out at times, and adds a few words of one product's text;
where the query is searched with the response (`task.keep_query`) it is the added words alone. Queries are the task's
own, with their best products, and pseudo-queries: some words of each product of the catalogue. These teach to copy, and
which words go together. Which words find more is left for the rewards to tell.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from scar_ray.config.schema import Part, TaskConfig
from scar_ray.tasks.catalogue import Catalogue, Query, load_products, load_queries
from scar_ray.tasks.dialogues import Demonstration

MAX_ADDED = 3
"""Most words of a product that a rewrite adds."""
COMMON = 20
"""Added words are those that so many products have, where a product has any: a small model learns few words."""
QUERY_WORDS = (1, 5)
"""Fewest and most words of a pseudo-query."""
LEFT_OUT = 0.3
"""Share of the rewrites without one of the query's words."""


def load_rewrites(task: TaskConfig, part: Part, candidates: int) -> list[Demonstration]:
    """Demonstrations of a part of the task, the same each time; pseudo-queries are for training only.

    product_search: a rewrite for each of a query's best products. product_rewrites: lists of `candidates` rewrites,
    each with words of another product.
    """
    where, source = task.source(part)
    catalogue = load_products(task.source("products")[1])
    queries = load_queries(task, part, frozenset(catalogue.ids))
    text_of = dict(zip(catalogue.ids, catalogue.texts, strict=True))
    writer = _Writer(catalogue, candidates if task.name == "product_rewrites" else 1, task.keep_query)
    rows: list[Demonstration] = []
    for query in queries:
        best = max(query.gains.values())
        texts = [text_of[key] for key, gain in query.gains.items() if gain == best]
        rows += [Demonstration(query.prompt(source.prompt), writer.response(query.text, text, texts)) for text in texts]
    if where.endswith("train"):
        for text in catalogue.texts:
            query = Query(writer.pseudo_query(text), {})
            rows.append(Demonstration(query.prompt(source.prompt), writer.response(query.text, text, [text])))
    return rows


class _Writer:
    """Makes up queries and responses, in the order in which it is asked."""

    def __init__(self, catalogue: Catalogue, count: int, added_only: bool) -> None:
        """`count` is the rewrites of a list, 1 for no list; `added_only` leaves the query out of them."""
        products_with = Counter(word for text in catalogue.texts for word in set(_words(text)))
        self._common = {word for word, products in products_with.items() if products >= COMMON}
        self._count, self._added_only = count, added_only
        self._rng = np.random.default_rng(0)

    def pseudo_query(self, text: str) -> str:
        """Some words of a product's text, in their order."""
        return " ".join(self._some(_words(text), int(self._rng.integers(*QUERY_WORDS, endpoint=True))))

    def response(self, query: str, text: str, others: Sequence[str]) -> str:
        """A rewrite with words of `text`; or a numbered list, the other rewrites with words of `others`."""
        if self._count == 1:
            return f" {self._rewrite(query, text)}"
        order = self._rng.permutation(len(others))
        texts = [text, *(others[order[i % len(order)]] for i in range(self._count - 1))]
        return "".join(f"\n{number}. {self._rewrite(query, one)}" for number, one in enumerate(texts, start=1))

    def _rewrite(self, query: str, text: str) -> str:
        kept = query.lower().split()
        if len(kept) > 1 and self._rng.random() < LEFT_OUT:
            del kept[int(self._rng.integers(len(kept)))]
        new = [word for word in dict.fromkeys(_words(text)) if word not in kept] or _words(text)
        common = [word for word in new if word in self._common]
        added = self._some(common or new, int(self._rng.integers(1, MAX_ADDED, endpoint=True)))
        return " ".join(added if self._added_only else [*kept, *added])

    def _some(self, words: Sequence[str], count: int) -> list[str]:
        """So many of the words, or all, in their order."""
        return [words[i] for i in sorted(self._rng.permutation(len(words))[:count])]


def _words(text: str) -> list[str]:
    """The lower-case words and numbers of a product's text, or all of it where it has none."""
    return re.findall(r"\w+", text.lower()) or [text]

"""What a policy learns rewriting from before it learns from rewards: queries with words of products added.

A demonstration keeps the words of a query, one of them left out at times, and adds a few words of one product's text;
where the query is searched with the response (`task.keep_query`) it is the added words alone. Queries are the task's
own, with their best products, and pseudo-queries: some words of each product of the catalogue. These teach to copy, and
which words go together. Which words find more is left for the rewards to tell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scar_ray.config.schema import Part, TaskConfig
from scar_ray.tasks.catalogue import Catalogue, Query, load_products, load_queries
from scar_ray.tasks.dialogues import Demonstration

MAX_ADDED = 4
"""Most words of a product that a rewrite adds."""
QUERY_WORDS = (1, 5)
"""Fewest and most words of a pseudo-query."""
LEFT_OUT = 0.3
"""Share of the rewrites without one of the query's words."""


@dataclass(frozen=True, slots=True)
class _Form:
    """What a demonstrated response looks like."""

    count: int
    """Rewrites of a list; 1: no list."""
    added_only: bool


def load_rewrites(task: TaskConfig, part: Part, candidates: int) -> list[Demonstration]:
    """Demonstrations of a part of the task, the same each time; pseudo-queries are for training only.

    product_search: a rewrite for each of a query's best products. product_rewrites: lists of `candidates` rewrites,
    each with words of another product.
    """
    where, source = task.source(part)
    catalogue = load_products(task.source("products")[1])
    queries = load_queries(task, part, frozenset(catalogue.ids))
    text_of = dict(zip(catalogue.ids, catalogue.texts, strict=True))
    form = _Form(candidates if task.name == "product_rewrites" else 1, task.keep_query)
    rng = np.random.default_rng(0)
    rows: list[Demonstration] = []
    for query in queries:
        best = max(query.gains.values())
        texts = [text_of[key] for key, gain in query.gains.items() if gain == best]
        for text in texts:
            others = [texts[i] for i in rng.permutation(len(texts))[: form.count - 1]]
            rows.append(Demonstration(query.prompt(source.prompt), _completion(query.text, [text, *others], form, rng)))
    if where.endswith("train"):
        rows += _pseudo(catalogue, source.prompt, form, rng)
    return rows


def _pseudo(catalogue: Catalogue, template: str, form: _Form, rng: np.random.Generator) -> list[Demonstration]:
    """A demonstration for each product: a query of words of its text, in their order."""
    rows = []
    for text in catalogue.texts:
        words = _words(text)
        n_words = int(rng.integers(*QUERY_WORDS, endpoint=True))
        chosen = sorted(rng.permutation(len(words))[:n_words])
        query = " ".join(words[i] for i in chosen)
        rows.append(Demonstration(Query(query, {}).prompt(template), _completion(query, [text], form, rng)))
    return rows


def _completion(query: str, texts: Sequence[str], form: _Form, rng: np.random.Generator) -> str:
    """One rewrite, or a numbered list."""
    rewrites = [_rewrite(query, texts[i % len(texts)], form.added_only, rng) for i in range(form.count)]
    if form.count == 1:
        return f" {rewrites[0]}"
    return "".join(f"\n{number}. {rewrite}" for number, rewrite in enumerate(rewrites, start=1))


def _rewrite(query: str, text: str, added_only: bool, rng: np.random.Generator) -> str:
    kept = query.lower().split()
    if len(kept) > 1 and rng.random() < LEFT_OUT:
        del kept[int(rng.integers(len(kept)))]
    words = [word for word in dict.fromkeys(_words(text)) if word not in kept] or _words(text)
    n_added = int(rng.integers(1, MAX_ADDED, endpoint=True))
    added = [words[i] for i in sorted(rng.permutation(len(words))[:n_added])]
    return " ".join(added if added_only else [*kept, *added])


def _words(text: str) -> list[str]:
    """The lower-case words and numbers of a product's text, or all of it where it has none."""
    return re.findall(r"\w+", text.lower()) or [text]

"""NDCG of what a retriever finds for the response: the reward of `task=product_search` and `product_rewrites`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from scar_ray.config.callables import load_callable
from scar_ray.config.schema import DataSource
from scar_ray.records import Sample
from scar_ray.search.lexical import Bm25, Ngrams
from scar_ray.search.ndcg import ndcg
from scar_ray.tasks.catalogue import Catalogue, Query, load_products, read_queries
from scar_ray.text.candidates import ListFormat, find_candidates

KEY = "model.reward.options"


class Retriever(Protocol):
    """Finds products; see `scar_ray.search`."""

    def search(self, queries: Sequence[str], k: int) -> Sequence[Sequence[int]]:
        """For each query, which has a word at least, the rows of the best products, best first."""
        ...


class SearchReward:
    """r(x, y) = NDCG@k of the products that the retriever finds for the text y, by the judgements of x's query.

    Gains are those of the judgements, linear; a product that nobody judged has gain 0 and takes its place in the
    ranking all the same. A text without any letter or digit finds nothing: NDCG 0, so v(empty) = 0. v(S) is the NDCG
    of the words of the rewrite that are in S. With `keep_query` the query is searched together with the text, and
    v(empty) is the NDCG of the query as it is.

    With `best_of` = K the text is a list of rewrites, `form` as in `credit.candidates`, and the reward is the largest
    NDCG of K of them, missing ones counted as empty texts: the worth of the set, as `credit=shape_grpo` computes it
    from rewards without `best_of`.

    Queries and judgements come with the prompts (`Prompt.data`). Elsewhere, as in `scar-ray explain`, the prompt is
    looked up among the queries of the files `judgements`: the query itself, or `prompt` with the query in it.
    """

    def __init__(
        self,
        products: str | Mapping[str, Any],
        retriever: str = "bm25",
        *,
        k: int = 10,
        keep_query: bool = False,
        best_of: int | None = None,
        form: ListFormat = "numbered",
        separator: str = "\n",
        retriever_options: Mapping[str, Any] | None = None,
        judgements: Sequence[str] = (),
        prompt: str = "{query}",
    ) -> None:
        """`products` is the catalogue: its file, or the keys of `task.products`.

        `retriever` is bm25, ngrams, dense, a URL, or a class of your own; `retriever_options` are its. UserError and
        ValueError, in a line, for a catalogue or retriever that cannot be had.
        """
        if not isinstance(k, int) or k < 1:
            raise ValueError(f"{KEY}.k={k}: must be a whole number of at least 1")
        if best_of is not None and (not isinstance(best_of, int) or best_of < 1):
            raise ValueError(f"{KEY}.best_of={best_of}: must be a whole number of at least 1, or null")
        source = DataSource(source=products) if isinstance(products, str) else DataSource(**products)
        self._products = load_products(source, f"{KEY}.products")
        self._known = {key: row for row, key in enumerate(self._products.ids)}
        self._retriever = new_retriever(retriever, self._products, retriever_options or {})
        self.waits = bool(getattr(self._retriever, "waits", False))
        self._k, self._keep_query = k, keep_query
        self._best_of, self._form, self._separator = best_of, form, separator
        self._judgements, self._prompt = tuple(judgements), prompt
        self._by_prompt: dict[str, Query] | None = None

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        """The rewards. ValueError for a prompt whose query is not known, and where the retriever answers wrongly."""
        queries = [self._query(sample) for sample in samples]
        searched = [self._searched(sample.response, query) for sample, query in zip(samples, queries, strict=True)]
        asked = list(dict.fromkeys(text for texts in searched for text in texts if any(map(str.isalnum, text))))
        found = dict(zip(asked, self._search(asked), strict=True))
        return [
            max(self._ndcg(found.get(text, ()), query.gains) for text in texts)
            for texts, query in zip(searched, queries, strict=True)
        ]

    def _searched(self, text: str, query: Query) -> list[str]:
        """What is searched for a response: one text, or as many as its list should have."""
        rewrites = [text]
        if self._best_of is not None:
            spans = find_candidates(text, self._form, self._best_of, self._separator).spans
            rewrites = [text[start:end] for start, end in spans] + [""] * (self._best_of - len(spans))
        return [f"{query.text} {rewrite}" if self._keep_query else rewrite for rewrite in rewrites]

    def _ndcg(self, rows: Sequence[int], gains: Mapping[str, float]) -> float:
        ids = self._products.ids
        return ndcg([gains.get(ids[row], 0.0) for row in rows], gains.values(), self._k)

    def _search(self, queries: Sequence[str]) -> list[list[int]]:
        if not queries:
            return []
        found = [[int(row) for row in rows][: self._k] for rows in self._retriever.search(queries, self._k)]
        if len(found) != len(queries):
            raise ValueError(f"the retriever answers {len(found)} of {len(queries)} queries; it must answer each")
        for query, rows in zip(queries, found, strict=True):
            if len(set(rows)) < len(rows) or not all(0 <= row < len(self._products.ids) for row in rows):
                raise ValueError(
                    f"the retriever finds rows {rows} for {query!r}; they must be different rows of the catalogue"
                )
        return found

    def _query(self, sample: Sample) -> Query:
        """The query of a sample, with its judgements."""
        if "gains" in sample.data:
            return Query(sample.data["query"], sample.data["gains"])
        if self._by_prompt is None:
            self._by_prompt = self._read_judgements()
        asked = " ".join(sample.prompt.split())
        if asked not in self._by_prompt:
            files = ", ".join(self._judgements) or "none"
            raise ValueError(
                f"prompt {sample.prompt[:60]!r} is no query with judgements; {KEY}.judgements lists the files of them, "
                f"now {files}"
            )
        return self._by_prompt[asked]

    def _read_judgements(self) -> dict[str, Query]:
        """Queries by prompt, white space in it made one blank."""
        queries = [
            query
            for file in self._judgements
            for query in read_queries(DataSource(source=file), f"{KEY}.judgements", self._known)
        ]
        by_query = {query.text: query for query in queries}
        return by_query | {" ".join(query.prompt(self._prompt).split()): query for query in queries}


def new_retriever(name: str, catalogue: Catalogue, options: Mapping[str, Any]) -> Retriever:
    """The retriever of this name. ValueError, saying why, when it cannot be had."""
    maker: Callable[..., Any]
    if name.startswith(("http://", "https://")):
        from scar_ray.search.remote import Remote

        maker, options = Remote, {"url": name, **options}
    elif name == "dense":
        from scar_ray.search.dense import Dense

        maker = Dense
    elif name in ("bm25", "ngrams"):
        maker = {"bm25": Bm25, "ngrams": Ngrams}[name]
    elif ":" in name:
        maker = load_callable(f"{KEY}.retriever", name)
    else:
        raise ValueError(
            f"{KEY}.retriever={name}: must be bm25, ngrams, dense, a URL, package.module:Class or path/to/file.py:Class"
        )
    try:
        inspect.signature(maker).bind(catalogue, **options)
    except TypeError as error:
        raise ValueError(f"{KEY}.retriever={name} and {KEY}.retriever_options do not fit: {error}") from None
    made: Retriever = maker(catalogue, **options)
    return made

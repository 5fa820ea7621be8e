"""Product search: a catalogue, and queries with human judgements of its products.

Two files, or data sets of the hub. `task.products` has a row for each product: its id and the text that is searched.
`task.train` and `task.test` have a row for each judgement: query, product id, gain. A gain is a number of at least 0,
or a label of Amazon's ESCI data, which stands for the gain that `ESCI` says.
"""

from __future__ import annotations

import math
import string
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from scar_ray.config.errors import UserError
from scar_ray.config.schema import DataSource, Part, TaskConfig
from scar_ray.tasks.data import Table

ESCI = {"E": 1.0, "S": 0.1, "C": 0.01, "I": 0.0}
"""Gains of exact, substitute, complement and irrelevant products (Reddy et al. 2022, arXiv 2206.06588)."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All products, in the order of the file."""

    ids: tuple[str, ...]
    """All different."""
    texts: tuple[str, ...]
    """What is searched; never blank."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query and the products that were judged for it."""

    text: str
    gains: Mapping[str, float] = field(hash=False)
    """Gain of each judged product, by its id; one at least is above 0."""

    def prompt(self, template: str) -> str:
        """The policy's prompt: the template with the query in the place of `{query}`."""
        return template.replace("{query}", self.text)


def load_products(source: DataSource, where: str = "task.products") -> Catalogue:
    """The catalogue. UserError names a bad row by file and line."""
    table = Table(source, where)
    columns = _columns(table)
    template = source.text if source.text not in columns else f"{{{source.text}}}"
    found: dict[str, str] = {}
    for number, record in table.records(list(dict.fromkeys([source.product, *columns]))):
        key = _id(table, number, record)
        if key in found:
            raise UserError(f"{table.at(number)}: product {key!r} is there twice; ids must be different")
        text = " ".join(template.format_map({name: _text(table, number, record, name) for name in columns}).split())
        if not text:
            raise UserError(f"{table.at(number)}: product {key!r} has no text in {', '.join(columns)}; give it some")
        found[key] = text
    if not found:
        raise UserError(f"{where}: {source.source} has no rows; a catalogue needs products")
    return Catalogue(tuple(found), tuple(found.values()))


def load_queries(task: TaskConfig, part: Part, known: Collection[str]) -> list[Query]:
    """The queries of a part of the task; `known` are the ids of the catalogue. UserError as `read_queries`."""
    where, source = task.source(part)
    return read_queries(source, where, known)


def read_queries(source: DataSource, where: str, known: Collection[str]) -> list[Query]:
    """Queries in the order in which they come first.

    UserError, naming file and line, for a judgement that cannot be used, of a product that is not `known` too, and for
    a query without any product whose gain is above 0: NDCG is not defined for it.
    """
    table = Table(source, where)
    columns = {"query": source.query, "product": source.product, "gain": source.gain}
    for key, column in columns.items():
        table.require(key, column)
    found: dict[str, dict[str, float]] = {}
    first: dict[str, int] = {}
    for number, record in table.records(list(columns.values())):
        query = " ".join(table.text(number, record, source.query).split())
        product, gain = _id(table, number, record), _gain(table, number, record[source.gain])
        if product not in known:
            raise UserError(f"{table.at(number)}: product {product!r} is not in the catalogue, task.products")
        first.setdefault(query, number)
        earlier = found.setdefault(query, {}).setdefault(product, gain)
        if earlier != gain:
            raise UserError(
                f"{table.at(number)}: product {product!r} has gains {earlier:g} and {gain:g} for {query!r}; keep one"
            )
    for query, gains in found.items():
        if max(gains.values()) <= 0:
            raise UserError(
                f"{table.at(first[query])}: query {query!r} has no relevant product, every gain is 0; remove it"
            )
    return [Query(query, gains) for query, gains in found.items()]


def _columns(table: Table) -> list[str]:
    """Columns of the products' text: those of the template, or the one that is named."""
    template = table.source.text
    try:
        named = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise UserError(f"{table.where}.text={template!r}: is no template ({error}); write {{column}}") from None
    columns = list(dict.fromkeys(named)) or [template]
    for key, column in (("product", table.source.product), *(("text", column) for column in columns)):
        table.require(key, column)
    return columns


def _text(table: Table, number: int, record: Mapping[str, Any], column: str) -> str:
    """The text in a column of a product; empty where there is none."""
    text = record[column]
    if text is None or isinstance(text, str):
        return text or ""
    raise UserError(f"{table.at(number)}: column {column!r} holds {type(text).__name__} {text!r}; it must hold text")


def _id(table: Table, number: int, record: Mapping[str, Any]) -> str:
    key = record[table.source.product]
    if (isinstance(key, str) and key.strip()) or (isinstance(key, int) and not isinstance(key, bool)):
        return str(key)
    raise UserError(f"{table.at(number)}: column {table.source.product!r} holds {key!r}; it must hold a product's id")


def _gain(table: Table, number: int, value: Any) -> float:
    gain = ESCI.get(value) if isinstance(value, str) else value
    if isinstance(gain, int | float) and not isinstance(gain, bool) and math.isfinite(gain) and gain >= 0:
        return float(gain)
    raise UserError(
        f"{table.at(number)}: column {table.source.gain!r} holds {value!r}; a gain is a number of at least 0, or a "
        f"label of {', '.join(ESCI)}"
    )

import json
from pathlib import Path

import pytest

from scar_ray.config.load import load
from scar_ray.config.schema import DataSource, TaskConfig
from scar_ray.tasks.catalogue import Catalogue, Query, load_products, load_queries

PRODUCTS = [
    {"product_id": "A", "title": "Red  shoes", "brand": "Nix", "color": None},
    {"product_id": "B", "title": "Blue shoes", "brand": "", "color": "Blue"},
]
JUDGED = [
    {"query": "red shoes", "product_id": "A", "gain": 1.0, "esci_label": "E"},
    {"query": "red shoes", "product_id": "B", "gain": 0.1, "esci_label": "S"},
    {"query": "blue", "product_id": "B", "gain": 1.0, "esci_label": "E"},
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def written(file: Path, *rows: object) -> Path:
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return file


def task(
    folder: Path, *overrides: str, products: list[object] | None = None, judged: list[object] | None = None
) -> TaskConfig:
    products_file = written(folder / "products.jsonl", *(PRODUCTS if products is None else products))
    judged_file = written(folder / "judged.jsonl", *(JUDGED if judged is None else judged))
    sources = [f"task.products.source={products_file}", f"task.train.source={judged_file}"]
    return load(["task=product_search", *sources, *overrides]).task


def products_of(task: TaskConfig) -> Catalogue:
    return load_products(task.source("products")[1])


def test_a_catalogue_holds_the_columns_that_are_searched(tmp_path: Path) -> None:
    assert products_of(task(tmp_path)) == Catalogue(("A", "B"), ("Red shoes Nix", "Blue shoes Blue"))
    assert products_of(task(tmp_path, "task.products.text=title")).texts == ("Red shoes", "Blue shoes")


def test_judgements_are_gathered_by_query(tmp_path: Path) -> None:
    asked = [Query("red shoes", {"A": 1.0, "B": 0.1}), Query("blue", {"B": 1.0})]
    assert load_queries(task(tmp_path), "train", {"A", "B"}) == asked
    assert load_queries(task(tmp_path, "task.train.gain=esci_label"), "train", {"A", "B"}) == asked
    assert asked[1].prompt("Query: {query}\nRewrite:") == "Query: blue\nRewrite:"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"product_id": "A", "title": "Boots"}, "product 'A' is there twice; ids must be different"),
        ({"product_id": " ", "title": "Boots"}, "column 'product_id' holds ' '; it must hold a product's id"),
        (
            {"product_id": "C", "title": " ", "brand": None},
            "product 'C' has no text in title, brand, color; give it some",
        ),
        ("{", "is no JSON (Expecting property name enclosed in double quotes); correct or remove the line"),
    ],
)
def test_a_bad_product_is_named_by_file_and_line(tmp_path: Path, row: object, problem: str) -> None:
    asked = task(tmp_path, products=[*PRODUCTS, "", row])
    with pytest.raises(ValueError, match=r"^task\.products: ") as raised:
        products_of(asked)
    assert str(raised.value) == f"task.products: {tmp_path / 'products.jsonl'}, line 4: {problem}"


@pytest.mark.parametrize(
    ("row", "line", "problem"),
    [
        ({"query": "red", "product_id": "Z", "gain": 1.0}, 4, "product 'Z' is not in the catalogue, task.products"),
        ({"query": " ", "product_id": "A", "gain": 1.0}, 4, "column 'query' is empty; every row must hold text"),
        (
            {"query": "red", "product_id": "A", "gain": -1.0},
            4,
            "column 'gain' holds -1.0; a gain is a number of at least 0, or a label of E, S, C, I",
        ),
        (
            {"query": "blue", "product_id": "B", "gain": 0.1},
            4,
            "product 'B' has gains 1 and 0.1 for 'blue'; keep one",
        ),
        (
            {"query": "green", "product_id": "A", "gain": 0.0},
            4,
            "query 'green' has no relevant product, every gain is 0; remove it",
        ),
    ],
)
def test_a_bad_judgement_is_named_by_file_and_line(tmp_path: Path, row: object, line: int, problem: str) -> None:
    asked = task(tmp_path, judged=[*JUDGED, row])
    with pytest.raises(ValueError, match=r"^task\.train: ") as raised:
        load_queries(asked, "train", {"A", "B"})
    assert str(raised.value) == f"task.train: {tmp_path / 'judged.jsonl'}, line {line}: {problem}"


def test_a_missing_column_is_answered_with_the_columns_there_are(tmp_path: Path) -> None:
    rule = r"has no column 'size'; set task.products.text to one of: product_id, title, brand, color$"
    with pytest.raises(ValueError, match=rule):
        load_products(DataSource(source=str(written(tmp_path / "p.jsonl", *PRODUCTS)), text="{title} {size}"))

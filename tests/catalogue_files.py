"""A small catalogue with judgements, as files."""

import json
from pathlib import Path

PRODUCTS = {
    "A": "red running shoes",
    "B": "blue running shoes",
    "C": "red kitchen towels",
    "D": "bamboo kitchen towels",
    "E": "desk lamp",
}
GAINS = {"shoes for running": {"A": 1.0, "B": 1.0, "C": 0.0}, "towel": {"C": 1.0, "D": 0.1}}


def write_files(folder: Path) -> tuple[Path, Path]:
    """The catalogue and the judgements."""
    products = folder / "products.jsonl"
    products.write_text("".join(json.dumps({"product_id": k, "text": text}) + "\n" for k, text in PRODUCTS.items()))
    judged = folder / "judged.jsonl"
    rows = [
        {"query": query, "product_id": product, "gain": gain}
        for query, gains in GAINS.items()
        for product, gain in gains.items()
    ]
    judged.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return products, judged

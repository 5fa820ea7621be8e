"""Where in a JSON Lines file a row stands, and what is wrong with a file that cannot be read."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def is_json_lines(path: Path) -> bool:
    """Whether the name is that of a JSON Lines file, compressed or not."""
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix == ".jsonl"


def line_of_row(path: Path, number: int) -> int:
    """Line, counted from 1, of row `number`, counted from 1: blank lines are no rows."""
    rows = 0
    for line_number, line in _lines(path):
        rows += bool(line.strip())
        if rows == number:
            return line_number
    raise AssertionError(f"{path} has no row {number}")


def first_problem(path: Path) -> tuple[int, str] | None:
    """Line and description of the first line that keeps the file from being a table; None when there is none."""
    kinds: dict[str, type] = {}
    try:
        for number, line in _lines(path):
            if line.strip() and (problem := _problem(line, kinds)):
                return number, problem
    except (OSError, EOFError):  # no gzip, or a broken one: no line to name
        return None
    return None


def _problem(line: bytes, kinds: dict[str, type]) -> str | None:
    """What is wrong with a line; `kinds` has the type that earlier lines hold in each column."""
    try:
        record: Any = json.loads(line)
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else error
        return f"is no JSON ({reason}); correct or remove the line"
    if not isinstance(record, dict):
        return f"holds {type(record).__name__}; every line must be a JSON object with the columns as keys"
    for column, value in record.items():
        kind = kinds.setdefault(column, type(value)) if value is not None else None
        if kind is not None and (kind is str) != isinstance(value, str):
            return (
                f"column {column!r} holds {type(value).__name__} {value!r}, earlier lines {kind.__name__}; "
                "a column must hold one type"
            )
    return None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        yield from enumerate(file, start=1)

"""Rows of text, with labels where asked for: local files and data sets of the hub, through `datasets`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scar_ray.config.errors import UserError
from scar_ray.config.schema import DataSource, TaskConfig
from scar_ray.tasks.grammar import reviews

if TYPE_CHECKING:
    from datasets import Dataset

FORMATS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
DEMO_REVIEWS = {"train": (1, 8000), "test": (2, 1000)}
"""Seed and number of the grammar reviews of `task=demo`."""


@dataclass(frozen=True, slots=True)
class Row:
    """One text of a data set."""

    text: str
    """Never blank; `<br />` has become a newline."""
    label: int | None
    """0 or 1; None where no labels were asked for."""


def load_rows(task: TaskConfig, part: str, *, labelled: bool) -> list[Row]:
    """Rows of `task.train` or `task.test` (`part`); for the demo, reviews of the grammar with true labels.

    UserError for a missing or unreadable file, an unknown column, an empty or non-text row, a label that is
    not 0 or 1.
    """
    source: DataSource = getattr(task, part)
    if task.name == "demo":
        seed, count = DEMO_REVIEWS[part]
        return [
            Row(review.text, int(review.sentiment > 0) if labelled else None)
            for review in reviews(seed, min(count, source.limit or count))
        ]
    return list(_rows(source, f"task.{part}", labelled))


def _rows(source: DataSource, where: str, labelled: bool) -> Iterator[Row]:
    table = _open(source, where)
    for key in ["text", "label"] if labelled else ["text"]:
        column = getattr(source, key)
        if column not in table.column_names:
            there = ", ".join(table.column_names)
            raise UserError(f"{where}: {source.source} has no column {column!r}; set {where}.{key} to one of: {there}")
    n_rows = min(len(table), source.limit or len(table))
    columns = [source.text, source.label] if labelled else [source.text]
    for number, record in enumerate(table.select_columns(columns).select(range(n_rows)), start=1):
        text, label = record[source.text], record[source.label] if labelled else None
        at = f"{where}: {source.source}, row {number}"
        if not isinstance(text, str) or not text.strip():
            got = "is empty" if text is None or isinstance(text, str) else f"holds {type(text).__name__} {text!r}"
            raise UserError(f"{at}: column {source.text!r} {got}; every row must hold text")
        if labelled and label not in (0, 1):
            raise UserError(f"{at}: column {source.label!r} holds {label!r}; a label must be 0 or 1")
        yield Row(text.replace("<br />", "\n"), None if label is None else int(label))


def _open(source: DataSource, where: str) -> Dataset:
    """The data set, not yet checked. A name with a known file suffix, or of something on disk, is a file."""
    if not source.source:
        raise UserError(f"{where}.source is empty; name a JSONL, CSV or parquet file, or a data set on the hub")
    path = Path(source.source).expanduser()
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    if plain.suffix in FORMATS:
        return _open_file(path, FORMATS[plain.suffix], where)
    if path.exists() or path.is_absolute() or path.suffix == ".gz":
        kinds = ", ".join(FORMATS)
        raise UserError(f"{where}.source: {source.source} is no data file; its name must end in {kinds} (also .gz)")
    return _open_hub(source, where)


def _open_file(path: Path, kind: str, where: str) -> Dataset:
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    if not path.is_file():
        raise UserError(f"{where}.source: no such file: {path}; check the path")
    if path.stat().st_size == 0:
        raise UserError(f"{where}.source: {path} is empty; it must have at least one row")
    try:
        return load_dataset(kind, data_files=str(path.resolve()), split="train")
    except (DatasetGenerationError, OSError, ValueError, EOFError) as error:
        reason = _first_line(error.__cause__ or error)
        raise UserError(f"{where}.source: cannot read {path} as {kind}: {reason}") from error


def _open_hub(source: DataSource, where: str) -> Dataset:
    from datasets import load_dataset

    try:
        return load_dataset(source.source, split=source.split)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{where}.source: cannot load data set {source.source!r} (split {source.split!r}) from the hub: "
            f"{_first_line(error)}; for a local file give its path"
        ) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

"""Rows of text, with labels where asked for: local files and data sets of the hub, through `datasets`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scar_ray.config.errors import UserError
from scar_ray.config.schema import DataSource, Part, TaskConfig
from scar_ray.tasks.grammar import reviews
from scar_ray.tasks.json_lines import first_problem, is_json_lines, line_of_row

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


def load_rows(task: TaskConfig, part: Part, *, labelled: bool) -> list[Row]:
    """Texts of a part of the task; for the demo, reviews of the grammar with true labels.

    UserError for a missing or unreadable file, an unknown column, an empty or non-text row, a label that is
    not 0 or 1.
    """
    where, source = task.source(part)
    if task.name == "demo":
        seed, count = DEMO_REVIEWS[where.rpartition(".")[2]]
        return [
            Row(review.text, int(review.sentiment > 0) if labelled else None)
            for review in reviews(seed, min(count, source.limit or count))
        ]
    table = Table(source, where)
    table.require("text", source.text)
    if labelled:
        table.require("label", source.label)
    rows = []
    for number, record in table.records([source.text, source.label] if labelled else [source.text]):
        label = record[source.label] if labelled else None
        text = table.text(number, record, source.text)
        if labelled and label not in (0, 1):
            raise UserError(f"{table.at(number)}: column {source.label!r} holds {label!r}; a label must be 0 or 1")
        rows.append(Row(text.replace("<br />", "\n"), None if label is None else int(label)))
    return rows


class Table:
    """An opened data set; its messages name a row by file and line. UserError when it cannot be opened."""

    def __init__(self, source: DataSource, where: str) -> None:
        """`where` is the key of the source, `task.train` for instance."""
        self.source, self.where = source, where
        self._path = _local_path(source, where)
        self._dataset = _open_hub(source, where) if self._path is None else _open_file(self._path, where)

    @property
    def columns(self) -> list[str]:
        return list(self._dataset.column_names)

    def require(self, key: str, column: str) -> None:
        """UserError unless there is a column of this name, which `key` of the source asks for."""
        if column not in self.columns:
            raise UserError(
                f"{self.where}: {self.source.source} has no column {column!r}; set {self.where}.{key} to one of: "
                + ", ".join(self.columns)
            )

    def records(self, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """(number from 1, values of the columns) of each row, at most `limit` of them."""
        n_rows = min(len(self._dataset), self.source.limit or len(self._dataset))
        yield from enumerate(self._dataset.select_columns(list(columns)).select(range(n_rows)), start=1)

    def text(self, number: int, record: dict[str, Any], column: str) -> str:
        """The text in a column of a row. UserError when it is none, or blank."""
        text = record[column]
        if isinstance(text, str) and text.strip():
            return text
        got = "is empty" if text is None or isinstance(text, str) else f"holds {type(text).__name__} {text!r}"
        raise UserError(f"{self.at(number)}: column {column!r} {got}; every row must hold text")

    def at(self, number: int) -> str:
        """How messages name a row: by its line where the file has lines."""
        if self._path is not None and is_json_lines(self._path):
            return f"{self.where}: {self.source.source}, line {line_of_row(self._path, number)}"
        return f"{self.where}: {self.source.source}, row {number}"


def _local_path(source: DataSource, where: str) -> Path | None:
    """The file, not yet checked; None for a data set of the hub.

    A name with a known file suffix, or of something on disk, is a file.
    """
    if not source.source:
        raise UserError(f"{where}.source is empty; name a JSONL, CSV or parquet file, or a data set on the hub")
    path = Path(source.source).expanduser()
    if _plain(path).suffix in FORMATS:
        return path
    if path.exists() or path.is_absolute() or path.suffix == ".gz":
        kinds = ", ".join(FORMATS)
        raise UserError(f"{where}.source: {source.source} is no data file; its name must end in {kinds} (also .gz)")
    return None


def _plain(path: Path) -> Path:
    return path.with_suffix("") if path.suffix == ".gz" else path


def _open_file(path: Path, where: str) -> Dataset:
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    logging.getLogger("datasets").setLevel(logging.CRITICAL)  # its own account of a bad file would come beside ours
    kind = FORMATS[_plain(path).suffix]
    if not path.is_file():
        raise UserError(f"{where}.source: no such file: {path}; check the path")
    if path.stat().st_size == 0:
        raise UserError(f"{where}.source: {path} is empty; it must have at least one row")
    try:
        return load_dataset(kind, data_files=str(path.resolve()), split="train")
    except (DatasetGenerationError, OSError, ValueError, EOFError) as error:
        if is_json_lines(path) and (found := first_problem(path)):
            number, problem = found
            raise UserError(f"{where}: {path}, line {number}: {problem}") from error
        reason = _first_line(error.__cause__ or error)
        raise UserError(f"{where}.source: cannot read {path} as {kind}: {reason}") from error


def _open_hub(source: DataSource, where: str) -> Dataset:
    from datasets import load_dataset

    try:
        return load_dataset(source.source, data_dir=source.folder, split=source.split)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{where}.source: cannot load data set {source.source!r} (split {source.split!r}) from the hub: "
            f"{_first_line(error)}; for a local file give its path"
        ) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

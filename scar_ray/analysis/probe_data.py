"""Responses to probe a reward model with, from a JSONL(.gz), CSV or parquet file.

A row has the columns `prompt` and `response`, or only `text`, whose first PROMPT_WORDS words are then the prompt and
the rest the response; `<br />` in it becomes a newline. Responses are cut after so many words, at white space.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scar_ray.analysis.explain import token_ranges
from scar_ray.config.errors import UserError
from scar_ray.records import Prompt, Response

PROMPT_WORDS = 6
"""Words of a row with only `text` that are its prompt; `task=imdb` takes 4-8 tokens."""
MIN_ROWS = 20
"""Fewer responses say nothing about a correlation."""
_SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".parquet")


@dataclass(frozen=True, slots=True)
class Pair:
    """One row of the file."""

    number: int
    """Number of its row or line in the file, counted from 1 as the file's editor does."""
    prompt: str
    response: str
    """Never blank; the first `words` words."""


def read_pairs(path: Path, count: int, words: int, seed: int) -> list[Pair]:
    """`count` rows drawn at random (all, where there are fewer), in the order of the file.

    The draw depends on `seed` and the number of usable rows only. Rows of text without a word after the prompt are
    not usable. UserError for a missing or unreadable file, a missing column or a cell without text (FILE:LINE), and
    when fewer than MIN_ROWS rows are usable.
    """
    pairs = [pair for number, row in _rows(path) if (pair := _pair(row, f"{path}:{number}", number, words))]
    if len(pairs) < MIN_ROWS:
        raise UserError(f"{path}: {len(pairs)} usable rows; correlations need at least {MIN_ROWS}, add some")
    drawn = np.random.default_rng(seed).permutation(len(pairs))[:count]
    return [pairs[i] for i in sorted(drawn)]


def read_responses(pairs: Sequence[Pair], tokenizer: Any) -> list[Response]:
    """The pairs as responses, in the tokens that a fast tokenizer makes of the response text alone.

    Token ranges cover the text; white space that the tokenizer drops goes with the token that follows. The number of
    the row is the prompt's index. UserError for a tokenizer that does not know the characters of its tokens.
    """
    if not tokenizer.is_fast:
        raise UserError(
            "--reward-model: its tokenizer does not know the characters of its tokens, which units need; "
            "save the tokenizer with tokenizer.json"
        )
    encoded = tokenizer(
        [pair.response for pair in pairs], add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    columns = zip(pairs, encoded["input_ids"], encoded["offset_mapping"], strict=True)
    return [_response(row, pair, ids, offsets) for row, (pair, ids, offsets) in enumerate(columns)]


def _response(row: int, pair: Pair, ids: Sequence[int], offsets: Sequence[tuple[int, int]]) -> Response:
    return Response(
        row=row,
        prompt=Prompt(pair.number, (), pair.prompt),
        sample=0,
        token_ids=tuple(ids),
        text=pair.response,
        token_spans=token_ranges(offsets, len(pair.response)),
        finished=False,
        logprobs_T=np.zeros(len(ids), np.float32),
        policy_version=0,
        engine="file",
    )


def _pair(row: Mapping[str, Any], where: str, number: int, words: int) -> Pair | None:
    """The row's prompt and response; None for a text that has no word after its prompt."""
    if "prompt" in row and "response" in row:
        prompt, response = _text(row, "prompt", where), _text(row, "response", where)
        if not response.strip():
            raise UserError(f"{where}: column 'response' is empty; every row must hold a response")
    elif "text" in row:
        text = _text(row, "text", where).replace("<br />", "\n")
        prompt = _first_words(text, PROMPT_WORDS)
        response = text[len(prompt) :]
        if not response.strip():
            return None
    else:
        there = ", ".join(map(str, row)) or "none"
        raise UserError(f"{where}: columns 'prompt' and 'response', or 'text', are needed; it has {there}")
    return Pair(number, prompt, _first_words(response, words))


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    cell = row[column]
    if not isinstance(cell, str):
        raise UserError(f"{where}: column {column!r} holds {type(cell).__name__} {cell!r}; it must hold text")
    try:
        cell.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: column {column!r}: character {error.start} is half of a surrogate pair") from None
    return cell


def _first_words(text: str, words: int) -> str:
    """`text` up to the end of its first `words` words."""
    found = re.match(rf"(?:\s*\S+){{0,{words}}}", text)
    assert found is not None
    return found.group()


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Line (of a parquet file, row) and columns of every row."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a JSONL, CSV or parquet file")
    if not path.name.endswith(_SUFFIXES):
        raise UserError(f"{path}: its name must end in {', '.join(_SUFFIXES)}")
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
        return
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            if path.suffix == ".csv":
                reader = csv.DictReader(file)
                for row in reader:
                    yield reader.line_num, row
            else:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        yield number, _json_row(line, f"{path}:{number}")
    except (EOFError, gzip.BadGzipFile, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as {path.name.partition('.')[2]}: {error}") from error


def _json_row(line: str, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: is no JSON ({error}); every line must be one object") from error
    if not isinstance(row, dict):
        raise UserError(f"{where}: holds {type(row).__name__}; every line must be one object")
    return row


def _parquet_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    from pyarrow import ArrowInvalid, parquet  # type: ignore[import-untyped]

    try:
        table = parquet.read_table(path)
    except ArrowInvalid as error:
        raise UserError(f"{path}: cannot be read as parquet: {error}") from error
    yield from enumerate(table.to_pylist(), start=1)

"""Prompts and responses from a file: JSON lines with the columns `prompt` and `response`."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

from scar_ray.config.errors import UserError

COLUMNS = ("prompt", "response")


@dataclass(frozen=True, slots=True)
class Pair:
    """One row of the file."""

    where: str
    """File and line, for messages: `responses.jsonl:12`."""
    prompt: str
    response: str


def read_pairs(file: Path) -> list[Pair]:
    """The rows of a .jsonl or .jsonl.gz file; blank lines are left out.

    UserError, naming file and line, for a row that is no JSON object or lacks a column; for a file without rows.
    """
    if not file.is_file():
        raise UserError(f"--file={file}: no such file; give JSON lines with the columns prompt and response")
    try:
        raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (gzip.BadGzipFile, EOFError) as error:
        raise UserError(f"--file={file}: is not a complete gzip file ({error})") from None
    lines = enumerate(raw.split(b"\n"), start=1)
    pairs = [_pair(f"{file}:{number}", line) for number, line in lines if line.strip()]
    if not pairs:
        raise UserError(f"--file={file}: has no rows; give JSON lines with the columns prompt and response")
    return pairs


def _pair(where: str, line: bytes) -> Pair:
    try:
        row = json.loads(line)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{where}: is not JSON ({reason}); every line must be a JSON object") from None
    if not isinstance(row, dict):
        raise UserError(f"{where}: is {type(row).__name__}, not a JSON object with the columns prompt and response")
    for column in COLUMNS:
        if column not in row:
            there = ", ".join(map(str, row)) or "none"
            raise UserError(f"{where}: has no column {column!r}; the columns are prompt and response, got {there}")
        if not isinstance(row[column], str):
            raise UserError(f"{where}: column {column!r} must be text, got {json.dumps(row[column])[:60]}")
    return Pair(where, row["prompt"], row["response"])

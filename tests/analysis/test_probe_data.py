"""Reading the responses that the probe takes, and the lines that say what is wrong with a file."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from scar_ray.analysis.probe_data import Pair, read_pairs, read_responses
from scar_ray.config.errors import UserError

ROWS = [{"prompt": f"Question {i}:", "response": f" answer number {i} is here."} for i in range(30)]


def write(path: Path, rows: list[Any]) -> Path:
    """A file of these rows, in the format of its name."""
    if path.suffix == ".parquet":
        from pyarrow import Table, parquet

        parquet.write_table(Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.csv", "a.parquet"])
def test_every_format_gives_the_same_pairs(tmp_path: Path, name: str) -> None:
    pairs = read_pairs(write(tmp_path / name, ROWS), 1000, 60, 0)
    assert [(pair.prompt, pair.response) for pair in pairs] == [(row["prompt"], row["response"]) for row in ROWS]


def test_the_first_six_words_of_a_text_are_its_prompt(tmp_path: Path) -> None:
    text = "I saw it twice,<br /><br />and I would see it again."
    pairs = read_pairs(write(tmp_path / "a.jsonl", [{"text": text, "label": 1}] * 20), 20, 60, 0)
    assert pairs[0] == Pair(1, "I saw it twice,\n\nand I", " would see it again.")


def test_responses_are_cut_after_so_many_words(tmp_path: Path) -> None:
    row = {"prompt": "p", "response": " one  two\nthree four "}
    pairs = read_pairs(write(tmp_path / "a.jsonl", [row] * 20), 20, 3, 0)
    assert pairs[0].response == " one  two\nthree"


def test_texts_without_a_word_after_the_prompt_are_not_usable(tmp_path: Path) -> None:
    rows = [{"text": "only six words are in here "}, *({"text": f"a b c d e f g{i}"} for i in range(20))]
    pairs = read_pairs(write(tmp_path / "a.jsonl", rows), 1000, 60, 0)
    assert [pair.number for pair in pairs] == list(range(2, 22))


def test_the_rows_drawn_are_in_order_and_depend_on_the_seed(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", ROWS)
    numbers = [[pair.number for pair in read_pairs(file, 20, 60, seed)] for seed in (0, 0, 1)]
    assert numbers[0] == sorted(numbers[0])
    assert len(set(numbers[0])) == 20
    assert numbers[0] == numbers[1] != numbers[2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "a"}', "columns 'prompt' and 'response', or 'text', are needed; it has prompt"),
        ('{"body": "a", "label": 1}', "columns 'prompt' and 'response', or 'text', are needed; it has body, label"),
        ('{"prompt": "a", "response": 3}', "column 'response' holds int 3; it must hold text"),
        ('{"text": null}', "column 'text' holds NoneType None; it must hold text"),
        ('{"prompt": "a", "response": " "}', "column 'response' is empty; every row must hold a response"),
        ('{"text": "ab\\ud800"}', "column 'text': character 2 is half of a surrogate pair"),
        ('["a", "b"]', "holds list; every line must be one object"),
        ('{"prompt": ', "is no JSON (Expecting value: line 2 column 1 (char 12)); every line must be one object"),
    ],
)
def test_a_bad_row_is_one_line_with_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps(ROWS[0]) + "\n\n" + line + "\n")
    with pytest.raises(UserError) as error:
        read_pairs(file, 20, 60, 0)
    assert str(error.value) == f"{file}:3: {message}"


def test_a_line_of_a_csv_file_is_counted_as_an_editor_does(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('prompt,response\na,"two\nlines"\nb," "\n')
    with pytest.raises(UserError, match=r"a\.csv:4: column 'response' is empty"):
        read_pairs(file, 20, 60, 0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.jsonl", None, "no such file; give a JSONL, CSV or parquet file"),
        ("a.txt", b"text", "its name must end in .jsonl, .jsonl.gz, .csv, .parquet"),
        ("a.jsonl.gz", b"not gzip", "cannot be read as jsonl.gz: Not a gzipped file (b'no')"),
        ("a.jsonl", b"", "0 usable rows; correlations need at least 20, add some"),
        ("a.parquet", b"junk", "cannot be read as parquet: "),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_pairs(file, 20, 60, 0)
    assert str(error.value).startswith(f"{file}: {message}")
    assert "\n" not in str(error.value)


def test_responses_are_in_the_tokens_of_the_text_alone(tok: Any) -> None:
    pairs = [Pair(7, "The film", " is great."), Pair(9, "I", " left")]
    first, second = read_responses(pairs, tok)
    assert first.prompt.index == 7
    assert first.token_ids == tuple(tok(" is great.", add_special_tokens=False)["input_ids"])
    assert "".join(first.text[a:b] for a, b in first.token_spans) == " is great."
    assert (second.row, second.text, second.finished) == (1, " left", False)

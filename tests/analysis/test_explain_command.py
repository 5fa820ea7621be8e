"""`scar-ray explain`: what it prints and writes, and its one-line errors."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers.utils import logging

from scar_ray import cli, explain
from scar_ray.analysis.explain import Explainer

PROMPT, REPLIES = "The film is", (" good", " not a good film at all.", " dull, and the ending is bad.")


@pytest.fixture
def model(reward_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("TRANSFORMERS_VERBOSITY", "TQDM_DISABLE", "DS_ACCELERATOR"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # the command sets them; put back after the test
    logging.disable_progress_bar()  # Transformers is imported before the command can say so
    return str(reward_folders["llama"])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = [json.dumps({"prompt": PROMPT, "response": reply, "id": 1}) for reply in REPLIES]
    (tmp_path / "responses.jsonl").write_text("\n".join([rows[0], "", *rows[1:]]) + "\n")
    return tmp_path / "responses.jsonl"


def error_line(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["explain", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("scar-ray: error: ").rstrip("\n")


def read(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def without_time(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_one_response_is_printed_and_written_as_the_python_function_gives_it(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, page = tmp_path / "out.jsonl", tmp_path / "page.html"
    asked = ["--prompt", PROMPT, "--response", REPLIES[1], "--out", str(out), "--html", str(page)]
    words = ["sparse", "abc", "scar_span"]
    assert cli.main(["explain", "--reward-model", model, *asked, "credit=" + ",".join(words), "credit.budget=64"]) == 0
    found = explain(model, PROMPT, REPLIES[1], words, overrides=["credit.budget=64"])
    assert without_time(read(out)) == without_time([json.loads(json.dumps(each.to_json())) for each in found])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert max(map(len, printed.replace(str(page), "").splitlines())) <= 80
    assert [line.split()[0] for line in printed.splitlines()[-4:-1]] == words
    assert printed.splitlines()[-1] == str(page)
    assert page.read_text(encoding="utf-8").count('<article class="card">') == 3


def test_the_default_is_scar_span(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "--reward-model", model, "--prompt", "", "--response", REPLIES[1]]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("scar_span  owen ")


def test_a_file_is_explained_row_by_row(
    model: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed, out, page = tmp_path / "responses.jsonl.gz", tmp_path / "out.jsonl", tmp_path / "page.html"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    given = ["--reward-model", model, "credit=sparse,scar_span"]
    assert cli.main(["explain", *given, "--file", str(packed), "--out", str(out), "--html", str(page)]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (f"{page}\n", "")  # no bar where nobody looks
    assert [(row["response"], row["credit"]) for row in read(out)] == [
        (reply, word) for reply in REPLIES for word in ("sparse", "scar_span")
    ]
    assert page.read_text(encoding="utf-8").count('<details class="one"') == 3
    assert cli.main(["explain", *given, "--file", str(file)]) == 0
    assert capsys.readouterr().out.count("prompt  The film is") == 3


def test_an_interrupted_file_keeps_what_is_done(
    model: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Explainer.explain

    def interrupted(self: Explainer, prompt: str, response: str) -> object:
        if response == REPLIES[2]:
            raise KeyboardInterrupt
        return real(self, prompt, response)

    monkeypatch.setattr(Explainer, "explain", interrupted)
    out, page = tmp_path / "out.jsonl", tmp_path / "page.html"
    given = ["--reward-model", model, "--file", str(file), "--out", str(out), "--html", str(page)]
    assert cli.main(["explain", *given]) == 130
    assert [row["response"] for row in read(out)] == [*REPLIES[:2]]
    assert page.read_text(encoding="utf-8").count('<details class="one"') == 2


def test_a_row_that_cannot_be_scored_is_named_and_those_before_it_are_kept(
    model: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    given = ["--reward-model", model, "--file", str(file), "--out", str(out), "model.reward.max_length=12"]
    line = error_line(capsys, *given)
    assert line.startswith(f"{file}:3: response ' not a good film at all.': prompt and response take ")
    assert line.endswith(" reward-model tokens, the reward model reads 12; shorten the prompt or the response")
    assert [row["response"] for row in read(out)] == [REPLIES[0]]


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ('{"prompt": "a"}', "has no column 'response'; the columns are prompt and response, got prompt"),
        ('{"prompt": 3, "response": "b"}', "column 'prompt' must be text, got 3"),
        ('{"prompt": "a", ', "is not JSON (Expecting property name enclosed in double quotes: line 1 column 17"),
        ("[1]", "is list, not a JSON object with the columns prompt and response"),
    ],
)
def test_a_bad_row_is_found_before_the_model_is_loaded(
    row: str, line: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with file.open("a") as rows:
        rows.write(row + "\n")
    assert error_line(capsys, "--reward-model", "nowhere", "--file", str(file)).startswith(f"{file}:5: {line}")


def test_files_without_rows_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty, broken = tmp_path / "empty.jsonl", tmp_path / "broken.jsonl.gz"
    empty.write_text("\n")
    broken.write_bytes(b"no gzip")
    lines = [
        error_line(capsys, "--reward-model", "m", "--file", str(name)) for name in (tmp_path / "none", empty, broken)
    ]
    assert lines[0] == f"--file={tmp_path / 'none'}: no such file; give JSON lines with the columns prompt and response"
    assert lines[1] == f"--file={empty}: has no rows; give JSON lines with the columns prompt and response"
    assert lines[2].startswith(f"--file={broken}: is not a complete gzip file (")


@pytest.mark.parametrize(
    "arguments", [[], ["--prompt", "a"], ["--file", "x", "--response", "b"], ["--file", "x", "--prompt", "a"]]
)
def test_either_one_response_or_a_file(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    line = error_line(capsys, "--reward-model", "m", *arguments)
    assert line == "give either --prompt and --response, or --file with many of them"


def test_mistakes_are_found_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    heavy = ("torch", "transformers", "ray")
    program = (
        "import sys\nfrom scar_ray.cli import main\n"
        "given = ['explain', '--reward-model', './nowhere', '--prompt', 'a', '--response', 'b']\n"
        "print(main([*given, 'credit=scar_spam']), main(given))\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines() == ["2 2", "[]"]
    assert done.stderr.splitlines()[0].endswith('got "scar_spam"; did you mean scar_span?')
    assert done.stderr.splitlines()[1] == "scar-ray: error: reward model ./nowhere: no such model folder"

"""Files of responses: JSON lines of an evaluation, and AlpacaEval's JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scar_ray.config.errors import UserError
from scar_ray.report.frame import write_whole

EVALUATIONS = "eval"
"""Folder in a run folder with the responses of each evaluation, `step-NNNNNN.jsonl`."""
RESULTS = "results.json"
"""What `scar-ray eval` found, in the folder with the responses."""
_COLUMNS = (("prompt", "response"), ("instruction", "output"))
"""Names of prompt and response: ours, and AlpacaEval's."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A prompt and what a policy made of it."""

    prompt: str
    response: str


@dataclass(frozen=True, slots=True)
class Answers:
    """All responses of one policy, in the order of its evaluation."""

    name: str
    file: Path
    task: str
    """The task that they are for; empty where nothing says so."""
    rows: tuple[Answer, ...]


def write_responses(file: Path, records: Sequence[Mapping[str, Any]]) -> Path:
    """Writes one JSON line for each response, all or none; returns the file."""
    return write_whole(file, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def forget_after(run: Path, step: int) -> None:
    """Removes the responses of evaluations after `step`: a resumed run does those steps again."""
    for file in (run / EVALUATIONS).glob("step-*.jsonl"):
        if int(file.stem.removeprefix("step-")) > step:
            file.unlink()


def write_alpaca(file: Path, records: Sequence[Mapping[str, Any]], generator: str, dataset: str) -> Path:
    """Writes what `alpaca_eval --model_outputs` reads: the first response to each prompt, as instruction and output."""
    firsts = {record["prompt_index"]: record for record in reversed(records)}
    rows = [
        {
            "instruction": firsts[index]["prompt"],
            "output": firsts[index]["response"],
            "generator": generator,
            "dataset": dataset,
        }
        for index in sorted(firsts)
    ]
    return write_whole(file, json.dumps(rows, ensure_ascii=False, indent=1) + "\n")


def read_answers(path: Path) -> Answers:
    """The responses of a run's last evaluation, or those of a file. UserError, in one line, where there are none."""
    if not path.exists():
        raise UserError(f"{path}: no such run folder or file of responses")
    file = path
    if path.is_dir():
        files = sorted((path / EVALUATIONS).glob("step-*.jsonl"), key=lambda each: (len(each.name), each.name))
        if not files:
            raise UserError(f"{path}: no responses to held-out prompts; make them with: scar-ray eval {path}")
        file = files[-1]
    rows = tuple(_answer(record, f"{file}, response {n}") for n, record in enumerate(_records(file), start=1))
    if not rows:
        raise UserError(f"{file}: holds no responses")
    name = path.resolve().name
    if not path.is_dir():
        name = name.removesuffix(".jsonl").removesuffix(".json").removesuffix(".alpaca")
    return Answers(name, file, _task(file, name), rows)


def _task(file: Path, name: str) -> str:
    """The task of the run that the file lies in, or of the evaluation that wrote it; empty where neither is known."""
    run, evaluation = file.parent.parent / "run.json", file.parent / RESULTS
    if run.is_file():
        return str(json.loads(run.read_text(encoding="utf-8")).get("task", ""))
    if evaluation.is_file():
        rows = json.loads(evaluation.read_text(encoding="utf-8"))
        return next((str(row["task"]) for row in rows if row["name"] == name), "")
    return ""


def _records(file: Path) -> list[Any]:
    text = file.read_text(encoding="utf-8", errors="replace")
    try:
        if text.lstrip().startswith("["):
            return list(json.loads(text))
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise UserError(f"{file}: neither JSON lines nor a JSON list of responses ({error})") from None


def _answer(record: Any, where: str) -> Answer:
    for prompt, response in _COLUMNS:
        found = (record.get(prompt), record.get(response)) if isinstance(record, dict) else (None, None)
        if isinstance(found[0], str) and isinstance(found[1], str):
            return Answer(found[0], found[1])
    raise UserError(f"{where}: has neither prompt and response nor instruction and output as text")


def check_same_prompts(first: Answers, second: Answers) -> None:
    """UserError, naming the first difference, unless both answer the same prompts in the same order."""
    for number, (one, other) in enumerate(zip(first.rows, second.rows, strict=False), start=1):
        if one.prompt != other.prompt:
            raise UserError(
                f"{first.file} and {second.file} answer different prompts, from number {number} on "
                f"({one.prompt[:40]!r} and {other.prompt[:40]!r}); evaluate both on the same ones: "
                f"scar-ray eval {first.name} {second.name}"
            )
    if len(first.rows) != len(second.rows):
        raise UserError(
            f"{first.file} has {len(first.rows)} responses, {second.file} {len(second.rows)}; evaluate both on the "
            "same prompts with scar-ray eval"
        )

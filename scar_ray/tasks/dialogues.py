"""Prompts with completions, and preference pairs: the rows of `tldr` and `hh`."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import Any

import numpy as np

from scar_ray.config.errors import UserError
from scar_ray.config.schema import DataSource, Part, TaskConfig
from scar_ray.tasks.arithmetic import ARITHMETIC_PROBLEMS, problems
from scar_ray.tasks.data import Table

QUESTION, ANSWER = "\n\nHuman:", "\n\nAssistant:"
"""How the turns of a dialogue of `hh` begin; a prompt begins with the one and ends with the other."""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A prompt and the completion to learn from."""

    prompt: str
    completion: str
    """Begins with white space: a space is added where it does not."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt with two completions, which differ and begin with white space."""

    prompt: str
    chosen: str
    """The better one."""
    rejected: str


def load_prompt_texts(task: TaskConfig, part: Part) -> list[str]:
    """The prompts of a part of a task with completions. UserError names a bad row by file and line."""
    where, source = task.source(part)
    if source.prompt and not task.is_generated:
        return [prompt for prompt, _ in _read(task, where, source, ())]
    return [row.prompt for row in load_demonstrations(task, part)]


def load_demonstrations(task: TaskConfig, part: Part) -> list[Demonstration]:
    """The demonstrations of a part of a task with completions. UserError names a bad row by file and line."""
    where, source = task.source(part)
    if task.name == "arithmetic":
        seed, count = ARITHMETIC_PROBLEMS[where.rpartition("_")[2].rpartition(".")[2]]
        rng = np.random.default_rng([seed, count])
        asked = problems(seed, min(count, source.limit or count))
        return [Demonstration(one.prompt, one.worked_with_mistakes(rng, task.mistakes)) for one in asked]
    return [Demonstration(prompt, completion) for prompt, (completion,) in _read(task, where, source, ("completion",))]


def load_pairs(task: TaskConfig, part: Part) -> list[Pair]:
    """The preference pairs of a part of `tldr` or `hh`. UserError names a bad row by file and line."""
    where, source = task.source(part)
    return [
        Pair(prompt, chosen, rejected)
        for prompt, (chosen, rejected) in _read(task, where, source, ("chosen", "rejected"))
    ]


def _read(task: TaskConfig, where: str, source: DataSource, keys: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """(prompt, completions) of each row; `keys` of the source name the columns of the completions."""
    table = Table(source, where)
    answers = [str(getattr(source, key)) for key in keys]
    for key, column in zip(keys, answers, strict=True):
        table.require(key, column)
    asked = _prompt_columns(table)
    rows = []
    for number, record in table.records(list(dict.fromkeys([*asked, *answers]))):
        texts = [table.text(number, record, column) for column in answers]
        if source.prompt:
            prompt = _prompt(table, number, record, asked)
        else:
            prompt, texts = _split_dialogues(texts, lambda number=number: table.at(number))
        if task.name == "hh" and not (prompt.startswith(QUESTION) and prompt.endswith(ANSWER)):
            raise UserError(
                f"{table.at(number)}: the prompt is {_shown(prompt)}; it must begin with {QUESTION!r} and end with "
                f"{ANSWER!r}"
            )
        if len(texts) == 2 and texts[0].strip() == texts[1].strip():
            raise UserError(
                f"{table.at(number)}: columns {answers[0]!r} and {answers[1]!r} hold the same text "
                f"{_shown(texts[0])}; a pair must differ, remove the row"
            )
        rows.append((prompt, tuple(text if text[0].isspace() else f" {text}" for text in texts)))
    return rows


def _prompt_columns(table: Table) -> list[str]:
    """Columns that make the prompt: those of the template, or the one that is named."""
    template = table.source.prompt
    try:
        columns = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise UserError(
            f"{table.where}.prompt={_shown(template)}: is no template ({error}); write {{column}}"
        ) from None
    if template and not columns:
        columns = [template]
    for column in columns:
        table.require("prompt", column)
    return columns


def _prompt(table: Table, number: int, record: dict[str, Any], columns: Sequence[str]) -> str:
    texts = {column: table.text(number, record, column) for column in columns}
    template = table.source.prompt
    return texts[template] if template in texts else template.format_map(texts)


def _split_dialogues(dialogues: list[str], at: Callable[[], str]) -> tuple[str, list[str]]:
    """The prompt that whole dialogues share, up to the last answer, and the answers."""
    shared = commonprefix(dialogues)
    end = shared.rfind(ANSWER) + len(ANSWER)
    if end < len(ANSWER):
        raise UserError(f"{at()}: the dialogues share no {ANSWER!r}; they must be the same up to the last answer")
    answers = [dialogue[end:] for dialogue in dialogues]
    if not all(answer.strip() for answer in answers):
        raise UserError(f"{at()}: an answer after the last shared {ANSWER!r} is empty; remove the row")
    return shared[:end], answers


def _shown(text: str) -> str:
    return repr(text) if len(text) <= 60 else repr(text[:28] + "..." + text[-28:])

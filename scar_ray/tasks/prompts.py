"""Prompts: the first few policy tokens of a task's texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scar_ray.config.errors import UserError
from scar_ray.config.schema import Config
from scar_ray.records import Prompt
from scar_ray.tasks.data import load_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_prompts(config: Config, tokenizer: PreTrainedTokenizerBase) -> list[Prompt]:
    """The training prompts of `config.task`, ordered by index; the same for the same seed, texts and tokenizer.

    A prompt is the first `prompt_tokens_min`..`prompt_tokens_max` tokens (uniform, drawn from a generator
    seeded with (seed, row)) of a text of at least `min_chars` characters; the demo's reviews are all short
    and need no minimum. A BOS comes first where the tokenizer adds one by default. Texts that are too short,
    and cuts through a character of several tokens, give no prompt. UserError when fewer prompts are left
    than a batch asks for.
    """
    return _prompts(config, tokenizer, "train", config.seed, config.algorithm.batch.prompts)


def load_held_out(config: Config, tokenizer: PreTrainedTokenizerBase) -> list[Prompt]:
    """The held-out prompts of an evaluation: up to `eval.prompts` of those of `task.test`, drawn by `eval.seed`.

    The same for every run with the same texts and tokenizer, whatever its seed. UserError when there is none.
    """
    prompts = _prompts(config, tokenizer, "test", config.eval.seed, 1)
    drawn = np.random.default_rng(config.eval.seed).permutation(len(prompts))[: config.eval.prompts]
    return [prompts[i] for i in sorted(drawn)]


def _prompts(config: Config, tokenizer: PreTrainedTokenizerBase, part: str, seed: int, needed: int) -> list[Prompt]:
    """All prompts of `task.train` or `task.test` (`part`); UserError when there are fewer than `needed`."""
    task = config.task
    rows = load_rows(task, part, labelled=False)
    # The first few hundred characters hold the tokens; whole reviews would take minutes.
    heads = [row.text[: 64 * task.prompt_tokens_max] for row in rows]
    ids_of_rows = tokenizer(heads, add_special_tokens=False)["input_ids"]
    bos = _default_bos(tokenizer)
    min_chars = 0 if task.name == "demo" else task.min_chars
    prompts: list[Prompt] = []
    for number, (row, ids) in enumerate(zip(rows, ids_of_rows, strict=True)):
        rng = np.random.default_rng([seed, number])
        length = int(rng.integers(task.prompt_tokens_min, task.prompt_tokens_max, endpoint=True))
        text = tokenizer.decode(ids[:length], clean_up_tokenization_spaces=False)
        if len(row.text) >= min_chars and len(ids) >= length and "\ufffd" not in text:
            prompts.append(Prompt(len(prompts), (*bos, *ids[:length]), text))
    if len(prompts) < needed:
        remedy = f"algorithm.batch.prompts={needed} needs as many: lower task.min_chars or algorithm.batch.prompts"
        if part == "test":
            remedy = "1 at least is needed: lower task.min_chars or set eval.every=0"
        raise UserError(
            f"task.{part}: {len(rows)} texts give {len(prompts)} prompts of {task.prompt_tokens_min}-"
            f"{task.prompt_tokens_max} tokens from texts of at least {min_chars} characters; "
            f"{remedy}"
        )
    return prompts


def _default_bos(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    bos = tokenizer.bos_token_id
    return (bos,) if bos is not None and tokenizer.encode("a")[:1] == [bos] else ()

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
    """The prompts of `config.task`, ordered by index; the same for the same seed, texts and tokenizer.

    A prompt is the first `prompt_tokens_min`..`prompt_tokens_max` tokens (uniform, drawn from a generator
    seeded with (seed, row)) of a text of at least `min_chars` characters; the demo's reviews are all short
    and need no minimum. A BOS comes first where the tokenizer adds one by default. Texts that are too short,
    and cuts through a character of several tokens, give no prompt. UserError when fewer prompts are left
    than a batch asks for.
    """
    task = config.task
    rows = load_rows(task, "train", labelled=False)
    # The first few hundred characters hold the tokens; whole reviews would take minutes.
    heads = [row.text[: 64 * task.prompt_tokens_max] for row in rows]
    ids_of_rows = tokenizer(heads, add_special_tokens=False)["input_ids"]
    bos = _default_bos(tokenizer)
    min_chars = 0 if task.name == "demo" else task.min_chars
    prompts: list[Prompt] = []
    for number, (row, ids) in enumerate(zip(rows, ids_of_rows, strict=True)):
        rng = np.random.default_rng([config.seed, number])
        length = int(rng.integers(task.prompt_tokens_min, task.prompt_tokens_max, endpoint=True))
        text = tokenizer.decode(ids[:length], clean_up_tokenization_spaces=False)
        if len(row.text) >= min_chars and len(ids) >= length and "\ufffd" not in text:
            prompts.append(Prompt(len(prompts), (*bos, *ids[:length]), text))
    needed = config.algorithm.batch.prompts
    if len(prompts) < needed:
        raise UserError(
            f"task.train: {len(rows)} texts give {len(prompts)} prompts of {task.prompt_tokens_min}-"
            f"{task.prompt_tokens_max} tokens from texts of at least {min_chars} characters; "
            f"algorithm.batch.prompts={needed} needs as many: lower task.min_chars or algorithm.batch.prompts"
        )
    return prompts


def _default_bos(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    bos = tokenizer.bos_token_id
    return (bos,) if bos is not None and tokenizer.encode("a")[:1] == [bos] else ()

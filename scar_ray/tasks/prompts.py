"""Prompts: the first few policy tokens of a task's texts, or the prompts that its data sets have."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from scar_ray.config.errors import UserError
from scar_ray.config.schema import Config, TaskConfig
from scar_ray.records import Prompt
from scar_ray.tasks.catalogue import load_products, load_queries
from scar_ray.tasks.data import load_rows
from scar_ray.tasks.dialogues import load_prompt_texts
from scar_ray.tasks.fitting import default_bos, fit_prompts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Part = Literal["train", "test"]
Say = Callable[[str], None]


def load_prompts(config: Config, tokenizer: PreTrainedTokenizerBase, say: Say | None = None) -> list[Prompt]:
    """The training prompts of `config.task`, ordered by index; the same for the same seed, texts and tokenizer.

    demo, imdb: beginnings of texts. tldr, hh: the prompts of the data set, within the limit of tokens; `say` is told
    how many were shortened or left out. Product search: queries, with their judgements as `data`. A BOS comes first
    where the tokenizer adds one by default. UserError for a bad row, and when fewer prompts are left than a batch asks
    for.
    """
    needed = config.algorithm.batch.prompts
    prompts, found = _prompts(config, tokenizer, "train", config.seed, say)
    if len(prompts) < needed:
        raise UserError(
            f"task.train: {found}; algorithm.batch.prompts={needed} needs as many: {_remedy(config)} or lower "
            "algorithm.batch.prompts"
        )
    return prompts


def load_held_out(config: Config, tokenizer: PreTrainedTokenizerBase) -> list[Prompt]:
    """The held-out prompts of an evaluation: up to `eval.prompts` of those of `task.test`, drawn by `eval.seed`.

    The same for every run with the same texts and tokenizer, whatever its seed. UserError when there is none.
    """
    prompts, found = _prompts(config, tokenizer, "test", config.eval.seed)
    if not prompts:
        raise UserError(f"task.test: {found}; 1 at least is needed: {_remedy(config)} or set eval.every=0")
    drawn = np.random.default_rng(config.eval.seed).permutation(len(prompts))[: config.eval.prompts]
    return [prompts[i] for i in sorted(drawn)]


def _prompts(
    config: Config, tokenizer: PreTrainedTokenizerBase, part: Part, seed: int, say: Say | None = None
) -> tuple[list[Prompt], str]:
    """All prompts of `task.train` or `task.test` (`part`), and words on what they were made from."""
    task = config.task
    if not task.has_prompts:
        return _beginnings(config, tokenizer, part, seed)
    texts, data = _queries(task, part) if task.is_search else (load_prompt_texts(task, part), [])
    fitted = fit_prompts(task, tokenizer, texts)
    if say is not None and fitted.told():
        say(f"task.{part}: {fitted.told()} (task.prompt_tokens_max={task.prompt_tokens_max})")
    prompts = [
        Prompt(index, found.token_ids, found.text, data[found.row] if data else {})
        for index, found in enumerate(fitted.prompts)
    ]
    n_texts = len(prompts) + fitted.dropped
    return prompts, f"{n_texts} rows give {len(prompts)} prompts of at most {task.prompt_tokens_max} tokens"


def _queries(task: TaskConfig, part: Part) -> tuple[list[str], list[dict[str, Any]]]:
    """The prompts of a part's queries, and what the reward function is told with each."""
    catalogue = load_products(task.source("products")[1])
    queries, template = load_queries(task, part, frozenset(catalogue.ids)), task.source(part)[1].prompt
    return [query.prompt(template) for query in queries], [
        {"query": query.text, "gains": dict(query.gains)} for query in queries
    ]


def _beginnings(config: Config, tokenizer: PreTrainedTokenizerBase, part: Part, seed: int) -> tuple[list[Prompt], str]:
    """The prompts that beginnings of texts make, and words on that.

    A prompt is the first `prompt_tokens_min`..`prompt_tokens_max` tokens (uniform, drawn from a generator seeded
    with (seed, row)) of a text of at least `min_chars` characters; the demo's reviews are all short and need no
    minimum. Texts that are too short, and cuts through a character of several tokens, give no prompt.
    """
    task = config.task
    rows = load_rows(task, part, labelled=False)
    # The first few hundred characters hold the tokens; whole reviews would take minutes.
    heads = [row.text[: 64 * task.prompt_tokens_max] for row in rows]
    ids_of_rows = tokenizer(heads, add_special_tokens=False)["input_ids"]
    bos, min_chars = default_bos(tokenizer), 0 if task.name == "demo" else task.min_chars
    prompts: list[Prompt] = []
    for number, (row, ids) in enumerate(zip(rows, ids_of_rows, strict=True)):
        rng = np.random.default_rng([seed, number])
        length = int(rng.integers(task.prompt_tokens_min, task.prompt_tokens_max, endpoint=True))
        text = tokenizer.decode(ids[:length], clean_up_tokenization_spaces=False)
        if len(row.text) >= min_chars and len(ids) >= length and "\ufffd" not in text:
            prompts.append(Prompt(len(prompts), (*bos, *ids[:length]), text))
    return prompts, (
        f"{len(rows)} texts give {len(prompts)} prompts of {task.prompt_tokens_min}-{task.prompt_tokens_max} tokens "
        f"from texts of at least {min_chars} characters"
    )


def _remedy(config: Config) -> str:
    return "raise task.prompt_tokens_max" if config.task.has_prompts else "lower task.min_chars"

"""Prompts with their completions as token ids: prompts within their limit, completions cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scar_ray.config.errors import UserError
from scar_ray.config.schema import TaskConfig
from scar_ray.tasks.dialogues import Demonstration, Pair
from scar_ray.tasks.fitting import fit_prompts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Encoded = tuple[tuple[int, ...], int]
"""Ids of a prompt with its completion, without an EOS, and how many are the prompt's."""


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of the texts, without special tokens and of any length."""
    return tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]


def demonstration_rows(
    task: TaskConfig, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Demonstration], max_tokens: int
) -> tuple[list[Encoded], str]:
    """Each prompt with its completion, cut at `max_tokens`; and a line on what was kept."""
    completions = [[row.completion] for row in rows]
    groups, told = _encoded(task, tokenizer, [row.prompt for row in rows], completions, max_tokens)
    return [group[0] for group in groups], f"{len(groups)} demonstrations{told}"


def pair_rows(
    task: TaskConfig, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Pair], max_tokens: int
) -> tuple[list[tuple[Encoded, Encoded]], str]:
    """The better and the worse completion of each pair after their prompt, as in `demonstration_rows`."""
    completions = [[row.chosen, row.rejected] for row in rows]
    groups, told = _encoded(task, tokenizer, [row.prompt for row in rows], completions, max_tokens)
    return [(group[0], group[1]) for group in groups], f"{len(groups)} pairs{told}"


def _encoded(
    task: TaskConfig,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    completions: Sequence[Sequence[str]],
    max_tokens: int,
) -> tuple[list[list[Encoded]], str]:
    """Completions are tokenised by themselves, as the policy samples them."""
    fitted = fit_prompts(task, tokenizer, prompts)
    if not fitted.prompts:
        raise UserError(
            f"task={task.name}: none of the {len(prompts)} prompts has at most task.prompt_tokens_max="
            f"{task.prompt_tokens_max} tokens; raise it"
        )
    kept = [completions[prompt.row] for prompt in fitted.prompts]
    ids = iter(encode(tokenizer, [text for texts in kept for text in texts]))
    groups, n_cut = [], 0
    for prompt, texts in zip(fitted.prompts, kept, strict=True):
        group = []
        for _ in texts:
            whole = (*prompt.token_ids, *next(ids))
            n_cut += len(whole) > max_tokens
            group.append((whole[:max_tokens], len(prompt.token_ids)))
        groups.append(group)
    notes = [fitted.told()] if fitted.told() else []
    notes += [f"{n_cut} completions cut at {max_tokens} tokens"] if n_cut else []
    return groups, "".join(f"; {note}" for note in notes)

"""Prompts of `tldr` and `hh` within the limit of tokens: posts are shortened, dialogues left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scar_ray.config.errors import UserError
from scar_ray.config.schema import TaskConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

POST, SUMMARY = "\n\nPOST: ", "\n\nTL;DR:"
"""What stands before and after the post in a prompt of `tldr`."""


@dataclass(frozen=True, slots=True)
class FittedPrompt:
    """A prompt of at most `task.prompt_tokens_max` tokens."""

    row: int
    """Index of its text."""
    token_ids: tuple[int, ...]
    """A BOS first where the tokenizer adds one by default; it does not count."""
    text: str


@dataclass(frozen=True, slots=True)
class FittedPrompts:
    """What fitting made of a list of prompts."""

    prompts: list[FittedPrompt]
    """In the order of the texts."""
    shortened: int
    """Posts that lost their ends."""
    dropped: int
    """Prompts that were too long and could not be shortened."""

    def told(self) -> str:
        """What was done to how many, in words; empty when nothing was."""
        parts = []
        if self.shortened:
            parts.append(f"{self.shortened} posts shortened")
        if self.dropped:
            parts.append(f"{self.dropped} too long and left out")
        return f"{len(self.prompts)} prompts, {', '.join(parts)}" if parts else ""


def fit_prompts(task: TaskConfig, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> FittedPrompts:
    """The prompts of at most `prompt_tokens_max` tokens.

    A post of tldr loses paragraphs from its end until the prompt fits, and words where already its first paragraph is
    too long (the rule of Stiennon et al. 2020); a longer dialogue of hh is left out (the rule of ABC). UserError for
    a tokenizer that does not know the characters of its tokens.
    """
    if not tokenizer.is_fast:
        raise UserError(f"task={task.name} needs a fast tokenizer; save that of the policy with tokenizer.json")
    limit = task.prompt_tokens_max
    ids, offsets = _encode(tokenizer, texts)
    found = {row: (tuple(ids[row]), text) for row, text in enumerate(texts) if len(ids[row]) <= limit}
    cuts: dict[int, list[str]] = {}
    if task.name == "tldr":
        room = limit - len(_encode(tokenizer, [SUMMARY])[0][0])
        for row in set(range(len(texts))) - found.keys():
            cuts[row] = _shorter(texts[row], offsets[row], room)
    shortened = -len(found)
    while cuts := {row: candidates for row, candidates in cuts.items() if candidates}:
        # Nearly always the first candidate fits: only at the cut tokens can differ from those of the whole.
        for row, own in zip(cuts, _encode(tokenizer, [candidates[0] for candidates in cuts.values()])[0], strict=True):
            text = cuts[row].pop(0)
            if len(own) <= limit:
                found[row] = (tuple(own), text)
                cuts[row] = []
    shortened += len(found)
    bos = default_bos(tokenizer)
    prompts = [FittedPrompt(row, (*bos, *found[row][0]), found[row][1]) for row in sorted(found)]
    return FittedPrompts(prompts, shortened, len(texts) - len(found))


def _encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> tuple[list[list[int]], list[list[tuple[int, int]]]]:
    """Ids, and the characters of each token."""
    if not texts:
        return [], []
    encoded = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return encoded["input_ids"], encoded["offset_mapping"]


def _shorter(text: str, offsets: list[tuple[int, int]], room: int) -> list[str]:
    """Prompts with beginnings of the post that should fit into `room` tokens without its end, the longest first.

    Empty where no post would be left.
    """
    start, end = text.find(POST) + len(POST), text.rfind(SUMMARY)
    if start < len(POST) or end < start:
        return []
    last = offsets[room - 1][1]  # character after the last token that may stay
    post = text[start:end]
    paragraphs = [at for at, character in enumerate(post) if character == "\n"]
    first = post.find("\n", len(post) - len(post.lstrip()))
    words = [at for at, character in enumerate(post[: first if first > 0 else None]) if character == " "]
    kept = []
    for places in (paragraphs, words):
        lengths = {len(post[:at].rstrip()) for at in places}
        kept += sorted((length for length in lengths if 0 < length <= last - start), reverse=True)
    return [text[: start + length] + text[end:] for length in kept]


def default_bos(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The BOS where the tokenizer adds one by default, else nothing."""
    bos = tokenizer.bos_token_id
    return (bos,) if bos is not None and tokenizer.encode("a")[:1] == [bos] else ()

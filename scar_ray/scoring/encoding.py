"""What a reward model reads: the token ids of a response, whole or reduced to some of its units.

How units are left out is the masking; the prompt, the template and the final EOS are always there, and the full
coalition is the very sequence of the plain score.

- delete: the units' tokens are cut out and the rest closes up; by token ids where the policy's tokenizer is the
  model's own and the template is plain, else by the characters of the text.
- blank, mask, pad: each of the units' tokens becomes the token of a blank, the mask or the padding token.
- attention: the units' tokens stay where they are but nothing attends to them, and their positions stay taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from scar_ray.config.schema import Masking, RewardModelConfig
from scar_ray.records import Question, Response, Units
from scar_ray.scoring.errors import SampleFailed, name_of
from scar_ray.text.alignment import dropped_characters, overlap_shares, token_units
from scar_ray.text.offsets import Span

Alike = Literal["tokens", "tokens_and_end", "text", "nothing"]
"""What coalitions of two responses to a prompt must have in common to be equal sequences: the policy's tokens that are
left, and whether the response has ended, or the text; nothing makes them equal for sure where a sequence also depends
on what is left out."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One sequence for the reward model; equal ones have equal scores."""

    ids: tuple[int, ...]
    hidden: tuple[int, ...] = ()
    """Positions that nothing attends to, increasing; only with masking=attention."""

    def __len__(self) -> int:
        return len(self.ids)


class Encoder:
    """Turns responses and coalitions into sequences for one tokenizer and template."""

    def __init__(
        self, config: RewardModelConfig, tokenizer: Any, *, causal: bool, by_ids: bool, limit: int, masking: Masking
    ) -> None:
        self._config, self.tokenizer, self._limit = config, tokenizer, limit
        self._causal, self._by_ids, self._masking = causal, by_ids, masking
        self._before_slot, self._after = config.template.split("{response}")
        self._fill = fill_token(tokenizer, masking, config.path)
        if masking != "delete" and not by_ids and not tokenizer.is_fast:
            raise ValueError(
                f"model.reward.path={config.path}: credit.masking={masking} needs a fast tokenizer, one that knows the "
                "characters of its tokens; save the tokenizer with tokenizer.json or use credit.masking=delete"
            )

    @property
    def alike(self) -> Alike:
        if self._by_ids:
            if self._masking == "attention":
                return "nothing"
            return "tokens" if self._config.append_eos else "tokens_and_end"
        return "text" if self._masking == "delete" else "nothing"

    @property
    def fill_token(self) -> int:
        return -1 if self._fill is None else self._fill

    def sequences(self, response: Response, question: Question) -> list[Encoded]:
        """The full response, then every coalition that is asked for.

        SampleFailed, naming the sample, for a sequence that is longer than the model reads.
        """
        full = Encoded(self._ids(response, None, None))
        sequences = [full]
        if question.coalitions_Cn is not None:
            assert question.units is not None
            if self._masking == "delete":
                sequences += [Encoded(self._ids(response, question.units, row)) for row in question.coalitions_Cn]
            else:
                owner = self._owners(response, question.units, len(full))
                sequences += [self._masked(full, owner, row) for row in question.coalitions_Cn]
        for number, sequence in enumerate(sequences):
            if len(sequence) > self._limit:
                what = "prompt and response" if number == 0 else f"coalition {number - 1}"
                raise SampleFailed(
                    f"{name_of(response)}: {what} take {len(sequence)} reward-model tokens, the reward model reads "
                    f"{self._limit}; shorten the prompts or task.sampling.max_new_tokens"
                )
        return sequences

    def dropped(self, response: Response) -> int:
        """Visible characters of the response that none of the model's tokens covers: its tokenizer leaves them out."""
        if self._by_ids or not self.tokenizer.is_fast:
            return 0
        head = len(self._head(response))
        spans = [(max(a - head, 0), min(b - head, len(response.text))) for a, b in self._offsets(response)]
        return len(dropped_characters(response.text, [(a, b) for a, b in spans if b > a]))

    def response_attention(self, row_L: NDArray[np.float64], response: Response) -> NDArray[np.float64]:
        """A position's attention on the full sequence, moved to the policy's tokens of the response; sums to 1.

        All of it goes to the last token where the model reads nothing of the response: an empty one, or white space
        that its tokenizer drops.
        """
        if self._by_ids:
            start = len(response.prompt.token_ids)
            weights_T = row_L[start : start + response.n_tokens].copy()
        else:
            weights_T = self._mapped_attention(row_L, response)
        total = weights_T.sum()
        if not np.isfinite(total):
            raise SampleFailed(f"{name_of(response)}: the reward model's attention to the response is {total}")
        if total == 0:
            weights_T[-1] = total = 1.0
        return weights_T / total

    def _ids(self, response: Response, units: Units | None, present: NDArray[np.bool_] | None) -> tuple[int, ...]:
        """Ids of prompt + units present + EOS; all units where `units` is None."""
        if self._by_ids:
            content = response.token_ids[: response.n_content]
            if units is not None and present is not None:
                kept = zip(units.starts, units.ends, present, strict=True)
                content = tuple(t for start, end, here in kept if here for t in content[start:end])
            ids = [*response.prompt.token_ids, *content]
        else:
            text = response.text
            if units is not None and present is not None:
                text = "".join(
                    text[a:b] for (a, b), here in zip(char_ranges(response, units), present, strict=True) if here
                )
            ids = list(self.tokenizer(self._head(response) + text + self._after)["input_ids"])
        if self._ends_with_eos(response) and (self._by_ids or ids[-1:] != [self.tokenizer.eos_token_id]):
            ids.append(self.tokenizer.eos_token_id)
        return tuple(ids)

    def _masked(self, full: Encoded, owner_L: NDArray[np.intp], present: NDArray[np.bool_]) -> Encoded:
        gone = np.flatnonzero((owner_L >= 0) & ~np.append(present, True)[owner_L])
        if self._fill is None:
            return Encoded(full.ids, tuple(gone.tolist()))
        ids = np.array(full.ids)
        ids[gone] = self._fill
        return Encoded(tuple(ids.tolist()))

    def _owners(self, response: Response, units: Units, length: int) -> NDArray[np.intp]:
        """Unit of each of the `length` tokens of the full sequence; -1 for prompt, template and special tokens."""
        owner_L = np.full(length, -1, dtype=np.intp)
        if self._by_ids:
            start = len(response.prompt.token_ids)
            for number, (a, b) in enumerate(zip(units.starts, units.ends, strict=True)):
                owner_L[start + a : start + b] = number
            return owner_L
        head = len(self._head(response))
        ranges = [(head + a, head + b) for a, b in char_ranges(response, units)]
        spans = self._offsets(response)
        owner_L[: len(spans)] = token_units(spans, ranges)
        for position, (a, b) in enumerate(spans):
            if 2 * (min(b, head + len(response.text)) - max(a, head)) < b - a:  # most of it is prompt or template
                owner_L[position] = -1
        return owner_L

    def _ends_with_eos(self, response: Response) -> bool:
        """Whether the response's sequences end with the EOS, whatever units are left out."""
        if not self._causal or self.tokenizer.eos_token_id is None:
            return False
        return self._config.append_eos or (self._by_ids and response.finished)

    def _head(self, response: Response) -> str:
        """The text that stands before the response."""
        return self._before_slot.replace("{prompt}", response.prompt.text)

    def _offsets(self, response: Response) -> list[Span]:
        """Character range of each of the model's own tokens in the full text; an EOS that is appended has none."""
        text = self._head(response) + response.text + self._after
        return list(self.tokenizer(text, return_offsets_mapping=True)["offset_mapping"])

    def _mapped_attention(self, row_L: NDArray[np.float64], response: Response) -> NDArray[np.float64]:
        """Attention on the model's own tokens, moved to the policy's tokens of the response by shared characters."""
        head, length = len(self._head(response)), len(response.text)
        weights, spans = [], []
        for weight, (a, b) in zip(row_L, self._offsets(response), strict=False):
            start, stop = max(a - head, 0), min(b - head, length)
            if stop > start:  # neither a special token nor one of the prompt or the template
                weights.append(weight * (stop - start) / (b - a))
                spans.append((start, stop))
        if response.finished and self._ends_with_eos(response):
            weights.append(row_L[-1])
            spans.append((length, length))
        return overlap_shares(np.asarray(weights), spans, response.token_spans)


def fill_token(tokenizer: Any, masking: Masking, path: str) -> int | None:
    """The id that stands for a token that is left out; None for delete and attention.

    ValueError when the tokenizer has no such token.
    """
    if masking in ("delete", "attention"):
        return None
    if masking == "blank":
        ids: Sequence[int] = tokenizer(" ", add_special_tokens=False)["input_ids"]
        found = ids[0] if len(ids) == 1 else None
    else:
        found = tokenizer.mask_token_id if masking == "mask" else tokenizer.pad_token_id
    if found is None:
        name = {"blank": "single token for a blank", "mask": "mask token", "pad": "padding token"}[masking]
        raise ValueError(
            f"credit.masking={masking}: the tokenizer of {path} has no {name}; use credit.masking=delete or attention"
        )
    return int(found)


def char_ranges(response: Response, units: Units) -> list[Span]:
    """Character range of every unit; together they are the whole text."""
    bounds = [response.token_spans[end - 1][1] for end in units.ends]
    return list(zip([0, *bounds[:-1]], bounds, strict=True))

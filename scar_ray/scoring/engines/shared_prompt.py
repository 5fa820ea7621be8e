"""The prompt of a response computed once: batches of what follows it, over the prompt's keys and values."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache

from scar_ray.scoring.encoding import Encoded
from scar_ray.scoring.engines.classifier import Classifier, cache_of
from scar_ray.scoring.engines.forest import read_position
from scar_ray.scoring.engines.memory import Footprint, attempt
from scar_ray.scoring.engines.plain import PlainBatches, batches

log = logging.getLogger(__name__)


class SharedPrompt:
    """Causal models only; `plain` scores the sequences that share nothing."""

    name = "shared_prompt"

    def __init__(self, classifier: Classifier, plain: PlainBatches, *, batch_tokens: int, memory: int) -> None:
        self._classifier, self._plain = classifier, plain
        self._batch_tokens, self._memory = batch_tokens, memory
        self._footprint = Footprint.of(classifier)
        self._takes_positions = "position_ids" in inspect.signature(classifier.backbone.forward).parameters
        self.padding = 0
        """Padding tokens computed so far, beside those of `plain`."""

    @torch.no_grad()
    def scores(
        self, sequences: Sequence[Encoded], groups: Sequence[Sequence[int]], /
    ) -> tuple[NDArray[np.float64], int]:
        """Scores and tokens computed; see `Engine`."""
        scores, computed, alone = np.empty(len(sequences)), 0, []
        for group in groups:
            reads = {row: read_position(sequences[row], self._classifier.pad) for row in group}
            rows = [row for row in group if reads[row] is not None]
            shared = _shared([sequences[row] for row in rows], [reads[row] for row in rows]) if len(rows) > 1 else 0
            if not shared:
                alone += group
                continue
            alone += [row for row in group if reads[row] is None]
            suffixes = [sequences[row].ids[shared : reads[row] + 1] for row in rows]
            hidden = [[p - shared for p in sequences[row].hidden if p <= reads[row]] for row in rows]
            prompt = sequences[rows[0]].ids[:shared]
            scores[rows], tokens = self._group(prompt, suffixes, hidden)
            computed += tokens
        if alone:
            scores[alone], tokens = self._plain.scores([sequences[row] for row in alone], [])
            computed += tokens
        return scores, computed

    def _group(
        self, prompt: Sequence[int], suffixes: list[Sequence[int]], hidden: list[list[int]]
    ) -> tuple[NDArray[np.float64], int]:
        """Scores of the sequences prompt + suffix, and the tokens computed."""
        device, scores, computed = self._classifier.device, np.empty(len(suffixes)), len(prompt)
        ids = torch.tensor([prompt], device=device)
        cache = self._classifier.backbone(input_ids=ids, use_cache=True, past_key_values=DynamicCache()).past_key_values
        lengths, longest = [len(suffix) for suffix in suffixes], len(prompt) + max(map(len, suffixes))
        # The cache is copied for every row, so the rows count with their prompt.
        whole = min(self._batch_tokens, self._footprint.cached_tokens(self._memory, longest))
        waiting = batches([len(prompt) + length for length in lengths], whole)[::-1]
        while waiting:
            rows = waiting.pop()
            inputs = self._inputs(len(prompt), [suffixes[row] for row in rows], [hidden[row] for row in rows])
            output = self._forward(cache, inputs)
            if output is None:
                log.warning("out of device memory: a batch of %d sequences is scored in halves", len(rows))
                waiting += [rows[len(rows) // 2 :], rows[: len(rows) // 2]]
                continue
            last = torch.tensor([lengths[row] - 1 for row in rows], device=device)
            states = output.last_hidden_state[torch.arange(len(rows), device=device), last]
            scores[rows] = self._classifier.scores(self._classifier.model.score(states))
            computed += inputs["input_ids"].numel()
            self.padding += inputs["input_ids"].numel() - sum(lengths[row] for row in rows)
        return scores, computed

    def _forward(self, cache: DynamicCache, inputs: dict[str, torch.Tensor]) -> Any:
        rows = len(inputs["input_ids"])
        expanded = [(la.keys.expand(rows, -1, -1, -1), la.values.expand(rows, -1, -1, -1)) for la in cache.layers]
        return attempt(
            lambda: self._classifier.backbone(**inputs, past_key_values=cache_of(expanded), use_cache=True),
            divisible=rows > 1,
        )

    def _inputs(self, shared: int, suffixes: list[Sequence[int]], hidden: list[list[int]]) -> dict[str, torch.Tensor]:
        """The suffixes, padded on the right, and the mask of prompt and suffixes; hidden tokens masked."""
        width = max(map(len, suffixes))
        ids = torch.zeros((len(suffixes), width), dtype=torch.long)
        mask = torch.ones((len(suffixes), shared + width), dtype=torch.long)
        for i, suffix in enumerate(suffixes):
            ids[i, : len(suffix)] = torch.tensor(suffix)
            mask[i, shared + len(suffix) :] = 0
            mask[i, [shared + position for position in hidden[i]]] = 0
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self._takes_positions:
            inputs["position_ids"] = torch.arange(shared, shared + width).expand(len(suffixes), -1)
        return {name: tensor.to(self._classifier.device) for name, tensor in inputs.items()}


def _shared(sequences: Sequence[Encoded], reads: Sequence[int]) -> int:
    """Visible tokens that all sequences start with, less than the shortest one up to where it is read."""
    limit = min(min((read, *sequence.hidden[:1])) for sequence, read in zip(sequences, reads, strict=True))
    # All strings lie between the smallest and the largest one, and so do the prefixes of the others.
    low, high = min(s.ids for s in sequences), max(s.ids for s in sequences)
    pairs = zip(low[:limit], high[:limit], strict=True)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

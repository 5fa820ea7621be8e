"""Every sequence by itself: batches sorted by length and padded on the right. Works with every architecture."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scar_ray.scoring.encoding import Encoded
from scar_ray.scoring.engines.classifier import Classifier
from scar_ray.scoring.engines.forest import read_position
from scar_ray.scoring.engines.memory import Footprint, attempt

log = logging.getLogger(__name__)


class PlainBatches:
    """Batches of at most `batch_tokens` padded tokens that fit `memory` bytes."""

    name = "plain"

    def __init__(self, classifier: Classifier, *, batch_tokens: int, memory: int) -> None:
        self._classifier, self._batch_tokens, self._memory = classifier, batch_tokens, memory
        self._footprint = Footprint.of(classifier)
        self.padding = 0
        """Padding tokens computed so far."""

    def scores(
        self, sequences: Sequence[Encoded], _groups: Sequence[Sequence[int]], /
    ) -> tuple[NDArray[np.float64], int]:
        """Scores and tokens computed; see `Engine`."""
        scores, _, computed = self.scores_and_attention(sequences, set())
        return scores, computed

    @torch.no_grad()
    def scores_and_attention(
        self, sequences: Sequence[Encoded], attending: set[int]
    ) -> tuple[NDArray[np.float64], dict[int, NDArray[np.float64]], int]:
        """Scores, the rows of last-layer attention (mean over heads) of the rows asked for, and tokens computed."""
        scores, computed = np.empty(len(sequences)), 0
        attention: dict[int, NDArray[np.float64]] = {}
        lengths = [len(sequence) for sequence in sequences]
        fitting = self._footprint.plain_tokens(self._memory, max(lengths, default=0))
        waiting = batches(lengths, min(self._batch_tokens, fitting))[::-1]
        while waiting:
            rows = waiting.pop()
            here = [row for row in rows if row in attending]
            inputs = self._inputs([sequences[row] for row in rows])
            output = self._forward(inputs, bool(here), divisible=len(rows) > 1)
            if output is None:
                log.warning("out of device memory: a batch of %d sequences is scored in halves", len(rows))
                waiting += [rows[len(rows) // 2 :], rows[: len(rows) // 2]]
                continue
            scores[rows] = self._classifier.scores(output.logits)
            computed += inputs["input_ids"].numel()
            self.padding += inputs["input_ids"].numel() - sum(lengths[row] for row in rows)
            for row in here:
                read = self._read(sequences[row])
                heads = output.attentions[-1][rows.index(row), :, read, : lengths[row]]
                attention[row] = heads.float().mean(0).cpu().double().numpy()
        return scores, attention, computed

    def _forward(self, inputs: dict[str, torch.Tensor], attention: bool, *, divisible: bool) -> Any:
        return attempt(lambda: self._classifier.model(**inputs, output_attentions=attention), divisible=divisible)

    def _inputs(self, batch: Sequence[Encoded]) -> dict[str, torch.Tensor]:
        """The batch, padded on the right; hidden tokens masked."""
        width, pad = max(map(len, batch)), self._padding([sequence.ids for sequence in batch])
        ids = torch.full((len(batch), width), pad, dtype=torch.long)
        mask = torch.zeros((len(batch), width), dtype=torch.long)
        for i, sequence in enumerate(batch):
            ids[i, : len(sequence)] = torch.tensor(sequence.ids)
            mask[i, : len(sequence)] = 1
            hidden = list(sequence.hidden)
            mask[i, hidden] = 0
            if self._classifier.causal:
                # The head reads the last token that is no padding by its id. Encoders read the first one, and some
                # take positions from what is no padding, so theirs keep their ids.
                ids[i, hidden] = pad
        device = self._classifier.device
        inputs = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
        if self._classifier.causal and any(sequence.hidden for sequence in batch):
            inputs["position_ids"] = torch.arange(width, device=device).expand(len(batch), -1)
        return inputs

    def _padding(self, sequences: Sequence[Sequence[int]]) -> int:
        """The model's padding token; for one without any, a token that none of the sequences contains.

        Causal heads read the last token that is no padding, by its id. A model without a padding token reads the
        very last token, so no token of its sequences may look like padding, the EOS in particular.
        """
        if self._classifier.pad is not None:
            return self._classifier.pad
        used = set().union(*sequences)
        unused = next(token for token in range(len(used) + 1) if token not in used)
        self._classifier.config.pad_token_id = unused
        return unused

    def _read(self, sequence: Encoded) -> int:
        """The position whose hidden state the head reads: the first of an encoder."""
        return (read_position(sequence, self._classifier.pad) or 0) if self._classifier.causal else 0


def batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Rows sorted by length (then row), cut so that rows * longest row stays within the budget of tokens."""
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if groups and (len(groups[-1]) + 1) * lengths[row] <= budget:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups

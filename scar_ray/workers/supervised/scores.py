"""What training on labels and on pairs share: batches of similar lengths, crops, and scores of sequences."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from scar_ray.records import FloatArray

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHORTEST_CROP = 4
SizedT = TypeVar("SizedT", bound=Sized)


def bucketed(examples: Sequence[SizedT], size: int, rng: np.random.Generator) -> list[list[SizedT]]:
    """Batches of `size` examples (the last few are left out), each of similar lengths, in random order."""
    order = rng.permutation(len(examples))
    batches = []
    for start in range(0, len(order), size * 32):
        chunk = sorted(order[start : start + size * 32], key=lambda i: len(examples[i]))
        batches += [[examples[i] for i in chunk[k : k + size]] for k in range(0, len(chunk), size)]
    whole = [batch for batch in batches if len(batch) == size] or batches
    return [whole[i] for i in rng.permutation(len(whole))]


def crop_length(longest: int, rng: np.random.Generator) -> int:
    """Log-uniform in SHORTEST_CROP..longest: short pieces are as frequent as long ones."""
    low, high = np.log(min(SHORTEST_CROP, longest)), np.log(longest + 1)
    return min(longest, int(np.exp(rng.uniform(low, high))))


@torch.no_grad()
def rewards(model: PreTrainedModel, sequences: Sequence[Sequence[int]], label: int = 1) -> FloatArray:
    """Reward of each sequence, in their order, read at its last token."""
    model.eval()
    order = np.argsort([len(ids) for ids in sequences], kind="stable")
    out = np.zeros(len(sequences))
    for start in range(0, len(order), 64):
        part = order[start : start + 64]
        out[part] = forward(model, model, [sequences[i] for i in part], label).double().cpu().numpy()
    return out


def forward(
    engine: torch.nn.Module, model: PreTrainedModel, sequences: Sequence[Sequence[int]], label: int
) -> torch.Tensor:
    """Rewards (B) of right-padded sequences: the logit, or the difference of two; `engine` is around `model`."""
    width = max(map(len, sequences))
    pad = model.config.pad_token_id
    ids_BT = torch.tensor([[*ids, *[pad] * (width - len(ids))] for ids in sequences], device=model.device)
    logits = engine(input_ids=ids_BT, attention_mask=(ids_BT != pad).long()).logits
    logits = logits.float()
    return logits[:, 0] if logits.shape[1] == 1 else logits[:, label] - logits[:, 1 - label]

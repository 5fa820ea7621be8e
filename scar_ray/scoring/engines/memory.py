"""Memory of forward passes: estimated before, and halved when the device has less."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from scar_ray.scoring.engines.blocks import Block
from scar_ray.scoring.engines.classifier import Classifier

Result = TypeVar("Result")


def attempt(compute: Callable[[], Result], *, divisible: bool) -> Result | None:
    """What `compute` returns; None when the device runs out of memory and the work can be divided."""
    try:
        return compute()
    except torch.OutOfMemoryError:
        if not divisible:
            raise
    # Out of the handler: the error holds the tensors of the pass that failed.
    torch.cuda.empty_cache()
    return None


@dataclass(frozen=True, slots=True)
class Footprint:
    """Estimated bytes of a forward pass, on the safe side, from the model's configuration.

    Coarse by intent: the constants are meant as upper bounds for Llama, GPT-2 and BERT shapes.
    """

    token: int
    """Activations of one token in one layer, with the temporaries of its widest operation."""
    cached: int
    """Keys and values of one token in all layers."""
    pair: int
    """One query and key: masks, and scores where attention computes them."""
    key: int
    """Keys and values of one token in one layer as attention reads them."""
    tree_pair: int
    """One node and one key that is not common to its block."""
    tree_common: int
    """One node and one key that is common to its block: scores where no fused kernel computes them."""

    @classmethod
    def of(cls, classifier: Classifier) -> Footprint:
        config, size = classifier.config, next(classifier.model.parameters()).element_size()
        hidden, heads = config.hidden_size, getattr(config, "num_attention_heads", None) or 1
        head = getattr(config, "head_dim", None) or hidden // heads
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * hidden
        scores = heads * (size + 4) if config._attn_implementation == "eager" else 0
        attended = heads * head
        capped = scores if getattr(config, "attn_logit_softcapping", None) else 0
        return cls(
            token=max(size * (3 * hidden + 4 * inner), size * (2 * hidden + 9 * attended) + 8 * attended),
            cached=2 * size * kv_heads * head * config.num_hidden_layers,
            pair=2 * size + 6 + scores,
            key=4 * size * attended,
            tree_pair=2 + size * (1 + heads // kv_heads) + 2 * capped,
            tree_common=2 * capped,
        )

    def plain_tokens(self, budget: int, longest: int) -> int:
        """Tokens of a padded batch that fit the budget in bytes; enough for one sequence at least."""
        return max(budget // (self.token + self.key + self.pair * longest), longest)

    def cached_tokens(self, budget: int, longest: int) -> int:
        """The same for sequences with a cache each, which is copied layer by layer."""
        return max(budget // (self.token + self.key + self.pair * longest + 3 * self.cached), longest)

    def of_block(self, block: Block) -> int:
        """Bytes of a block of a forest: its nodes' activations, two paths, and the keys and masks of its pieces."""
        pieces = [*block.pieces, *block.windowed_pieces]
        keys = max(piece.keys for piece in pieces) + block.path + len(block)
        return (
            len(block) * (self.token + block.common * self.tree_common)
            + (block.path + block.path_kept + len(block.kept_M)) * self.cached
            + keys * self.key
            + sum(piece.pairs for piece in pieces) * self.tree_pair
        )

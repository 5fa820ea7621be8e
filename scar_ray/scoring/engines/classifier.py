"""What the engines share: the loaded model and how its head is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from scar_ray.scoring.encoding import Encoded

KeysAndValues = tuple[torch.Tensor, torch.Tensor]
"""Of one layer: (rows, heads, tokens, head size) each."""


@dataclass(frozen=True, slots=True)
class Classifier:
    """A sequence-classification model and the facts that scoring depends on."""

    model: Any
    causal: bool
    labels: int
    """1: the logit is the score; 2: that of `label` minus the other one."""
    label: int
    pad: int | None
    """The padding token; None for a model without one."""
    device: torch.device
    offset: float = 0.0
    """Taken off every score; what `rm.centre` wrote into the model's configuration."""

    @classmethod
    def of(cls, model: Any, *, causal: bool, label: int) -> Classifier:
        """The facts of a loaded model."""
        pad = model.config.get_text_config().pad_token_id
        return cls(
            model=model,
            causal=causal,
            labels=int(model.config.num_labels),
            label=label,
            pad=None if pad is None or pad < 0 else pad,
            device=next(model.parameters()).device,
            offset=float(getattr(model.config, "reward_offset", 0.0)),
        )

    @property
    def config(self) -> Any:
        """The configuration of the text model."""
        return self.model.config.get_text_config()

    @property
    def backbone(self) -> Any:
        """The model below its head."""
        return getattr(self.model, self.model.base_model_prefix)

    def scores(self, logits: torch.Tensor) -> NDArray[np.float64]:
        """Scores of rows of logits."""
        return rewards_of(logits.float().cpu().double().numpy(), self.label) - self.offset


def rewards_of(logits_CK: NDArray[np.float64], label: int) -> NDArray[np.float64]:
    """One label: its logit is the reward; two: that of `label` minus the other one."""
    return logits_CK[:, 0] if logits_CK.shape[1] == 1 else logits_CK[:, label] - logits_CK[:, 1 - label]


class Engine(Protocol):
    """A way to compute the scores of sequences."""

    name: str
    padding: int
    """Padding tokens that it has computed itself so far."""

    def scores(
        self, sequences: Sequence[Encoded], groups: Sequence[Sequence[int]], /
    ) -> tuple[NDArray[np.float64], int]:
        """Scores of the sequences, and the tokens computed for them, padding included.

        Each of `groups` has the rows of one response's sequences; together they have every row once.
        """
        ...


def cache_of(layers: Sequence[KeysAndValues]) -> DynamicCache:
    """A cache that holds these tensors themselves; `DynamicCache(layers)` would copy them."""
    cache = DynamicCache()
    for keys, values in layers:
        layer = DynamicLayer()
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
        cache.layers.append(layer)
    return cache
